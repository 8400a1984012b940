"""Calibrators against grids, finite differences and what must hold; figures against scikit-learn and literal loops."""

from __future__ import annotations

import doctest
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

import cytodistill.metrics.calibration
from cytodistill.errors import CytodistillError
from cytodistill.metrics.calibration import (
    CLIP,
    COLDEST,
    HOTTEST,
    Calibrator,
    _vector_loss,
    brier,
    classwise_ece,
    clipped_log,
    ece,
    fit_temperature,
    fit_vector,
    nll,
    overconfidence,
    reliability,
)


def drawn(seed: int, cells: int = 200, classes: int = 4, sharpness: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``sharpness`` times those that the labels were drawn from, each row with a constant of its own."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(cells, classes)) * 1.5
    labels = np.array([rng.choice(classes, p=row) for row in softmax(true, axis=1)])
    return sharpness * true + rng.normal(size=(cells, 1)), labels


def probabilities(seed: int, cells: int = 200, classes: int = 4, levels: int | None = None):
    """Probabilities and labels; rounded to a few levels they hold exact ties and lie on the edges of bins."""
    logits, labels = drawn(seed, cells, classes, 1.5)
    p = softmax(logits, axis=1)
    if levels:
        p = np.floor(p * levels) / levels
        p[:, 0] += 1 - p.sum(axis=1)
    return p, labels


def loss(z, y, temperature=1.0) -> float:
    return float(-log_softmax(z / temperature, axis=1)[np.arange(len(y)), y].mean())


def literal_ece(said, true, edges) -> float:
    total = 0.0
    for k in range(len(edges) - 1):
        inside = (said > edges[k]) & (said <= edges[k + 1])
        if k == 0:
            inside |= said == edges[0]
        if inside.any():
            total += inside.sum() / len(said) * abs(true[inside].mean() - said[inside].mean())
    return total


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_temperature_is_the_best_of_a_grid_and_finds_what_was_put_in(seed, sharpness):
    z, y = drawn(seed, 1500, 5, sharpness)
    found = fit_temperature(z, y)
    grid = [loss(z, y, t) for t in np.geomspace(COLDEST, HOTTEST, 200)]
    assert loss(z, y, found.temperature) <= min(grid) + 1e-12
    assert loss(z, y, found.temperature) <= min(loss(z, y, found.temperature * factor) for factor in (0.999, 1.001))
    assert found.kind == "temperature"
    assert found.temperature == pytest.approx(sharpness, rel=0.12)
    assert fit_temperature(z, y) == found


@pytest.mark.parametrize("fit", [fit_temperature, fit_vector])
def test_logits_and_their_log_probabilities_give_the_same(fit):
    z, y = drawn(2)
    free, normal = fit(z, y), fit(log_softmax(z, axis=1), y)
    assert free.calibrated(z) == pytest.approx(normal.calibrated(log_softmax(z, axis=1)), abs=1e-5)
    assert free.calibrated(z) == pytest.approx(free.calibrated(z + 100.0), abs=1e-9)


def test_cells_all_right_cannot_tell_a_temperature_and_it_says_so():
    z = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 0.5]])
    assert fit_temperature(z, [0, 1]) == Calibrator("none")
    assert fit_temperature([[9.0, -9.0]], [0]) == Calibrator("none")
    assert fit_temperature(np.zeros((4, 3)), [0, 1, 2, 2]) == Calibrator("none")
    # One cell wrong by a little: there is a best temperature again, and a sharp one.
    wrong = fit_temperature(np.concatenate([np.tile(z, (50, 1)), [[0.1, 0.0, -9.0]]]), [0, 1] * 50 + [1])
    assert wrong.kind == "temperature"
    assert COLDEST < wrong.temperature < 0.5


def test_bounds_where_the_best_temperature_is_outside():
    assert fit_temperature([[9.0, 0.0]], [1]) == Calibrator("temperature", HOTTEST)
    assert fit_temperature([[9.0, 0.0], [0.0, 5.0]], [1, 0]) == Calibrator("temperature", HOTTEST)
    # Nearly even logits, nine of ten right: the best temperature is 0.002 / ln 9.
    z, y = np.tile([0.001, -0.001], (10, 1)), [0] * 9 + [1]
    assert fit_temperature(z, y) == Calibrator("temperature", COLDEST)
    assert fit_temperature(1000 * z, y).temperature == pytest.approx(2 / np.log(9))


def test_a_class_without_cells_changes_nothing_for_temperature():
    z, y = drawn(3, 300, 3)
    absent = np.concatenate([z, np.full((300, 1), -80.0)], axis=1)
    assert fit_temperature(absent, y).temperature == pytest.approx(fit_temperature(z, y).temperature)
    vector = fit_vector(absent, y)
    assert np.isfinite(vector.scale + vector.bias).all()
    assert vector.calibrated(absent)[:, 3].max() < 1e-6


def test_gradient_of_vector_scaling_by_finite_differences():
    z, y = drawn(4, 40, 3)
    z = log_softmax(z, axis=1)
    for seed in range(3):
        at = np.random.default_rng(seed).normal(size=6)
        off = check_grad(lambda x: _vector_loss(x, z, y, 0.7)[0], lambda x: _vector_loss(x, z, y, 0.7)[1], at)
        assert off < 1e-5
    assert _vector_loss(np.array([1.0, 1, 1, 0, 0, 0]), z, y, 0.7)[0] == pytest.approx(loss(z, y))


def test_vector_is_a_minimum_of_the_literal_loss():
    z, y = drawn(5, 120, 3)
    logs = log_softmax(z, axis=1)
    found = fit_vector(z, y, ridge=2.0)

    def total(w, b):
        return loss(w * logs + b, y) * len(y) + 2.0 / 2 * (((w - 1) ** 2).sum() + (b**2).sum())

    w, b = np.array(found.scale), np.array(found.bias)
    rng = np.random.default_rng(0)
    for size in (1e-3, 1e-1, 1.0):
        for _ in range(20):
            # The loss is convex: no step, small or large, may lead lower.
            assert total(w, b) <= total(np.abs(w + size * rng.normal(size=3)), b + size * rng.normal(size=3)) + 1e-9
    # The biases' pull and the classes' counts balance: counts − expected counts = ridge · b.
    expected = found.calibrated(z).sum(axis=0)
    assert np.bincount(y, minlength=3) - expected == pytest.approx(2.0 * b, abs=1e-4)


def test_vector_of_two_classes_holds_scikit_learns_logistic_regression():
    # With scales (w, w) and biases (b, −b) the chance of class 1 is Platt's sigmoid of the difference of the logits.
    z, y = drawn(6, 4000, 2, 2.5)
    found = fit_vector(z, y, ridge=1e-6).calibrated(z)[:, 1]
    platt = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, 1:] - z[:, :1], y)
    expected = platt.predict_proba(z[:, 1:] - z[:, :1])
    assert loss(np.log(np.stack([1 - found, found], axis=1)), y) <= log_loss(y, expected) + 1e-6
    assert np.abs(found - expected[:, 1]).mean() < 0.02


def test_the_ridge_holds_small_splits_near_no_change_and_fades():
    z, y = drawn(7, 2000, 3, 1.0)
    z += [0.0, 1.0, 0.0]
    one = fit_vector(z[:1], y[:1])
    # The slope of one cell's loss by a bias is below 1.
    assert np.abs(one.bias).max() < 1
    tight = fit_vector(z[:50], y[:50], ridge=1e6)
    assert np.concatenate([np.array(tight.scale) - 1, tight.bias]) == pytest.approx(np.zeros(6), abs=1e-3)
    many = fit_vector(z, y)
    # One logit was raised by 1: its bias against the others comes back down.
    assert many.bias[1] - (many.bias[0] + many.bias[2]) / 2 == pytest.approx(-1, abs=0.35)
    certain = fit_vector(20 * np.eye(3)[[0, 1, 2, 0]], [0, 1, 2, 0])
    assert certain.scale == pytest.approx((1, 1, 1), abs=1e-3)


def test_scales_are_never_below_0():
    # The evidence for class 0 is against it.
    z, y = drawn(8, 300, 2, 3.0)
    found = fit_vector(z, 1 - y)
    assert found.scale == pytest.approx((0, 0), abs=1e-9)
    assert found.calibrated(z).std(axis=0).max() < 1e-9


def test_a_search_cut_short_is_an_error_and_no_answer(monkeypatch):
    monkeypatch.setattr(cytodistill.metrics.calibration, "MOST_STEPS", 1)
    with pytest.raises(CytodistillError, match="did not settle on these 200 cells; use temperature"):
        fit_vector(*drawn(9))


def test_calibration_lowers_the_error_on_other_cells():
    z, y = drawn(10, 3000, 4, 3.0)
    fitted, new = slice(0, 1500), slice(1500, None)
    before = Calibrator("none").calibrated(z[new])
    for fit in (fit_temperature, fit_vector):
        after = fit(z[fitted], y[fitted]).calibrated(z[new])
        assert ece(after, y[new]) < 0.3 * ece(before, y[new])
        assert classwise_ece(after, y[new]) < 0.5 * classwise_ece(before, y[new])
        assert nll(after, y[new]) < nll(before, y[new])
        assert brier(after, y[new]) < brier(before, y[new])
    kept = fit_temperature(z[fitted], y[fitted]).calibrated(z[new])
    assert (kept.argmax(axis=1) == before.argmax(axis=1)).all()


def test_probabilities_alone_are_calibrated_by_their_clipped_logarithm():
    p = np.array([[1.0, 0.0], [0.3, 0.7]])
    assert clipped_log(p) == pytest.approx(np.log([[1.0, CLIP], [0.3, 0.7]]))
    assert Calibrator("none").calibrated(clipped_log(p)) == pytest.approx(p, abs=1e-11)
    with pytest.raises(CytodistillError, match="clip"), np.errstate(divide="ignore"):
        Calibrator("none").calibrated(np.log(p))


def test_any_shape_before_the_classes():
    z = np.random.default_rng(0).normal(size=(2, 3, 4))
    for calibrator in (Calibrator(), Calibrator("temperature", 2.0), Calibrator("vector", 1.0, (1, 2, 0, 1), (0,) * 4)):
        p = calibrator.calibrated(z)
        assert p.shape == z.shape
        assert p[1, 2] == pytest.approx(calibrator.calibrated(z[1, 2]))
        assert calibrator.calibrated(np.empty((0, 4))).shape == (0, 4)
    assert Calibrator().calibrated(z) == pytest.approx(softmax(z, axis=-1))


@given(
    st.one_of(
        st.just(Calibrator()),
        st.builds(Calibrator, st.just("temperature"), st.floats(0.01, 100)),
        st.lists(st.tuples(st.floats(0, 10), st.floats(-10, 10)), min_size=1, max_size=5).map(
            lambda pairs: Calibrator("vector", 1.0, *zip(*pairs, strict=True))
        ),
    )
)
def test_json_round_trip(calibrator):
    assert Calibrator.from_dict(json.loads(json.dumps(calibrator.to_dict(), allow_nan=False))) == calibrator


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 5), st.floats(0.1, 30))
def test_what_holds_of_any_fit(seed, cells, classes, sharpness):
    z, y = drawn(seed, cells, classes, sharpness)
    for found in (fit_temperature(z, y), fit_vector(z, y)):
        p = found.calibrated(z)
        assert p.sum(axis=1) == pytest.approx(np.ones(cells))
        assert (p >= 0).all()
        # No fit is worse than no change on its own cells.
        assert loss(clipped_log(p), y) <= loss(z, y) + 1e-6
    # The order of cells does not matter.
    order = np.random.default_rng(seed).permutation(cells)
    assert fit_temperature(z[order], y[order]).temperature == pytest.approx(fit_temperature(z, y).temperature, rel=1e-6)


@pytest.mark.parametrize("levels", [None, 15, 4])
@pytest.mark.parametrize(("seed", "cells", "classes", "bins"), [(0, 300, 4, 15), (1, 40, 2, 5), (2, 7, 3, 10)])
def test_errors_of_calibration_equal_literal_loops(seed, cells, classes, bins, levels):
    p, y = probabilities(seed, cells, classes, levels)
    said, right = p.max(axis=1), p.argmax(axis=1) == y
    even = np.linspace(0, 1, bins + 1)
    assert ece(p, y, bins) == pytest.approx(literal_ece(said, right, even), abs=1e-12)
    assert ece(p, y, bins, "mass") == pytest.approx(literal_ece(said, right, np.quantile(said, even)), abs=1e-12)
    for scheme in ("width", "mass"):
        each = [
            literal_ece(p[:, c], y == c, even if scheme == "width" else np.quantile(p[:, c], even))
            for c in range(classes)
        ]
        assert classwise_ece(p, y, bins, scheme) == pytest.approx(np.mean(each), abs=1e-12)


@pytest.mark.parametrize(("scheme", "strategy"), [("width", "uniform"), ("mass", "quantile")])
@pytest.mark.parametrize("levels", [None, 10])
def test_reliability_equals_scikit_learn(scheme, strategy, levels):
    p, y = probabilities(3, 400, 3, levels)
    said, right = p.max(axis=1), p.argmax(axis=1) == y
    found = reliability(p, y, 10, scheme)
    accuracy, confidence = calibration_curve(right.astype(int), said, n_bins=10, strategy=strategy)
    assert [a for a in found["accuracy"] if a is not None] == pytest.approx(accuracy)
    assert [c for c in found["confidence"] if c is not None] == pytest.approx(confidence)
    assert [a is None for a in found["accuracy"]] == [n == 0 for n in found["count"]]
    assert sum(found["count"]) == 400
    assert len(found["edges"]) == 11
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_bins_of_mass_hold_as_many_cells_and_do_not_part_equal_ones():
    p, y = probabilities(4, 300, 3)
    assert set(reliability(p, y, 15, "mass")["count"]) == {20}
    same = np.tile([0.7, 0.3], (10, 1))
    found = reliability(same, [0] * 6 + [1] * 4, 5, "mass")
    assert sorted(found["count"]) == [0, 0, 0, 0, 10]
    assert ece(same, [0] * 6 + [1] * 4, 5, "mass") == pytest.approx(0.1)


def test_scores_equal_scikit_learn():
    p, y = probabilities(5, 200, 4)
    assert nll(p, y) == pytest.approx(log_loss(y, p))
    assert brier(p, y) == pytest.approx(np.mean([sum((row - np.eye(4)[c]) ** 2) for row, c in zip(p, y, strict=True)]))
    p, y = probabilities(6, 200, 2)
    assert brier(p, y) == pytest.approx(2 * brier_score_loss(y, p[:, 1]))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 5), st.sampled_from([None, 15, 4, 1]), st.integers(1, 20)
)
def test_every_score_equals_its_reference_whatever_the_cells(seed, cells, classes, levels, bins):
    """Random cells, exact ties and edges of bins (few levels), classes without cells, probabilities of 0 and 1."""
    p, y = probabilities(seed, cells, classes, levels)
    y = np.minimum(y, max(1, classes - 2))  # the last class has no cells
    said, right, every = p.max(axis=1), p.argmax(axis=1) == y, range(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clipped rows that no longer sum to 1
        assert nll(p, y) == pytest.approx(log_loss(y, np.maximum(p, CLIP), labels=every), abs=1e-9)
    by_class = [brier_score_loss(y == c, p[:, c].clip(0, 1), pos_label=True) for c in every]
    assert brier(p, y) == pytest.approx(sum(by_class), abs=1e-12)
    even = np.linspace(0, 1, bins + 1)
    assert ece(p, y, bins) == pytest.approx(literal_ece(said, right, even), abs=1e-12)
    each = [literal_ece(p[:, c], y == c, even) for c in every]
    assert classwise_ece(p, y, bins) == pytest.approx(np.mean(each), abs=1e-12)
    assert overconfidence(p, y) == pytest.approx(sum(said - right) / cells)
    # Gaps of one sign make the error that overconfidence is; of either, a larger one.
    assert abs(overconfidence(p, y)) <= ece(p, y, bins) + 1e-12
    found = reliability(p, y, bins)
    filled = [k for k, n in enumerate(found["count"]) if n]
    accuracy, confidence = calibration_curve(right.astype(int), said.clip(0, 1), n_bins=bins)
    if bins > 1:
        # On an edge scikit-learn's digits and ours may part by a rounding.
        inside = np.abs(said[:, None] - even).min(axis=1) > 1e-9
        if inside.all():
            assert [found["accuracy"][k] for k in filled] == pytest.approx(accuracy)
            assert [found["confidence"][k] for k in filled] == pytest.approx(confidence)


def test_worked_example_and_extremes():
    p = [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]
    # Bins of width 1/2: all four above ½, said 3.2 of 4, right 3.
    assert ece(p, [0, 1, 1, 1], bins=2) == pytest.approx(abs(3.2 - 3) / 4)
    # Bins of width 1/10: .9 said twice and right once, .6 once, .8 once.
    assert ece(p, [0, 1, 1, 1], bins=10) == pytest.approx((0.8 + 0.4 + 0.2) / 4)
    assert brier([[1.0, 0.0]], [1]) == 2.0
    assert brier([[1.0, 0.0]], [0]) == nll([[1.0, 0.0]], [0]) == ece([[1.0, 0.0]], [0]) == 0.0
    assert ece([[1.0, 0.0]], [1]) == classwise_ece([[1.0, 0.0]], [1]) == 1.0
    assert nll([[1.0, 0.0]], [1]) == pytest.approx(-np.log(CLIP))


def test_a_missing_class_counts_in_the_classwise_mean():
    p = np.array([[0.6, 0.3, 0.1], [0.3, 0.6, 0.1]])
    # In one bin: class 0 and 1 are said .45 and are ½ of the cells, class 2 is said .1 and never there.
    assert classwise_ece(p, [0, 1], bins=1) == pytest.approx((0.05 + 0.05 + 0.1) / 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_temperature([[0.0, np.inf]], [0]), "not finite"),
        (lambda: fit_temperature([[0.0, np.nan]], [0]), "not finite"),
        (lambda: fit_temperature(np.empty((0, 2)), np.empty(0, int)), "no cells"),
        (lambda: fit_temperature([0.0, 1.0], [0]), r"shape \(2,\)"),
        (lambda: fit_temperature([[0.0, 1.0]], [2]), "label 2 is outside 0 to 1"),
        (lambda: fit_vector([[0.0, 1.0]], [0, 1]), "do not fit"),
        (lambda: fit_vector([[0.0, 1.0]], [0.0]), "integer"),
        (lambda: fit_vector([[0.0, 1.0]], [0], ridge=0), "ridge 0"),
        (lambda: Calibrator("vector", 1.0, (1.0,), (0.0,)).calibrated([[0.0, 1.0]]), "1 classes"),
        (lambda: Calibrator().calibrated(1.0), "last axis"),
        (lambda: Calibrator("platt"), "kind 'platt'"),
        (lambda: Calibrator("temperature", 0.0), "temperature 0.0"),
        (lambda: Calibrator("temperature", float("nan")), "temperature nan"),
        (lambda: Calibrator("none", 2.0), "leave it 1"),
        (lambda: Calibrator("vector", 1.0, (1.0,), ()), "1 scales and 0 biases"),
        (lambda: Calibrator("vector"), "0 scales"),
        (lambda: Calibrator("temperature", 1.0, (1.0,), (0.0,)), "do not fit kind temperature"),
        (lambda: Calibrator("vector", 1.0, (-1.0,), (0.0,)), "at least 0"),
        (lambda: Calibrator("vector", 1.0, (1.0,), (float("inf"),)), "finite"),
        (lambda: Calibrator.from_dict({"kind": "none"}), "unreadable"),
        (lambda: Calibrator.from_dict({**Calibrator().to_dict(), "size": 1}), "size"),
        (lambda: Calibrator.from_dict({**Calibrator().to_dict(), "scale": ["a"]}), "unreadable"),
        (lambda: ece([[0.5, 0.5]], [0], bins=0), "0 bins"),
        (lambda: ece([[0.5, 0.5]], [0], scheme="equal"), "scheme 'equal'"),
        (lambda: nll([[3.0, -2.0]], [0]), "softmax"),
        (lambda: brier([0.5, 0.5], [0]), "cells, classes"),
        (lambda: reliability(np.empty((0, 2)), np.empty(0, int)), "no cells"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(CytodistillError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_docstring_example_runs():
    result = doctest.testmod(cytodistill.metrics.calibration)
    assert result.attempted
    assert not result.failed

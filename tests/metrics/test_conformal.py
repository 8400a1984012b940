"""Conformal sets against literal loops, all draws written out, and the coverage of simulated cells."""

from __future__ import annotations

import doctest
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

import cytodistill.metrics.conformal
from cytodistill.errors import CytodistillError
from cytodistill.metrics.conformal import ConformalSets, coverage_report, fit_conformal, theoretical_band


def cells(seed: int, count: int, classes: int = 4, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident probabilities and labels; rounded to a few levels they hold exact ties and zeros."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 1.5
    # The largest of logits plus Gumbel noise is a draw from their softmax.
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    p = softmax(2 * logits, axis=1)
    if levels:
        p = np.floor(p * levels) / levels
        p[:, 0] += 1 - p.sum(axis=1)
    return p, labels


def literal_score(row: np.ndarray, c: int, kind: str) -> float:
    return 1 - row[c] if kind == "lac" else row[row >= row[c]].sum()


def literal_sets(p: np.ndarray, threshold: float, kind: str) -> list[list[bool]]:
    """Class by class: "aps" adds classes, equal ones together, while the sum so far is below the threshold."""
    if kind == "lac":
        return [[bool(1 - q <= threshold) for q in row] for row in p]
    return [[bool(row[row > q].sum() < threshold) for q in row] for row in p]


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_threshold_and_sets_equal_the_literal_ones(kind, coverage):
    p, y = cells(0, 99)
    new, _ = cells(1, 200)
    fitted = fit_conformal(p, y, coverage, kind)
    scores = sorted(literal_score(row, c, kind) for row, c in zip(p, y, strict=True))
    # With 99 cells ⌈100 · coverage⌉ is a whole number: the 50th, 80th, 90th and 95th smallest.
    threshold = scores[round(100 * coverage) - 1]
    assert fitted.thresholds == pytest.approx([threshold] * 4, abs=1e-12)
    assert fitted.counts == (99,) * 4
    assert fitted.sets(new, fill_empty=False).tolist() == literal_sets(new, threshold, kind)


def test_aps_on_a_worked_example():
    fitted = ConformalSets("aps", 0.9, False, (0.85,) * 3, (9,) * 3)
    p = [[0.9, 0.06, 0.04], [0.5, 0.3, 0.2], [0.5, 0.4, 0.1], [0.4, 0.4, 0.2], [0.6, 0.2, 0.2]]
    # Added up until .85 is reached, the class that reaches it included; equal classes enter together.
    assert fitted.sets(p).astype(int).tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 1, 1]]


def test_aps_scores_of_equal_and_of_zero_probabilities():
    # Four cells at coverage .75 need ⌈3.75⌉ = the 4th smallest, the largest of all.
    for label, threshold in ((0, 0.4), (1, 1.0), (2, 1.0), (3, 1.0)):
        fitted = fit_conformal([[0.4, 0.3, 0.3, 0.0]] * 4, [label] * 4, 0.75, "aps")
        assert fitted.thresholds[0] == pytest.approx(threshold)
        # A class whose own cells made the threshold is within it, at probability 0 too.
        assert fitted.sets([[0.4, 0.3, 0.3, 0.0]])[0, label]
    # All classes together are exactly 1 in every row, however the probabilities were rounded.
    rounded = np.array([[0.4, 0.3, 0.2, 0.1005], [0.4, 0.3, 0.2, 0.0995]])
    assert fit_conformal(rounded, [3, 3], 0.5, "aps").thresholds == (1.0,) * 4
    assert fit_conformal(rounded[1:], [3], 0.5, "aps").sets(rounded[:1])[0, 3]
    # The order of the classes does not matter, equal ones or not.
    p, y = cells(2, 60, 4, levels=8)
    turned = [2, 0, 3, 1]
    one = fit_conformal(p, y, 0.8, "aps")
    other = fit_conformal(p[:, turned], np.argsort(turned)[y], 0.8, "aps")
    assert one.thresholds == pytest.approx(other.thresholds)


@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_too_few_cells_give_every_class_and_say_so(kind):
    p, y = cells(3, 9)
    assert fit_conformal(p, y, 0.9, kind).always_included == ()
    fitted = fit_conformal(p[:8], y[:8], 0.9, kind)
    assert fitted.thresholds == (np.inf,) * 4
    assert fitted.always_included == (0, 1, 2, 3)
    assert fitted.sets(cells(4, 20)[0]).all()
    one = fit_conformal(p[:1], y[:1], 0.9, kind)
    assert one.sets(p[:3]).all()
    # One cell is enough for a coverage of one half: ⌈2 · ½⌉ = 1.
    assert np.isfinite(fit_conformal(p[:1], y[:1], 0.5, kind).thresholds).all()


@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_each_class_has_the_threshold_of_its_own_cells(kind):
    p, y = cells(5, 120)
    y[y == 3] = 2
    y[np.flatnonzero(y == 1)[8:]] = 0
    fitted = fit_conformal(p, y, 0.9, kind, per_class=True)
    assert fitted.counts == tuple(np.bincount(y, minlength=4))
    # Eight cells of class 1 and none of class 3.
    assert fitted.always_included == (1, 3)
    assert fitted.sets(p)[:, [1, 3]].all()
    for c in (0, 2):
        alone = fit_conformal(p[y == c], y[y == c], 0.9, kind)
        assert fitted.thresholds[c] == alone.thresholds[c]
        assert (fitted.sets(p, fill_empty=False)[:, c] == alone.sets(p, fill_empty=False)[:, c]).all()


def test_empty_sets_get_the_predicted_class_alone():
    fitted = ConformalSets("lac", 0.5, False, (0.3,) * 3, (9,) * 3)
    p = [[0.8, 0.1, 0.1], [0.3, 0.5, 0.2], [0.4, 0.2, 0.4]]
    assert fitted.sets(p, fill_empty=False).astype(int).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert fitted.sets(p).astype(int).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_one_cell_a_group_is_the_plain_threshold():
    p, y = cells(6, 57)
    for kind, per_class in itertools.product(("lac", "aps"), (False, True)):
        plain = fit_conformal(p, y, 0.8, kind, per_class)
        grouped = fit_conformal(p, y, 0.8, kind, per_class, groups=[f"field {k}" for k in range(57)])
        assert (grouped.thresholds, grouped.counts) == (plain.thresholds, plain.counts)
        assert (plain.unit, grouped.unit) == ("cells", "groups")


@pytest.mark.parametrize("coverage", [0.5, 0.6, 0.75, 0.8, 0.9])
def test_groups_equal_the_mean_p_value_over_all_draws_of_a_cell_a_group(coverage):
    p, y = cells(7, 12, 3)
    g = np.array([0, 0, 0, 1, 2, 2, 3, 3, 4, 4, 4, 4])
    scores = 1 - p[np.arange(12), y]
    draws = [scores[list(rows)] for rows in itertools.product(*(np.flatnonzero(g == k) for k in range(5)))]
    fitted = fit_conformal(p, y, coverage, groups=g)
    new, _ = cells(8, 60, 3)
    # Both sides of every step too: scores at the calibration cells' own.
    for score in np.concatenate([(1 - new).ravel(), scores]):
        mean = np.mean([(1 + (drawn >= score).sum()) / 6 for drawn in draws])
        assert (score <= fitted.thresholds[0]) == (mean > 1 - coverage + 1e-9)
    assert fitted.counts == (5,) * 3
    assert (coverage > 5 / 6) == (fitted.always_included == (0, 1, 2))


def test_groups_of_a_class_are_those_that_hold_its_cells():
    p, y = np.tile([0.5, 0.5], (24, 1)), np.array([0] * 20 + [1] * 4)
    fitted = fit_conformal(p, y, 0.75, per_class=True, groups=np.array([*range(10)] * 2 + [0, 0, 1, 1]))
    assert fitted.counts == (10, 2)
    assert fitted.always_included == (1,)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_of_exchangeable_cells_is_in_the_band(coverage):
    p, y = cells(9, 100_000)
    low, high = theoretical_band(500, 500, coverage, 0.9)
    measured = []
    for k in range(100):
        fitted, new = np.split(np.arange(1000) + 1000 * k, 2)
        lac = fit_conformal(p[fitted], y[fitted], coverage).sets(p[new], fill_empty=False)
        measured.append(coverage_report(lac, y[new])["coverage"])
        if k < 5:
            aps = fit_conformal(p[fitted], y[fitted], coverage, "aps").sets(p[new])
            assert coverage_report(aps, y[new])["coverage"] >= low
    # Of 100 repetitions 90 are expected inside; 80 to 98 is further than three standard errors.
    assert 80 <= np.sum((np.array(measured) >= low) & (np.array(measured) <= high)) <= 98
    # The mean over repetitions is known to a standard error of sqrt(2 · .2 · .8 / 500 / 100) ≤ .0026.
    assert np.mean(measured) == pytest.approx(coverage, abs=0.008)


def test_thresholds_of_classes_cover_each_class_where_one_threshold_does_not():
    p, y = cells(10, 20_000)
    # Class 0 is rare and its probability is held down.
    keep = (y != 0) | (np.arange(20_000) % 5 == 0)
    p, y = p[keep] * [0.2, 1, 1, 1], y[keep]
    p /= p.sum(axis=1, keepdims=True)
    fitted, new = slice(0, 8000), slice(8000, None)

    def measured(per_class):
        sets = fit_conformal(p[fitted], y[fitted], 0.9, per_class=per_class).sets(p[new], fill_empty=False)
        return [found["coverage"] for found in coverage_report(sets, y[new])["per_class"]]

    assert measured(False)[0] < 0.85
    for c, found in enumerate(measured(True)):
        low, high = theoretical_band(int((y[fitted] == c).sum()), int((y[new] == c).sum()), 0.9, 0.999)
        assert low <= found <= high


def test_cells_of_few_groups_are_covered_too_seldom_unless_the_groups_are_given():
    """Four groups of ten cells that are all alike: four scores that look like forty."""
    rng = np.random.default_rng(11)
    found = {"plain": [], "grouped": []}
    for _ in range(400):
        hard = rng.random(5)
        p, g = np.repeat(np.stack([1 - hard, hard], axis=1), 10, axis=0), np.repeat(np.arange(5), 10)
        for name, groups in (("plain", None), ("grouped", g[:40])):
            fitted = fit_conformal(p[:40], np.zeros(40, int), 0.7, groups=groups)
            found[name].append(fitted.sets(p[40:], fill_empty=False)[0, 0])
    # ⌈41 · .7⌉ = 29 of forty scores is the third group's, below which the fifth group is in 3 of 5 cases; ⌈5 · .7⌉ is
    # the fourth group's. The standard error of either share is .025.
    assert np.mean(found["plain"]) == pytest.approx(3 / 5, abs=0.08)
    assert np.mean(found["grouped"]) == pytest.approx(4 / 5, abs=0.08)


def test_groups_of_unequal_size_count_the_same():
    """Large groups are easy, small ones hard: cells one by one cover new groups too seldom."""
    rng = np.random.default_rng(13)

    def draw(groups):
        large = rng.random(groups) < 0.5
        g = np.repeat(np.arange(groups), np.where(large, 40, 2))
        hard = rng.random(len(g)) * np.where(large[g], 0.4, 1.0)
        return np.stack([1 - hard, hard], axis=1), np.zeros(len(g), int), g

    found = {"plain": [], "grouped": []}
    for _ in range(20):
        p, y, g = draw(60)
        new, true, of = draw(200)
        for name, groups in (("plain", None), ("grouped", g)):
            sets = fit_conformal(p, y, 0.9, groups=groups).sets(new, fill_empty=False)
            found[name].append(coverage_report(sets, true, of)["group_coverage"])
    assert np.mean(found["plain"]) < 0.8
    assert 0.89 < np.mean(found["grouped"]) < 0.94


def test_band_equals_simulated_orders():
    # The coverage of the k-th smallest of n uniform scores is that score.
    rng = np.random.default_rng(14)
    scores = np.partition(rng.random((20_000, 50)), 45, axis=1)[:, 45]
    measured = rng.binomial(80, scores) / 80
    low, high = theoretical_band(50, 80, 0.9, 0.8)
    assert np.mean((measured >= low) & (measured <= high)) >= 0.79
    # The band is as narrow as whole cells allow: one less at either end is in less than a tail of .1 each.
    assert np.mean(measured < low) <= 0.105
    assert np.mean(measured > high) <= 0.105
    assert np.mean(measured <= low) >= 0.095
    assert np.mean(measured >= high) >= 0.095


def test_band_narrows_with_cells_and_is_1_without_a_threshold():
    assert theoretical_band(8, 100, 0.9) == (1.0, 1.0)
    few, many = theoretical_band(100, 100, 0.9), theoretical_band(10_000, 10_000, 0.9)
    assert few[0] < many[0] < 0.9 < many[1] < few[1]
    # Of 99 cells at .07 the 7th smallest, though 100 · .07 is above 7 in floats: Beta(7, 93) has the median .067.
    assert theoretical_band(99, 10_000, 0.07, 0.01) == pytest.approx((0.067, 0.067), abs=0.004)


def test_a_whole_rank_is_not_rounded_up():
    for n, coverage in itertools.product(
        [*range(1, 30), 79, 99, 199], (0.07, 0.1, 0.55, 0.57, 0.7, 0.9, 0.95, 1 - 0.1)
    ):
        hard = np.arange(1, n + 1) / 1000
        fitted = fit_conformal(np.stack([1 - hard, hard], axis=1), np.zeros(n, int), coverage)
        rank = -(-(n + 1) * round(100 * coverage) // 100)
        expected = hard[rank - 1] if rank <= n else np.inf
        assert fitted.thresholds[0] == pytest.approx(expected, abs=1e-9)


def test_report_counts_by_hand():
    sets = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]], bool)
    assert coverage_report(sets, [0, 1, 1, 0], ["a", "b", "b", "b"]) == {
        "n": 4,
        "coverage": 0.5,
        "mean_size": 1.0,
        "singletons": 0.5,
        "empties": 0.25,
        "per_class": [
            {"n": 2, "coverage": 0.5, "mean_size": 1.0},
            {"n": 2, "coverage": 0.5, "mean_size": 1.0},
            {"n": 0, "coverage": None, "mean_size": None},
        ],
        "groups": 2,
        "group_coverage": pytest.approx((1 + 1 / 3) / 2),
    }
    assert "groups" not in coverage_report(sets, [0, 1, 1, 0])


@settings(deadline=None, max_examples=50)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.integers(1, 5),
    st.sampled_from([None, 4]),
    st.sampled_from(["lac", "aps"]),
    st.booleans(),
    st.booleans(),
    st.floats(0.05, 0.95),
    st.floats(0.05, 0.95),
)
def test_what_holds_of_any_sets(seed, count, classes, levels, kind, per_class, grouped, one, other):
    p, y = cells(seed, count, classes, levels)
    new, _ = cells(seed + 1, 30, classes, levels)
    groups = np.random.default_rng(seed).integers(0, 8, count) if grouped else None
    small, large = (fit_conformal(p, y, at, kind, per_class, groups) for at in sorted((one, other)))
    assert (small.sets(new, fill_empty=False) <= large.sets(new, fill_empty=False)).all()
    assert small.sets(new).any(axis=1).all()
    if kind == "aps":
        assert (small.sets(new) == small.sets(new, fill_empty=False)).all()
    if not per_class:
        assert (small.sets(new) <= large.sets(new)).all()
        # Whatever is covered, the predicted class is in the set.
        assert small.sets(new)[np.arange(30), new.argmax(axis=1)].all()
        # Calibration cells are covered at least as often as asked for.
        if not grouped:
            assert small.sets(p)[np.arange(count), y].mean() >= small.coverage - 1e-6
    for fitted in (small, large):
        stored = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
        assert ConformalSets.from_dict(stored) == fitted
        assert stored["always_included"] == list(fitted.always_included)
    report = coverage_report(large.sets(p), y, groups)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["empties"] == 0


STORED = ConformalSets("lac", 0.9, False, (0.5, 0.5), (9, 9)).to_dict()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_conformal([[0.5, 0.5]], [0], coverage=90), "coverage 90"),
        (lambda: fit_conformal([[0.5, 0.5]], [0], coverage=1.0), "coverage 1.0"),
        (lambda: fit_conformal([[0.5, 0.5]], [0], kind="raps"), "kind 'raps'"),
        (lambda: fit_conformal([[0.5, 0.5]], [0], groups=["a", "b"]), "do not fit 1 cells"),
        (lambda: fit_conformal([[0.5, 0.6]], [0]), "sum to 1.1"),
        (lambda: fit_conformal([[0.5, 0.5]], [2]), "label 2"),
        (lambda: fit_conformal(np.empty((0, 2)), np.empty(0, int)), "no cells"),
        (lambda: ConformalSets.from_dict(STORED).sets([[0.2, 0.3, 0.5]]), "3 classes"),
        (lambda: ConformalSets.from_dict(STORED).sets([[3.0, -2.0]]), "softmax"),
        (lambda: ConformalSets.from_dict(STORED).sets([0.5, 0.5]), "cells, classes"),
        (lambda: ConformalSets.from_dict({**STORED, "thresholds": [0.5]}), "1 thresholds and 2 counts"),
        (lambda: ConformalSets.from_dict({**STORED, "thresholds": [0.5, float("nan")]}), "anew"),
        (lambda: ConformalSets.from_dict({**STORED, "unit": "slides"}), "unit 'slides'"),
        (lambda: ConformalSets.from_dict({**STORED, "size": 1}), "size"),
        (lambda: ConformalSets.from_dict({"kind": "lac"}), "unreadable"),
        (lambda: coverage_report([[1, 0]], [0]), "true or false"),
        (lambda: coverage_report(np.ones((2, 2), bool), [0]), "do not fit"),
        (lambda: coverage_report(np.ones((1, 2), bool), [0], ["a", "b"]), "do not fit 1 cells"),
        (lambda: theoretical_band(0, 10), "0 calibration"),
        (lambda: theoretical_band(10, 10, level=95), "level 95"),
        (lambda: theoretical_band(10, 10, coverage=0), "coverage 0"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(CytodistillError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_docstring_example_runs():
    result = doctest.testmod(cytodistill.metrics.conformal)
    assert result.attempted
    assert not result.failed

"""The abnormal-against-normal view against direct counts at every threshold, and a published table of ratings."""

from __future__ import annotations

import dataclasses
import doctest
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

import cytodistill.metrics.screening
from cytodistill.errors import CytodistillError
from cytodistill.metrics.screening import (
    OperatingPoint,
    abnormal_score,
    aggregate,
    choose_operating_point,
    decide,
    group_labels,
    precision_recall,
    roc,
    sensitivity_at,
    specificity_at,
)


def case(seed: int, cells: int = 60, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Scores that lean to the label, both classes present; rounded to a few levels they hold ties."""
    random = np.random.default_rng(seed)
    y = random.random(cells) < 0.4
    y[:2] = [True, False]
    s = 1 / (1 + np.exp(-random.normal(y * 1.2)))
    return (s if levels is None else np.round(s * levels) / levels), y


def counted(s: np.ndarray, y: np.ndarray) -> list[tuple[float, float, float]]:
    """(threshold, sensitivity, specificity) of every distinct score and of +∞, counted one by one."""
    return [
        (t, sum(s[y] >= t) / sum(y), sum(s[~y] < t) / sum(~y)) for t in [np.inf, *sorted(set(s.tolist()), reverse=True)]
    ]


def test_scores_are_sums_over_the_abnormal_classes():
    p = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    found = abnormal_score(p, [False, True, False, True, True])
    assert found == pytest.approx(p[:, 1] + p[:, 3] + p[:, 4], abs=1e-15)
    assert abnormal_score([[0.0, 0.6, 0.4004]], [False, True, True]).tolist() == [1.0]


def test_ratings_of_hanley_and_mcneil():
    # Hanley & McNeil, Radiology 143:29 (1982), table 1: 109 CT images rated 1 (normal) to 5 (abnormal), area 0.893.
    rating = np.arange(1, 6)
    s = np.concatenate([np.repeat(rating, [33, 6, 6, 11, 2]), np.repeat(rating, [3, 2, 2, 11, 33])])
    y = np.repeat([False, True], [58, 51])
    curve = roc(s, y)
    assert curve.auc == pytest.approx(0.893, abs=5e-4)
    assert curve.thresholds.tolist() == [np.inf, 5, 4, 3, 2, 1]
    assert curve.sensitivity * 51 == pytest.approx([0, 33, 44, 46, 48, 51])
    assert curve.specificity * 58 == pytest.approx([58, 56, 45, 39, 33, 0])
    assert specificity_at(s, y, 0.9) == 39 / 58
    assert sensitivity_at(s, y, 0.9) == 33 / 51
    # 33/51 + 56/58, 44/51 + 45/58, …: the largest is at "4 or 5".
    assert choose_operating_point(s, y, youden=True).threshold == 4


@pytest.mark.parametrize("levels", [None, 5])
def test_curves_equal_direct_counts_and_scikit_learn(levels):
    s, y = case(1, 30, levels)
    curve, precise = roc(s, y), precision_recall(s, y)
    table = np.array(counted(s, y))
    assert (np.stack([curve.thresholds, curve.sensitivity, curve.specificity], axis=1) == table).all()
    pairs = s[y][:, None] - s[~y][None, :]
    assert curve.auc == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-12)
    assert curve.auc == pytest.approx(roc_auc_score(y, s), abs=1e-12)
    assert (precise.thresholds == table[:, 0]).all()
    assert precise.precision[0] == 1.0
    rows = zip(precise.thresholds, precise.precision, precise.sensitivity, strict=True)
    for t, precision, sensitivity in list(rows)[1:]:
        assert precision == pytest.approx(precision_score(y, s >= t))
        assert sensitivity == pytest.approx(recall_score(y, s >= t))
    expected = (np.diff(precise.sensitivity) * precise.precision[1:]).sum()
    assert precise.average_precision == pytest.approx(expected, abs=1e-12)
    assert precise.average_precision == pytest.approx(average_precision_score(y, s), abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([None, 2, 6]), st.floats(0.01, 1))
def test_what_holds_of_any_scores(seed, cells, levels, target):
    s, y = case(seed, cells, levels)
    curve, table = roc(s, y), counted(s, y)
    assert (np.diff(curve.sensitivity) >= 0).all()
    assert (np.diff(curve.specificity) <= 0).all()
    assert 0 <= curve.auc <= 1
    assert 0 < precision_recall(s, y).average_precision <= 1
    best = max(sensitivity for _, sensitivity, specificity in table if specificity >= target)
    assert sensitivity_at(s, y, target) == best
    assert specificity_at(s, y, target) == max(spec for _, sens, spec in table if sens >= target)

    by_sensitivity = choose_operating_point(s, y, sensitivity=target)
    assert by_sensitivity.threshold == max(t for t, sens, _ in table if sens >= target)
    assert by_sensitivity.threshold in s[y]
    by_youden = choose_operating_point(s, y, youden=True)
    assert by_youden.sensitivity + by_youden.specificity == pytest.approx(max(a + b for _, a, b in table))
    points = [by_sensitivity, by_youden]
    if best:
        points.append(choose_operating_point(s, y, specificity=target))
        assert (points[-1].sensitivity, points[-1].specificity) == max(row[1:] for row in table if row[2] >= target)
        assert points[-1].threshold in s[y]
    else:
        with pytest.raises(CytodistillError, match="no abnormal cell is found"):
            choose_operating_point(s, y, specificity=target)
    for point in points:
        said = decide(s, point)
        assert point.sensitivity == said[y].mean()
        assert point.specificity == (~said[~y]).mean()
        assert point.n == cells


def test_targets_are_met_by_the_exact_fraction():
    # 19 of 20 is 0.95, and 1 − 1/20 in floats need not be.
    for n in (20, 40, 60, 100):
        s = np.arange(2 * n) / (2 * n)
        y = np.tile([False, True], n)
        missed = n // 20
        s[y] = 2 + np.arange(n)
        s[np.flatnonzero(y)[:missed]] = -1
        assert specificity_at(s, y, 0.95) == 1.0
        assert sensitivity_at(-s, ~y, 0.95) == 1.0


def test_ties_fall_on_one_side():
    # Half of the abnormal cells share their score with all normal ones.
    s, y = [0.5, 0.5, 0.5, 0.9], [False, False, True, True]
    assert sensitivity_at(s, y, specificity=0.01) == 0.5
    assert specificity_at(s, y, sensitivity=0.51) == 0.0
    assert roc(s, y).auc == 0.75
    constant = roc([0.3] * 4, y)
    assert (constant.auc, constant.sensitivity.tolist(), constant.specificity.tolist()) == (0.5, [0, 1], [1, 0])
    assert sensitivity_at([0.3] * 4, y, specificity=0.5) == 0.0


def test_equal_youden_takes_the_more_sensitive():
    # 0.5 + 1 at threshold 0.8 and 1 + 0.5 at 0.4.
    point = choose_operating_point([0.2, 0.6, 0.4, 0.8], [False, False, True, True], youden=True, name="screening")
    assert (point.threshold, point.sensitivity, point.specificity) == (0.4, 1.0, 0.5)
    assert (point.name, point.n, point.rule) == ("screening", 4, "largest sensitivity + specificity - 1")


def test_a_point_goes_through_json_to_the_last_bit():
    s, y = case(3)
    point = choose_operating_point(s, y, specificity=0.9, name="Rückfrage")
    again = OperatingPoint.from_json(point.to_json())
    assert again == point
    assert (decide(s, again) == decide(s, point)).all()
    assert (point.rule, dataclasses.replace(point, name="b") != point) == ("specificity >= 0.9", True)
    assert json.loads(point.to_json())["n"] == 60


def test_a_score_at_the_threshold_is_abnormal():
    point = OperatingPoint("p", 0.5, "by hand", 1.0, 1.0, 1)
    assert decide([np.nextafter(0.5, 0), 0.5, np.float32(0.6)], point).tolist() == [False, True, True]


def test_groups_by_hand():
    s = np.array([0.1, 0.9, 0.3, 0.2, 0.7, 0.4])
    groups = ["b", "a", "b", "a", "a", "c"]
    assert aggregate(s, groups)[0].tolist() == ["a", "b", "c"]
    assert aggregate(s, groups)[1].tolist() == [0.9, 0.3, 0.4]
    assert aggregate(s, groups, "top_k_mean", k=2)[1] == pytest.approx([0.8, 0.2, 0.4])
    assert aggregate(s, groups, "noisy_or")[1] == pytest.approx([1 - 0.1 * 0.8 * 0.3, 1 - 0.9 * 0.7, 0.4])
    names, abnormal = group_labels([False, True, False, False, True, False], groups)
    assert (names.tolist(), abnormal.tolist()) == (["a", "b", "c"], [True, False, False])


def test_a_noisy_or_keeps_the_smallest_and_the_largest_scores():
    tiny = aggregate(np.full(1000, 1e-18), np.zeros(1000, int), "noisy_or")[1]
    assert tiny == pytest.approx([1e-15], rel=1e-12, abs=0)
    assert aggregate([1.0, 0.5, 1.0, 0.0], ["a", "a", "a", "b"], "noisy_or")[1].tolist() == [1.0, 0.0]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 6), st.integers(1, 4))
def test_groups_equal_a_loop(seed, cells, groups, k):
    random = np.random.default_rng(seed)
    s, g = random.random(cells).round(1), random.integers(0, groups, cells)
    names, highest = aggregate(s, g)
    top, either = aggregate(s, g, "top_k_mean", k=k)[1], aggregate(s, g, "noisy_or")[1]
    assert names.tolist() == sorted(set(g.tolist()))
    for row, name in enumerate(names):
        own = sorted(s[g == name], reverse=True)
        assert highest[row] == own[0]
        assert top[row] == pytest.approx(np.mean(own[:k]))
        assert either[row] == pytest.approx(1 - np.prod(1 - np.array(own)))
        assert top[row] <= highest[row] + 1e-12
        assert highest[row] <= either[row] + 1e-12
    assert (group_labels(s > 0.5, g)[1] == (highest > 0.5)).all()


POINT = OperatingPoint("p", 0.5, "by hand", 1.0, 0.5, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: abnormal_score([[0.5, 0.5]], [0, 1]), "abnormal is int64"),
        (lambda: abnormal_score([[0.5, 0.5]], [True]), "each of the 2 classes"),
        (lambda: abnormal_score([[0.5, 0.5]], [True, True]), "all classes or none"),
        (lambda: abnormal_score([[0.5, 0.5]], [False, False]), "all classes or none"),
        (lambda: abnormal_score([0.5, 0.5], [False, True]), "shape"),
        (lambda: abnormal_score([[0.5, 0.5], [3.0, -2.0]], [False, True]), "cell 1 .* softmax"),
        (lambda: abnormal_score([[0.5, 0.5], [np.nan, 1.0]], [False, True]), "cell 1 .* softmax"),
        (lambda: roc([0.1, 0.2], [True, True]), "all 2 are abnormal"),
        (lambda: precision_recall([0.1, 0.2], [False, False]), "all 2 are normal"),
        (lambda: roc([0.1, np.nan], [True, False]), "finite"),
        (lambda: roc([0.1, 0.2, 0.3], [True, False]), "3 scores and 2 labels"),
        (lambda: roc([0.1, 0.2], [0, 2]), "True or False"),
        (lambda: roc([0.1, 0.2], ["normal", "abnormal"]), "True or False"),
        (lambda: roc([], []), "at least one cell"),
        (lambda: sensitivity_at([0.1, 0.2], [False, True], 95), "specificity 95 is outside"),
        (lambda: specificity_at([0.1, 0.2], [False, True], 0), "sensitivity 0 is outside"),
        (lambda: specificity_at([0.1, 0.2], [True, True], 0.9), "all 2 are abnormal"),
        (lambda: choose_operating_point([0.1, 0.2], [False, True]), "exactly one"),
        (lambda: choose_operating_point([0.1, 0.2], [False, True], sensitivity=0.9, youden=True), "exactly one"),
        (lambda: choose_operating_point([0.1, 0.2], [False, True], sensitivity=1.1), "outside 0 to 1"),
        (lambda: choose_operating_point([0.1, 0.2], [True, True], youden=True), "all 2 are abnormal"),
        (lambda: choose_operating_point([0.3, 0.2], [False, True], specificity=0.9), "no abnormal cell is found"),
        (lambda: decide([0.1, np.nan], POINT), "finite"),
        (lambda: dataclasses.replace(POINT, threshold=np.inf), "threshold=inf is not a finite number"),
        (lambda: dataclasses.replace(POINT, sensitivity=1.5), "sensitivity=1.5 is not a number from 0 to 1"),
        (lambda: dataclasses.replace(POINT, n=0), "n=0"),
        (lambda: dataclasses.replace(POINT, name=3), "name=3"),
        (lambda: OperatingPoint.from_json("{"), "not JSON"),
        (lambda: OperatingPoint.from_json('{"name": "p"}'), "not an object with the fields"),
        (lambda: OperatingPoint.from_json("[1]"), "not an object"),
        (lambda: OperatingPoint.from_json(POINT.to_json().replace("0.5,", "null,", 1)), "threshold=None"),
        (lambda: OperatingPoint.from_json(POINT.to_json().replace("0.5,", "NaN,", 1)), "threshold=nan"),
        (lambda: aggregate([0.1], ["a"], "mean"), "how='mean' is unknown"),
        (lambda: aggregate([0.1], ["a"], "top_k_mean"), "k=None"),
        (lambda: aggregate([0.1], ["a"], "top_k_mean", k=0), "k=0"),
        (lambda: aggregate([0.1], ["a"], "max", k=2), "k=2"),
        (lambda: aggregate([0.1, 0.2], ["a"]), "do not fit 2 cells"),
        (lambda: aggregate([], []), "at least one cell"),
        (lambda: aggregate([1.2], ["a"], "noisy_or"), "outside 0 to 1"),
        (lambda: group_labels([True, False], ["a"]), "do not fit 2 cells"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(CytodistillError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_docstring_examples_run():
    result = doctest.testmod(cytodistill.metrics.screening)
    assert result.attempted
    assert not result.failed

"""The abnormal-against-normal view against direct counts at every threshold, and a published table of ratings."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

import cytodistill.metrics.screening
from cytodistill.errors import CytodistillError
from cytodistill.metrics.screening import precision_recall, roc, sensitivity_at, specificity_at

from .screening_cases import case, counted


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


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([None, 1, 2, 6]))
def test_areas_equal_counted_pairs_and_scikit_learn(seed, cells, levels):
    s, y = case(seed, cells, levels)
    pairs = s[y][:, None] - s[~y][None, :]
    assert roc(s, y).auc == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-12)
    assert roc(s, y).auc == pytest.approx(roc_auc_score(y, s), abs=1e-12)
    gained, total = 0.0, 0.0
    for t in sorted(set(s.tolist()), reverse=True):
        recall = recall_score(y, s >= t)
        total += (recall - gained) * precision_score(y, s >= t)
        gained = recall
    assert precision_recall(s, y).average_precision == pytest.approx(total, abs=1e-12)
    assert precision_recall(s, y).average_precision == pytest.approx(average_precision_score(y, s), abs=1e-12)


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
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

"""Resamples by one matrix product against the figures of `metrics` on the rows of each resample, literally."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from cytodistill.metrics.calibration import brier, classwise_ece, ece, nll, overconfidence
from cytodistill.metrics.calibration_intervals import calibration_intervals, errors_if_calibrated
from cytodistill.metrics.class_intervals import class_intervals, f1_interval
from cytodistill.metrics.group_resampling import GroupResampling, ends, quotient, steps
from cytodistill.metrics.intervals import draw_groups, figure_intervals, group_bootstrap, group_tallies
from cytodistill.metrics.screening import precision_recall, roc, sensitivity_at, specificity_at
from cytodistill.metrics.screening_intervals import area_interval, average_precision_interval, specificity_interval
from cytodistill.metrics.selective import aurc, coverage_at, doubt, e_aurc, failure_auroc
from cytodistill.metrics.selective_intervals import failure_intervals
from cytodistill.metrics.standard_error import share_ends

RESAMPLES, FEW = 100, 25


def cells(seed: int, groups: int = 7, classes: int = 3, levels: int | None = None):
    """Probabilities, labels and groups of a few cells each; rounded to a few levels many are equal."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(groups), rng.integers(1, 7, groups))
    labels = rng.integers(0, classes, len(of))
    weights = rng.gamma(0.5, size=(len(of), classes)) + 0.6 * np.eye(classes)[labels] + 0.01
    if levels:
        weights = np.ceil(weights * levels)
    return weights / weights.sum(axis=1, keepdims=True), labels, of


def literal(statistic: Callable, groups: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """The statistic on the rows of each resample, NaN where it is undefined."""
    names, of = np.unique(groups, return_inverse=True)
    found = []
    for count in draw_groups(len(names), resamples):
        value = statistic(np.repeat(np.arange(len(of)), count[of]))
        found.append(np.nan if value is None else value)
    return np.array(found, float)


def of_both(figure: Callable) -> Callable:
    """A figure of scores, None where a resample has cells of one kind only."""
    return lambda scores, own: figure(scores, own) if own.any() and not own.all() else None


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]), st.integers(2, 9))
def test_intervals_of_probabilities_are_the_literal_bootstraps(seed, levels, groups):
    p, y, g = cells(seed, groups, levels=levels)
    y[y == 2] = 1  # a class without cells
    found = calibration_intervals(GroupResampling(g, RESAMPLES), p, y)
    figures = {
        "accuracy": (lambda r: (p[r].argmax(1) == y[r]).mean(), "share"),
        "nll": (lambda r: nll(p[r], y[r]), "positive"),
        "brier": (lambda r: brier(p[r], y[r]), "positive"),
        "overconfidence": (lambda r: overconfidence(p[r], y[r]), "plain"),
    }
    for name, (statistic, scale) in figures.items():
        expected = group_bootstrap(statistic, g, scale=scale, resamples=RESAMPLES)
        of = found[name]
        assert (of.value, of.low, of.high) == pytest.approx((expected.value, expected.low, expected.high), rel=1e-6)


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10**6), st.sampled_from([None, 2]), st.integers(2, 9))
def test_intervals_of_doubt_are_the_literal_bootstraps(seed, levels, groups):
    p, y, g = cells(seed, groups, levels=levels)
    doubts, right = doubt(p), p.argmax(1) == y
    right[:2] = [True, False]
    found = failure_intervals(GroupResampling(g, RESAMPLES), doubts, right)
    for name, figure in (("auroc", failure_auroc), ("aurc", aurc), ("e_aurc", e_aurc)):
        if found[name] is None:
            drawn = literal(lambda rows, figure=figure: figure(doubts[rows], right[rows]), g)
            assert 2 * np.isfinite(drawn).sum() < RESAMPLES
            continue
        expected = group_bootstrap(
            lambda rows, figure=figure: figure(doubts[rows], right[rows]), g, resamples=RESAMPLES
        )
        assert ends(found[name]) == pytest.approx([expected.low, expected.high], abs=1e-6)
    # Within a step the literal curve may stop half-way.
    covered = literal(lambda rows: coverage_at(doubts[rows], right[rows], 0.05), g)
    if covered.std() > 0.05:
        low, high = share_ends(
            found["coverage"].value, covered, (lambda n: n.sum() ** 2 / (n**2).sum())(np.bincount(g))
        )
        assert ends(found["coverage"]) == pytest.approx([low, high], abs=0.1)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from([None, 3]), st.integers(2, 9), st.floats(0.05, 0.98))
def test_resampled_curves_are_those_of_the_rows(seed, levels, groups, target):
    p, y, g = cells(seed, groups, levels=levels)
    scores, own = p[:, 0], y == 0
    own[:2] = [True, False]
    draws = GroupResampling(g, FEW)
    for found, figure in (
        (draws.area(scores, own), lambda s, o: roc(s, o).auc),
        (draws.average_precision(scores, own), lambda s, o: precision_recall(s, o).average_precision),
        (draws.best_rate(scores, own, target), lambda s, o: sensitivity_at(s, o, target)),
        (draws.best_rate(-scores, ~own, target), lambda s, o: specificity_at(s, o, target)),
    ):
        expected = literal(lambda rows, figure=figure: of_both(figure)(scores[rows], own[rows]), g, FEW)
        known = np.isfinite(expected)
        assert found[known] == pytest.approx(expected[known], abs=1e-9)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.integers(2, 9))
def test_resampled_classes_are_scikit_learns(seed, groups):
    p, y, g = cells(seed, groups)
    y[:2] = [0, 1]
    said = p.argmax(1)
    found = class_intervals(GroupResampling(g, RESAMPLES), y, said, 4)
    assert found[3] == {"sensitivity": None, "specificity": None, "precision": None, "f1": None}
    scores = {"sensitivity": recall_score, "precision": precision_score, "f1": f1_score}
    for name, score in scores.items():
        for code in range(3):
            interval = found[code][name]
            if interval is not None:
                value = score(y == code, said == code, zero_division=0)
                assert interval.value == pytest.approx(value)
                assert 0 <= interval.low <= value <= interval.high <= 1
    macro = f1_interval(GroupResampling(g, RESAMPLES), y, said, 4)
    value = f1_score(y, said, labels=np.unique(y), average="macro", zero_division=0)
    expected = figure_intervals([group_tallies(y, said, g, 4)], resamples=RESAMPLES)["f1"]
    assert macro.value == pytest.approx(value)
    assert (macro.low, macro.high) == pytest.approx((expected.low, expected.high))


def test_degrees_of_freedom_are_those_of_the_groups_that_a_class_is_in():
    right = np.array([1, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1])
    labels = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    said = np.where(right == 1, labels, 1 - labels)
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8])
    draws = GroupResampling(groups, RESAMPLES)
    hits = draws.sums_by(labels, 2, right.astype(float))[:, 1]
    drawn = quotient(hits, draws.sums_by(labels, 2)[:, 1])
    expected = share_ends(4 / 6, drawn, 3.0)  # three groups of two cells each
    assert ends(class_intervals(draws, labels, said, 2)[1]["sensitivity"]) == pytest.approx(expected)


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.integers(2, 9), st.sampled_from([None, 2]))
def test_chance_of_a_calibration_error_is_that_of_the_centred_bins(seed, groups, levels):
    p, y, g = cells(seed, groups, levels=levels)
    found = errors_if_calibrated(GroupResampling(g, RESAMPLES), p, y, bins=5)
    edges = np.linspace(0, 1, 6)

    def sums(said, true, rows):
        return np.array(
            [
                (true[r] - said[r]).sum()
                for r in (rows[(said[rows] > a) & (said[rows] <= b)] for a, b in pairwise(edges))
            ]
        )

    everything, right = np.arange(len(y)), (p.argmax(1) == y).astype(float)
    columns = {"ece": [(p.max(1), right)], "classwise_ece": [(p[:, c], (y == c).astype(float)) for c in range(3)]}
    n = np.bincount(g)
    for name, of in columns.items():
        drawn = literal(
            lambda rows, of=of: np.mean(
                [np.abs(sums(*one, rows) - len(rows) / len(y) * sums(*one, everything)).sum() / len(y) for one in of]
            ),
            g,
        )
        effective = max(2, n.sum() ** 2 / (n**2).sum())
        expected = np.quantile(drawn, 0.95) * np.sqrt(effective / (effective - 1))
        assert found[name] == pytest.approx(expected, abs=1e-9)


def test_right_probabilities_stay_below_chance_and_wrong_ones_do_not():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 600)
    drawn = np.array([rng.choice(3, p=row) for row in p])
    draws = GroupResampling(np.arange(600) // 10)
    for labels, below in ((drawn, True), (rng.integers(0, 3, 600), False)):
        limit = errors_if_calibrated(draws, p, labels)
        assert (ece(p, labels) < limit["ece"]) is below
        assert (classwise_ece(p, labels) < limit["classwise_ece"]) is below


def test_one_group_has_no_interval_of_anything():
    p, y, _ = cells(0)
    draws = GroupResampling(np.zeros(len(y), int), RESAMPLES)
    assert set(calibration_intervals(draws, p, y).values()) == {None}
    assert set(failure_intervals(draws, doubt(p), p.argmax(1) == y).values()) == {None}
    assert set(errors_if_calibrated(draws, p, y).values()) == {None}
    assert all(set(of.values()) == {None} for of in class_intervals(draws, y, p.argmax(1), 3))
    assert draws.mean_of_groups(y == 0) is None
    for interval in (area_interval, average_precision_interval):
        assert interval(draws, p[:, 0], y == 0) is None
    assert specificity_interval(draws, p[:, 0], y == 0, 0.9) is None


def test_means_by_class_are_the_means_of_its_cells():
    _, y, g = cells(3, groups=9)
    values = np.random.default_rng(3).random(len(y))
    draws = GroupResampling(g, RESAMPLES)
    for code, found in enumerate(draws.means_by(y, 4, values)):
        expected = draws.mean(values, y == code)
        assert (found is None) == (expected is None)
        assert found is None or ends(found) == pytest.approx(ends(expected))


def test_groups_count_once_in_their_mean():
    held, g = np.array([1, 1, 1, 0, 0, 1]), np.array([0, 0, 0, 1, 2, 2])
    found = GroupResampling(g, RESAMPLES).mean_of_groups(held)
    expected = group_bootstrap(lambda rows: np.array([1, 0, 0.5])[rows].mean(), np.arange(3), resamples=RESAMPLES)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))


def test_fewer_resamples_where_there_are_very_many_columns(monkeypatch):
    monkeypatch.setattr("cytodistill.metrics.group_resampling.MOST_PRODUCTS", 1)
    draws = GroupResampling(np.arange(10))
    assert draws.sums(np.ones((10, 3))).shape == (200, 3)


def test_steps_keep_the_order_of_scores_and_part_no_equal_ones():
    for scores in (np.random.default_rng(0).random(3000), np.round(np.random.default_rng(1).random(900), 2)):
        rank, count = steps(scores)
        assert rank.max() < count <= 402
        order = np.argsort(scores, kind="stable")
        assert (np.diff(rank[order]) >= 0).all()
        assert all(len(set(rank[scores == one].tolist())) == 1 for one in np.unique(scores)[:20])

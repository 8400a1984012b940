"""Doubt, failure prediction and risk–coverage against every order of tied cells, SciPy and direct counts."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

import cytodistill.metrics.selective
from cytodistill.errors import CytodistillError
from cytodistill.metrics.selective import (
    aurc,
    coverage_at,
    doubt,
    e_aurc,
    failure_auroc,
    risk_at,
    risk_coverage,
)


def case(seed: int, cells: int, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Doubts, and answers that are wrong more often where doubt is large."""
    random = np.random.default_rng(seed)
    d = random.random(cells)
    return (d if levels is None else np.round(d * levels) / levels), random.random(cells) > 0.6 * d


def orders(d: np.ndarray) -> list[tuple[int, ...]]:
    """Every order of the cells in which doubt does not fall."""
    return [order for order in itertools.permutations(range(len(d))) if (np.diff(d[list(order)]) >= 0).all()]


def test_doubts_equal_numpy_and_scipy():
    p = np.random.default_rng(0).dirichlet(np.full(4, 0.5), 30)
    ordered = np.sort(p, axis=1)
    assert doubt(p) == pytest.approx(1 - ordered[:, -1], abs=1e-15)
    assert doubt(p, "margin") == pytest.approx(1 - (ordered[:, -1] - ordered[:, -2]), abs=1e-15)
    assert doubt(p, "entropy") == pytest.approx(entropy(p, axis=1), abs=1e-12)


def test_disagreement_is_the_mean_divergence_from_the_ensemble():
    exits = np.random.default_rng(1).dirichlet(np.ones(3), (20, 4))
    ensemble = exits.mean(axis=1, keepdims=True)
    expected = (exits * np.log(exits / ensemble)).sum(axis=2).mean(axis=1)
    assert doubt(exits, "disagreement") == pytest.approx(expected, abs=1e-12)
    two = jensenshannon(exits[:, 0], exits[:, 1], axis=1) ** 2
    assert doubt(exits[:, :2], "disagreement") == pytest.approx(two, abs=1e-12)
    # Four exits, each sure of another class, are the most that can be; equal ones are none, however unsure.
    assert doubt(np.eye(4)[None], "disagreement") == pytest.approx([np.log(4)])
    assert doubt(np.repeat(exits[:, :1], 3, axis=1), "disagreement") == pytest.approx(np.zeros(20), abs=1e-15)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(2, 5), st.integers(2, 4))
def test_bounds_of_doubt(seed, cells, classes, exits):
    p = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), (cells, exits))
    limits = {"max_probability": 1 - 1 / classes, "entropy": np.log(classes), "margin": 1.0}
    for kind, limit in limits.items():
        found = doubt(p[:, 0], kind)
        assert (found >= -1e-12).all()
        assert (found <= limit + 1e-12).all()
        assert doubt(np.full((1, classes), 1 / classes), kind) == pytest.approx([limit])
        assert doubt(np.eye(classes), kind) == pytest.approx(np.zeros(classes))
    found = doubt(p, "disagreement")
    assert (found >= 0).all()
    assert (found <= np.log(min(exits, classes)) + 1e-12).all()


@pytest.mark.parametrize("levels", [None, 4])
def test_failure_auroc_counts_pairs(levels):
    d, right = case(2, 50, levels)
    pairs = d[~right][:, None] - d[right][None, :]
    assert failure_auroc(d, right) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), abs=1e-12)
    assert failure_auroc(d, right) == pytest.approx(roc_auc_score(right, -d), abs=1e-12)
    assert failure_auroc([0.5] * 4, [1, 0, 1, 0]) == 0.5


def test_all_right_and_all_wrong():
    d = [0.3, 0.1, 0.2, 0.2]
    for right, risk in ((True, 0.0), (False, 1.0)):
        answers = [right] * 4
        assert failure_auroc(d, answers) is None
        assert risk_coverage(d, answers)[1].tolist() == [risk] * 4
        assert (aurc(d, answers), e_aurc(d, answers)) == (risk, 0.0)
        assert risk_at(d, answers, 0.5) == risk
        assert coverage_at(d, answers, 0.5) == (1.0 if right else 0.0)
        assert coverage_at(d, answers, 1) == 1.0


def test_worked_example():
    # Kept one by one: right, wrong, right, wrong, so risks 0, 1/2, 1/3, 2/4; the best order has 0, 0, 1/3, 2/4.
    d, right = [0.4, 0.1, 0.3, 0.2], [False, True, True, False]
    coverage, risk = risk_coverage(d, right)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc(d, right) == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert e_aurc(d, right) == pytest.approx(1 / 2 / 4)
    assert [risk_at(d, right, share) for share in (0.1, 0.25, 0.26, 0.75, 1)] == pytest.approx(
        [0, 0, 1 / 2, 1 / 3, 1 / 2]
    )
    # The risk rises to one half and falls to a third again, and the last coverage counts.
    assert [coverage_at(d, right, risk) for risk in (0, 0.3, 1 / 3, 0.4, 0.5, 1)] == [0.25, 0.25, 0.75, 0.75, 1.0, 1.0]
    assert coverage_at(d, [False, True, False, True], 0) == 0.5
    assert coverage_at([0.1, 0.2], [False, True], 0.4) == 0.0


def test_ties_are_the_mean_of_every_order():
    d, right = np.array([0.2, 0.2, 0.1, 0.3, 0.3, 0.3]), np.array([True, False, True, False, True, False])
    assert len(orders(d)) == 2 * 6
    risks = [np.cumsum(~right[list(order)]) / np.arange(1, 7) for order in orders(d)]
    assert risk_coverage(d, right)[1] == pytest.approx(np.mean(risks, axis=0), abs=1e-12)
    assert aurc(d, right) == pytest.approx(np.mean(risks), abs=1e-12)
    # No order at all: the error rate at any coverage.
    assert risk_coverage(np.zeros(6), right)[1] == pytest.approx(np.full(6, 1 / 2), abs=1e-12)
    assert coverage_at(np.zeros(6), right, 0.5) == 1.0


def test_best_order_nears_the_limit_of_geifman():
    # Geifman, Uziel & El-Yaniv (ICLR 2019): AURC of the best order is about r + (1 − r) ln(1 − r).
    for r in (0.05, 0.2, 0.5):
        right = np.arange(20_000) >= r * 20_000
        assert aurc(~right, right) == pytest.approx(r + (1 - r) * np.log(1 - r), abs=1e-4)
        assert e_aurc(~right, right) == 0.0


def test_coverages_meet_their_share_in_spite_of_rounding():
    # 0.07 · 100 is 7.000000000000001 in floats and still means seven cells.
    d, right = np.arange(100), np.arange(100) != 7
    assert risk_at(d, right, 0.07) == 0.0
    assert risk_at(d, right, 0.08) == 1 / 8
    assert risk_at(d, right, 0.1 + 0.2) == 1 / 30


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([None, 1, 2]))
def test_equals_every_order(seed, cells, levels):
    d, right = case(seed, cells, levels)
    risks = [np.cumsum(~right[list(order)]) / np.arange(1, cells + 1) for order in orders(d)]
    assert risk_coverage(d, right)[1] == pytest.approx(np.mean(risks, axis=0), abs=1e-12)
    best = min(
        (np.cumsum(~right[list(order)]) / np.arange(1, cells + 1)).mean()
        for order in itertools.permutations(range(cells))
    )
    assert e_aurc(d, right) == pytest.approx(np.mean(risks) - best, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from([None, 1, 3]), st.floats(0.01, 1))
def test_what_holds_of_any_doubt(seed, cells, levels, share):
    d, right = case(seed, cells, levels)
    coverage, risk = risk_coverage(d, right)
    assert (np.diff(coverage) > 0).all()
    assert coverage[-1] == 1.0
    assert risk[-1] == pytest.approx((~right).mean())
    # Wrong answers do not get fewer with coverage, nor more than the cells that were added.
    added = np.diff(np.concatenate([[0], risk * np.arange(1, cells + 1)]))
    assert (added >= -1e-9).all()
    assert (added <= 1 + 1e-9).all()
    assert 0 <= aurc(~right, right) <= aurc(d, right) + 1e-12
    assert aurc(d, right) <= aurc(right, right) + 1e-12 <= 1 + 1e-12
    assert 0 <= e_aurc(d, right) <= 1
    # The order alone matters, of doubts and of cells.
    shuffled = np.random.default_rng(seed).permutation(cells)
    assert aurc(np.exp(d[shuffled]), right[shuffled]) == pytest.approx(aurc(d, right), abs=1e-12)
    # What is reached at a risk has that risk, and the next coverage does not.
    reached = coverage_at(d, right, share)
    assert reached == 0 or risk_at(d, right, reached) <= share + 1e-9
    assert (risk[coverage > reached + 1e-9] > share).all()
    assert coverage_at(d, right, 1) == 1.0


PROBABILITIES = [[0.5, 0.5], [0.9, 0.1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: doubt(PROBABILITIES, "variance"), "kind='variance' is unknown"),
        (lambda: doubt(PROBABILITIES, "disagreement"), "cells, exits, classes"),
        (lambda: doubt([PROBABILITIES], "entropy"), "cells, classes"),
        (lambda: doubt([[[0.5, 0.5]]], "disagreement"), "one exit cannot disagree"),
        (lambda: doubt([[1.0]]), "one class"),
        (lambda: doubt(np.empty((0, 2))), "at least one"),
        (lambda: doubt([[0.5, 0.5], [2.0, -1.0]], "margin"), "cell 1"),
        (lambda: doubt([[[0.5, 0.5], [0.5, np.nan]]], "disagreement"), "cell 0"),
        (lambda: failure_auroc([0.1], [True, False]), "do not fit"),
        (lambda: aurc([], []), "at least one cell"),
        (lambda: aurc([0.1, np.nan], [True, False]), "cell 1 is not finite"),
        (lambda: aurc([0.1, 0.2], [0, 3]), "True or False"),
        (lambda: aurc([0.1, 0.2], [0.5, 1.0]), "True or False"),
        (lambda: risk_at([0.1, 0.2], [True, False], 0), "coverage 0 is outside"),
        (lambda: risk_at([0.1, 0.2], [True, False], 80), "coverage 80 is outside"),
        (lambda: coverage_at([0.1, 0.2], [True, False], -0.1), "risk -0.1 is outside"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(CytodistillError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_docstring_examples_run():
    result = doctest.testmod(cytodistill.metrics.selective)
    assert result.attempted
    assert not result.failed

"""Degrees of freedom of macro averages, by literal sums over classes and groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.metrics.intervals import figure_differences, figure_intervals, group_tallies
from cytodistill.metrics.macro_groups import macro_groups


def effective(sizes) -> float:
    sizes = np.asarray(sizes, float)
    return max(2.0, sizes.sum() ** 2 / (sizes**2).sum())


def cells(seed: int, groups: int, rare_groups: int = 2, n: int = 120):
    """Class 2 in a few groups alone, and answers right three times of four."""
    rng = np.random.default_rng(seed)
    g = np.concatenate([np.arange(groups), rng.integers(0, groups, n)])
    y = rng.integers(0, 2, len(g))
    y[(g < rare_groups) & (rng.random(len(g)) < 0.7)] = 2
    said = np.where(rng.random(len(g)) < 0.75, y, rng.integers(0, 3, len(g)))
    return y, said, g


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(3, 20))
def test_satterthwaites_degrees_by_loops(seed, groups):
    y, said, g = cells(seed, groups)
    found = macro_groups([group_tallies(y, said, g, 3)])
    every = effective(np.bincount(g))
    assert found["accuracy"] == pytest.approx(every)
    variances, behind = [], []
    for code in np.unique(y):
        own = y == code
        recall = (said[own] == code).mean()
        off = [((said == code) - recall)[own & (g == group)].sum() / own.sum() for group in range(groups)]
        variances.append(sum(one**2 for one in off))
        behind.append(effective(np.bincount(g[own], minlength=groups)))
    variances, behind = np.array(variances), np.array(behind)
    if not variances.any():
        assert found["sensitivity"] == pytest.approx(every)
        return
    degrees = variances.sum() ** 2 / (variances**2 / (behind - 1)).sum()
    assert found["sensitivity"] == found["balanced_accuracy"] == pytest.approx(min(every, max(2, degrees + 1)))
    assert all(2 <= one <= every + 1e-9 for one in found.values())


def test_a_rare_class_of_few_groups_widens_the_macro_figures_alone():
    y, said, g = cells(0, 40, n=800)
    said = np.where(y == 2, np.where(g == 0, 2, 0), said)  # found in one of its two groups
    tallies = group_tallies(y, said, g, 3)
    behind = macro_groups([tallies])
    assert behind["accuracy"] > 25
    assert behind["sensitivity"] < 6
    common = group_tallies(np.minimum(y, 1), np.minimum(said, 1), g, 2)
    assert macro_groups([common])["sensitivity"] == pytest.approx(macro_groups([common])["accuracy"], rel=0.2)
    found = figure_intervals([tallies], resamples=300)
    assert found["balanced_accuracy"].high - found["balanced_accuracy"].low > 0.05


def test_a_difference_has_the_groups_of_what_differs():
    y, said, g = cells(1, 30, n=600)
    other = said.copy()
    other[(y == 2) & (g == 0)] = 0  # the models differ on the rare class only
    first, second = (group_tallies(y, of, g, 3) for of in (said, other))
    assert macro_groups([first, second])["sensitivity"] < 4
    assert macro_groups([first, first])["sensitivity"] == pytest.approx(macro_groups([first])["accuracy"])
    less = figure_differences([first], [second], resamples=300)["sensitivity"]
    assert less.low <= less.value <= less.high

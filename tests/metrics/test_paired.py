"""Paired tests against published examples, SciPy, and every choice of signs written out."""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import cytodistill.metrics.paired
from cytodistill.errors import CytodistillError
from cytodistill.metrics.paired import CorrectedT, GroupedMcNemar, grouped_mcnemar, holm, mcnemar, nadeau_bengio

# Darwin's maize, cross- less self-fertilised in eighths of an inch; Fisher, The Design of Experiments (1935), table 3.
DARWIN = (49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48)


def table(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right answers of two models, by how many cells have which."""
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def of_differences(differences: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right answers of two models in groups, one for each difference of their counts."""
    sizes = np.maximum(np.abs(differences), 1)
    d, groups = np.repeat(differences, sizes), np.repeat(np.arange(len(sizes)), sizes)
    return d > 0, d < 0, groups


def every_flip(differences) -> float:
    """Share of all choices of signs that are at least as far from 0, one by one."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(found >= observed for found in sums) / len(sums)


def test_mcnemar_of_published_tables():
    # Agresti, Categorical Data Analysis (1990), p. 350: approval of 1600 people asked twice, chi-square without the
    # correction (86 − 150)² / 236 = 17.36. With it 63² / 236.
    found = mcnemar(*table(794, 150, 86, 570))
    assert (found.only_a, found.only_b) == (150, 86)
    assert found.statistic == pytest.approx(63**2 / 236)
    assert found.p == pytest.approx(math.erfc(math.sqrt(63**2 / 236 / 2)))
    # Wikipedia, "McNemar's test", second example (59, 6, 16, 80): 3.68 and 0.055 corrected, 0.053 exact.
    corrected = mcnemar(*table(59, 6, 16, 80), exact=False)
    assert corrected.statistic == pytest.approx(3.68, abs=5e-3)
    assert corrected.p == pytest.approx(0.055, abs=5e-4)
    exact = mcnemar(*table(59, 6, 16, 80))
    assert exact.statistic is None
    assert exact.p == pytest.approx(0.053, abs=1e-3)
    assert exact.p == pytest.approx(2 * sum(math.comb(22, k) for k in range(7)) / 2**22)


def test_mcnemar_is_exact_below_25_discordant_cells():
    assert mcnemar(*table(5, 12, 12, 3)).statistic is None
    assert mcnemar(*table(5, 13, 12, 3)).statistic == 0.0
    assert mcnemar(*table(5, 13, 12, 3), exact=True).statistic is None
    # As many of each: nothing differs, and the correction must not say otherwise.
    assert mcnemar(*table(0, 20, 20, 0)).statistic == 0.0
    assert mcnemar(*table(0, 20, 20, 0)).p == 1.0
    assert mcnemar(*table(0, 2, 2, 0)).p == 1.0


@pytest.mark.parametrize("exact", [None, True, False])
def test_equal_answers_have_p_1(exact):
    assert mcnemar([1, 0, 1], [1, 0, 1], exact=exact).p == 1.0
    assert grouped_mcnemar([1, 0, 1], [1, 0, 1], [0, 0, 1], exact=exact).p == 1.0


def test_flips_of_darwins_maize():
    # Fisher (1935), section 21: 863 of 2^15 arrangements reach +314, so 1,726 of 32,768 (5.267 %) are as far from 0.
    a, b, groups = of_differences(DARWIN)
    found = grouped_mcnemar(a, b, groups)
    assert found == GroupedMcNemar(pytest.approx(314 / len(a)), 15, 15, True, pytest.approx(1726 / 32768, abs=1e-15))
    drawn = grouped_mcnemar(a, b, groups, exact=False, permutations=20_000, seed=1)
    # Four standard errors of a share of 20,000.
    assert drawn.p == pytest.approx(1726 / 32768, abs=4 * np.sqrt(0.05267 * 0.94733 / 20_000))
    assert drawn.p * 20_001 == pytest.approx(round(drawn.p * 20_001))
    assert drawn == grouped_mcnemar(a, b, groups, exact=False, permutations=20_000, seed=1)
    assert drawn != grouped_mcnemar(a, b, groups, exact=False, permutations=20_000, seed=2)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(4, 40), st.integers(2, 8))
def test_grouped_equals_every_choice_of_signs(seed, cells, groups):
    random = np.random.default_rng(seed)
    a, b = random.random(cells) < 0.8, random.random(cells) < 0.5
    g = np.concatenate([np.arange(2), random.integers(0, groups, cells - 2)])
    each = [int(a[g == name].sum() - b[g == name].sum()) for name in sorted(set(g))]
    found, drawn = grouped_mcnemar(a, b, g), grouped_mcnemar(a, b, g, exact=False, permutations=200, seed=seed)
    assert found.exact
    assert not drawn.exact
    assert found.p == pytest.approx(every_flip(each), abs=1e-12)
    assert found.difference == drawn.difference == pytest.approx(a.mean() - b.mean())
    assert (found.groups, found.differing) == (len(each), sum(d != 0 for d in each))
    assert 2.0 ** (1 - max(found.differing, 1)) <= found.p <= 1
    assert 1 / 201 <= drawn.p <= 1
    # Neither the models' order nor the cells' matters.
    order = random.permutation(cells)
    assert grouped_mcnemar(b[order], a[order], g[order]).p == pytest.approx(found.p, abs=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 30), st.integers(0, 30), st.integers(2, 10))
def test_each_cell_a_group_is_the_exact_mcnemar(only_a, only_b, both):
    a, b = table(both, only_a, only_b, 0)
    alone, grouped = mcnemar(a, b, exact=True), grouped_mcnemar(a, b, np.arange(len(a)))
    assert grouped.p == pytest.approx(alone.p, rel=1e-9)
    assert 0 < alone.p <= 1
    rough = mcnemar(a, b, exact=False)
    assert 0 < rough.p <= 1


def test_cells_that_are_alike_prove_less():
    # Nine groups of ten equal cells: alone they look like ninety proofs, together like nine.
    a, b = np.ones(90, bool), np.zeros(90, bool)
    assert mcnemar(a, b).p < 1e-15
    assert grouped_mcnemar(a, b, np.repeat(np.arange(9), 10)).p == pytest.approx(2 / 2**9)


def test_many_groups_are_drawn_in_pieces(monkeypatch):
    groups = cytodistill.metrics.paired.EXACT_GROUPS + 1
    a, b = table(0, groups, 0, 0)
    found = grouped_mcnemar(a, b, np.arange(groups), permutations=199)
    assert (found.exact, found.p) == (False, pytest.approx(1 / 200))
    with pytest.raises(CytodistillError, match="too many for exact"):
        grouped_mcnemar(a, b, np.arange(groups), exact=True)
    # As many as are exact, all on one side: the smallest p there is, and not 0.
    most = grouped_mcnemar(a[1:], b[1:], np.arange(groups - 1))
    assert most.exact
    assert math.log2(most.p) == pytest.approx(2 - groups)
    a, b, names = of_differences(DARWIN)
    whole = grouped_mcnemar(a, b, names, exact=False, permutations=500)
    monkeypatch.setattr(cytodistill.metrics.paired, "DRAWN_AT_ONCE", 100)
    assert grouped_mcnemar(a, b, names, exact=False, permutations=500) == whole


def test_drawn_p_of_no_difference_is_even():
    # Signs that are a coin's toss: p-values of 300 such comparisons are spread evenly, up to their coarse steps.
    random = np.random.default_rng(0)
    names = np.repeat(np.arange(30), 7)
    p = []
    for seed in range(300):
        a, b = random.random((2, 210)) < 0.7
        p.append(grouped_mcnemar(a, b, names, exact=False, permutations=100, seed=seed).p)
    assert np.mean(np.array(p) <= 0.2) == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 300))


def test_corrected_t_by_hand():
    # Mean 0.02, S² = 0.0002 / 4, (1/5 + 1/4) S² = 2.25e-5; the two-sided 5 % quantile of 4 degrees is 2.776.
    found = nadeau_bengio([0.02, 0.01, 0.03, 0.02, 0.02], 800, 200)
    assert found.t == pytest.approx(0.02 / math.sqrt(2.25e-5))
    assert found.value == pytest.approx(0.02)
    assert (found.low, found.high) == pytest.approx(
        (0.02 - 2.776 * math.sqrt(2.25e-5), 0.02 + 2.776 * math.sqrt(2.25e-5)), abs=1e-5
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 15), st.sampled_from([0.5, 0.9, 0.95]))
def test_corrected_t_against_scipy(seed, folds, level):
    d = np.random.default_rng(seed).normal(0.01, 0.02, folds)
    plain = stats.ttest_1samp(d, 0)
    ends = plain.confidence_interval(level)
    # With training cells without end nothing is shared, and the plain test remains.
    found = nadeau_bengio(d, 1e30, 1, level=level)
    assert vars(found) == pytest.approx(vars(CorrectedT(d.mean(), *ends, plain.pvalue, plain.statistic, folds - 1)))
    # Else t is smaller by the root of 1 + J · n_test / n_train, and the interval wider by it.
    wider = nadeau_bengio(d, 3, 1, level=level)
    root = np.sqrt(1 + folds / 3)
    assert wider.t * root == pytest.approx(plain.statistic)
    assert wider.high - wider.low == pytest.approx((ends[1] - ends[0]) * root)
    assert plain.pvalue <= wider.p <= 1
    # p is below 5 % just where the 95 % interval leaves 0 out.
    interval = nadeau_bengio(d, 3, 1)
    assert (interval.p < 0.05) == (interval.low > 0 or interval.high < 0)


def test_folds_without_spread():
    assert nadeau_bengio([0.0, 0.0, 0.0], 2, 1) == CorrectedT(0.0, 0.0, 0.0, 1.0, 0.0, 2)
    with pytest.raises(CytodistillError, match="all 3 differences are 0.3; without spread"):
        nadeau_bengio([0.3, 0.1 + 0.2, 0.3], 2, 1)


def test_holm_of_a_published_example():
    # Wikipedia, "Holm–Bonferroni method": H1 … H4 at 0.05, of which H4 and H1 are rejected.
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert (adjusted <= 0.05).tolist() == [True, False, False, True]
    assert holm([0.7]).tolist() == [0.7]
    assert holm([0.7, 0.9]).tolist() == [1.0, 1.0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_as_its_step_down_does(p, alpha):
    adjusted = holm(p)
    rejected = set()
    for step, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if (len(p) - step) * p[index] > alpha:
            break
        rejected.add(index)
    assert set(np.flatnonzero(adjusted <= alpha).tolist()) == rejected
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p))).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar([1, 0], [1]), "2 and 1 answers"),
        (lambda: mcnemar([], []), "at least one cell"),
        (lambda: mcnemar([1, 2], [1, 0]), "True or False"),
        (lambda: mcnemar([0.9, 0.1], [1, 0]), "True or False"),
        (lambda: grouped_mcnemar([1, 0], [0, 0], ["a", "a"]), "1 group"),
        (lambda: grouped_mcnemar([1, 0], [0, 0], ["a"]), "do not fit 2 cells"),
        (lambda: grouped_mcnemar([1, 0], [0, 0], ["a", "b"], permutations=10), "10 permutations"),
        (lambda: nadeau_bengio([0.1], 2, 1), "two or more"),
        (lambda: nadeau_bengio([0.1, np.nan], 2, 1), "finite"),
        (lambda: nadeau_bengio([0.1, 0.2], 0, 1), "n_train=0"),
        (lambda: nadeau_bengio([0.1, 0.2], 2, -1), "n_test=-1"),
        (lambda: nadeau_bengio([0.1, 0.2], 2, 1, level=95), "level 95"),
        (lambda: holm([]), "one or more"),
        (lambda: holm([0.1, 1.2]), "0 to 1"),
        (lambda: holm([0.1, np.nan]), "0 to 1"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(CytodistillError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_docstring_examples_run():
    result = doctest.testmod(cytodistill.metrics.paired)
    assert result.attempted
    assert not result.failed

"""Ends at the bounds, where a logit has no value, and what they do when everything is shifted or mirrored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cytodistill.errors import CytodistillError
from cytodistill.metrics.standard_error import (
    effective_groups,
    p_of_no_difference,
    plain_ends,
    positive_ends,
    share_ends,
)


def test_without_a_fault_the_lower_end_is_clopper_and_pearsons_of_the_groups():
    low, high = share_ends(1.0, np.ones(100), groups=60)
    expected = stats.binomtest(60, 60).proportion_ci(0.95, "exact")
    assert (low, high) == pytest.approx((expected.low, expected.high))
    mirrored = share_ends(0.0, np.zeros(100), groups=60)
    assert mirrored == pytest.approx((1 - high, 1 - low))
    # Over three seeds of 20 groups each, the groups of one seed count: the seeds test the same fields.
    assert share_ends(1.0, np.ones(100), groups=60, strata=3)[0] == pytest.approx(0.025 ** (1 / 20))


@given(st.lists(st.integers(1, 500), min_size=2, max_size=40))
def test_effective_groups_are_fewer_the_less_even_they_are(sizes):
    """Kish's formula is 1 + the squared coefficient of variation, under the number of groups."""
    variation = np.std(sizes) / np.mean(sizes)
    assert effective_groups(np.array(sizes)) == pytest.approx(max(2, len(sizes) / (1 + variation**2)))


def test_resamples_that_reach_the_end_are_set_half_as_far_as_the_nearest():
    drawn = np.array([1.0, 0.98, 0.96, 1.0, 0.9])
    stands_for = np.array([0.99, 0.98, 0.96, 0.99, 0.9])
    assert share_ends(0.97, drawn, groups=9) == pytest.approx(share_ends(0.97, stands_for, groups=9))


def test_resamples_that_do_not_vary_leave_a_figure_between_the_ends_as_it_is():
    assert share_ends(0.75, np.full(50, 0.75), groups=5) == pytest.approx((0.75, 0.75))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 80), st.floats(0.3, 0.99))
def test_ends_hold_the_value_and_mirror(seed, groups, level):
    drawn = np.random.default_rng(seed).beta(8, 1, 200).round(2)
    value = float(drawn[0])
    low, high = share_ends(value, drawn, groups, level=level)
    assert 0 <= low <= value <= high <= 1
    assert share_ends(1 - value, 1 - drawn, groups, level=level) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    below, above = plain_ends(value, drawn, groups, level=level)
    assert (below + above) / 2 == pytest.approx(value)
    assert plain_ends(value + 3, drawn + 3, groups, level=level) == pytest.approx((below + 3, above + 3))


def test_p_is_below_one_less_the_level_just_where_the_interval_leaves_0_out():
    drawn = np.random.default_rng(0).normal(0, 0.01, 400)
    for value in np.linspace(-0.04, 0.04, 41):
        low, high = plain_ends(value, drawn, groups=12)
        assert (p_of_no_difference(value, drawn, groups=12) < 0.05) == (low > 0 or high < 0)
    assert p_of_no_difference(0.0, drawn, groups=12) == 1
    assert p_of_no_difference(5.0, drawn, groups=12) == 2 / 401


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: share_ends(1.2, np.array([0.5, 1.2]), 9), "a figure of 1.2 is outside 0 to 1; use scale='plain'"),
        (lambda: share_ends(0.5, np.array([np.nan, np.nan, 0.5]), 9), "undefined for 2 of 3 resamples"),
        (lambda: plain_ends(0.5, np.array([0.4, 0.5]), 3, strata=3), "3 groups in 3 sets"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(CytodistillError, match=message):
        call()


@given(st.floats(0.01, 50), st.lists(st.floats(0.01, 50), min_size=5, max_size=30), st.floats(0.1, 10))
def test_a_loss_is_taken_on_the_scale_of_its_logarithm(value, drawn, factor):
    drawn = np.array(drawn)
    low, high = positive_ends(value, drawn, groups=12)
    reach = stats.t(11).ppf(0.975) * np.log(drawn).std(ddof=1) * np.sqrt(12 / 11)
    assert (low, high) == pytest.approx((value * np.exp(-reach), value * np.exp(reach)))
    assert positive_ends(factor * value, factor * drawn, groups=12) == pytest.approx((factor * low, factor * high))


def test_losses_of_0_and_below():
    assert positive_ends(0.0, np.zeros(9), groups=5) == (0.0, 0.0)
    low, high = positive_ends(0.2, np.array([0.0, 0.1, 0.3]), groups=5)
    assert (low, high) == pytest.approx(positive_ends(0.2, np.array([0.05, 0.1, 0.3]), groups=5))
    with pytest.raises(CytodistillError, match="below 0; use scale='plain'"):
        positive_ends(-0.1, np.array([0.1, 0.2]), groups=5)

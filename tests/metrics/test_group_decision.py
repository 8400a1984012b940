"""Scores and labels of groups, by hand and against a loop."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cytodistill.metrics.group_decision
from cytodistill.errors import CytodistillError
from cytodistill.metrics.group_decision import aggregate, group_labels


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
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
    result = doctest.testmod(cytodistill.metrics.group_decision)
    assert result.attempted
    assert not result.failed

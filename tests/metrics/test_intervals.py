"""Intervals against a literal loop over resamples that scores cells one set at a time, and what must hold of any."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import confusion_matrix

import cytodistill.metrics.intervals
import cytodistill.metrics.standard_error
from cytodistill.errors import CytodistillError
from cytodistill.metrics import intervals
from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.intervals import (
    Difference,
    draw_groups,
    figure_differences,
    figure_intervals,
    group_bootstrap,
    group_tallies,
    paired_group_bootstrap,
    paired_over_seeds,
)

FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1")


def case(seed: int, cells: int = 60, groups: int = 12, classes: int = 4, models: int = 2):
    """Labels, the predictions of some models that are often right, and groups of unequal sizes, each of few classes."""
    random = np.random.default_rng(seed)
    g = np.concatenate([np.arange(groups), random.integers(0, groups, cells - groups)])
    y = (g + random.integers(0, 2, cells)) % classes
    predictions = [np.where(random.random(cells) < 0.6, y, random.integers(0, classes, cells)) for _ in range(models)]
    return y, predictions, np.array([f"field {name}" for name in g])


def scored(y, predicted, classes: int) -> dict[str, float]:
    """The package's own figures of certain predictions."""
    metrics = classification_metrics(np.eye(classes)[predicted], y, [str(c) for c in range(classes)])
    return {name: metrics[name] for name in FIGURES}


def loop(y, predicted, groups, classes: int, resamples: int, seed: int, stratum: int = 0) -> dict[str, np.ndarray]:
    """Every resample written out: the rows of each drawn group, one group after the other."""
    names = sorted(set(groups))
    figures = []
    for counts in draw_groups(len(names), resamples, seed, stratum):
        rows = [
            row
            for name, times in zip(names, counts, strict=True)
            for _ in range(times)
            for row in np.flatnonzero(groups == name)
        ]
        figures.append(scored(y[rows], predicted[rows], classes))
    return {name: np.array([found[name] for found in figures]) for name in FIGURES}


def effective(groups) -> float:
    """Number of groups of equal size that weigh as much as these."""
    sizes = [sum(groups == name) for name in set(groups)]
    return sum(sizes) ** 2 / sum(size**2 for size in sizes)


def logit_ends(value, drawn, groups: float, level: float) -> list[float]:
    """The formula of a share's interval, written out; for resamples that stay off 0 and 1."""
    logits = [np.log(d / (1 - d)) for d in drawn]
    error = np.std(logits, ddof=1) * np.sqrt(groups / (groups - 1))
    middle, reach = np.log(value / (1 - value)), stats.t(groups - 1).ppf((1 + level) / 2) * error
    return [1 / (1 + np.exp(-(middle - reach))), 1 / (1 + np.exp(-(middle + reach)))]


def test_a_draw_is_as_many_groups_as_there_are_each_as_likely():
    counts = draw_groups(20, 20_000, seed=3)
    assert counts.shape == (20_000, 20)
    assert (counts.sum(axis=1) == 20).all()
    # Each count is binomial (20, 1/20): mean 1, variance 0.95. Five standard errors of the mean are 0.034.
    assert counts.mean(axis=0) == pytest.approx(np.ones(20), abs=0.035)
    assert counts.var(axis=0) == pytest.approx(np.full(20, 0.95), abs=0.08)


def test_draws_differ_by_seed_and_stratum_and_not_by_how_they_are_cut(monkeypatch):
    whole = draw_groups(7, 300, seed=1)
    assert (whole != draw_groups(7, 300, seed=2)).any()
    assert (whole != draw_groups(7, 300, seed=1, stratum=1)).any()
    monkeypatch.setattr(cytodistill.metrics.intervals, "DRAWN_AT_ONCE", 50)
    assert (whole == draw_groups(7, 300, seed=1)).all()


def test_tallies_are_the_margins_of_each_groups_confusion_matrix():
    y, (predicted, _), groups = case(0)
    tallies = group_tallies(y, predicted, groups, 4)
    for g, name in enumerate(sorted(set(groups))):
        matrix = confusion_matrix(y[groups == name], predicted[groups == name], labels=range(4))
        assert (tallies[g] == [matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)]).all()


def test_entries_may_be_counted_together():
    y, (predicted, _), groups = case(2, cells=200)
    entries, cells = np.unique(np.stack([groups, y, predicted]), axis=1, return_counts=True)
    together = group_tallies(entries[1].astype(int), entries[2].astype(int), entries[0], 4, cells)
    assert cells.max() > 1
    assert (together == group_tallies(y, predicted, groups, 4)).all()


@pytest.mark.parametrize("cut", [10**6, 100])
def test_intervals_equal_the_loop(cut, monkeypatch):
    monkeypatch.setattr(cytodistill.metrics.intervals, "DRAWN_AT_ONCE", cut)
    y, (predicted, _), groups = case(1)
    found = figure_intervals([group_tallies(y, predicted, groups, 4)], resamples=150, seed=5, level=0.9)
    drawn = loop(y, predicted, groups, 4, 150, 5)
    value = scored(y, predicted, 4)
    for name in FIGURES:
        assert 0 < drawn[name].min() <= drawn[name].max() < 1
        expected = [value[name], *logit_ends(value[name], drawn[name], effective(groups), 0.9)]
        assert [found[name].value, found[name].low, found[name].high] == pytest.approx(expected, abs=1e-12)


def test_paired_over_seeds_equals_the_loop_by_both_ways():
    seeds = [case(seed, cells=40 + 10 * seed, groups=8 + seed) for seed in range(2)]
    first, second = ([group_tallies(y, p[model], g, 4) for y, p, g in seeds] for model in (0, 1))
    found = figure_differences(first, second, resamples=120, seed=2)
    loops = [[loop(y, p[model], g, 4, 120, 2, stratum) for stratum, (y, p, g) in enumerate(seeds)] for model in (0, 1)]
    for name in FIGURES:
        drawn = np.mean([one[name] - other[name] for one, other in zip(*loops, strict=True)], axis=0)
        value = np.mean([scored(y, p[0], 4)[name] - scored(y, p[1], 4)[name] for y, p, _ in seeds])
        count = sum(effective(g) for _, _, g in seeds)
        student = stats.t(count - 2)  # groups of both seeds less the seeds
        error = np.std(drawn, ddof=1) * np.sqrt(count / (count - 2))
        reach = student.ppf(0.975) * error
        p = max(2 * student.sf(abs(value) / error), 2 / 121)
        expected = Difference(value, value - reach, value + reach, p)
        assert vars(found[name]) == pytest.approx(vars(expected), abs=1e-12)

    def f1(model):
        return [lambda rows, y=y, p=p[model]: scored(y[rows], p[rows], 4)["f1"] for y, p, _ in seeds]

    general = paired_over_seeds(f1(0), f1(1), [g for *_, g in seeds], resamples=120, seed=2)
    assert vars(general) == pytest.approx(vars(found["f1"]), abs=1e-12)


def test_one_seed_is_the_plain_pair_and_the_plain_interval():
    y, (predicted, other), groups = case(4)

    def accuracy(p):
        return lambda rows: (y[rows] == p[rows]).mean()

    one, two = (group_tallies(y, p, groups, 4) for p in (predicted, other))
    difference = paired_group_bootstrap(accuracy(predicted), accuracy(other), groups, resamples=200)
    assert vars(difference) == pytest.approx(vars(figure_differences([one], [two], resamples=200)["accuracy"]))
    interval = group_bootstrap(accuracy(predicted), groups, resamples=200)
    assert vars(interval) == pytest.approx(vars(figure_intervals([one], resamples=200)["accuracy"]))


def test_a_resample_averages_over_the_classes_that_it_holds():
    # Two groups of one class each: a quarter of the resamples hold a alone, a quarter b alone.
    y, predicted, groups = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), np.array([7, 7, 9, 9])
    _, drawn = intervals.resampled_figures([[group_tallies(y, predicted, groups, 2)]], 400, 0)
    # a alone: all right, 1. b alone: f1 of b is 2·1/(2+1), and the cell called a is only an error of b.
    assert sorted(set(drawn["f1"][0])) == pytest.approx([2 / 3, (4 / 5 + 2 / 3) / 2, 1.0])
    assert sorted(set(drawn["balanced_accuracy"][0])) == [0.5, 0.75, 1.0]
    assert sorted(set(drawn["accuracy"][0])) == [0.5, 0.75, 1.0]


def test_a_class_without_cells_is_left_out_as_by_the_metrics():
    y, predicted, groups = np.array([0, 1, 1]), np.array([0, 1, 2]), np.array([0, 1, 1])
    found = figure_intervals([group_tallies(y, predicted, groups, 4)], resamples=100)
    assert "specificity" not in found  # half of the resamples and more hold one class
    assert {name: found[name].value for name in found} == pytest.approx(
        {name: value for name, value in scored(y, predicted, 4).items() if name in found}
    )


def test_equal_predictions_are_a_tie_and_swapped_models_the_mirror():
    y, (predicted, other), groups = case(6)
    one, two = (group_tallies(y, p, groups, 4) for p in (predicted, other))
    for difference in figure_differences([one, one], [one, one], resamples=100).values():
        assert difference == Difference(0.0, 0.0, 0.0, 1.0)
    there, back = figure_differences([one], [two], resamples=300), figure_differences([two], [one], resamples=300)
    for name in FIGURES:
        mirrored = Difference(-back[name].value, -back[name].high, -back[name].low, back[name].p)
        assert vars(there[name]) == pytest.approx(vars(mirrored), abs=1e-12)


def test_equal_figures_by_other_cells_tie_in_spite_of_rounding():
    # Each model is wrong on one cell of each group, but in another class: figures are equal in every resample.
    groups = np.repeat(np.arange(6), 6)
    y = np.tile([0, 0, 1, 1, 2, 2], 6)
    one, two = y.copy(), y.copy()
    one[0::6], two[4::6] = 1, 1
    found = figure_differences([group_tallies(y, one, groups, 3)], [group_tallies(y, two, groups, 3)], resamples=100)
    assert all(difference == Difference(0.0, 0.0, 0.0, 1.0) for difference in found.values())


def test_a_model_always_better_has_the_smallest_p():
    y, _, groups = case(8, cells=80, groups=8)
    wrong = (y + 1) % 4
    found = figure_differences([group_tallies(y, y, groups, 4)], [group_tallies(y, wrong, groups, 4)], resamples=199)
    assert found.pop("specificity").low > 0  # those who are wrong still rule out the classes that they do not name
    assert all(difference == Difference(1.0, 1.0, 1.0, pytest.approx(2 / 200)) for difference in found.values())


def test_p_and_interval_of_a_difference_agree():
    """Below 0.05 just where the interval of 95 % leaves 0 out, over cases of either kind."""
    outside = []
    for seed in range(12):
        y, (predicted, other), groups = case(seed, cells=120, groups=12, classes=3)
        better = np.where(np.random.default_rng(seed).random(120) < 0.5, y, predicted)
        tallies = [group_tallies(y, p, groups, 3) for p in (better, other)]
        for difference in figure_differences(tallies[:1], tallies[1:], resamples=400).values():
            outside.append(difference.low > 0 or difference.high < 0)
            assert (difference.p < 0.05) == outside[-1]
    assert 0 < sum(outside) < len(outside)


def test_groups_widen_the_interval_of_cells_that_are_alike():
    right = np.repeat(np.random.default_rng(0).integers(0, 2, 30), 10)
    alike = group_bootstrap(lambda rows: right[rows].mean(), np.repeat(np.arange(30), 10), resamples=500)
    single = group_bootstrap(lambda rows: right[rows].mean(), np.arange(300), resamples=500)
    # Ten equal cells are one: the standard error grows by √10.
    # And t of 29 degrees for that of 299 adds 4 %.
    assert (alike.high - alike.low) / (single.high - single.low) == pytest.approx(1.04 * np.sqrt(10), rel=0.15)


def test_undefined_resamples_are_left_out_until_they_are_most():
    y = np.array([0, 0, 1])

    def share_of_b(rows):
        return y[rows].mean() if 0 < y[rows].sum() < len(rows) else None

    # Two thirds of the resamples of three cells hold both classes, as a, a, b or as a, b, b.
    found = group_bootstrap(share_of_b, np.arange(3), scale="plain", resamples=400)
    drawn = [share_of_b(np.repeat(np.arange(3), count)) for count in draw_groups(3, 400)]
    error = np.std([share for share in drawn if share is not None], ddof=1) * np.sqrt(3 / 2)
    assert found.high - found.value == pytest.approx(stats.t(2).ppf(0.975) * error)
    with pytest.raises(CytodistillError, match="undefined for .* of 400 resamples"):
        group_bootstrap(lambda rows: 1.0 if len(set(rows)) == 4 else float("nan"), np.arange(4), resamples=400)
    with pytest.raises(CytodistillError, match="undefined for these cells"):
        group_bootstrap(lambda rows: None if len(set(rows)) == 4 else 1.0, np.arange(4), resamples=400)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(12, 60), st.integers(2, 12), st.integers(2, 5), st.integers(1, 3))
def test_what_holds_of_any_interval(seed, cells, groups, classes, seeds):
    cases = [case(seed + k, cells, groups, classes) for k in range(seeds)]
    first, second = ([group_tallies(y, p[model], g, classes) for y, p, g in cases] for model in (0, 1))
    narrow, wide = (figure_intervals(first, resamples=100, level=level) for level in (0.5, 0.95))
    differences = figure_differences(first, second, resamples=100)
    for name in FIGURES:
        assert 0 <= wide[name].low <= narrow[name].low <= narrow[name].value
        assert narrow[name].value <= narrow[name].high <= wide[name].high <= 1
        assert wide[name].value == pytest.approx(np.mean([scored(y, p[0], classes)[name] for y, p, _ in cases]))
        assert -1 <= differences[name].low <= differences[name].high <= 1
        assert 0 < differences[name].p <= 1
    # The names of groups do not matter, nor the order of cells, where the sorted order of names stays.
    order = np.random.default_rng(seed).permutation(cells)
    again = [group_tallies(y[order], p[0][order], g[order], classes) for y, p, g in cases]
    assert figure_intervals(again, resamples=100) == wide


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: figure_intervals([t[:1]]), "at least two fields"),
        (lambda t: figure_intervals([]), "at least one"),
        (lambda t: figure_intervals([t], resamples=10), "10 resamples"),
        (lambda t: figure_intervals([t], level=95), "level 95"),
        (lambda t: figure_differences([t], [t, t]), "1, 2"),
        (lambda t: figure_differences([t], [t[::-1]]), "different cells"),
        (lambda t: figure_differences([t], [t[:3]]), "different cells"),
        (lambda t: group_bootstrap(lambda rows: 1.0, ["a", "a"]), "1 group"),
        (
            lambda t: group_bootstrap(lambda rows: 2.5, ["a", "b"]),
            "a figure of 2.5 is outside 0 to 1; use scale='plain'",
        ),
        (lambda t: paired_group_bootstrap(lambda rows: 1.0, lambda rows: 1.0, ["a", "a"]), "1 group"),
        (lambda t: paired_over_seeds([], [], []), "at least one"),
        (lambda t: group_tallies([0, 1], [0], [0, 1], 2), "do not fit"),
        (lambda t: group_tallies([], [], [], 2), "at least one cell"),
        (lambda t: group_tallies([0, 1], [0, 2], [0, 1], 2), "predictions are not all integers from 0 to 1"),
        (lambda t: group_tallies([0, 1], [0, 1], [0, 1], 2, [1, 0]), "counts of cells"),
        (lambda t: group_tallies([0, 1], [0, 1], [0, 1], 2, [1]), "do not fit"),
        (lambda t: group_tallies([0, -1], [0, 1], [0, 1], 2), "labels are not"),
        (lambda t: group_tallies([0, 1], [0.0, 1.0], [0, 1], 2), "predictions are not"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    y, (predicted, _), groups = case(0)
    with pytest.raises(CytodistillError, match=message) as raised:
        call(group_tallies(y, predicted, groups, 4))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("module", [cytodistill.metrics.intervals, cytodistill.metrics.standard_error])
def test_docstring_example_runs(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed

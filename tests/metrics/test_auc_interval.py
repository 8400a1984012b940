import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from cytodistill.errors import CytodistillError
from cytodistill.metrics.auc_interval import auc_interval, auc_intervals
from cytodistill.metrics.intervals import draw_groups
from cytodistill.metrics.standard_error import effective_groups, share_ends


def cells(seed=0, n=60, classes=3, groups=9):
    """Rounded probabilities, so that many are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 6, (n, classes)).astype(float)
    return scores / scores.sum(1, keepdims=True), rng.integers(0, classes, n), rng.integers(0, groups, n)


@pytest.mark.parametrize("at_once", [1, 4_000_000])
def test_it_is_the_literal_bootstrap_of_scikit_learns_auc(at_once, monkeypatch):
    monkeypatch.setattr("cytodistill.metrics.auc_interval.WEIGHTS_AT_ONCE", at_once * 60)
    p, y, g = cells()
    found = []
    for count in draw_groups(len(np.unique(g)), 150, seed=3):
        rows = np.repeat(np.arange(len(y)), count[np.unique(g, return_inverse=True)[1]])
        here = np.unique(y[rows])
        if len(here) > 1:
            found.append(np.mean([roc_auc_score(y[rows] == c, p[rows, c]) for c in here]))
    interval = auc_interval(p, y, g, resamples=150, seed=3)
    assert interval.value == pytest.approx(np.mean([roc_auc_score(y == c, p[:, c]) for c in range(3)]))
    logits = np.log(np.array(found) / (1 - np.array(found)))
    sizes = np.unique(g, return_counts=True)[1]
    count = sizes.sum() ** 2 / (sizes**2).sum()
    reach = stats.t(count - 1).ppf(0.975) * logits.std(ddof=1) * np.sqrt(count / (count - 1))
    middle = np.log(interval.value / (1 - interval.value))
    ends = 1 / (1 + np.exp(-(middle - reach))), 1 / (1 + np.exp(-(middle + reach)))
    assert (interval.low, interval.high) == pytest.approx(ends)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 10**6), st.integers(2, 8), st.booleans())
def test_the_classes_and_their_mean_whichever_are_present(seed, groups, missing):
    p, y, g = cells(seed, n=40, groups=groups)
    y[y == 2] = 1 if missing else 2
    y[:2], g[:2] = [0, 1], [0, 1]
    whole, each = auc_intervals(p, y, g, resamples=100)
    names, of = np.unique(g, return_inverse=True)
    drawn = np.full((100, 3), np.nan)
    for number, count in enumerate(draw_groups(len(names), 100)):
        rows = np.repeat(np.arange(len(y)), count[of])
        here = np.unique(y[rows])
        if len(here) > 1:
            drawn[number, here] = [roc_auc_score(y[rows] == c, p[rows, c]) for c in here]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # means of resamples of one class
        means = np.nanmean(drawn, axis=1)
    sizes = np.bincount(of)
    present = np.unique(y)
    value = np.mean([roc_auc_score(y == c, p[:, c]) for c in present])
    assert whole.value == pytest.approx(value)
    assert (whole.low, whole.high) == pytest.approx(share_ends(value, means, effective_groups(sizes)))
    assert auc_interval(p, y, g, resamples=100) == whole
    for code in range(3):
        own = np.bincount(of[y == code])
        if (own > 0).sum() < 2 or 2 * np.isfinite(drawn[:, code]).sum() < 100:
            assert each[code] is None
            continue
        value = roc_auc_score(y == code, p[:, code])
        expected = share_ends(value, drawn[:, code], effective_groups(own))
        assert (each[code].low, each[code].high) == pytest.approx(expected)


def test_one_class_alone_has_none():
    p, y, g = cells(1)
    assert auc_interval(p, np.zeros_like(y), g, resamples=200) is None
    assert auc_intervals(p, np.zeros_like(y), g, resamples=200) == (None, [None] * 3)


def test_one_group_is_refused():
    p, y, _ = cells()
    with pytest.raises(CytodistillError, match="1 group"):
        auc_interval(p, y, np.zeros(len(y)), resamples=200)

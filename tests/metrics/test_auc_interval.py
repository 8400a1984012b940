import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from cytodistill.errors import CytodistillError
from cytodistill.metrics.auc_interval import auc_interval
from cytodistill.metrics.intervals import draw_groups


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


def test_a_class_without_cells_and_one_class_alone():
    p, y, g = cells(1)
    y[y == 2] = 1
    interval = auc_interval(p, y, g, resamples=200)
    assert interval.low <= interval.value <= interval.high
    assert auc_interval(p, np.zeros_like(y), g, resamples=200) is None


def test_one_group_is_refused():
    p, y, _ = cells()
    with pytest.raises(CytodistillError, match="1 group"):
        auc_interval(p, y, np.zeros(len(y)), resamples=200)

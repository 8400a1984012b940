"""Counts at thresholds against scikit-learn's ROC curve."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from cytodistill.metrics.thresholds import counts_at_thresholds

from .screening_cases import case


@pytest.mark.parametrize("levels", [None, 5])
@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_the_roc_curve(seed, levels):
    s, y = case(seed, 40, levels)
    thresholds, hits, alarms = counts_at_thresholds(s, y)
    false_rate, true_rate, expected = roc_curve(y, s, drop_intermediate=False)
    np.testing.assert_array_equal(thresholds, expected)
    np.testing.assert_allclose(hits, true_rate * y.sum())
    np.testing.assert_allclose(alarms, false_rate * (~y).sum())

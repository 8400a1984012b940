"""The score of the abnormal-against-normal view."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import cytodistill.metrics.abnormal_score
from cytodistill.errors import CytodistillError
from cytodistill.metrics.abnormal_score import abnormal_score


def test_scores_are_sums_over_the_abnormal_classes():
    p = np.random.default_rng(0).dirichlet(np.ones(5), 40)
    found = abnormal_score(p, [False, True, False, True, True])
    assert found == pytest.approx(p[:, 1] + p[:, 3] + p[:, 4], abs=1e-15)
    assert abnormal_score([[0.0, 0.6, 0.4004]], [False, True, True]).tolist() == [1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: abnormal_score([[0.5, 0.5]], [0, 1]), "abnormal is int64"),
        (lambda: abnormal_score([[0.5, 0.5]], [True]), "each of the 2 classes"),
        (lambda: abnormal_score([[0.5, 0.5]], [True, True]), "all classes or none"),
        (lambda: abnormal_score([[0.5, 0.5]], [False, False]), "all classes or none"),
        (lambda: abnormal_score([0.5, 0.5], [False, True]), "shape"),
        (lambda: abnormal_score([[0.5, 0.5], [3.0, -2.0]], [False, True]), "cell 1 .* softmax"),
        (lambda: abnormal_score([[0.5, 0.5], [np.nan, 1.0]], [False, True]), "cell 1 .* softmax"),
    ],
)
def test_what_is_no_score_is_refused(call, message):
    with pytest.raises(CytodistillError, match=message):
        call()


def test_the_example_runs():
    assert doctest.testmod(cytodistill.metrics.abnormal_score).failed == 0

import math
from dataclasses import asdict

import pytest

from cytodistill.errors import CytodistillError
from cytodistill.infer.promise import Budget, Risk, promise_from_dict


@pytest.mark.parametrize(
    ("promise", "name", "words"),
    [
        (Budget(0.4), "budget-0.4", "at most 40 % of the MACs on the validation cells"),
        (Budget(0.375, "labels"), "budget-0.375-labels", "at most 37.5 % of the MACs on the validation cells"),
        (
            Risk(0.01),
            "risk-0.01",
            "differs from all exits on at most 1 % of cells of new groups, with 95 % confidence",
        ),
        (
            Risk(0.05, 0.9, "cells", "labels"),
            "risk-0.05-labels",
            "loses the right answer to at most 5 % of new cells, with 90 % confidence",
        ),
    ],
)
def test_a_promise_says_what_it_promises_and_is_stored(promise, name, words):
    assert promise.name == name
    assert str(promise) == words
    assert promise_from_dict(asdict(promise)) == promise


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Budget(0.0), "budget 0: give a share of the MACs above 0, at most 1"),
        (lambda: Budget(1.01), "budget 1.01"),
        (lambda: Budget(math.nan), "budget nan"),
        (lambda: Budget(0.4, "teacher"), "policy against 'teacher': give ensemble or labels"),
        (lambda: Risk(0.0), "risk 0: give a number between 0 and 1"),
        (lambda: Risk(0.01, 1.0), "confidence 1: give a number between 0 and 1"),
        (lambda: Risk(0.01, unit="slides"), "risk by 'slides': give groups or cells"),
        (lambda: Risk(0.01, against="luck"), "policy against 'luck'"),
    ],
)
def test_wrong_promises_are_one_line(make, said):
    with pytest.raises(CytodistillError, match=said):
        make()

"""Operating points against direct counts at every threshold."""

from __future__ import annotations

import dataclasses
import doctest
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cytodistill.metrics.operating_point
from cytodistill.errors import CytodistillError
from cytodistill.metrics.operating_point import OperatingPoint, choose_operating_point, decide

from .screening_cases import case, counted


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([None, 2, 6]), st.floats(0.01, 1))
def test_a_point_is_the_best_of_all_thresholds(seed, cells, levels, target):
    s, y = case(seed, cells, levels)
    table = counted(s, y)
    by_sensitivity = choose_operating_point(s, y, sensitivity=target)
    picked = max(t for t, sens, _ in table if sens >= target)
    assert picked in s[y]
    assert picked * (1 - 1.0001e-4) <= by_sensitivity.threshold <= picked
    assert by_sensitivity.sensitivity >= target
    assert by_sensitivity.specificity == max(spec for _, sens, spec in table if sens >= target)
    by_youden = choose_operating_point(s, y, youden=True)
    assert by_youden.sensitivity + by_youden.specificity == pytest.approx(max(a + b for _, a, b in table))
    points = [by_sensitivity, by_youden]
    if any(sens for _, sens, spec in table if spec >= target):
        points.append(choose_operating_point(s, y, specificity=target))
        assert (points[-1].sensitivity, points[-1].specificity) == max(row[1:] for row in table if row[2] >= target)
    else:
        with pytest.raises(CytodistillError, match="no abnormal cell is found"):
            choose_operating_point(s, y, specificity=target)
    for point in points:
        said = decide(s, point)
        assert point.sensitivity == said[y].mean()
        assert point.specificity == (~said[~y]).mean()
        assert point.n == cells


def test_youden_on_ratings_of_hanley_and_mcneil():
    # Table 1 of Radiology 143:29 (1982). 33/51 + 56/58, 44/51 + 45/58, …: the largest is at "4 or 5".
    rating = np.arange(1, 6)
    s = np.concatenate([np.repeat(rating, [33, 6, 6, 11, 2]), np.repeat(rating, [3, 2, 2, 11, 33])])
    point = choose_operating_point(s, np.repeat([False, True], [58, 51]), youden=True)
    assert point.threshold == pytest.approx(4 - 4e-4, abs=1e-9)
    assert (point.sensitivity, point.specificity) == (44 / 51, 45 / 58)


def test_equal_youden_takes_the_more_sensitive():
    # 0.5 + 1 at threshold 0.8 and 1 + 0.5 at 0.4.
    point = choose_operating_point([0.2, 0.6, 0.4, 0.8], [False, False, True, True], youden=True, name="screening")
    assert (point.threshold, point.sensitivity, point.specificity) == (pytest.approx(0.4 - 4e-5, abs=1e-9), 1.0, 0.5)
    assert (point.name, point.n, point.rule) == ("screening", 4, "largest sensitivity + specificity - 1")


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.01, 1), st.sampled_from([1, 12, -3.5, 1e-9]))
def test_the_cell_that_decides_is_found_again_when_its_last_digits_differ(seed, target, scale):
    s, y = case(seed, 40)
    s = scale * s
    point = choose_operating_point(s, y, sensitivity=target)
    picked = max(t for t, sens, _ in counted(s, y) if sens >= target)
    # Of a normal cell that is as near as rounding nothing can be promised.
    assume(not ((s < picked) & (s > picked - 1e-5 * abs(picked))).any())
    for change in (-4e-6, 4e-6):
        assert decide([np.float32(picked * (1 + change))], point).all()


def test_no_normal_cell_is_within_the_margin():
    s = [0.2, 0.7 - 1e-8, 0.7, 0.9]
    point = choose_operating_point(s, [False, False, True, True], sensitivity=1)
    assert decide(s, point).tolist() == [False, False, True, True]
    assert 0.7 - 1e-8 < point.threshold < 0.7
    one, next_to_it = 0.7, np.nextafter(0.7, 0)
    assert choose_operating_point([next_to_it, one], [False, True], sensitivity=1).threshold == one


def test_scores_crowded_below_one_are_kept_apart():
    # As those of whole fields: the chance that one of many cells is abnormal.
    s = 1 - np.array([1e-3, 1e-6, 3e-7, 1e-9, 1e-11])
    point = choose_operating_point(s, [False, False, False, True, True], sensitivity=0.95)
    assert (point.sensitivity, point.specificity) == (1, 1)
    assert decide(s, point).tolist() == [False, False, False, True, True]


def test_a_point_goes_through_json_to_the_last_bit():
    s, y = case(3)
    point = choose_operating_point(s, y, specificity=0.9, name="Rückfrage")
    again = OperatingPoint.from_json(point.to_json())
    assert again == point
    assert (decide(s, again) == decide(s, point)).all()
    assert (point.rule, dataclasses.replace(point, name="b") != point) == ("specificity >= 0.9", True)
    assert json.loads(point.to_json())["n"] == 60


def test_a_score_at_the_threshold_is_abnormal():
    point = OperatingPoint("p", 0.5, "by hand", 1.0, 1.0, 1)
    assert decide([np.nextafter(0.5, 0), 0.5, np.float32(0.6)], point).tolist() == [False, True, True]


POINT = OperatingPoint("p", 0.5, "by hand", 1.0, 0.5, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_operating_point([0.1, 0.2], [False, True]), "exactly one"),
        (lambda: choose_operating_point([0.1, 0.2], [False, True], sensitivity=0.9, youden=True), "exactly one"),
        (lambda: choose_operating_point([0.1, 0.2], [False, True], sensitivity=1.1), "outside 0 to 1"),
        (lambda: choose_operating_point([0.1, 0.2], [True, True], youden=True), "all 2 are abnormal"),
        (lambda: choose_operating_point([0.3, 0.2], [False, True], specificity=0.9), "no abnormal cell is found"),
        (lambda: decide([0.1, np.nan], POINT), "finite"),
        (lambda: dataclasses.replace(POINT, threshold=np.inf), "threshold=inf is not a finite number"),
        (lambda: dataclasses.replace(POINT, sensitivity=1.5), "sensitivity=1.5 is not a number from 0 to 1"),
        (lambda: dataclasses.replace(POINT, n=0), "n=0"),
        (lambda: dataclasses.replace(POINT, name=3), "name=3"),
        (lambda: OperatingPoint.from_json("{"), "not JSON"),
        (lambda: OperatingPoint.from_json('{"name": "p"}'), "not an object with the fields"),
        (lambda: OperatingPoint.from_json("[1]"), "not an object"),
        (lambda: OperatingPoint.from_json(POINT.to_json().replace("0.5,", "null,", 1)), "threshold=None"),
        (lambda: OperatingPoint.from_json(POINT.to_json().replace("0.5,", "NaN,", 1)), "threshold=nan"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(CytodistillError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_docstring_examples_run():
    result = doctest.testmod(cytodistill.metrics.operating_point)
    assert result.attempted
    assert not result.failed

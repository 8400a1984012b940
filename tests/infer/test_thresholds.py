import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cytodistill.infer.thresholds
from cytodistill.errors import CytodistillError
from cytodistill.infer.thresholds import CONFIDENCE_THRESHOLDS, scan_answer


def one_by_one(probabilities, thresholds):
    """The rule, a cell and an exit at a time."""
    answers, used = [], []
    for cell in probabilities:
        for number, (row, threshold) in enumerate(zip(cell, thresholds, strict=True)):
            if max(row) > threshold:
                answers.append(row)
                used.append(number)
                break
        else:
            answers.append(sum(cell) / len(cell))
            used.append(len(cell))
    return np.array(answers).reshape(len(probabilities), -1), np.array(used, dtype=int)


@st.composite
def cells_and_thresholds(draw):
    """Probabilities that sum to one and thresholds, some of them exactly a cell's confidence."""
    cells, exits, classes = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(2, 4))
    counts = draw(arrays(np.int64, (cells, exits, classes), elements=st.integers(1, 20)))
    probabilities = counts / counts.sum(axis=2, keepdims=True)
    confidences = st.sampled_from(sorted({*probabilities.max(axis=2).ravel().tolist(), 0.0, 1.0}))
    return probabilities, draw(st.lists(confidences | st.floats(0, 1), min_size=exits, max_size=exits))


@given(cells_and_thresholds())
def test_is_the_rule_a_cell_at_a_time(drawn):
    probabilities, thresholds = drawn
    answers, used = scan_answer(probabilities, thresholds)
    expected_answers, expected_used = one_by_one(probabilities, thresholds)
    np.testing.assert_array_equal(used, expected_used)
    np.testing.assert_allclose(answers, expected_answers)
    np.testing.assert_allclose(answers.sum(axis=1), 1)


@given(cells_and_thresholds(), st.data())
def test_a_lower_threshold_never_makes_an_answer_come_later(drawn, data):
    probabilities, thresholds = drawn
    lower = [data.draw(st.floats(0, threshold)) for threshold in thresholds]
    assert (scan_answer(probabilities, lower)[1] <= scan_answer(probabilities, thresholds)[1]).all()


def test_scans_own_thresholds_are_exceeded_not_met():
    assert CONFIDENCE_THRESHOLDS == (0.98, 0.97, 0.98, 0.95)
    confidences = np.array(
        [[0.981, 0.5, 0.5, 0.5], [0.98, 0.971, 0.5, 0.5], [0.98, 0.97, 0.98, 0.951], [0.98, 0.97, 0.98, 0.95]],
        dtype=np.float32,
    )
    answers, used = scan_answer(np.stack([confidences, 1 - confidences], axis=2))
    assert used.tolist() == [0, 1, 3, 4]
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers[:, 0], [0.981, 0.971, 0.951, 0.97], rtol=1e-6)


def test_ends_of_the_range_and_no_cells_at_all():
    probabilities = np.array([[[1.0, 0.0], [0.5, 0.5]]])
    assert scan_answer(probabilities, (0.0, 0.0))[1].tolist() == [0]
    assert scan_answer(probabilities, (1.0, 1.0))[1].tolist() == [2]
    answers, used = scan_answer(np.zeros((0, 2, 3), np.float32), (0.5, 0.5))
    assert (answers.shape, used.shape) == ((0, 3), (0,))


def test_wrong_thresholds_are_named():
    probabilities = np.full((2, 3, 2), 0.5)
    with pytest.raises(CytodistillError, match=r"0.95\): the network has 3 exits; give 3 of them"):
        scan_answer(probabilities)
    for wrong in (1.5, -0.1, float("nan")):
        with pytest.raises(CytodistillError, match=f"{wrong} is no confidence; give 0 to 1"):
            scan_answer(probabilities, (0.5, wrong, 0.5))


def test_example_in_the_docstring():
    result = doctest.testmod(cytodistill.infer.thresholds)
    assert result.attempted > 0
    assert result.failed == 0

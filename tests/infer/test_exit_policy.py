"""Policies against their rules, written out one cell and one exit at a time."""

import doctest
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import cytodistill.infer.exit_policy
from cytodistill.errors import CytodistillError
from cytodistill.infer.exit_policy import KINDS, SCAN_THRESHOLDS, ExitPolicy, never, scan_policy
from cytodistill.metrics.calibration import Calibrator


def warmed(answer, temperature):
    powers = [p ** (1 / temperature) for p in answer]
    return [power / sum(powers) for power in powers]


def score_by_hand(kind, cell, answer):
    """Score of one cell: ``cell`` has the rows of the exits so far, ``answer`` is theirs, calibrated or not."""
    chosen = max(range(len(answer)), key=lambda code: answer[code])
    if kind == "confidence":
        return max(answer)
    if kind == "entropy":
        return 1 + sum(p * math.log(p) for p in answer if p > 0) / math.log(len(answer))
    if kind == "margin":
        first, second = sorted(answer, reverse=True)[:2]
        return first - second
    if kind == "agreement":
        return min(row[chosen] for row in cell)
    row = [list(each).index(max(each)) for each in cell]
    alike = 0
    while alike < len(row) and row[-1 - alike] == row[-1]:
        alike += 1
    return alike


def by_hand(policy, cell):
    """Exit and answer of one cell, (E, C)."""
    exits = len(cell)
    for exit in range(exits):
        seen = cell[: exit + 1]
        mean = [sum(column) / len(seen) for column in zip(*seen, strict=True)]
        raw = list(seen[-1]) if policy.answer == "exit" else mean
        sure = raw
        if policy.calibrators and policy.calibrated_scores:
            sure = warmed(raw, policy.calibrators[exit].temperature)
        exceeds = score_by_hand(policy.kind, seen, sure) > policy.thresholds[exit]
        if exit < exits - 1:
            if exceeds:
                return exit, raw
        elif policy.answer == "exit" and exceeds:
            return exit, raw
    return exits - 1, mean


def probabilities_of(rng, shape):
    return rng.dirichlet(np.full(shape[-1], 0.4), shape[:-1])


@pytest.mark.parametrize("answer", ["ensemble", "exit"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warm", [False, True])
def test_is_the_rule_a_cell_and_an_exit_at_a_time(kind, answer, warm):
    rng = np.random.default_rng(7)
    cells = probabilities_of(rng, (60, 4, 3))
    most = never(kind, 4)
    for _ in range(5):
        thresholds = tuple(rng.uniform(0, most if kind == "patience" else 0.9, 4)[:3])
        last = most if answer == "ensemble" or warm else 0.6 * most
        temperatures = tuple(Calibrator("temperature", t) for t in rng.uniform(0.5, 3, 4)) if warm else ()
        policy = ExitPolicy(kind, (*thresholds, last), answer, temperatures)
        wanted = [by_hand(policy, cell.tolist()) for cell in cells]
        assert policy.used(cells).tolist() == [exit for exit, _ in wanted]
        np.testing.assert_allclose(policy.answers(cells), [answer for _, answer in wanted], atol=1e-12)
        if warm:
            hot = [warmed(answer, temperatures[exit].temperature) for exit, answer in wanted]
            np.testing.assert_allclose(policy.answers(cells, calibrated=True), hot, atol=1e-9)


def test_scores_may_be_left_uncalibrated():
    cells = np.array([[[0.7, 0.3], [0.7, 0.3]]])
    calibrators = (Calibrator("temperature", 3.0), Calibrator("temperature", 1.0))
    # 0.7^⅓ : 0.3^⅓ is 0.57 : 0.43.
    assert ExitPolicy("confidence", (0.6, 1.0), calibrators=calibrators).used(cells).tolist() == [1]
    raw = ExitPolicy("confidence", (0.6, 1.0), calibrators=calibrators, calibrated_scores=False)
    assert raw.used(cells).tolist() == [0]
    np.testing.assert_allclose(raw.answers(cells, calibrated=True)[0], [0.57015, 0.42985], atol=1e-5)


@st.composite
def cells_and_thresholds(draw):
    """Probabilities that sum to one and thresholds, some of them exactly a cell's confidence."""
    cells, exits, classes = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(2, 4))
    counts = draw(arrays(np.int64, (cells, exits, classes), elements=st.integers(1, 20)))
    probabilities = counts / counts.sum(axis=2, keepdims=True)
    confidences = st.sampled_from(sorted({*probabilities.max(axis=2).ravel().tolist(), 0.0, 1.0}))
    return probabilities, draw(st.lists(confidences | st.floats(0, 1), min_size=exits, max_size=exits))


def scan_by_hand(probabilities, thresholds):
    """SCAN's answers, and which of them are an exit's alone."""
    for cell in probabilities:
        sure = [exit for exit, threshold in enumerate(thresholds) if max(cell[exit]) > threshold]
        yield (cell[sure[0]], sure[0]) if sure else (sum(cell) / len(cell), len(cell) - 1)


@given(cells_and_thresholds())
def test_scans_rule_is_a_policy(drawn):
    probabilities, thresholds = drawn
    policy, wanted = scan_policy(thresholds), list(scan_by_hand(*drawn))
    assert policy.used(probabilities).tolist() == [exit for _, exit in wanted]
    np.testing.assert_allclose(policy.answers(probabilities), [answer for answer, _ in wanted])


def test_scans_own_thresholds_are_exceeded_not_met():
    assert SCAN_THRESHOLDS == (0.98, 0.97, 0.98, 0.95)
    confidences = np.array(
        [[0.981, 0.5, 0.5, 0.5], [0.98, 0.971, 0.5, 0.5], [0.98, 0.97, 0.98, 0.951], [0.98, 0.97, 0.98, 0.95]],
        dtype=np.float32,
    )
    cells = np.stack([confidences, 1 - confidences], axis=2)
    policy = scan_policy()
    answers = policy.answers(cells)
    assert policy.used(cells).tolist() == [0, 1, 3, 3]
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers[:, 0], [0.981, 0.971, 0.951, 0.97], rtol=1e-6)


@given(cells_and_thresholds(), st.sampled_from(KINDS), st.data())
def test_a_lower_threshold_never_makes_an_answer_come_later(drawn, kind, data):
    probabilities, shares = drawn
    exits = probabilities.shape[1]
    thresholds = [share * never(kind, exits) for share in shares]
    lower = [data.draw(st.floats(0, threshold)) for threshold in thresholds]
    early, late = (ExitPolicy(kind, tuple(each)).used(probabilities) for each in (lower, thresholds))
    assert (early <= late).all()


@given(cells_and_thresholds(), st.sampled_from(KINDS))
def test_at_the_ends_nobody_stops_early_and_everybody_who_can_does(drawn, kind):
    probabilities, _ = drawn
    exits = probabilities.shape[1]
    most = never(kind, exits)
    assert (ExitPolicy(kind, (most,) * exits).used(probabilities) == exits - 1).all()
    np.testing.assert_allclose(ExitPolicy(kind, (most,) * exits).answers(probabilities), probabilities.mean(axis=1))
    # A margin of nothing, or all classes alike, does not exceed nothing.
    if kind in ("confidence", "patience", "agreement"):
        assert (ExitPolicy(kind, (0.0,) * exits).used(probabilities) == 0).all()


def test_no_cells_have_no_answers():
    policy = ExitPolicy("entropy", (0.5, 1.0))
    assert policy.used(np.zeros((0, 2, 3))).shape == (0,)
    assert policy.answers(np.zeros((0, 2, 3))).shape == (0, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_is_stored_as_json(kind):
    calibrators = (Calibrator("temperature", 1.3), Calibrator("none"))
    policy = ExitPolicy(kind, (0.3, 1.0), calibrators=calibrators, calibrated_scores=False)
    assert ExitPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "luck"}, "kind 'luck' is unknown; give one of confidence, entropy"),
        ({"answer": "best"}, "answer 'best' is unknown; give ensemble or exit"),
        ({"thresholds": ()}, "there are no thresholds"),
        ({"thresholds": (1.5, 1.0)}, "threshold 1.5 of confidence; give 0 to 1"),
        ({"thresholds": (-0.1, 1.0)}, "threshold -0.1 of confidence"),
        ({"thresholds": (math.nan, 1.0)}, "threshold nan of confidence"),
        ({"kind": "patience", "thresholds": (3.0, 2.0)}, "threshold 3.0 of patience; give 0 to 2"),
        ({"calibrators": (Calibrator(),)}, "1 calibrators do not fit 2 exits"),
        (
            {"calibrators": (Calibrator(), Calibrator("vector", scale=(1.0, 1.0), bias=(0.0, 0.0)))},
            "vector scaling may change an answer's class",
        ),
        (
            {"answer": "exit", "thresholds": (0.5, 0.9), "calibrators": (Calibrator(),) * 2},
            "the last calibrator is of the mean of all exits; give 1 as the last threshold",
        ),
    ],
)
def test_wrong_fields_are_one_line(fields, said):
    with pytest.raises(CytodistillError, match=said):
        ExitPolicy(**{"kind": "confidence", "thresholds": (0.5, 1.0)} | fields)


@pytest.mark.parametrize("damage", [{"thresholds": None}, {"thresholds": ["high"]}, {"extra": 1}, {"calibrators": 3}])
def test_a_damaged_dictionary_is_one_line(damage):
    with pytest.raises(CytodistillError, match="stored policy is unreadable"):
        ExitPolicy.from_dict(ExitPolicy("confidence", (0.5, 1.0)).to_dict() | damage)
    with pytest.raises(CytodistillError, match="stored policy is unreadable"):
        ExitPolicy.from_dict({})


def test_example_in_the_docstring():
    result = doctest.testmod(cytodistill.infer.exit_policy)
    assert result.attempted > 0
    assert result.failed == 0

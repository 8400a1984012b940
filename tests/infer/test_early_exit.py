"""Early exit with cells that leave: the answers of all exits computed and chosen from afterwards, and less work."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.errors import CytodistillError
from cytodistill.infer.early_exit import EarlyExit
from cytodistill.infer.exit_policy import KINDS, ExitPolicy, never
from cytodistill.infer.predictor import load
from cytodistill.metrics.calibration import Calibrator


class Recited:
    """An engine that knows its logits (N, E, C) by heart; a cell is its own number.

    It counts the cells of each call, and its state is what a segment hands on: two parts, one of them the answers so
    far, so that a row that is mixed up shows.
    """

    def __init__(self, logits, exits_of, as_tensors=False):
        self.logits, self.exits_of, self.as_tensors = logits.astype(np.float32), exits_of, as_tensors
        self.calls = []

    @property
    def segments(self):
        return len(self.exits_of)

    def start(self, cells):
        parts = (cells, np.zeros((len(cells), 2), np.int64))
        return tuple(map(torch.from_numpy, parts)) if self.as_tensors else parts

    def run(self, segment, state):
        cells, passed = (np.asarray(part) for part in state)
        assert (passed == segment).all()
        self.calls.append((segment, len(cells)))
        before = sum(self.exits_of[:segment])
        after = (cells, passed + 1) if segment < self.segments - 1 else ()
        if self.as_tensors:
            after = tuple(map(torch.from_numpy, after))
        return self.logits[cells, before : before + self.exits_of[segment]], after

    def take(self, state, rows):
        assert rows.dtype == np.int64
        return tuple(part[torch.from_numpy(rows) if self.as_tensors else rows] for part in state)

    def whole(self, cells):
        return self.logits[cells]


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@st.composite
def passages(draw):
    cells, exits, classes = draw(st.integers(0, 40)), draw(st.integers(1, 5)), draw(st.integers(2, 4))
    exits_of, left = [], exits
    while left:
        exits_of.append(draw(st.integers(1, left)))
        left -= exits_of[-1]
    logits = np.random.default_rng(draw(st.integers(0, 99))).normal(0, 2, (cells, exits, classes))
    kind = draw(st.sampled_from(KINDS))
    thresholds = draw(st.lists(st.floats(0, never(kind, exits)), min_size=exits, max_size=exits))
    warm = tuple(Calibrator("temperature", 1.0 + exit) for exit in range(exits)) if draw(st.booleans()) else ()
    answer = draw(st.sampled_from(["ensemble", "exit"]))
    if warm and answer == "exit":
        thresholds[-1] = never(kind, exits)
    policy = ExitPolicy(kind, tuple(thresholds), answer, warm)
    return logits, tuple(exits_of), policy, draw(st.integers(1, 9)), draw(st.booleans())


@settings(deadline=None)
@given(passages())
def test_answers_are_those_of_all_exits_chosen_from_afterwards(passage):
    logits, exits_of, policy, batch_size, as_tensors = passage
    engine = Recited(logits, exits_of, as_tensors)
    early = EarlyExit(engine, policy, logits.shape[2], batch_size)
    cells = np.arange(len(logits))
    found = early.answer(cells)
    every = softmax(logits.astype(np.float32))
    np.testing.assert_array_equal(found.used, policy.used(every))
    np.testing.assert_allclose(found.probabilities, policy.answers(every, calibrated=True), atol=1e-6)
    raw = early.answer(cells, calibrated=False)
    np.testing.assert_allclose(raw.probabilities, policy.answers(every), atol=1e-6)
    # What no cell needed was not computed: exits of segments beyond the one that it stopped in.
    ends = np.cumsum(exits_of)
    computed = ends[np.searchsorted(ends, found.used, side="right")]
    beyond = np.arange(policy.exits) >= computed[:, None]
    np.testing.assert_array_equal(np.isnan(found.exits), np.broadcast_to(beyond[:, :, None], logits.shape))
    np.testing.assert_allclose(found.exits[~beyond], every[~beyond], atol=1e-6)
    counted = np.zeros(len(exits_of), int)
    for segment, size in engine.calls:
        assert 1 <= size <= batch_size
        counted[segment] += size
    starts = ends - exits_of
    assert counted.tolist() == [2 * int((found.used >= start).sum()) for start in starts]


def test_deep_segments_wait_for_whole_batches():
    """Half of the cells go on at each exit; all but the last batch of a segment are whole."""
    logits = np.zeros((64, 3, 2))
    logits[::2, 0] = (5, 0)
    logits[::4, 1] = logits[1::4, 1] = (5, 0)
    engine = Recited(logits, (1, 1, 1))
    EarlyExit(engine, ExitPolicy("confidence", (0.9, 0.7, 1.0)), 2, 8).answer(np.arange(64))
    sizes = {segment: [size for at, size in engine.calls if at == segment] for segment in range(3)}
    assert sizes == {0: [8] * 8, 1: [8] * 4, 2: [8] * 2}


def test_rows_are_answered_in_the_order_given():
    logits = np.random.default_rng(0).normal(0, 3, (30, 3, 4))
    early = EarlyExit(Recited(logits, (1, 1, 1)), ExitPolicy("margin", (0.6, 0.5, 1.0)), 4, 4)
    steps = []
    rows = np.array([7, 3, 29, 3, 0])
    found = early.answer(np.arange(30), rows=rows, progress=lambda done, total: steps.append((done, total)))
    whole = early.answer(np.arange(30))
    np.testing.assert_array_equal(found.probabilities, whole.probabilities[rows])
    np.testing.assert_array_equal(found.used, whole.used[rows])
    assert steps == [(4, 5), (5, 5)]


def test_a_policy_of_another_number_of_exits_is_refused():
    with pytest.raises(CytodistillError, match="policy: of 2 exits, and the network has 3; fit one for this run"):
        EarlyExit(Recited(np.zeros((1, 3, 2)), (1, 2)), ExitPolicy("confidence", (0.5, 1.0)), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_networks_segments_answer_as_the_whole(tiny_run, kind):
    predictor = load(tiny_run, "cpu")
    cells = np.random.default_rng(1).integers(0, 256, (23, 64, 64, 3), np.uint8)
    every = predictor.predict_cells(cells).exit_probabilities
    start = ExitPolicy(kind, (never(kind, 3),) * 3)
    middle = [float(np.median(start.score(every[:, : exit + 1]))) - 1e-3 for exit in range(2)]
    policy = ExitPolicy(kind, (*np.clip(middle, 0, None), never(kind, 3)))
    found = predictor.predict_cells(cells, batch_size=5, policy=policy)
    # Other sizes of a batch round otherwise: cells that lie on a threshold may fall to either side.
    sure = np.abs(np.stack([policy.score(every[:, : k + 1]) - policy.thresholds[k] for k in range(2)])).min(0) > 1e-4
    assert sure.sum() > 10
    np.testing.assert_array_equal(found.used[sure], policy.used(every)[sure])
    np.testing.assert_allclose(found.probabilities[sure], policy.answers(every)[sure], atol=1e-5)


def test_logits_are_not_kept_under_a_policy(tiny_run):
    predictor = load(tiny_run, "cpu")
    cells = np.zeros((1, 64, 64, 3), np.uint8)
    with pytest.raises(CytodistillError, match="under an exit policy not all are computed"):
        predictor.predict_cells(cells, logits=True, policy=ExitPolicy("confidence", (0.5, 0.5, 1.0)))

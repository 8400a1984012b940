"""Early exit: cells leave the network at the exit that they are content with, and the time of the rest is not spent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from cytodistill.errors import CytodistillError
from cytodistill.infer.engine import Engine, State
from cytodistill.infer.exit_policy import ExitPolicy


@dataclass(frozen=True)
class Answers:
    """Answers to N cells, in their order: ``probabilities`` (N, C), ``used`` (N,) the exit that each stopped at, from
    0, and ``exits`` (N, E, C) the exits' probabilities, NaN where they were not computed; float32 and int64."""

    probabilities: np.ndarray
    used: np.ndarray
    exits: np.ndarray

    def __len__(self) -> int:
        return len(self.used)


@dataclass
class _Queue:
    """Cells that wait for a segment: their places among the answers, and their state."""

    rows: list[np.ndarray] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self.rows))

    def put(self, rows: np.ndarray, state: State) -> None:
        self.rows.append(rows)
        self.states.append(state)

    def take(self, engine: Engine, most: int) -> tuple[np.ndarray, State]:
        """The first ``most`` cells, which leave the queue."""
        rows, state = np.concatenate(self.rows), _joined(self.states)
        self.rows, self.states = [], []
        if len(rows) > most:
            self.put(rows[most:], engine.take(state, np.arange(most, len(rows))))
            rows, state = rows[:most], engine.take(state, np.arange(most))
        return rows, state


class EarlyExit:
    """Runs an engine's segments under a policy, each on the cells that no shallower exit has answered.

    What is left of a batch waits until later batches fill it up, so that the deep segments, whose weights are many and
    whose maps are small, run on whole batches too. Fewer than ``batch_size`` cells wait for each segment.

    Args:
        engine: computes the exits.
        policy: says who stops where.
        classes: C.
        batch_size: cells that a segment computes at once.

    Raises:
        CytodistillError: the policy is of another number of exits.
    """

    def __init__(self, engine: Engine, policy: ExitPolicy, classes: int, batch_size: int = 64) -> None:
        if policy.exits != sum(engine.exits_of):
            raise CytodistillError(
                f"policy: of {policy.exits} exits, and the network has {sum(engine.exits_of)}; fit one for this run"
            )
        self.engine = engine
        self.policy = policy
        self.classes = classes
        self.batch_size = batch_size

    def answer(
        self,
        cells: np.ndarray,
        calibrated: bool = True,
        rows: np.ndarray | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Answers:
        """Answers to N cells, in their order.

        Args:
            cells: the engine's inputs.
            calibrated: apply the policy's calibrators to the answers.
            rows: (N,) which of the cells; all by default.
            progress: told how many of the N cells have entered the network.
        """
        rows = np.arange(len(cells)) if rows is None else rows
        passage = _Passage(self, len(rows), calibrated)
        for start in range(0, len(rows), self.batch_size):
            batch = np.array(cells[rows[start : start + self.batch_size]])
            passage.enter(start + np.arange(len(batch)), batch)
            if progress:
                progress(start + len(batch), len(rows))
        passage.finish()
        return Answers(passage.answers, passage.used, passage.exits)


class _Passage:
    """N cells on their way through the segments; a row is a cell's place among them."""

    def __init__(self, by: EarlyExit, cells: int, calibrated: bool) -> None:
        self.engine, self.policy, self.batch_size = by.engine, by.policy, by.batch_size
        self.calibrated = calibrated
        self.exits = np.full((cells, by.policy.exits, by.classes), np.nan, np.float32)
        self.answers = np.empty((cells, by.classes), np.float32)
        self.used = np.zeros(cells, np.int64)
        self.waiting = [_Queue() for _ in range(self.engine.segments)]

    def enter(self, rows: np.ndarray, cells: np.ndarray) -> None:
        """Run the first segment on a batch, and the deeper ones that have a whole batch waiting by now."""
        self._run(0, rows, self.engine.start(cells))
        self._run_deeper(self.batch_size)

    def finish(self) -> None:
        """Run the deeper segments on all who still wait."""
        self._run_deeper(1)

    def _run_deeper(self, least: int) -> None:
        for segment, queue in enumerate(self.waiting[1:], start=1):
            while len(queue) >= least:
                self._run(segment, *queue.take(self.engine, self.batch_size))

    def _run(self, segment: int, rows: np.ndarray, state: State) -> None:
        """Run a segment; who is content is answered, the others wait for the next one."""
        logits, state = self.engine.run(segment, state)
        before = sum(self.engine.exits_of[:segment])
        after = before + self.engine.exits_of[segment]
        self.exits[rows, before:after] = torch.from_numpy(logits).softmax(-1).numpy()
        left = np.arange(len(rows))
        for exit in range(before, after):
            seen = self.exits[rows[left], : exit + 1]
            stops = self.policy.stops(seen)
            stopped = rows[left[stops]]
            self.used[stopped] = exit
            self.answers[stopped] = self.policy.answer_after(seen[stops], self.calibrated)
            left = left[~stops]
        if len(left):
            state = state if len(left) == len(rows) else self.engine.take(state, left)
            self.waiting[segment + 1].put(rows[left], state)


def _joined(states: list[State]) -> State:
    """States one after another, in the type of their parts."""
    if len(states) == 1:
        return states[0]
    join = torch.cat if isinstance(states[0][0], torch.Tensor) else np.concatenate
    return tuple(join(parts) for parts in zip(*states, strict=True))

"""Engine: what computes the logits of a network's exits, whole or segment by segment."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

State = tuple[Any, ...]
"""What a segment hands to the next: arrays or tensors with the batch first, in the engine's own type."""


class Engine(Protocol):
    """Computes the exits of one network, for cells as a `Predictor` prepares them: (B, S, S, 3) uint8, or (B, 27) shape
    features.

    Example, early exit of a batch; ``sure`` says which rows need no deeper exit::

        state, rows = engine.start(cells), np.arange(len(cells))
        for segment in range(engine.segments):
            logits, state = engine.run(segment, state)
            left = np.flatnonzero(~sure(logits))
            rows, state = rows[left], engine.take(state, left)
    """

    exits_of: tuple[int, ...]
    """Number of exits that each segment answers for, shallow → deep; their sum is the network's E."""

    @property
    def segments(self) -> int:
        """Number of segments."""

    def start(self, cells: np.ndarray) -> State:
        """State of the first segment."""

    def run(self, segment: int, state: State) -> tuple[np.ndarray, State]:
        """Run one segment, from 0: float32 logits (B, K, C) of its K exits, and the next segment's state, empty after
        the last."""

    def take(self, state: State, rows: np.ndarray) -> State:
        """The rows of a state at these positions, (b,) int64."""

    def whole(self, cells: np.ndarray) -> np.ndarray:
        """Float32 logits (B, E, C) of all exits at once."""


def all_exits(engine: Engine, cells: np.ndarray) -> np.ndarray:
    """Float32 logits (B, E, C) of all exits, segment by segment."""
    state, found = engine.start(cells), []
    for segment in range(engine.segments):
        logits, state = engine.run(segment, state)
        found.append(logits)
    return np.concatenate(found, axis=1)

"""Engine: what computes the logits of a network's exits, whole or segment by segment; here, torch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cytodistill.estimators.inputs import Inputs
from cytodistill.models.fold import fold_batch_norms
from cytodistill.models.multi_exit import Network
from cytodistill.models.segments import segments_of

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


class TorchEngine:
    """A network in torch, in eval mode and float32. What answers is a copy with its batch normalisations folded into
    its convolutions; ``network`` is the one that was trained.

    Args:
        network: the network; it is moved to ``device``.
        inputs: makes its input from cells.
        device: to compute on; the CPU by default.
    """

    def __init__(self, network: Network, inputs: Inputs, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._inputs = inputs
        noise = np.random.default_rng(0).integers(0, 256, (2, *inputs.shape)).astype(inputs.dtype)
        self._folded = fold_batch_norms(self.network, *self.start(noise))
        self._segments = segments_of(self._folded)
        self.exits_of = tuple(segment.exits for segment in self._segments)

    @property
    def segments(self) -> int:
        """Number of segments."""
        return len(self._segments)

    @torch.inference_mode()
    def start(self, cells: np.ndarray) -> State:
        """See `Engine`."""
        return (self._inputs.tensor(torch.from_numpy(cells).to(self.device)),)

    @torch.inference_mode()
    def run(self, segment: int, state: State) -> tuple[np.ndarray, State]:
        """See `Engine`."""
        logits, *state_after = self._segments[segment](*state)
        return _array(logits), tuple(state_after)

    @torch.inference_mode()
    def take(self, state: State, rows: np.ndarray) -> State:
        """See `Engine`."""
        # Indexing, unlike index_select, keeps the order of memory that convolutions are fast in.
        chosen = torch.from_numpy(rows).to(self.device)
        return tuple(part[chosen] for part in state)

    @torch.inference_mode()
    def whole(self, cells: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return _array(torch.stack(self._folded(*self.start(cells)).logits, dim=1))


def _array(logits: Tensor) -> np.ndarray:
    return logits.float().cpu().numpy()


def all_exits(engine: Engine, cells: np.ndarray) -> np.ndarray:
    """Float32 logits (B, E, C) of all exits, segment by segment."""
    state, found = engine.start(cells), []
    for segment in range(engine.segments):
        logits, state = engine.run(segment, state)
        found.append(logits)
    return np.concatenate(found, axis=1)

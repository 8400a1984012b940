"""The engine of a run's own network: torch, on the CPU or a GPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cytodistill.estimators.inputs import Inputs
from cytodistill.infer.engine import State
from cytodistill.models.fold import fold_batch_norms
from cytodistill.models.multi_exit import Network
from cytodistill.models.segments import segments_of


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

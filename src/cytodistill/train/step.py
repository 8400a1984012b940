"""Parts of a training step: what is trained, in which precision, and what is summed up over an epoch."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cytodistill.distill import Batch, Method, Pretraining
from cytodistill.models.multi_exit import Network
from cytodistill.train.distributed import Ranks


@dataclass
class Best:
    """The epoch that is kept so far. Its weights wait here and in the checkpoint, and become a file at the end alone:
    file, figure and epoch always belong together."""

    epoch: int = -1
    value: float = -math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Sums:
    """Running sums over an epoch's cells, on the device: nothing here waits for it."""

    parts: dict[str, Tensor] = field(default_factory=dict)
    correct: Tensor | None = None
    cells: int = 0

    def add(self, parts: dict[str, Tensor], correct: Tensor, cells: int) -> None:
        for name, value in parts.items():
            summed = value.detach().double() * cells
            self.parts[name] = self.parts[name] + summed if name in self.parts else summed
        self.correct = correct if self.correct is None else self.correct + correct
        self.cells += cells

    def means(self, ranks: Ranks) -> tuple[dict[str, float], list[float]]:
        """Mean of each loss part and accuracy of each exit, over the cells of all ranks."""
        assert self.correct is not None
        sums = torch.stack([*self.parts.values(), *self.correct.double(), self.correct.new_tensor(self.cells).double()])
        *figures, cells = ranks.sum(sums).tolist()
        means = [figure / cells for figure in figures]
        return dict(zip(self.parts, means, strict=False)), means[len(self.parts) :]

    def state(self) -> dict[str, Any]:
        return {"parts": self.parts, "correct": self.correct, "cells": self.cells}


class StudentStep(nn.Module):
    """Student and method as one module, so that DDP sees all that is trained and nothing else (not the teacher).

    Where it is the method's stage before the training, it is the method's ``pretrain`` that is called.
    """

    def __init__(self, network: Network, method: Method, pretraining: Pretraining | None = None) -> None:
        super().__init__()
        self.network = network
        self.method = method
        self.pretraining = pretraining
        method.begin("train" if pretraining is None else "pretrain")
        self._left_alone = pretraining is not None and not pretraining.student
        if self._left_alone:
            network.requires_grad_(False)

    def end(self) -> None:
        """The stage is over: a student that it left alone will learn again."""
        if self._left_alone:
            self.network.requires_grad_(True)

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """Loss parts, and how many cells each exit got right, (E,); none is counted before the training itself."""
        outputs = None if self._left_alone else self.network(batch.images)
        if self.pretraining is not None:
            return self.method.pretrain(outputs, batch), batch.labels.new_zeros(0)
        assert outputs is not None
        parts = self.method(outputs, batch)
        cells = len(batch.labels)  # of turned images the first are the cells as they are
        with torch.no_grad():
            correct = torch.stack([(logits[:cells].argmax(-1) == batch.labels).sum() for logits in outputs.logits])
        return parts, correct


def over_ranks(student: StudentStep, ranks: Ranks) -> nn.Module:
    """The step wrapped for several ranks, or as it is for one."""
    if ranks.world == 1:
        return student
    on_gpu = [ranks.device.index] if ranks.device.type == "cuda" else None
    # Batch statistics are global, or brought together by epoch. torch renamed the option that copies them each step.
    options = inspect.signature(DistributedDataParallel.__init__).parameters
    copies: dict[str, Any] = (
        {"forward_sync_buffers": False} if "forward_sync_buffers" in options else {"broadcast_buffers": False}
    )
    # A stage before the training may leave the classifier, or all of the student, as it is.
    partly = student.pretraining is not None
    return DistributedDataParallel(
        student, device_ids=on_gpu, find_unused_parameters=partly, gradient_as_bucket_view=True, **copies
    )


COMPILING: dict[str, dict[str, Any]] = {"cuda": {"mode": "reduce-overhead"}, "cpu": {}}
"""How a student is compiled, by device: on a GPU its steps are replayed as CUDA graphs."""


def compiled(network: Network, device: torch.device) -> None:
    """Compile a network in place. Its weights keep their names, and copies of it are not compiled."""
    network.compile(dynamic=False, **COMPILING[device.type])


def autocast_type(precision: str, device: torch.device) -> torch.dtype:
    """Type of the recipe's precision on a device; "auto" is bfloat16 where the processor multiplies it natively."""
    if precision != "auto":
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32

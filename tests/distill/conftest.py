"""A student's and a teacher's random answers of odd shapes, for the methods that compare them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from cytodistill.distill import Batch, CrossEntropy, Method, build_method
from cytodistill.models.outputs import ExitOutputs, OutputShapes

B, C = 5, 7
# The teacher shows one map more; paired from the deepest: half as large, of one size, and uneven both ways.
STUDENT = OutputShapes((11,), ((4, 9, 9), (6, 5, 6), (8, 3, 3)))
TEACHER = OutputShapes((13,), ((3, 20, 20), (5, 18, 18), (7, 5, 6), (9, 2, 4)))


def draw(shapes: OutputShapes, cells: int, classes: int) -> ExitOutputs:
    """Random answers that want gradients, maps after a ReLU and so half zero."""
    return ExitOutputs(
        [torch.randn(cells, classes, requires_grad=True) for _ in shapes.features],
        [torch.randn(cells, width, requires_grad=True) for width in shapes.features],
        [torch.randn(cells, *shape).relu().requires_grad_() for shape in shapes.maps],
        [torch.randn(cells, *shape, requires_grad=True) for shape in shapes.maps],
    )


@dataclass
class Lesson:
    """A method and what it is called with."""

    method: Method
    outputs: ExitOutputs
    batch: Batch

    @property
    def teacher(self) -> ExitOutputs:
        assert self.batch.teacher is not None
        return self.batch.teacher

    def parts(self) -> dict[str, Tensor]:
        return self.method(self.outputs, self.batch)

    def values(self) -> dict[str, float]:
        return {name: value.item() for name, value in self.parts().items()}


@pytest.fixture
def lesson() -> Callable[..., Lesson]:
    """``lesson(name, student=…, teacher=…, cells=…, **settings)``, the same numbers at every call."""

    def give(
        name: str,
        student: OutputShapes = STUDENT,
        teacher: OutputShapes = TEACHER,
        cells: int = B,
        classes: int = C,
        **settings,
    ) -> Lesson:
        torch.manual_seed(7)
        method = build_method(name, settings, CrossEntropy(), student, teacher)
        if "cells" in method.needs:
            method.see_cells(torch.arange(3 * classes), torch.arange(3 * classes) % classes)
        images = 4 * cells if "rotations" in method.needs else cells
        outputs, theirs = draw(student, images, classes), draw(teacher, images, classes)
        labels = torch.randint(0, classes, (cells,))
        method.begin("train")
        return Lesson(method, outputs, Batch(torch.zeros(images, 3, 8, 8), labels, torch.arange(cells), theirs))

    return give


@pytest.fixture
def numbers() -> Callable[[Tensor], np.ndarray]:
    """float64 of a tensor."""
    return lambda tensor: tensor.detach().double().numpy()


@pytest.fixture
def average_pool() -> Callable[[np.ndarray, tuple[int, int]], np.ndarray]:
    """(B, C, H, W) → (B, C, h, w): cell i is the mean from ⌊i·H/h⌋ up to ⌈(i+1)·H/h⌉."""

    def pool(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        (high, wide), (h, w) = maps.shape[2:], size
        pooled = np.empty((*maps.shape[:2], h, w))
        for i in range(h):
            for j in range(w):
                rows, columns = (
                    slice(i * high // h, -(-(i + 1) * high // h)),
                    slice(j * wide // w, -(-(j + 1) * wide // w)),
                )
                pooled[:, :, i, j] = maps[:, :, rows, columns].mean((2, 3))
        return pooled

    return pool


@pytest.fixture
def stages(numbers, average_pool) -> Callable[[Lesson], list[tuple[np.ndarray, np.ndarray]]]:
    """A lesson's stages in NumPy, paired from the deepest, ordered shallow → deep, the larger pooled to the smaller."""

    def pair(lesson: Lesson) -> list[tuple[np.ndarray, np.ndarray]]:
        pairs = []
        for ours, theirs in zip(reversed(lesson.outputs.maps), reversed(lesson.teacher.maps), strict=False):
            size = (min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3]))
            pairs.append((average_pool(numbers(ours), size), average_pool(numbers(theirs), size)))
        return pairs[::-1]

    return pair

"""Batched augmentation on the training device: one affine grid a batch, then colour, then normalisation.

What is drawn for a cell depends on the seed, the epoch and the cell's position in the epoch's order alone, never on how
the epoch is cut into batches or ranks, so that a resumed or distributed run sees the very same views.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cytodistill.recipe import Augment

DRAWS = 14
"""Uniform numbers a view: area, aspect, 2 shifts, 2 flips, angle, 3 stains, brightness, contrast, 2 cutout."""


def draw_views(count: int, seed: int, epoch: int) -> Tensor:
    """(count, DRAWS) float32 uniforms in [0, 1) for one epoch's views, on the CPU; the same on any machine."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch * 7919 + 17) % 2**63)
    return torch.rand(count, DRAWS, generator=generator)


class Preprocess:
    """uint8 cells (B, S, S, 3) to network input (B, 3, S, S) float32, with a recipe's mean and deviation."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.mean = torch.tensor(mean)
        self.std = torch.tensor(std)

    def __call__(self, cells: Tensor) -> Tensor:
        scaled = cells.permute(0, 3, 1, 2).float().div_(255.0)
        return self.normalise(scaled)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [0, 1] → normalised, in place."""
        self.mean, self.std = self.mean.to(images.device), self.std.to(images.device)
        return images.sub_(self.mean[:, None, None]).div_(self.std[:, None, None])


class Augmenter:
    """Views of cells by a recipe's ``augment`` section."""

    def __init__(self, settings: Augment, preprocess: Preprocess) -> None:
        self.settings = settings
        self.preprocess = preprocess

    def __call__(self, cells: Tensor, draws: Tensor, side: int | None = None) -> Tensor:
        """(B, S, S, 3) uint8 cells and their (B, DRAWS) uniforms → (B, 3, S, S) normalised float32 views, or
        (B, 3, side, side): the same views, sampled at fewer places of the same grid."""
        s = self.settings
        draws = draws.to(cells.device)
        images = cells.permute(0, 3, 1, 2).float().div_(255.0)
        if s.stain or s.brightness or s.contrast:
            images = self._colour(images, draws)
        images = self.preprocess.normalise(images)
        side = side or images.shape[-1]
        if self._moves() or side != images.shape[-1]:
            grid = F.affine_grid(self.affine(draws), [len(images), 3, side, side], align_corners=False)
            images = F.grid_sample(images, grid, mode="bilinear", padding_mode=s.padding, align_corners=False)
        if s.cutout:
            images = self._cut_out(images, draws)
        return images.contiguous(memory_format=torch.channels_last)

    def affine(self, draws: Tensor) -> Tensor:
        """(B, 2, 3) maps from output to input coordinates in [-1, 1]: crop, stretch, rotation, flips, shift."""
        s = self.settings
        low, high = s.scale
        side = (low + (high - low) * draws[:, 0]).sqrt()
        stretch = ((1 - s.aspect) + 2 * s.aspect * draws[:, 1]).sqrt() if s.aspect else torch.ones_like(side)
        width, height = side * stretch, side / stretch
        flip_x = torch.where(draws[:, 4] < 0.5, -1.0, 1.0) if s.horizontal_flip else torch.ones_like(side)
        flip_y = torch.where(draws[:, 5] < 0.5, -1.0, 1.0) if s.vertical_flip else torch.ones_like(side)
        angle = (2 * draws[:, 6] - 1) * math.radians(s.rotation)
        cos, sin = angle.cos(), angle.sin()
        # The crop may lie anywhere that keeps it inside the image; a wider view than the image stays centred.
        free_x, free_y = (1 - width).clamp(min=0) + 2 * s.translate, (1 - height).clamp(min=0) + 2 * s.translate
        shift_x, shift_y = (2 * draws[:, 2] - 1) * free_x, (2 * draws[:, 3] - 1) * free_y
        rows = [
            torch.stack([cos * width * flip_x, -sin * height * flip_y, shift_x], dim=1),
            torch.stack([sin * width * flip_x, cos * height * flip_y, shift_y], dim=1),
        ]
        return torch.stack(rows, dim=1)

    def _moves(self) -> bool:
        s = self.settings
        return bool(
            s.scale != (1.0, 1.0) or s.aspect or s.translate or s.horizontal_flip or s.vertical_flip or s.rotation
        )

    def _colour(self, images: Tensor, draws: Tensor) -> Tensor:
        s = self.settings
        if s.stain:
            # Optical density is -log of transmitted light: scaling it by g is raising the light to the power g.
            gain = 1 + s.stain * (2 * draws[:, 7:10] - 1)
            images = images.clamp_(min=1 / 255).pow_(gain[:, :, None, None])
        if s.contrast:
            gain = 1 + s.contrast * (2 * draws[:, 11] - 1)
            middle = images.mean((1, 2, 3), keepdim=True)
            images = (images - middle) * gain[:, None, None, None] + middle
        if s.brightness:
            images = images + (s.brightness * (2 * draws[:, 10] - 1))[:, None, None, None]
        return images.clamp_(0, 1)

    def _cut_out(self, images: Tensor, draws: Tensor) -> Tensor:
        """Blank a square to the mean colour, which is zero after normalisation; its centre lies anywhere inside."""
        size = images.shape[-1]
        half = self.settings.cutout * size / 2
        position = torch.arange(size, device=images.device) + 0.5
        in_x = (position - size * draws[:, 12, None]).abs() <= half
        in_y = (position - size * draws[:, 13, None]).abs() <= half
        return images.masked_fill((in_y[:, :, None] & in_x[:, None, :])[:, None], 0.0)


class Views:
    """What a training step shows of its cells: augmented views, each once or in four turns."""

    def __init__(self, settings: Augment, preprocess: Preprocess, turned: bool = False) -> None:
        self.augment = Augmenter(settings, preprocess)
        self.turned = turned

    def __call__(self, cells: Tensor, draws: Tensor, side: int | None = None) -> Tensor:
        """(B, S, S, 3) uint8 cells and their (B, DRAWS) uniforms → (B, 3, S, S), or (4B, 3, S, S) where they are
        turned: all of them by 0 degrees, then all by 90, 180 and 270; S is ``side`` where it is given."""
        images = self.augment(cells, draws, side)
        if not self.turned:
            return images
        turns = torch.cat([torch.rot90(images, quarter, (2, 3)) for quarter in range(4)])
        return turns.contiguous(memory_format=torch.channels_last)

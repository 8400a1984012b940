"""One training epoch of ours against a plain pipeline with the same network, in one run, as ratios.

    python benchmarks/train_speed.py [--sizes 64 96 128] [--cells 384] [--repeats 2] [--json FILE]

The plain pipeline is what people write: a Dataset that opens each file with Pillow, torchvision v2 transforms, a
DataLoader with two workers, the same network, loss and optimiser. It is measured twice: as it comes (float32), and with
our precision and memory format, which leaves the pipeline alone as the difference. The epochs of all three are run in
turn, so that a machine that drifts drifts for all. The share of time outside the network is 1 − N/T: T a whole epoch of
ours, N the same number of steps (forward, loss, backward, optimiser) on one batch that is already there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cytodistill.data.cache import DeviceCells, cached_cells
from cytodistill.data.prepare import prepare_table
from cytodistill.data.sources.synthetic import synthesize
from cytodistill.distill import Batch, CrossEntropy, build_method
from cytodistill.models.multi_exit import build_network
from cytodistill.models.outputs import OutputShapes
from cytodistill.recipe import Recipe
from cytodistill.train.distributed import Ranks
from cytodistill.train.log import Silent
from cytodistill.train.loop import Job, Trainer
from cytodistill.train.optimisation import optimiser_for
from cytodistill.train.step import StudentStep, Sums


class Files(Dataset):
    """Image files and labels, opened one by one."""

    def __init__(self, table, rows, transform) -> None:
        frame = table.frame.iloc[rows]
        self.paths = [Path(root, path) for root, path in zip(frame["root"], frame["path"], strict=True)]
        self.labels = table.labels[rows]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        return self.transform(Image.open(self.paths[index]).convert("RGB")), int(self.labels[index])


def build(recipe: Recipe, classes: int):
    network = build_network(recipe.student, classes, recipe.data.image_size, 0)
    shapes = OutputShapes.of(network, recipe.data.image_size)
    return network, build_method(recipe.method.name, recipe.method.settings, CrossEntropy(), shapes)


def our_trainer(recipe: Recipe, table, device: torch.device, folder: Path) -> Trainer:
    data = recipe.data
    network, method = build(recipe, len(table.classes))
    rows = table.indices("train")
    return Trainer(
        Job(
            recipe=recipe,
            classes=table.classes,
            network=network,
            method=method,
            teacher=None,
            cells=DeviceCells(cached_cells(table, data.image_size, data.resize), device),
            labels=table.labels,
            train_rows=rows,
            val_rows=np.zeros(0, np.int64),
            folder=folder,
            fingerprint="benchmark",
            ranks=Ranks(0, 1, device),
            watcher=Silent(),
        )
    )


def our_epoch(trainer: Trainer) -> Callable[[], None]:
    def run() -> None:
        trainer.step, trainer.sums = 0, Sums()
        trainer._train_epoch()
        trainer.epoch += 1

    return run


def network_alone(trainer: Trainer) -> Callable[[], None]:
    """The steps of an epoch on batches that are already on the device."""
    batches = []
    for part in trainer.slices:
        rows = trainer.train_rows[part]
        images = trainer.preprocess(trainer.job.cells[rows]).contiguous(memory_format=torch.channels_last)
        batches.append(Batch(images, trainer.labels[rows].to(trainer.device), rows.to(trainer.device)))

    def run() -> None:
        trainer.student.train()
        for batch in batches:
            with trainer._autocast():
                parts, _ = trainer.student(batch)
            parts["loss"].backward()
            trainer.optimiser.step()
            trainer.optimiser.zero_grad(set_to_none=True)

    return run


def plain_epoch(recipe: Recipe, table, device: torch.device, tuned: torch.dtype | None) -> Callable[[], None]:
    side = recipe.data.image_size
    transform = v2.Compose(
        [
            v2.ToImage(),
            v2.RandomResizedCrop(side, scale=recipe.augment.scale, ratio=(1.0, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomRotation(recipe.augment.rotation, interpolation=v2.InterpolationMode.BILINEAR),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(recipe.data.mean, recipe.data.std),
        ]
    )
    loader = DataLoader(
        Files(table, table.indices("train"), transform),
        batch_size=recipe.train.batch_size,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        drop_last=False,
        pin_memory=device.type == "cuda",
    )
    network, method = build(recipe, len(table.classes))
    student = StudentStep(network, method).to(device)
    if tuned is not None:
        student = student.to(memory_format=torch.channels_last)
    optimiser = optimiser_for(list(student.parameters()), recipe.train)
    autocast = tuned not in (None, torch.float32)

    def run() -> None:
        student.train()
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            if tuned is not None:
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, tuned) if autocast else nullcontext():
                parts, _ = student(Batch(images, labels, labels))
            parts["loss"].backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return run


def seconds(run: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--cells", type=int, default=640, help="synthetic cells; three fifths are trained on")
    parser.add_argument("--repeats", type=int, default=3, help="counted epochs of each, after one that is not")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CYTODISTILL_CACHE"] = f"{folder}/cache"
        source = synthesize(Path(folder, "cells"), options.cells)
        for side in options.sizes:
            recipe = Recipe.load("quick").override({"data.image_size": side, "student.pretrained": "none"})
            table = prepare_table(source, recipe)
            trainer = our_trainer(recipe, table, device, Path(folder))
            runs = {
                "ours": our_epoch(trainer),
                "network alone": network_alone(trainer),
                "plain": plain_epoch(recipe, table, device, None),
                "plain, our precision": plain_epoch(recipe, table, device, trainer.precision),
            }
            times: dict[str, list[float]] = {name: [] for name in runs}
            for repeat in range(options.repeats + 1):
                for name, run in runs.items():
                    took = seconds(run, device)
                    if repeat:
                        times[name].append(took)
            cells = len(table.indices("train"))
            row = {
                "size": side,
                "cells": cells,
                "precision": str(trainer.precision).removeprefix("torch."),
                **{f"{name} cells/s": round(cells / statistics.median(took), 1) for name, took in times.items()},
                "ours / plain": round(_ratio(times["plain"], times["ours"]), 2),
                "ours / plain, our precision": round(_ratio(times["plain, our precision"], times["ours"]), 2),
                "share outside the network": round(1 - _ratio(times["network alone"], times["ours"]), 3),
            }
            figures.append(row)
            print(json.dumps(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def _ratio(a: list[float], b: list[float]) -> float:
    """Median over the rounds of the ratio of two times taken one after the other."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    main()

"""What a teacher costs a training step: none, its stored answers, or the teacher itself, in one run, as ratios.

    python benchmarks/training.py [--size 128] [--batch 32] [--teacher densenet121] [--json FILE]

The student is the multi-exit ResNet-18 of the `quick` recipe. Undistilled, it is trained by the labels alone at every
exit (deep supervision); distilled, by the paper's loss with a teacher, whose answers are stored (`teacher.views`) or
who answers at every step. A step is all of it: cells, augmentation, forward, loss, backward, optimiser. The three take
their steps in turn, round by round, and a ratio is the median over rounds, so that a machine that drifts drifts for
all.
On a CPU the seconds are those that the process computed, all threads added up, so that its neighbours count less.

Storing has a price of its own, paid once: the last line says how many epochs with the teacher cost as much. Weights
and cells are random; neither changes what a step costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cytodistill.data.cache import DeviceCells
from cytodistill.distill import CrossEntropy, build_method
from cytodistill.models.multi_exit import build_network
from cytodistill.models.outputs import OutputShapes
from cytodistill.recipe import Recipe, Student
from cytodistill.train.distributed import Ranks
from cytodistill.train.job import Job
from cytodistill.train.log import Silent
from cytodistill.train.loop import Trainer
from cytodistill.train.teacher import FrozenTeacher

CLASSES = ("a", "b", "c", "d", "e")


class Clock:
    """Seconds of a device: computed ones on a CPU, passed ones on a GPU that has finished what it was given."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"

    def __call__(self) -> float:
        if not self.on_gpu:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def trainer_of(
    recipe: Recipe,
    cells: np.ndarray,
    teacher: FrozenTeacher | None,
    folder: Path,
    device: torch.device,
    ranks: Ranks | None = None,
) -> Trainer:
    """Training of a student on random cells of five classes, in this process alone or as one of several ranks."""
    network = build_network(recipe.student, len(CLASSES), recipe.data.image_size, 0)
    shapes = OutputShapes.of(network, recipe.data.image_size)
    rows = np.arange(len(cells))
    return Trainer(
        Job(
            recipe=recipe,
            classes=CLASSES,
            network=network,
            method=build_method(recipe.method.name, recipe.method.settings, CrossEntropy(), shapes),
            teacher=teacher,
            cells=DeviceCells(cells, device),
            labels=rows % len(CLASSES),
            train_rows=rows,
            val_rows=rows[:0],
            folder=folder,
            fingerprint="benchmark",
            ranks=ranks or Ranks(0, 1, device),
            watcher=Silent(),
        )
    )


def seconds_a_step(trainer: Trainer, steps: int, clock: Clock) -> float:
    trainer.student.train()
    visits = trainer._visits()
    started = clock()
    for step in range(steps):
        part = trainer.slices[step % len(trainer.slices)]
        trainer._train_step(visits[part], part.stop - part.start, step)
    return (clock() - started) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the cells in pixels")
    parser.add_argument("--batch", type=int, default=32, help="cells a step")
    parser.add_argument("--steps", type=int, default=3, help="steps of each in a round")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds, after one that is not")
    parser.add_argument("--teacher", default="densenet121", help="timm name")
    parser.add_argument("--views", type=int, default=2, help="answers stored a cell; a step does not depend on it")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = Clock(device)
    recipe = Recipe.load("quick").override({"data.image_size": options.size, "train.batch_size": options.batch})
    shape = (2 * options.batch, options.size, options.size, 3)
    cells = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    design = Student(backbone=options.teacher, multi_exit=False)
    teacher = FrozenTeacher(build_network(design, len(CLASSES), options.size, 0), device)
    taught = recipe.override({"teacher.source": options.teacher})
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            "undistilled": trainer_of(
                recipe.override({"method.name": "deep_supervision"}), cells, None, Path(folder), device
            ),
            "stored answers": trainer_of(
                taught.override({"teacher.views": options.views}), cells, teacher, Path(folder), device
            ),
            "online teacher": trainer_of(taught, cells, teacher, Path(folder), device),
        }
        replaying = trainers["stored answers"]
        started = clock()
        replaying.answers = replaying._store_answers()
        answer = (clock() - started) / (len(cells) * options.views)
        times: dict[str, list[float]] = {name: [] for name in trainers}
        for turn in range(options.rounds + 1):
            for name, trainer in trainers.items():
                took = seconds_a_step(trainer, options.steps if turn else 1, clock)
                if turn:
                    times[name].append(took)
    base = times["undistilled"]
    rows = {
        name: {
            "ms a step": round(1000 * statistics.median(took), 1),
            "ratio": round(statistics.median(a / b for a, b in zip(took, base, strict=True)), 3),
        }
        for name, took in times.items()
    }
    saved = statistics.median(times["online teacher"]) - statistics.median(times["stored answers"])
    figures = {
        "size": options.size,
        "batch": options.batch,
        "teacher": options.teacher,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": str(replaying.precision).removeprefix("torch."),
        "steps": rows,
        "ms an answer": round(1000 * answer, 2),
        "epochs that a view a cell costs": round(answer * options.batch / saved, 2),
    }
    print(f"{'':16} {'ms a step':>10} {'ratio':>8}")
    for name, row in rows.items():
        print(f"{name:16} {row['ms a step']:10.1f} {row['ratio']:8.3f}")
    print(f"Storing one view a cell costs what {figures['epochs that a view a cell costs']} epochs save.")
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""What a second rank brings a training step, in one run, as ratios.

    python benchmarks/ranks.py [--size 64] [--batch 64] [--json FILE]

The student of the `quick` recipe takes the same steps of the same global batch in one process of one thread, in one
process of all threads, and in as many ranks of one thread as there are cores, started by torchrun as users do: with the
batch statistics of the global batch and with each rank's own (`train.batch_norm`). Each
contestant is a process of its own that starts, warms up and then times its steps by the clock; contestants take turns,
round by round, and a ratio is the median over rounds. Weights and cells are random; neither changes what a step costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cytodistill.recipe import Recipe
from cytodistill.train.distributed import ranks_of_job
from training import trainer_of


def seconds_a_step(size: int, batch: int, steps: int, batch_norm: str) -> float:
    """In this job of one rank or several: the mean of ``steps`` steps, after two that are not counted."""
    recipe = Recipe.load("quick").override(
        {"data.image_size": size, "train.batch_size": batch, "train.batch_norm": batch_norm}
    )
    cells = np.random.default_rng(0).integers(0, 256, (2 * batch, size, size, 3), np.uint8)
    with ranks_of_job("cpu") as ranks, tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(recipe, cells, None, Path(folder), ranks.device, ranks)
        trainer.student.train()
        visits = trainer._visits()
        started = 0.0
        for step in range(-2, steps):
            if step == 0:
                ranks.barrier()
                started = time.perf_counter()
            part = trainer.slices[step % len(trainer.slices)]
            mine = visits[part.start + ranks.rank : part.stop : ranks.world]
            trainer._train_step(mine, part.stop - part.start, step)
        ranks.barrier()
        took = (time.perf_counter() - started) / steps
        if ranks.first:
            print(json.dumps({"seconds": took}), flush=True)
    return took


def measured(command: list[str], threads: int) -> float:
    """Seconds a step of a contestant in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout.strip().splitlines()[-1])["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="side of the cells in pixels")
    parser.add_argument("--batch", type=int, default=64, help="cells of a global batch")
    parser.add_argument("--steps", type=int, default=12, help="counted steps of a contestant in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--batch-norm", default="global", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        seconds_a_step(options.size, options.batch, options.steps, options.batch_norm)
        return
    cores = os.cpu_count() or 1
    asked = ["--worker", "--size", str(options.size), "--batch", str(options.batch), "--steps", str(options.steps)]
    alone = [sys.executable, __file__, *asked]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(cores)]
    contestants = {
        "1 rank, 1 thread": (alone, 1),
        f"1 rank, {cores} threads": (alone, cores),
        f"{cores} ranks, 1 thread each": ([sys.executable, *torchrun, __file__, *asked], 1),
        f"{cores} ranks, own statistics": ([sys.executable, *torchrun, __file__, *asked, "--batch-norm", "rank"], 1),
    }
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, (command, threads) in contestants.items():
            times[name].append(measured(command, threads))
    first = next(iter(times.values()))
    rows = {
        name: {
            "ms a step": round(1000 * statistics.median(took), 1),
            "times": round(statistics.median(a / b for a, b in zip(first, took, strict=True)), 3),
        }
        for name, took in times.items()
    }
    for name, row in rows.items():
        print(f"{name:26} {row['ms a step']:8.1f} ms a step, {row['times']:.2f} times as fast as the first")
    figures = {"size": options.size, "batch": options.batch, "cores": cores, "steps": rows, "torch": torch.__version__}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

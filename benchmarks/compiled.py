"""What torch.compile makes of a training step (`train.compile`): the same student compiled and not, in one run.

    python benchmarks/compiled.py [--size 64] [--batch 32] [--json FILE]

The student of the `quick` recipe with each exit's labels (deep supervision); a step is all of it, as in `training.py`.
Both take their steps in turn, round by round; the ratio is the median over rounds. The first step of the compiled one,
in which it is compiled, is given apart. On a CPU the seconds are those that the process computed.
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

from cytodistill.recipe import Recipe
from training import Clock, seconds_a_step, trainer_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=64, help="side of the cells in pixels")
    parser.add_argument("--batch", type=int, default=32, help="cells a step")
    parser.add_argument("--steps", type=int, default=3, help="steps of each in a round")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds, after one that is not")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = Clock(device)
    recipe = Recipe.load("quick").override(
        {
            "data.image_size": options.size,
            "train.batch_size": options.batch,
            "method.name": "deep_supervision",
        }
    )
    shape = (2 * options.batch, options.size, options.size, 3)
    cells = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        trainers = {
            compiled: trainer_of(recipe.override({"train.compile": compiled}), cells, None, Path(folder), device)
            for compiled in (False, True)
        }
        started = time.perf_counter()
        seconds_a_step(trainers[True], 1, clock)
        first = time.perf_counter() - started
        times: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(options.rounds + 1):
            for compiled, trainer in trainers.items():
                took = seconds_a_step(trainer, options.steps, clock)
                if turn:
                    times[compiled].append(took)
    ratio = statistics.median(plain / made for plain, made in zip(times[False], times[True], strict=True))
    figures = {
        "size": options.size,
        "batch": options.batch,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "precision": str(trainers[True].precision).removeprefix("torch."),
        "ms_a_step": {
            "plain": round(1000 * statistics.median(times[False]), 1),
            "compiled": round(1000 * statistics.median(times[True]), 1),
        },
        "times_as_fast": round(ratio, 3),
        "seconds_of_the_first_step": round(first, 1),
        "torch": torch.__version__,
    }
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""bench: a run and its exports in, how fast each answers and what memory it takes out."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cytodistill.bench.contestants import Contestant, contestants_of, policies_of, settings_of
from cytodistill.bench.files import files_settings, time_files
from cytodistill.bench.memory import peak_memory
from cytodistill.bench.network import time_networks
from cytodistill.bench.picture import bench_figure
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import inputs_of
from cytodistill.files import atomic_write, save_figure
from cytodistill.infer.cells import cells_of
from cytodistill.train.distributed import wants_gpu
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run, environment

FILES = ("bench.json", "bench.png")


@dataclass(frozen=True)
class Benchmark:
    """``content`` of bench.json, and the ``files`` written."""

    content: dict[str, Any]
    files: tuple[Path, ...]


def bench(
    paths: Sequence[str | Path],
    source: str | Path | None = None,
    *,
    policies: Sequence[str] | None = None,
    batches: Sequence[int] = (1, 64),
    threads: Sequence[int] | None = None,
    cells: int = 256,
    rounds: int = 5,
    split: str = "test",
    format: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Benchmark:
    """Compare a run and its exports on the same cells; writes bench.json and bench.png.

    All contestants take their turns in every round, and ratios are medians over rounds, for machines drift.

    Args:
        paths: a run folder and artifacts of it, in any order; the first is what the others are compared with.
        source: cells to answer; the run's own by default.
        policies: names of the run's exit policies; by default all that it has. "none" stands for none of them.
        batches: cells computed at once.
        threads: cores for the network; one, and all, by default.
        cells: answered in a round; of fewer some come again.
        rounds: that count, after one that does not.
        split: of the cells.
        format: source format, recognised by itself where None.
        out: folder for the files; ``bench`` in the first path by default.
        device: of run folders: "auto", "cpu" or "cuda".
        watcher: is told of progress.

    Raises:
        CytodistillError: a path is no run or artifact, they are of different runs, one has not what was asked for, or
            there are no cells.

    Example:
        >>> bench(["runs/first", "exports/openvino"], policies=["budget-0.4"])  # doctest: +SKIP
    """
    watcher = watcher or Silent()
    threads = threads if threads is not None else sorted({1, os.cpu_count() or 1})
    for name, numbers in (("batch", batches), ("threads", threads), ("cells", [cells]), ("rounds", [rounds])):
        if not numbers or min(numbers) < 1:
            raise CytodistillError(f"--{name} {', '.join(map(str, numbers))}: give at least 1")
    contestants = contestants_of(paths)
    settings = settings_of(contestants, policies_of(contestants, policies), list(batches), list(threads))
    run = Run.open(contestants[0].path)
    frame, images, given = _cells(run, source, split, format, cells, watcher)
    network = time_networks(
        settings, images, rounds, device, lambda done, total: watcher.step("measure", done, total, "networks")
    )
    files = time_files(
        files_settings(settings),
        frame,
        rounds,
        device,
        lambda done, total: watcher.step("measure", done, total, "files"),
    )
    content = {
        "title": f"{run.path.name}: {run.recipe.student.backbone}, {run.recipe.data.image_size} px",
        "image_size": run.recipe.data.image_size,
        "cells": {"source": given, "different": len(frame.drop_duplicates()), "answered": cells},
        "rounds": rounds,
        "network": [figures.to_dict() for figures in network],
        "files": files,
        "memory": _memory(contestants, max(batches), max(threads), images, device, watcher),
        **environment(_device(contestants, device)),
    }
    folder = Path(out) if out is not None else run.path / "bench"
    atomic_write(folder / FILES[0], (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return Benchmark(content, (folder / FILES[0], save_figure(bench_figure(content), folder / FILES[1])))


def _cells(
    run: Run, source: str | Path | None, split: str, format: str | None, count: int, watcher: Watcher
) -> tuple[pd.DataFrame, np.ndarray, str]:
    """``count`` cells, some of them again where there are fewer: their rows, the network's inputs, and whose they
    are."""
    table, rows, split = cells_of(run, source, split, format, require_labels=False)
    rows = rows[:count]
    inputs = inputs_of(run.recipe)
    chosen = table.with_frame(table.frame.iloc[rows])
    found = inputs.of_table(chosen, np.arange(len(rows)), lambda done, total: watcher.step("decode", done, total))
    again = np.resize(np.arange(len(rows)), count)
    return chosen.frame.iloc[again], np.asarray(found)[again], f"{source or run.path}, {split}"


def _memory(
    contestants: Sequence[Contestant], batch: int, threads: int, images: np.ndarray, device: str, watcher: Watcher
) -> list[dict[str, Any]]:
    found = []
    for place, setting in enumerate(settings_of(contestants, [None], [batch], [threads]), start=1):
        peak = peak_memory(setting, images[: 4 * batch], device)
        found.append({"name": setting.contestant.name, "batch": batch, "threads": threads, **peak})
        watcher.step("measure", place, len(contestants), "memory")
    return found


def _device(contestants: Sequence[Contestant], device: str) -> torch.device:
    """Where the run folder computes, if one is there; artifacts are for the CPU."""
    torch_runs = any(contestant.runtime == "torch" for contestant in contestants)
    return torch.device("cuda" if torch_runs and wants_gpu(device) else "cpu")

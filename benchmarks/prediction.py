"""Cells a second from image files to CSV, against plain PyTorch and ONNX Runtime at the same cells and image size.

    python benchmarks/prediction.py RUN [EXPORT...] [--json FILE]

**Chosen on validation cells.** Of the run's exit policies (fit some with ``cytodistill policy RUN --budget …`` before
exporting) each contestant takes the one that spends the fewest MACs while the contestant itself loses at most half a
point of macro F-measure on the validation cells, against the run with all exits. One that has none such does without.
What is lost on the test cells is then said, with a paired 95 % interval over their groups, and chooses nothing.

**Files to CSV.** All contestants and baselines (`plain_prediction.py`) answer the same test cells on all cores, in
turn, round by round; networks are loaded before. Baselines answer the first ``--plain-cells`` of them: their batches
are all alike, while early exit fills its own from longer blocks of longer lists. Where the run has fewer test cells
than ``--cells`` there are copies of their files under other names, for a file that is asked for twice is decoded once.
Baselines take the better of no workers and two, by the rounds before the ones that count. In brackets are the ratios
of what the processors computed, which neighbours on the machine disturb less than the clock.

**The machine's limit.** `stages.py`: what each stage takes on one core, and the share that each segment has of what a
matrix product reaches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cytodistill.bench.contestants import Contestant, contestants_of
from cytodistill.bench.rounds import ratio, take_turns
from cytodistill.data.storage import read_bytes
from cytodistill.evaluation.policies import ExitCells, exit_cells, exit_macs
from cytodistill.infer.batch_answer import Answering, answering, one_core_a_thread
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_rules import Request
from cytodistill.infer.policies import read_policies
from cytodistill.infer.predictor import load
from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.intervals import figure_differences, group_tallies
from cytodistill.train.log import Silent
from cytodistill.train.run_folder import Run
from plain_prediction import Network, eager, loader_of, onnx_runtime, write_answers
from stages import limits, stages

BATCH = 64
MOST_LOST = 0.5
"""Points of macro F-measure."""
WORKERS = (0, 2)
BASELINES = {"resnet18": "eager ResNet-18", "resnest50d": "eager ResNeSt-50", "onnx": "ONNX Runtime ResNet-18"}
AIMS = {"resnet18": 6, "resnest50d": 25, "onnx": 4}


@dataclass(frozen=True)
class Chosen:
    """A contestant with its policy, or None for all exits; points of macro F-measure that it loses against the run with
    all exits (on the test cells with an interval, low and high), and the share of MACs that it spends, on validation
    and test cells."""

    contestant: Contestant
    policy: str | None
    lost_on_val: float
    lost_on_test: float
    lost_on_test_interval: tuple[float, float]
    macs_on_val: float
    macs_on_test: float


def choose(contestant: Contestant, run: Run, macs: tuple[int, ...], val: ExitCells, test: ExitCells) -> Chosen:
    """The cheapest policy that the validation cells allow."""
    predictor = load(contestant.path, "cpu")
    policies = {name: fitted.policy for name, fitted in read_policies(run).items()}
    exits = {id(cells): predictor.predict_cells(cells.cells, BATCH).exit_probabilities for cells in (val, test)}

    def answered(cells: ExitCells, policy: str | None) -> np.ndarray:
        own = exits[id(cells)]
        return own.mean(axis=1) if policy is None else policies[policy].answers(own)

    def judged(cells: ExitCells, policy: str | None) -> tuple[float, float]:
        """Points lost, and the share of MACs that is spent."""
        spent = 1.0
        if policy is not None:
            spent = float(np.asarray(macs)[policies[policy].used(exits[id(cells)])].mean()) / macs[-1]
        of_run, found = (
            classification_metrics(each, cells.seen.labels, run.classes)["f1"]
            for each in (cells.seen.probabilities.mean(axis=1), answered(cells, policy))
        )
        return 100 * (of_run - found), spent

    best, found = None, judged(val, None)
    for name in policies:
        lost, spent = judged(val, name)
        if lost <= MOST_LOST and spent < found[1]:
            best, found = name, (lost, spent)
    lost, spent = judged(test, best)
    of_run, ours = (
        group_tallies(test.seen.labels, answers.argmax(1), test.seen.groups, len(run.classes))
        for answers in (test.seen.probabilities.mean(axis=1), answered(test, best))
    )
    paired = figure_differences([of_run], [ours])["f1"]
    return Chosen(contestant, best, found[0], lost, (100 * paired.low, 100 * paired.high), found[1], spent)


def cell_files(run: Run, count: int, folder: Path) -> Items:
    """``count`` test cells, whole ones or windows of fields; once all have come, of copies of their files."""
    table = run.table()
    frame = table.frame.iloc[table.indices("test")]
    frames = [frame.iloc[:count]]
    while (left := count - sum(map(len, frames))) > 0:
        again = frame.iloc[:left].copy()
        names = {}
        for number, (root, path) in enumerate(dict.fromkeys(zip(again["root"], again["path"], strict=True))):
            names[root, path] = f"{len(frames)}-{number}{Path(path).suffix}"
            (folder / names[root, path]).write_bytes(read_bytes(root, path))
        again["path"] = [names[key] for key in zip(again["root"], again["path"], strict=True)]
        again["root"] = str(folder)
        frames.append(again)
    return Items([pd.concat(frames, ignore_index=True)])


def writing(mine: Answering, items: Items, file: Path) -> Callable[[], None]:
    """Ours, from files to a file."""

    def write() -> None:
        # A setting of the whole process, which the baselines set too.
        with one_core_a_thread(), file.open("w", encoding="utf-8") as out:
            out.write(mine.head)
            for block in mine.blocks(items):
                out.write(block.text)

    return write


def plain(run: Run, items: Items, threads: int, folder: Path) -> dict[str, dict[int, Callable[[], None]]]:
    """Each baseline, with each number of workers."""
    data, classes = run.recipe.data, run.classes
    networks: dict[str, Network] = {
        "resnet18": eager("resnet18", len(classes), threads),
        "resnest50d": eager("resnest50d", len(classes), threads),
        "onnx": onnx_runtime("resnet18", len(classes), data.image_size, threads, folder),
    }

    def write(name: str, workers: int) -> Callable[[], None]:
        loader = loader_of(items, data, workers)
        return lambda: write_answers(networks[name], loader, classes, folder / f"{name}.csv")

    return {name: {workers: write(name, workers) for workers in WORKERS} for name in networks}


def spent() -> float:
    """Seconds that this process and its worker processes have computed."""
    seconds = time.process_time()
    for process in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        seconds += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


def computing(work: Callable[[], None], seconds: list[float]) -> Callable[[], None]:
    """The same work, which also adds to ``seconds`` what it computed."""

    def run() -> None:
        before = spent()
        work()
        seconds.append(spent() - before)

    return run


def race(
    run: Run, chosen: list[Chosen], items: Items, few: Items, threads: int, rounds: int, trials: int
) -> dict[str, list[dict[str, Any]]]:
    """Cells a second of everyone, and how many times as fast as each baseline each contestant is; baselines answer a
    ``few`` of the cells."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work: dict[str, Callable[[], None]] = {}
        for place, each in enumerate(chosen):
            with one_core_a_thread():
                request = Request(
                    each.contestant.path, policy=each.policy, batch_size=BATCH, device="cpu", threads=threads
                )
                mine = answering(request)
            stack.callback(mine.close)
            work[each.contestant.name] = writing(mine, items, folder / f"{place}.csv")
        workers = {}
        for name, by_workers in plain(run, few, threads, folder).items():
            tried = {number: statistics.median(times) for number, times in take_turns(by_workers, trials).items()}
            workers[name] = min(tried, key=tried.__getitem__)
            work[name] = by_workers[workers[name]]
        computed: dict[str, list[float]] = {name: [] for name in work}
        seconds = take_turns({name: computing(each, computed[name]) for name, each in work.items()}, rounds)
        computed = {name: each[1:] for name, each in computed.items()}  # as the clock's, without the first round
    answered = {name: len(few if name in BASELINES else items) for name in work}
    seconds, computed = (
        {name: [took / answered[name] for took in times] for name, times in found.items()}
        for found in (seconds, computed)
    )
    per_second = {name: 1 / statistics.median(times) for name, times in seconds.items()}
    return {
        "baselines": [
            {
                "name": name,
                "workers": workers[name],
                "cells_a_second": per_second[name],
                "seconds_a_cell": seconds[name],
                "computed_a_cell": computed[name],
            }
            for name in BASELINES
        ],
        "contestants": [
            {
                **asdict(each.contestant),
                "policy": each.policy,
                "lost_on_val": each.lost_on_val,
                "lost_on_test": each.lost_on_test,
                "lost_on_test_interval": each.lost_on_test_interval,
                "macs_on_val": each.macs_on_val,
                "macs_on_test": each.macs_on_test,
                "cells_a_second": per_second[each.contestant.name],
                "seconds_a_cell": seconds[each.contestant.name],
                "computed_a_cell": computed[each.contestant.name],
                "times": {name: ratio(seconds[each.contestant.name], seconds[name]) for name in BASELINES},
                "times_computed": {name: ratio(computed[each.contestant.name], computed[name]) for name in BASELINES},
            }
            for each in chosen
        ],
    }


def print_race(found: dict[str, list[dict[str, Any]]]) -> None:
    for row in found["baselines"]:
        aim = f"{row['cells_a_second']:6.0f} cells/s, aimed at ≥ {AIMS[row['name']]} times"
        print(f"{BASELINES[row['name']]:24} {row['workers']} workers {aim}")
    heads = "".join(f"{f'× {name}':>18}" for name in BASELINES)
    print(
        f"{'contestant':16} {'policy':12} {'MACs':>5} {'lost: val':>9} {'test':>6} {'interval':>15} {'cells/s':>8}"
        f"{heads}"
    )
    for row in found["contestants"]:
        times = "".join(f"{row['times'][name]:9.2f} ({row['times_computed'][name]:6.2f})" for name in BASELINES)
        ends = "[{:.2f}, {:.2f}]".format(*row["lost_on_test_interval"])
        print(
            f"{row['name']:16} {row['policy'] or 'all exits':12} {row['macs_on_test']:5.2f} "
            f"{row['lost_on_val']:9.2f} {row['lost_on_test']:6.2f} {ends:>15} {row['cells_a_second']:8.0f}{times}"
        )
    allowed = [row for row in found["contestants"] if row["lost_on_val"] <= MOST_LOST]
    if allowed:
        print(f"chosen: {max(allowed, key=lambda row: row['cells_a_second'])['name']}, the fastest that may be")


def print_stages(peaks: dict[str, float], found: dict[str, dict[str, Any]]) -> None:
    print("limit of one core, 10⁹ MACs a second:", ", ".join(f"{k} {v / 1e9:.1f}" for k, v in peaks.items()))
    for name, stage in found.items():
        spent = ", ".join(f"{part} {ms:.3f}" for part, ms in stage["ms_a_cell"].items())
        print(f"{name}: ms a cell on one core: {spent}")
        for number, segment in enumerate(stage["segments"], start=1):
            print(
                f"  segment {number}: {segment['macs'] / 1e6:6.1f} MMACs {segment['ms_a_cell']:7.3f} ms, "
                f"{100 * segment['of_limit']:5.1f} % of the limit, reached by {100 * segment['reached_by']:5.1f} %"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", type=Path, nargs="+", metavar="RUN [EXPORT...]", help="a run folder, then its exports")
    parser.add_argument("--cells", type=int, default=4096, help="answered in a turn")
    parser.add_argument("--plain-cells", type=int, default=512, help="answered by a baseline in a turn")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds, after one that is not")
    parser.add_argument("--trials", type=int, default=2, help="rounds in which the baselines try numbers of workers")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    threads = os.cpu_count() or 1
    run = Run.open(options.paths[0])
    contestants = contestants_of(options.paths)
    predictor = load(run, "cpu")
    macs = exit_macs(run, predictor)
    val, test = (exit_cells(run, predictor, split, Silent()) for split in ("val", "test"))
    if val is None or test is None:
        raise SystemExit(f"{run.path}: has no validation or no test cells")
    chosen = [choose(contestant, run, macs, val, test) for contestant in contestants]
    for each in chosen:
        print(f"{each.contestant.name}: {each.policy}, {each.lost_on_val:.2f} points lost on validation", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        items = cell_files(run, options.cells, Path(folder))
        few = cell_files(run, options.plain_cells, Path(folder))
        found = race(run, chosen, items, few, threads, options.rounds, options.trials)
        print_race(found)
        with one_core_a_thread():
            peaks = limits()
            by_stage = {
                each.contestant.name: stages(each.contestant.path, each.policy, few, macs, peaks, options.rounds)
                for each in chosen
            }
    print_stages(peaks, by_stage)
    figures = {
        "run": run.path.name,
        "cells": options.cells,
        "plain_cells": options.plain_cells,
        "rounds": options.rounds,
        "threads": threads,
        "batch": BATCH,
        "image_size": run.recipe.data.image_size,
        "most_lost": MOST_LOST,
        **found,
        "macs_a_second_of_one_core": peaks,
        "stages": by_stage,
        "torch": torch.__version__,
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

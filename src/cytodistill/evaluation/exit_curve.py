"""What early exit can save: figures of the test cells against MACs and measured time, for every kind of policy."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cytodistill.errors import CytodistillError
from cytodistill.evaluation.policies import exit_cells, exit_macs, policy_figures
from cytodistill.files import atomic_write, save_figure
from cytodistill.infer.early_exit import EarlyExit
from cytodistill.infer.exit_policy import KINDS, Answering, ExitPolicy, Kind, never
from cytodistill.infer.policy_fit import PolicyCells
from cytodistill.infer.predictor import Predictor, load
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

POINTS = 7
"""Thresholds a kind."""
TIMED_CELLS = 256
BATCH = 64
REPEATS = 2
FILES = ("early_exit.json", "early_exit.png")
PANELS = {"macs_share": "mean share of all exits' MACs", "ms_a_cell": "measured ms a cell, batches of 64"}


def draw_exit_curve(
    run: str | Path | Run,
    *,
    answer: Answering = "ensemble",
    out: str | Path | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> list[Path]:
    """Sweep the thresholds of every kind of policy over the test cells; writes early_exit.json and early_exit.png.

    The sweep shows what there is to choose from and chooses nothing: the thresholds are quantiles of the scores of the
    very cells that are judged. All exits have the same one. Time is that of the network alone, best of two, on at most
    256 cells, all of them in memory.

    Args:
        run: run folder of a network with several exits.
        answer: of the policies.
        out: folder for the files; ``run/report`` by default.
        device: "auto", "cpu" or "cuda".
        watcher: is told of progress.

    Raises:
        CytodistillError: the run cannot be used, has one exit, or no test cells.
    """
    watcher = watcher or Silent()
    run = run if isinstance(run, Run) else Run.open(run)
    predictor = load(run, device)
    macs = exit_macs(run, predictor)
    test = exit_cells(run, predictor, "test", watcher)
    if test is None:
        raise CytodistillError(f"{run.path}: has no test cells to draw curves of; fit a run with some")
    policies = [(kind, policy) for kind in KINDS for policy in sweep(kind, test.seen, answer)]
    curves: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for done, (kind, policy) in enumerate(policies, start=1):
        figures = policy_figures(policy, test.seen, macs, run.classes)
        figures["threshold"] = policy.thresholds[0]
        figures["ms_a_cell"] = milliseconds(predictor, test.cells[:TIMED_CELLS], policy)
        curves[kind].append(figures)
        watcher.step("measure", done, len(policies), f"{kind} {done} of {len(policies)}")
    folder = Path(out) if out is not None else run.path / "report"
    content = {"answer": answer, "macs": macs, "timed_cells": min(TIMED_CELLS, len(test.cells)), "curves": curves}
    atomic_write(folder / FILES[0], (json.dumps(content, indent=1) + "\n").encode())
    figure = curve_figure(curves, f"{run.path.name}: early exit on {len(test.cells)} test cells")
    return [folder / FILES[0], save_figure(figure, folder / FILES[1])]


def sweep(kind: Kind, seen: PolicyCells, answer: Answering) -> list[ExitPolicy]:
    """Policies of one kind from all cells at the first exit to all at the last, with one threshold for all exits."""
    most = never(kind, seen.exits)

    def policy(threshold: float) -> ExitPolicy:
        return ExitPolicy(kind, (*(threshold,) * (seen.exits - 1), most), answer)

    if kind == "patience":
        return [policy(float(threshold)) for threshold in range(seen.exits)]
    scores = [policy(most).score(seen.probabilities[:, : exit + 1]) for exit in range(seen.exits - 1)]
    between = np.quantile(np.concatenate(scores), np.linspace(0, 1, POINTS)[1:-1])
    return [policy(float(threshold)) for threshold in np.unique([0.0, *between, most])]


def milliseconds(predictor: Predictor, cells: np.ndarray, policy: ExitPolicy) -> float:
    """Milliseconds a cell that the network takes under a policy; the best of ``REPEATS``."""
    early = EarlyExit(predictor.engine, policy, len(predictor.classes), BATCH)
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        early.answer(cells)
        taken.append(time.perf_counter() - started)
    return 1000 * min(taken) / len(cells)


def curve_figure(curves: dict[str, list[dict[str, Any]]], title: str) -> Figure:
    """Accuracy (dashed) and macro F-measure (solid) of each kind of policy against MACs, and against time."""
    figure = Figure(figsize=(13, 4.8), layout="constrained")
    figure.suptitle(title)
    for axes, (horizontal, label) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        for number, (kind, points) in enumerate(curves.items()):
            ordered = sorted(points, key=lambda point: point[horizontal])
            at = [point[horizontal] for point in ordered]
            axes.plot(at, _percent(ordered, "f1"), "o-", color=f"C{number}", markersize=4, label=kind)
            axes.plot(at, _percent(ordered, "accuracy"), "--", color=f"C{number}", alpha=0.5)
        whole = points[-1]
        axes.axhline(100 * whole["f1_of_all"], color="black", linewidth=0.8)
        axes.axhline(100 * whole["accuracy_of_all"], color="black", linewidth=0.8, linestyle="--")
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
    axes.legend(title="F-measure; dashed: accuracy;\nblack: all exits", loc="lower right")
    figure.axes[0].set_ylabel("%")
    return figure


def _percent(points: Sequence[dict[str, Any]], figure: str) -> list[float]:
    return [100 * point[figure] for point in points]

"""A table of the paper as rows of settings, run over seeds with everything else equal, and written down."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cytodistill.data.prepare import prepare_table
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.files import atomic_write
from cytodistill.recipe import Recipe
from cytodistill.train.fit import fit
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auc")


@dataclass(frozen=True)
class Row:
    """One line of a table: its name there, the settings that make it, and the paper's own accuracy in %.

    ``teacher`` is the name of the row whose finished run teaches this one; rows are run in the order in which they
    stand, so a teacher stands before its students.
    """

    name: str
    settings: dict[str, Any]
    paper: float | None = None
    teacher: str | None = None


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its title and rows."""

    name: str
    title: str
    rows: tuple[Row, ...]


@dataclass
class Outcome:
    """What a row gave over the seeds: lists with one entry a seed."""

    row: Row
    runs: list[dict[str, Any]] = field(default_factory=list)

    def mean_sd(self, figure: str) -> tuple[float | None, float | None]:
        """Mean and sample standard deviation over the seeds that have the figure (None where there are too few)."""
        values = np.array([run["ensemble"][figure] for run in self.runs if run["ensemble"][figure] is not None], float)
        if not len(values):
            return None, None
        return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def reproduce(
    table: PaperTable,
    source: str | Path,
    out: str | Path,
    *,
    recipe: Recipe,
    seeds: int = 3,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Path:
    """Run every row on ``source`` with the same splits, augmentation and budget, and write the table.

    Runs lie in ``out/runs/seed<k>/<row>``; finished ones are skipped and killed ones resumed, so the call may be
    repeated until it is through. Seed k draws the split and the training alike.

    Returns:
        ``out/<table>.json``; ``<table>.md`` lies beside it.

    Raises:
        CytodistillError: as ``fit`` and ``evaluate``.
    """
    if seeds < 1:
        raise CytodistillError(f"--seeds {seeds}: at least one")
    out, watcher = Path(out), watcher or Silent()
    outcomes = [Outcome(row) for row in table.rows]
    digests = []
    for seed in range(seeds):
        seeded = recipe.override({"seed": seed})
        cells = prepare_table(source, seeded, format)
        digests.append(cells.digest())
        finished: dict[str, Run] = {}
        for outcome in outcomes:
            row = outcome.row
            folder = out / "runs" / f"seed{seed}" / _slug(row.name)
            watcher.say(f"{table.name}, seed {seed}: {row.name}")
            settings = dict(row.settings)
            if row.teacher:
                settings["teacher.source"] = str(finished[row.teacher].path)
            run = fit(cells, folder, recipe=seeded.override(settings), resume=True, device=device, watcher=watcher)
            finished[row.name] = run
            metrics = evaluate(run, device=device).metrics
            outcome.runs.append(
                {
                    "seed": seed,
                    "n": metrics["n"],
                    "groups": metrics["groups"],
                    "exits": [{name: exit[name] for name in FIGURES} for exit in metrics["exits"]],
                    "ensemble": {name: metrics["ensemble"][name] for name in FIGURES},
                    "parameters": run.info["parameters"],
                    "seconds": run.info["result"]["seconds"],
                    "best_epoch": run.info["result"]["best_epoch"],
                }
            )
        _write(table, outcomes, out, recipe, source, digests, run)
    return out / f"{table.name}.json"


def _write(
    table: PaperTable,
    outcomes: Sequence[Outcome],
    out: Path,
    recipe: Recipe,
    source: str | Path,
    digests: list[str],
    run: Run,
) -> None:
    data = Path(source).name
    content = {
        "table": table.name,
        "title": table.title,
        "data": {"name": data, "digests": digests, "cells": run.info["table"]["cells"]},
        "recipe": recipe.model_dump(mode="json"),
        "seeds": len(digests),
        "versions": run.info["versions"],
        "hardware": run.info["hardware"],
        "rows": [
            {
                "name": outcome.row.name,
                "settings": {key: _portable(value) for key, value in outcome.row.settings.items()},
                "paper_accuracy": outcome.row.paper,
                **{figure: dict(zip(("mean", "sd"), outcome.mean_sd(figure), strict=True)) for figure in FIGURES},
                "runs": outcome.runs,
            }
            for outcome in outcomes
        ],
    }
    atomic_write(out / f"{table.name}.json", (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    atomic_write(out / f"{table.name}.md", render(table, outcomes, data, recipe, len(digests)).encode())


def render(table: PaperTable, outcomes: Sequence[Outcome], data: str, recipe: Recipe, seeds: int) -> str:
    """The table in Markdown: mean ± sd over seeds in %, beside the paper's own figure."""
    train = recipe.train
    counted = outcomes[0].runs[-1]
    split = "cell by cell" if recipe.data.group == "none" else "by group"
    drawn = "1 seed" if seeds == 1 else f"{seeds} seeds, each with its own split"
    lines = [
        f"# {table.title}",
        "",
        f"{data}: {counted['n']} test cells of {counted['groups']} groups in the last split; split {split} "
        f"{recipe.data.ratio}, {drawn}; "
        f"{recipe.data.image_size} px, {train.epochs} epochs, batch {train.batch_size}, recipe `{recipe.name}`. "
        "Figures in %, of the ensemble where there are several exits; mean ± sample standard deviation over seeds. The "
        "paper's accuracies are those of other data and are not comparable.",
        "",
        "| Method | Accuracy | Balanced accuracy | Specificity | F-measure | AUC | Paper's accuracy | Seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for outcome in outcomes:
        cells = [_percent(outcome, name) for name in ("accuracy", "balanced_accuracy", "specificity", "f1", "auc")]
        paper = "–" if outcome.row.paper is None else f"{outcome.row.paper:.2f}"
        seconds = np.mean([run["seconds"] for run in outcome.runs])
        lines.append(f"| {outcome.row.name} | {' | '.join(cells)} | {paper} | {seconds:.0f} |")
    lines += ["", "Accuracy by exit, shallow to deep, and of the ensemble, mean over seeds:", ""]
    for outcome in outcomes:
        exits = np.array([[exit["accuracy"] for exit in run["exits"]] for run in outcome.runs]).mean(0)
        if len(exits) > 1:
            shown = ", ".join(f"{100 * value:.2f}" for value in exits)
            lines.append(f"- {outcome.row.name}: {shown}; ensemble {_percent(outcome, 'accuracy').split(' ')[0]}")
    return "\n".join(lines) + "\n"


def _percent(outcome: Outcome, figure: str) -> str:
    mean, sd = outcome.mean_sd(figure)
    if mean is None:
        return "–"
    return f"{100 * mean:.2f}" if sd is None else f"{100 * mean:.2f} ± {100 * sd:.2f}"


def _slug(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def _portable(value: Any) -> Any:
    """A weight file by its name alone: where it lay on one machine says nothing."""
    return Path(value).name if isinstance(value, str) and "/" in value else value

"""explain: a run and some cells in, where each exit looked, and whether that means anything, out."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch

from cytodistill.data.images import Box
from cytodistill.data.table import BOX, CellTable
from cytodistill.errors import CytodistillError
from cytodistill.explain.agreement import exit_agreement
from cytodistill.explain.attention import exit_attention
from cytodistill.explain.cam import CamMethod, Place, class_maps
from cytodistill.explain.entries import CellMaps, Heading, agreement_entry, summary
from cytodistill.explain.nucleus import Compartments, cell_compartments
from cytodistill.explain.occlusion import deletion, randomisation, redrawn_networks
from cytodistill.explain.pictures import CellView, cell_figure, contact_sheet
from cytodistill.files import atomic_write, make_folder, save_figure
from cytodistill.infer.cells import cells_of
from cytodistill.infer.predictor import load
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

LIMIT = 24
"""Cells that are explained where their number is not given."""
BATCH = 32
"""Cells computed at once."""
COARSE = 4
"""Places a side below which a map cannot tell parts of a cell apart."""
CONTOURS = ("auto", "file", "segment", "none")


@dataclass(frozen=True)
class Explanation:
    """``content`` as in explain.json, and the ``files`` written: explain.json, the contact sheet, a panel a cell."""

    content: dict[str, Any]
    files: list[Path]


def explain(
    run: str | Path | Run,
    source: str | Path | CellTable | None = None,
    *,
    split: str = "test",
    rows: np.ndarray | None = None,
    limit: int = LIMIT,
    out: str | Path | None = None,
    method: CamMethod = "hirescam",
    at: Place = "tap",
    of: str | None = None,
    contours: str | None = None,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Explanation:
    """Maps of every exit for the cells of a split that are most worth a look, with checks of the maps.

    Args:
        run: folder of a finished run of a network.
        source: cells to explain; by default the run's own manifest. Labels may be missing; a source without splits
            counts whole.
        split: "test", "val", "train" or "all".
        rows: positions in the table, in place of a split and a choice.
        limit: how many cells are chosen: wrong ones first, then doubtful ones, from each class in turn.
        out: folder for maps/<n>.png, explain.json and contact.png; ``run/explain`` by default, where an earlier
            explanation is replaced.
        method: "gradcam", "gradcam++" or "hirescam", and ``at`` "branch" or "tap": see ``class_maps``. The defaults are
            those that passed the deletion check at the most exits of a ResNet-18 at 64 px; a branch ends in 2×2 places
            there, which says nothing.
        of: name of the class to explain; by default each exit's own answer.
        contours: of nucleus and cytoplasm: "auto" (files, else segmented), "file", "segment" or "none". By default
            "auto" where scikit-image is installed.
        format: source format, recognised by itself where None.
        device: "auto", "cpu" or "cuda".
        watcher: is told of progress.

    Raises:
        CytodistillError: the run cannot be used or is no network's, a setting out of range, or the source cannot be
            read or has no such cells.
    """
    watcher = watcher or Silent()
    run = run if isinstance(run, Run) else Run.open(run)
    _check(run, limit, method, at, of, contours)
    predictor = load(run, device)
    network, size = predictor.network, predictor.size
    table, judged, split = _chosen(run, source, split, rows, format)
    inputs = predictor.inputs.of_table(table, judged, lambda done, total: watcher.step("decode", done, total))
    answers = predictor.predict_cells(
        inputs, rows=judged, progress=lambda done, total: watcher.step("evaluate", done, total)
    )
    agreement = exit_agreement(answers.exit_probabilities)
    labels = table.labels[judged]
    picked = np.arange(len(judged)) if rows is not None else choose(answers.probabilities, labels, limit)
    redrawn = [other.to(predictor.device) for other in redrawn_networks(run.recipe, len(run.classes))]
    outlines = _outlines(table, judged[picked], size, run, contours, watcher)
    folder = make_folder(Path(out) if out is not None else run.path / "explain")

    entries: list[dict[str, Any]] = []
    views: list[CellView] = []
    for start in range(0, len(picked), BATCH):
        chosen = picked[start : start + BATCH]
        cells = np.array(inputs[judged[chosen]])
        images = predictor.inputs.tensor(torch.from_numpy(cells).to(predictor.device))
        wanted = None if of is None else np.full(len(chosen), run.classes.index(of))
        found = class_maps(network, images, wanted, method=method, at=at)
        curves = deletion(
            network,
            images,
            found,
            progress=lambda done, _, start=start: watcher.step("explain", start + done, len(picked)),  # type: ignore[misc]
        )
        stays = randomisation(redrawn, images, found, method=method, at=at)
        attention = exit_attention(network, images)
        for n, position in enumerate(chosen):
            number = start + n + 1
            part = outlines[start + n]
            heading = Heading(answers, position, table, judged[position], number)
            of_cell = CellMaps(found, curves, stays, attention, n, run.classes)
            entries.append(heading.entry(agreement, position, run.classes) | of_cell.entry(part))
            views.append(of_cell.view(cells[n], heading.title, part))
    _say_coarse(found.grids, watcher)
    named = None if source is None else "a table" if isinstance(source, CellTable) else str(source)
    content = {
        "run": run.info["fingerprint"],
        "source": named,
        "split": split,
        "classes": list(run.classes),
        "method": method,
        "at": at,
        "of": of,
        "grids": [list(grid) for grid in found.grids],
        "blanked_shares": curves.shares.tolist(),
        "agreement": agreement_entry(agreement, labels),
        "of_the_chosen_cells": summary(entries),
        "cells": entries,
    }
    title = f"{run.path.name}, {split if named is None else Path(named).name}: {method}, exits shallow → deep"
    return Explanation(content, _write(folder, content, views, title, watcher))


def choose(probabilities: np.ndarray, labels: np.ndarray, limit: int) -> np.ndarray:
    """Positions of the cells most worth a look, at most ``limit``: wrong ones first, then right and unlabelled ones,
    each by rising probability of the true class (of the answer, where there is no label), from each class in turn.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
        >>> choose(p, np.array([0, 0, 0, 1, 1]), 3).tolist()
        [4, 1, 2]

    Args:
        probabilities: (N, C) of the ensemble.
        labels: (N,) codes, -1 where not known.
        limit: how many.
    """
    predicted = probabilities.argmax(1)
    stratum = np.where(labels < 0, predicted, labels)
    believed = probabilities[np.arange(len(labels)), stratum]
    order = np.lexsort((believed, predicted == stratum))
    # A cell's turn is its place among those of its class; a stable sort keeps wrong and doubtful ones first within it.
    turn = np.empty(len(order), np.int64)
    for code in np.unique(stratum):
        own = order[stratum[order] == code]
        turn[own] = np.arange(len(own))
    return order[np.argsort(turn[order], kind="stable")][:limit]


def _check(run: Run, limit: int, method: str, at: str, of: str | None, contours: str | None) -> None:
    for name, value, known in (
        ("method", method, get_args(CamMethod)),
        ("at", at, get_args(Place)),
        ("contours", contours or "auto", CONTOURS),
    ):
        if value not in known:
            raise CytodistillError(f"--{name} {value}: choose {', '.join(known[:-1])} or {known[-1]}")
    if limit < 1:
        raise CytodistillError(f"--limit {limit}: give 1 or more cells")
    if of is not None and of not in run.classes:
        raise CytodistillError(f"--of {of}: not one of the run's classes; choose of {', '.join(run.classes)}")
    head = run.recipe.estimator.head
    if head != "none":
        raise CytodistillError(
            f"{run.path}: an estimator (estimator.head={head}) has no maps of classes; explain a run of a network"
        )


def _chosen(
    run: Run, source: str | Path | CellTable | None, split: str, rows: np.ndarray | None, format: str | None
) -> tuple[CellTable, np.ndarray, str]:
    """Table in the run's class order, the rows to explain or choose from, and what they are called."""
    table, found, split = cells_of(run, source, split if rows is None else "all", format, require_labels=False)
    if rows is None:
        return table, found, split
    rows = np.asarray(rows, np.int64)
    if not rows.size or rows.ndim != 1 or rows.min() < 0 or rows.max() >= len(table):
        raise CytodistillError(f"rows: give positions from 0 to {len(table) - 1}, one at least")
    return table, rows, "rows"


def _outlines(
    table: CellTable, rows: np.ndarray, size: int, run: Run, contours: str | None, watcher: Watcher
) -> list[Compartments | None]:
    """Nucleus and cytoplasm of each cell; None where they are not asked for or not to be had, which is said."""
    if contours is None and importlib.util.find_spec("skimage") is None:
        watcher.say(
            "nucleus and cytoplasm left out: scikit-image is not installed (pip install 'cytodistill[estimators]')"
        )
        contours = "none"
    if contours == "none":
        return [None] * len(rows)
    resize = run.recipe.data.resize
    found: list[Compartments | None] = []
    cells = table.frame.iloc[rows][["root", "path", *BOX]].itertuples(index=False, name=None)
    for root, path, *box in cells:
        found.append(cell_compartments(root, path, cast(Box, tuple(box)), size, resize, contours or "auto"))
        watcher.step("measure", len(found), len(rows))
    origins = [part.origin for part in found if part is not None]
    line = f"contours: {origins.count('file')} cells from files, {origins.count('segmented')} segmented"
    watcher.say(line + (f", {found.count(None)} not to be told from the slide" if None in found else ""))
    return found


def _say_coarse(grids: tuple[tuple[int, int], ...], watcher: Watcher) -> None:
    """Say which exits' maps are of so few places that they cannot show where the exit looked."""
    coarse = [exit for exit, grid in enumerate(grids) if min(grid) < COARSE]
    if coarse:
        few = ", ".join(f"exit {exit + 1} {grids[exit][0]}×{grids[exit][1]}" for exit in coarse)
        watcher.say(
            f"maps of few places ({few}) cannot tell parts of a cell apart; at=tap has finer ones at shallow "
            "exits, and larger images at every exit"
        )


def _write(folder: Path, content: dict[str, Any], views: list[CellView], title: str, watcher: Watcher) -> list[Path]:
    files = []
    for number, (entry, view) in enumerate(zip(content["cells"], views, strict=True), start=1):
        files.append(save_figure(cell_figure(view), folder / entry["picture"]))
        watcher.step("draw", number, len(views))
    for old in (folder / "maps").glob("*.png"):  # of an earlier explanation of more cells
        if old not in files and re.fullmatch(r"\d{3,}", old.stem):
            old.unlink()
    sheet = save_figure(contact_sheet(views, title), folder / "contact.png")
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    atomic_write(folder / "explain.json", f"{text}\n".encode())
    return [folder / "explain.json", sheet, *files]

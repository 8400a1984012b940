"""The cells that were answered wrong and surest, with the maps of the exits."""

from __future__ import annotations

import numpy as np
import torch

from cytodistill.data.images import Box, load_cell
from cytodistill.data.table import BOX
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import ImageInputs
from cytodistill.explain.cam import ClassMaps, class_maps, resized
from cytodistill.explain.pictures import overlay
from cytodistill.infer.artifact import is_artifact
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import counted, percent
from cytodistill.report.section import Picture, Section, ShownCell
from cytodistill.report.thumbnails import thumbnail
from cytodistill.train.log import Watcher
from cytodistill.train.run_folder import Run

LIMIT = 24
SIDE, MAP_SIDE = 176, 96
"""Pixels of a cell's picture and of a map."""


def gallery_section(judged: Judged, watcher: Watcher) -> Section:
    """At most LIMIT wrong cells, those first whose wrong answer was the surest against the true class."""
    chosen = most_wrong(judged.probabilities, judged.labels, LIMIT)
    wrong = int((~judged.correct).sum())
    if not len(chosen):
        return Section("gallery", "Most wrong cells", ["Every cell is answered right."])
    text = [
        f"{counted(wrong, 'cell')} of {judged.metrics['n']} {'is' if wrong == 1 else 'are'} answered wrong; here "
        f"{'is the one' if len(chosen) == 1 else f'are the {len(chosen)}'} whose wrong answer was surest. Some may "
        "be mislabelled.",
        "Maps show which places speak for each exit's own answer (HiResCAM); bright is most. Whether they can be "
        "relied on is a question of its own, which the command cytodistill explain tests.",
    ]
    shown: dict[int, ShownCell] = {}
    for run, judged_by in judged.parts:
        rows = [row for row in chosen if row in judged_by]
        if rows:
            views, problem = _views(judged, run, np.array(rows))
            shown |= dict(zip(rows, views, strict=True))
            watcher.step("report", len(shown), len(chosen))
            if problem:
                text[1] = f"There are no maps: {problem}."
    if judged.sets is not None:
        text[0] += " The set is that of the classes which together hold the true one for 90 % of cells."
    return Section("gallery", "Most wrong cells", text, cells=[shown[row] for row in chosen])


def most_wrong(probabilities: np.ndarray, labels: np.ndarray, limit: int) -> list[int]:
    """Rows of at most ``limit`` wrong cells, by how much surer the answer was than the true class.

    Example:
        >>> most_wrong(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 0]), 2)
        [2, 1]

    Args:
        probabilities: (N, C).
        labels: (N,) codes.
        limit: how many.
    """
    margin = probabilities.max(axis=1) - probabilities[np.arange(len(labels)), labels]
    order = np.argsort(-margin, kind="stable")
    return [int(row) for row in order[:limit] if probabilities[row].argmax() != labels[row]]


def _views(judged: Judged, run: Run, rows: np.ndarray) -> tuple[list[ShownCell], str | None]:
    """Pictures of cells that one run judged, and why there are no maps where there are none."""
    resize = run.recipe.data.resize
    cells = [_address(judged, row) for row in rows]
    pictures = [load_cell(root, path, SIDE, resize, box) for root, path, box in cells]
    found, problem = _maps(run, cells)
    views = [
        _shown(judged, row, picture, found, n) for n, (row, picture) in enumerate(zip(rows, pictures, strict=True))
    ]
    return views, problem


def _address(judged: Judged, row: int) -> tuple[str, str, Box]:
    root, path, *box = judged.table.frame.iloc[row][["root", "path", *BOX]]
    return root, path, (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def _maps(run: Run, cells: list[tuple[str, str, Box]]) -> tuple[ClassMaps | None, str | None]:
    if run.recipe.estimator.head != "none":
        return None, f"an estimator (estimator.head={run.recipe.estimator.head}) has none"
    if is_artifact(run.path):
        return None, "an exported artifact gives answers alone; evaluate the run that it was made from"
    inputs = ImageInputs(run.recipe.data)
    read = np.stack([inputs.read(*cell) for cell in cells])
    try:
        return class_maps(run.network(), inputs.tensor(torch.from_numpy(read)), method="hirescam", at="tap"), None
    except CytodistillError as error:
        return None, str(error)


def _shown(judged: Judged, row: int, picture: np.ndarray, found: ClassMaps | None, n: int) -> ShownCell:
    cell, probabilities, classes = judged.table.frame.iloc[row], judged.probabilities[row], judged.classes
    answer, label = classes[int(probabilities.argmax())], str(cell["label"])
    facts = [
        ("Answer", f"{answer}, {percent(float(probabilities.max()))}"),
        ("True class", f"{label}, {percent(float(probabilities[classes.index(label)]))}"),
    ]
    if judged.sets is not None:
        facts.append(("Set", ", ".join(name for name, inside in zip(classes, judged.sets[row], strict=True) if inside)))
    if found is None and judged.exits.shape[1] > 1:
        said = [f"{exit}: {_exit_answer(judged, row, exit - 1)}" for exit in range(1, judged.exits.shape[1] + 1)]
        facts.append(("Exits", "; ".join(said)))
    facts.append(("Group", str(cell["group"])))
    facts.append(("File", str(cell["path"])))
    maps = [] if found is None else [_map(judged, row, picture, found, n, exit) for exit in range(found.maps.shape[1])]
    whole = Picture(thumbnail(picture, SIDE), f"Cell of class {label}, answered {answer}")
    return ShownCell(whole, f"{answer}, truly {label}", facts, maps)


def _map(judged: Judged, row: int, picture: np.ndarray, found: ClassMaps, n: int, exit: int) -> Picture:
    heat = resized(torch.from_numpy(found.maps[n, exit][None]), picture.shape[:2])[0].numpy()
    said = _exit_answer(judged, row, exit)
    nowhere = "" if heat.any() else "; no place speaks for it"
    return Picture(
        thumbnail(overlay(picture, heat), MAP_SIDE),
        f"Where exit {exit + 1} looked; it answers {said}{nowhere}",
        [f"Exit {exit + 1}", f"{said}{nowhere}"],
    )


def _exit_answer(judged: Judged, row: int, exit: int) -> str:
    of_exit = judged.exits[row, exit]
    return f"{judged.classes[int(of_exit.argmax())]}, {percent(float(of_exit.max()))}"

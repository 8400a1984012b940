"""reproduce: a table of the paper on anyone's cells, every row under the same splits, augmentation and budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cytodistill.data.prepare import prepare_table
from cytodistill.data.sources import read_source
from cytodistill.data.split import split_table
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write
from cytodistill.recipe import Recipe
from cytodistill.reproduce.content import table_content
from cytodistill.reproduce.engine import Done, Task, run_tasks
from cytodistill.reproduce.estimate import Estimate, estimate, made_up_cells
from cytodistill.reproduce.render import markdown, page, pictures
from cytodistill.reproduce.systems import Start, System, ordered, other_systems, systems
from cytodistill.reproduce.tables import PaperTable, Row, paper_table
from cytodistill.train.log import Silent, Watcher

PAPERS_CLASSES = {"sipakmed": 5, "cifar100": 100}


@dataclass(frozen=True)
class Choice:
    """A table, its chosen rows and every system by key."""

    table: PaperTable
    rows: tuple[Row, ...]
    known: dict[str, System]

    @property
    def systems(self) -> list[System]:
        """Systems of the chosen rows and those that they need, each after what it needs."""
        return ordered([row.system for row in self.rows], self.known)


def choose(
    table: str,
    recipe: Recipe,
    *,
    rows: Sequence[str] = (),
    teacher: str | None = None,
    students: Sequence[str] = (),
    weights: str = "imagenet",
) -> Choice:
    """What ``reproduce`` would run.

    Args:
        table: "table2" … "table6".
        recipe: what every row shares.
        rows: names, keys or patterns of rows; the paper's own rows where there are none.
        teacher: network of the teacher; the paper's ResNeSt-50 (Tables 2–4), ResNeXt-101 (5) or ResNet-152 (6) by
            default.
        students: networks of Table 6's students.
        weights: "imagenet", "none" or a folder of weight files; Table 6 starts from random weights whatever it is.

    Raises:
        CytodistillError: no such table, row, network or folder.
    """
    if students and table != "table6":
        raise CytodistillError(f"--students: {table} has one student, the recipe's student.backbone; leave it out")
    defaults = {"table5": "resnext101_32x8d", "table6": "resnet152"}
    teacher = teacher or defaults.get(table, "resnest50d")
    named = paper_table(table, teacher, tuple(students) or ("resnet50", "resnet18"))
    start = Start("none" if table == "table6" else weights)
    known: dict[str, System] = {}
    if named.students:
        for student in named.students:
            known |= systems(recipe, student, teacher, start, prefix=f"{student}-")
    else:
        known |= systems(recipe, recipe.student.backbone, teacher, start)
    if table == "table2":
        known |= other_systems(recipe, teacher, start)
    return Choice(named, named.select(rows), known)


@dataclass(frozen=True)
class Planned:
    """A row that would be run: its system, that system's estimate where it could be measured, and what a whole run of
    it would take on the source's training cells (None without a source)."""

    row: Row
    system: System
    estimate: Estimate | None
    seconds: float | None


def plan(
    choice: Choice,
    source: str | Path | None,
    *,
    recipe: Recipe,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> list[Planned]:
    """What ``reproduce`` would run, with its time from measured steps; nothing is written.

    Without a source the networks are built for as many classes as the paper's data have.
    """
    watcher = watcher or Silent()
    if source is None:
        cells = made_up_cells(PAPERS_CLASSES[choice.table.sources[0]])
    else:
        cells = prepare_table(source, recipe, format)
    teacher = choice.known["teacher"].settings["student.backbone"]
    found: dict[str, Estimate | None] = {}
    for number, row in enumerate(choice.rows, start=1):
        watcher.step("measure", number, len(choice.rows), row.name)
        found[row.system] = estimate(choice.known[row.system], recipe, cells, teacher, device)
    count = len(cells.indices("train")) if source is not None else None
    return [
        Planned(
            row,
            choice.known[row.system],
            measured := found[row.system],
            measured.seconds(count) if measured is not None and count is not None else None,
        )
        for row in choice.rows
    ]


def reproduce(
    choice: Choice,
    source: str | Path | CellTable,
    out: str | Path,
    *,
    recipe: Recipe,
    seeds: int = 3,
    folds: int | None = None,
    format: str | None = None,
    device: str = "auto",
    workers: int = 1,
    watcher: Watcher | None = None,
) -> Path:
    """Run the chosen rows on ``source`` and write the table.

    Runs lie in ``out/runs/<draw>/<system>``, and tables that are made in the same folder share them: a teacher is
    trained once. Finished runs are skipped and killed ones resumed, so the call may be repeated until it is through.
    Seed k draws the split and the training alike; with folds, fold k is tested and the next one validates.

    Returns:
        ``out/<table>.json``; ``.md``, ``.html`` and pictures lie beside it.

    Raises:
        CytodistillError: the source cannot be used, or rows failed (the others are finished and in the table).
    """
    # Runs name one another by path, which must not hang on where the command is given.
    watcher, out = watcher or Silent(), Path(out).absolute()
    draws = _draws(source, recipe, seeds, folds, format)
    tasks = [
        Task(system, name, out / "runs" / name, drawn, cells)
        for name, (drawn, cells) in draws.items()
        for system in choice.systems
    ]
    ends: dict[tuple[str, str], Done] = {}
    named = "cells" if isinstance(source, CellTable) else Path(source).name
    file = out / f"{choice.table.name}.json"
    content: dict[str, Any] = {}
    wanted = {row.system for row in choice.rows}
    for done in run_tasks(tasks, workers=workers, device=device, watcher=watcher):
        ends[done.task.name] = done
        if done.task.system.key in wanted and done.record is not None:
            content = table_content(choice.table, choice.rows, choice.known, draws, ends, recipe, named)
            _write_text(file, content)
    if not content:
        raise CytodistillError(f"{out}: no row could be run; the first said: {next(iter(ends.values())).problem}")
    content = table_content(choice.table, choice.rows, choice.known, draws, ends, recipe, named)
    _write_text(file, content)
    drawn_pictures = pictures(content, out / choice.table.name)
    images = {picture.name: picture.read_bytes() for picture in drawn_pictures}
    atomic_write(file.with_suffix(".html"), page(content, images).encode())
    failed = [done for done in ends.values() if done.problem]
    if failed:
        first = failed[0]
        raise CytodistillError(
            f"{out}: {len(failed)} of {len(tasks)} runs failed, the first {first.task.draw}, {first.task.system.key}: "
            f"{first.problem}; the same command goes on with them"
        )
    return file


def _write_text(file: Path, content: dict[str, Any]) -> None:
    atomic_write(file, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    atomic_write(file.with_suffix(".md"), markdown(content).encode())


Draws = dict[str, tuple[Recipe, CellTable]]


def _draws(source: str | Path | CellTable, recipe: Recipe, seeds: int, folds: int | None, format: str | None) -> Draws:
    """Recipe and cells of every seed or fold, by its name."""
    if seeds < 1:
        raise CytodistillError(f"--seeds {seeds}: at least one")
    table = source if isinstance(source, CellTable) else read_source(source, format, window=recipe.data.window)
    if folds is None:
        seeded = {f"seed{seed}": recipe.override({"seed": seed}) for seed in range(seeds)}
        return {name: (own, prepare_table(table, own)) for name, own in seeded.items()}
    if (table.frame["split"] != "").any():
        raise CytodistillError(f"--folds {folds}: {source} has its own splits; leave --folds out")
    divided = split_table(table, folds=folds, group=recipe.data.group, seed=recipe.seed)
    folded = {f"fold{fold}": recipe.override({"data.fold": fold}) for fold in range(folds)}
    return {name: (own, prepare_table(divided, own)) for name, own in folded.items()}

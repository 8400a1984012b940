"""audit: the data side first, then the same model under a random and a grouped split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import json_normalize

from cytodistill.audit.arms import Draw, Tested, draws, test_arms
from cytodistill.audit.copies import Copies, copies_frame, find_copies
from cytodistill.audit.embedding import embedded_pairs
from cytodistill.audit.gap import compare
from cytodistill.audit.labels import doubtful_labels
from cytodistill.audit.leaks import group_sizes, split_leaks
from cytodistill.audit.pictures import copies_sheet, gap_figure, label_sheet
from cytodistill.audit.report import markdown, number
from cytodistill.data.cache import cached_cells
from cytodistill.data.inspect import inspect_source
from cytodistill.data.near_duplicates import Pair, hash_pairs
from cytodistill.data.sources import read_source
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write, make_folder, save_figure
from cytodistill.recipe import Recipe
from cytodistill.train.log import Silent, Watcher

FILE = "audit.json"
FORMAT = 1
HASHED = 96
"""Side in pixels at which cells are hashed and shown, as `data inspect --near` does."""


@dataclass(frozen=True)
class Audit:
    """An audit: its folder, the content of its audit.json, and the files written, audit.json first."""

    path: Path
    content: dict[str, Any]
    files: tuple[Path, ...]


def audit(
    source: str | Path | CellTable,
    out: str | Path,
    *,
    seeds: int = 3,
    recipe: str | Path | Recipe | None = None,
    teacher: str | None = None,
    pretrained: str | None = None,
    settings: Sequence[str] | dict[str, Any] = (),
    epochs: int | None = None,
    data_only: bool = False,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Audit:
    """What a random split of these cells would flatter, which cells leak, and which labels look wrong.

    Each seed draws a split cell by cell and a split by group, of the same ratio, and trains the same recipe on both.
    Runs lie in ``out/runs/seed<k>/{random,grouped}``; the same call goes on with an audit that was stopped.

    Args:
        source: labelled cells with groups. Splits of its own are judged, and not trained on.
        out: folder of the audit.
        seeds: how many, counted from the recipe's own.
        recipe: name, YAML file or Recipe; "quick" by default.
        teacher: as for ``fit``: a name or file is fine-tuned in each run on that run's own training cells.
        pretrained: as for ``fit``; also the network whose features find near copies.
        settings: as for ``fit``.
        epochs: of every run; milestones and warm-up are moved along.
        data_only: leave the training out.
        format: source format; recognised by itself where None.
        device: "auto", "cpu" or "cuda".
        watcher: is told of progress.

    Raises:
        CytodistillError: the source has no groups of several cells, cannot be split, or a run fails; ``out`` holds
            something else; a setting is wrong.
    """
    out, watcher = Path(out), watcher or Silent()
    chosen = _choose_recipe(recipe, teacher, pretrained, settings, epochs)
    if seeds < 1:
        raise CytodistillError(f"--seeds {seeds}: at least one")
    named = "a table" if isinstance(source, CellTable) else str(source)
    given = source if isinstance(source, CellTable) else read_source(source, format, window=chosen.data.window)
    _check_groups(given, named)
    table = given.with_frame(given.frame.assign(split="", fold=-1))
    drawn = draws(table, chosen, seeds)
    stored = _claim(out, table, chosen)
    cells = cached_cells(table, HASHED, "pad", lambda done, total: watcher.step("decode", done, total))
    data, copies = _data_side(given, table, drawn, cells, chosen, out, device, watcher)
    content: dict[str, Any] = {
        "format": FORMAT,
        "cytodistill": version("cytodistill"),
        "status": "data",
        "source": Path(named).name,
        "digest": table.digest(),
        "recipe": chosen.model_dump(mode="json"),
        "data": data,
        "models": None,
        "labels": None,
    }
    if stored.get("recipe") == content["recipe"]:  # what is known stays on the page until more is
        content |= {key: stored[key] for key in ("status", "models", "labels")}
    files = [out / FILE, out / "audit.md", *_write_copies(out, table, copies, cells)]
    _write(out, content)
    if data_only:
        return Audit(out, content, tuple(files))
    tested: list[Tested] = []
    for run in test_arms(drawn, out, device, watcher):
        tested.append(run)
        if len(tested) % 2 == 0:  # a seed is through
            content |= {"status": "finished" if len(tested) == len(drawn) else "training"}
            content |= {"models": compare(tested, table.groups), "labels": None}
            _write(out, content)
    files += _write_labels(out, table, tested, cells, content)
    files.append(save_figure(gap_figure(content["models"], _title(content)), out / "audit.png"))
    _write(out, content)
    return Audit(out, content, tuple(files))


def _choose_recipe(
    recipe: str | Path | Recipe | None,
    teacher: str | None,
    pretrained: str | None,
    settings: Sequence[str] | dict[str, Any],
    epochs: int | None,
) -> Recipe:
    chosen = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe or "quick")
    given = {"teacher.source": teacher, "student.pretrained": pretrained}
    chosen = chosen.override({key: value for key, value in given.items() if value is not None})
    chosen = chosen.override(settings if isinstance(settings, dict) else list(settings))
    if chosen.data.group != "auto" or chosen.data.fold is not None:
        setting = "data.fold" if chosen.data.fold is not None else "data.group"
        raise CytodistillError(f"{setting}: the audit draws both splits itself; leave the setting out")
    return chosen.shortened(epochs) if epochs else chosen


def _check_groups(table: CellTable, named: str) -> None:
    if not len(table):
        raise CytodistillError(f"{named}: no cells")
    if unlabelled := int((table.labels < 0).sum()):
        raise CytodistillError(f"{named}: {unlabelled} cells have no label; an audit needs one for each")
    if table.frame["group"].nunique() == len(table):
        raise CytodistillError(
            f"{named}: every cell is a group of its own, so a grouped split is a random one and there is nothing to "
            "audit; give a manifest whose group column names the field, slide or patient, or use `cytodistill data "
            "inspect --near` to find copies"
        )


def _claim(out: Path, table: CellTable, recipe: Recipe) -> dict[str, Any]:
    """What is stored of an audit of these cells, with this recipe, in ``out``, which is made where it is not there.

    Raises:
        CytodistillError: it holds something else.
    """
    if (out / FILE).is_file():
        try:
            stored = json.loads((out / FILE).read_text(encoding="utf-8"))
            same, before = stored["digest"] == table.digest(), stored["recipe"]
        except (ValueError, KeyError, TypeError):
            raise CytodistillError(f"{out / FILE}: damaged; delete it, and the same command goes on") from None
        if not same:
            raise CytodistillError(f"{out}: holds an audit of other cells; choose another folder")
        if before != recipe.model_dump(mode="json") and (out / "runs").is_dir():
            raise CytodistillError(
                f"{out}: its runs were made with another recipe, and {_difference(recipe, before)}; give the same, or "
                "choose another folder"
            )
        return stored
    # An audit that was killed before its first page has left runs, or nothing.
    if out.is_file() or (out.is_dir() and any(e.name[0] != "." and e.name not in _OWN for e in out.iterdir())):
        raise CytodistillError(f"{out}: is not empty and holds no audit; choose another folder")
    make_folder(out)
    return {}


def _difference(recipe: Recipe, before: dict[str, Any]) -> str:
    both = (json_normalize(settings).to_dict("records")[0] for settings in (recipe.model_dump(mode="json"), before))
    now, then = ({str(key): value for key, value in settings.items()} for settings in both)
    key = next(key for key in sorted(now.keys() | then.keys()) if now.get(key) != then.get(key))
    return f"{key} is {now.get(key)!r} now and was {then.get(key)!r}"


_OWN = {"runs", "copies.csv", "copies.png", "embeddings.npz", "audit.md"}


def _data_side(
    given: CellTable,
    table: CellTable,
    drawn: Sequence[Draw],
    cells: NDArray[np.uint8],
    recipe: Recipe,
    out: Path,
    device: str,
    watcher: Watcher,
) -> tuple[dict[str, Any], Copies]:
    """All that can be said without a training, as JSON takes it, and the copies that were found."""
    inspection = inspect_source(given, lambda done, total: watcher.step("inspect", done, total))
    embedded, embedding = _embedding(cells, recipe, out, device, watcher)
    copies = find_copies(table, inspection.duplicates, hash_pairs(cells), embedded)
    splits = [
        {"arm": draw.arm, "seed": draw.seed, **split_leaks(draw.table.frame["split"], table.groups, copies)}
        for draw in drawn
    ]
    if (given.frame["split"] != "").any():
        splits.append({"arm": "own", "seed": None, **split_leaks(given.frame["split"], table.groups, copies)})
    listed = copies_frame(table, copies)
    counts: dict[str, Any] = {
        kind: {
            "pairs": len(of := listed[listed["kind"] == kind]),
            "across_groups": int(of["groups_differ"].sum()),
            "labels_differ": int(of["labels_differ"].sum()),
        }
        for kind in ("exact", "hash", "embedding")
    }
    if embedding["distance"] is None:
        counts["embedding"] = None
        splits = [leaks | {"embedding": None} for leaks in splits]
    if not table.frame["x"].notna().any():
        splits = [leaks | {"overlap": None} for leaks in splits]
    return {
        "cells": len(table),
        "classes": list(table.classes),
        "groups": group_sizes(table),
        "splits": splits,
        "copies": counts,
        "embedding": embedding,
        "inspection": json.loads(json.dumps(inspection.to_dict())),  # lists, as they are read back
    }, copies


def _embedding(
    cells: NDArray[np.uint8], recipe: Recipe, out: Path, device: str, watcher: Watcher
) -> tuple[list[Pair], dict[str, Any]]:
    """Near copies by embedding, and by what; none, and why, where the recipe starts from random weights."""
    start = recipe.student.pretrained
    if start == "none":
        why = "No embedding: student.pretrained=none, and random weights embed nothing; give --pretrained FILE."
        return [], {"network": None, "distance": None, "note": why}
    pairs, distance = embedded_pairs(cells, recipe, out / "embeddings.npz", device, watcher)
    network = f"{recipe.student.backbone}, {Path(start).name}, {cells.shape[1]} px"
    return pairs, {"network": network, "distance": distance}


def _write_copies(out: Path, table: CellTable, copies: Copies, cells: NDArray[np.uint8]) -> list[Path]:
    listed = copies_frame(table, copies)
    atomic_write(out / "copies.csv", listed.to_csv(index=False, float_format="%.6g", lineterminator="\n").encode())
    if not len(listed):
        return [out / "copies.csv"]
    return [out / "copies.csv", save_figure(copies_sheet(listed, cells), out / "copies.png")]


def _write_labels(
    out: Path, table: CellTable, tested: Sequence[Tested], cells: NDArray[np.uint8], content: dict[str, Any]
) -> list[Path]:
    """The likely label errors as CSV and sheet, and into ``content``."""
    doubts = doubtful_labels(table, [run for run in tested if run.draw.arm == "grouped"])
    text = doubts.frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
    atomic_write(out / "label_errors.csv", text.encode())
    content["labels"] = {
        "found": len(doubts.frame),
        "judged": doubts.judged,
        "right": doubts.right,
        "noise": doubts.noise,
        "worst": json.loads(doubts.frame.head(50).to_json(orient="records")),
    }
    if not len(doubts.frame):
        return [out / "label_errors.csv"]
    return [out / "label_errors.csv", save_figure(label_sheet(doubts.frame, cells), out / "label_errors.png")]


def _title(content: dict[str, Any]) -> str:
    recipe = content["recipe"]
    return (
        f"Leakage audit of {content['source']}: {recipe['student']['backbone']}, {recipe['data']['image_size']} px, "
        f"{number(recipe['train']['epochs'], 'epoch')}, {number(len(content['models']['seeds']), 'seed')}"
    )


def _write(out: Path, content: dict[str, Any]) -> None:
    atomic_write(out / FILE, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    atomic_write(out / "audit.md", markdown(content).encode())

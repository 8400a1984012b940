"""One row a field, slide or patient from the file of its cells' answers: its score, and the decision."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytodistill.data.class_map import ClassMap
from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write
from cytodistill.infer.batch_list import Items
from cytodistill.infer.fitted import FILE, Fitted
from cytodistill.infer.writers import LAYOUTS
from cytodistill.metrics.abnormal_score import abnormal_score
from cytodistill.metrics.group_decision import GroupPoint, aggregate
from cytodistill.metrics.operating_point import decide

COLUMNS = ("source", "group", "cells", "passed_over", "point", "score", "decision")
POINT = "max-sensitivity-0.95"
"""The point that decides where none is named."""
ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class Groups:
    """Of N cells the group of each, (N,) codes, and what the groups are called: the input each is of, and its name
    there. Groups of two inputs are two, whatever their names: "1" is a slide in many lists."""

    codes: np.ndarray
    names: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class GroupRows:
    """What `write_groups` did: how many ``groups`` the ``file`` has, how many are ``abnormal`` by the point of that
    ``name``, and how many have no ``answer``, for none of their cells could be read."""

    file: Path
    name: str
    groups: int
    abnormal: int
    unanswered: int


def group_point(fitted: Fitted | None, name: str, run: Path) -> tuple[GroupPoint, ClassMap]:
    """The run's operating point of whole groups of that name, and the map that says which classes are abnormal.

    Raises:
        CytodistillError: it has none, or none of that name.
    """
    there = {point.name: point for point in fitted.group_points or ()} if fitted else {}
    if fitted and name in there and fitted.class_map:
        return there[name], fitted.class_map
    if there:
        raise CytodistillError(f"--group-point {name}: {run} has none of that name; there are {', '.join(there)}")
    if fitted is None or fitted.group_points is None:
        raise CytodistillError(
            f"--groups: {run} has no points of groups in its {FILE}; choose some with `cytodistill evaluate {run}`"
        )
    raise CytodistillError(
        f"--groups: {run} has no points of whole groups: no class map says which of its classes are abnormal, or its "
        "validation groups are all of one kind; leave --groups out"
    )


def groups_file(groups: str | Path | None, point: str | None, file: Path | None, raw: bool) -> Path | None:
    """The file of groups that is asked for; None where none is.

    Args:
        groups: the file.
        point: name of the point that is to decide, where one is given.
        file: of the cells' answers.
        raw: whether these are left as the network gives them.

    Raises:
        CytodistillError: there can be no such file.
    """
    if groups is None:
        if point is not None:
            raise CytodistillError(f"--group-point {point}: decides for whole groups; give their file with --groups")
        return None
    groups = Path(groups)
    if raw:
        raise CytodistillError(f"--groups {groups}: is decided by calibrated probabilities; leave --raw out")
    if file is None or file.suffix.lower() not in LAYOUTS:
        raise CytodistillError(f"--groups {groups}: is made from the file of cells; name that with -o, .csv or .jsonl")
    if groups.suffix.lower() != ".csv" or groups.is_dir() or groups.absolute() == file.absolute():
        raise CytodistillError(f"--groups {groups}: give a .csv file of its own")
    return groups


def groups_of(items: Items, given: Sequence[str | Path], field: bool) -> Groups:
    """The groups of the cells of some inputs; those of one ``field`` are one."""
    if field:
        return Groups(np.zeros(len(items), np.int32), [(str(given[0]), Path(given[0]).name)])
    return Groups(items.group_codes, [(str(given[number]), name) for number, name in items.group_names])


def write_groups(
    answers: Path, groups: Groups, classes: Sequence[str], point: GroupPoint, class_map: ClassMap, out: Path
) -> GroupRows:
    """Write a CSV of ``COLUMNS``, a row a group, in the order in which they come.

    A few numbers a cell are held, and none of the texts of the file.

    Args:
        answers: the file of `predict`, .csv or .jsonl, a line a cell, calibrated.
        groups: of its cells, line by line.
        classes: the C class names.
        point: how a group's score is made of its cells', and from where on it is abnormal.
        class_map: says which classes are abnormal.
        out: the file to write.

    Raises:
        CytodistillError: the file has not as many lines as there are cells, or ``out`` cannot be written.
    """
    abnormal = np.isin(class_map.target_classes, class_map.abnormal)
    scores = np.full(len(groups.codes), np.nan)
    done = 0
    for probabilities in _probabilities(answers, classes):
        read = ~np.isnan(probabilities[:, 0])
        part = scores[done : done + len(probabilities)]
        if len(part) == len(probabilities) and read.any():
            part[read] = abnormal_score(class_map.collapse(probabilities[read], classes), abnormal)
        done += len(probabilities)
    if done != len(scores):
        raise CytodistillError(f"{answers}: has {done} lines for {len(scores)} cells; predict again into another file")
    read = ~np.isnan(scores)
    count = len(groups.names)
    cells, failed = np.bincount(groups.codes, minlength=count), np.bincount(groups.codes[~read], minlength=count)
    of_groups, called = np.full(count, np.nan), np.zeros(count, bool)
    if read.any():
        # Sums of probabilities that were written with nine digits may end a hair above 1.
        codes, found = aggregate(np.clip(scores[read], 0, 1), groups.codes[read], point.how, point.k)
        of_groups[codes] = found
        called[codes] = decide(found, point.point)
    rows = [
        {
            "source": source,
            "group": name,
            "cells": int(cells[code]),
            "passed_over": int(failed[code]),
            "point": point.name,
            **_decided(float(of_groups[code]), bool(called[code])),
        }
        for code, (source, name) in enumerate(groups.names)
    ]
    layout = LAYOUTS[".csv"]
    atomic_write(out, (layout.head(COLUMNS) + layout.lines(COLUMNS, rows)).encode("utf-8", "backslashreplace"))
    return GroupRows(out, point.name, count, int(called.sum()), int((cells == failed).sum()))


def _decided(score: float, abnormal: bool) -> dict[str, Any]:
    if np.isnan(score):
        return {"score": None, "decision": None}
    return {"score": float(f"{score:.9g}"), "decision": "abnormal" if abnormal else "normal"}


def _probabilities(answers: Path, classes: Sequence[str]) -> Iterator[np.ndarray]:
    """(n, C) probabilities of the lines of a file, some at a time; NaN of a cell that was passed over."""
    columns = [f"prob_{name}" for name in classes]
    if answers.suffix.lower() == ".jsonl":
        with open(answers, encoding="utf-8") as lines:
            while said := [json.loads(line) for line in islice(lines, ROWS_AT_ONCE)]:
                yield np.array([[line[column] for column in columns] for line in said], np.float64)
        return
    with pd.read_csv(answers, usecols=columns, chunksize=ROWS_AT_ONCE) as pieces:
        for piece in pieces:
            yield piece[columns].to_numpy(np.float64)

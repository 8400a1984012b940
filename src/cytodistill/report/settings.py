"""The recipe, versions and hardware behind the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table
from cytodistill.train.run_folder import environment


def settings_section(judged: Judged) -> Section:
    """Facts about the run, every setting of its recipe, and what it was trained and evaluated with."""
    info = judged.run.info
    text = [
        f"Recipe {info['recipe']['name']}, seed {info['seed']}, {count(info['parameters'])} parameters, fingerprint "
        f"{info['fingerprint']}."
    ]
    if len(judged.parts) > 1:
        text.append("These are the settings of the first fold's run; the others have theirs in their own folders.")
    return Section(
        "settings", "Settings and versions", text, folded=[recipe_table(info["recipe"]), versions_table(judged)]
    )


def recipe_table(recipe: dict[str, Any]) -> Table:
    """Every setting as it is written with --set."""
    rows = [Row(name, [Entry(value)]) for name, value in flat(recipe)]
    return Table("recipe-table", "Every setting of the recipe", "Setting", ["Value"], rows, (0,))


def versions_table(judged: Judged) -> Table:
    """Versions and hardware of training and of this evaluation."""
    info, now = judged.run.info, environment(torch.device("cpu"))
    rows = []
    for kind in ("versions", "hardware"):
        names = [*info[kind], *(name for name in now[kind] if name not in info[kind])]
        rows += [
            Row(name, [Entry(str(made[kind].get(name, "–"))) for made in (info, now)])
            for name in names
            if kind == "versions" or name != "device"
        ]
    rows.append(Row("device", [Entry(str(info["hardware"].get("device", "–"))), Entry("–")]))
    return Table("versions-table", "Versions and hardware", "", ["Training", "Evaluation"], rows, (0, 1))


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings by their dotted names.

    Example:
        >>> list(flat({"seed": 0, "data": {"image_size": 96, "mean": [0.5, 0.5]}}))
        [('seed', '0'), ('data.image_size', '96'), ('data.mean', '0.5, 0.5')]
    """
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{key}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{key}", "none" if value is None else str(value)

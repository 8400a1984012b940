"""Cross-validation: one run a fold, whole groups held out, settings chosen inside each fold where there is a choice."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from cytodistill.data.sources import read_source
from cytodistill.data.split import split_table
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write, make_folder
from cytodistill.recipe import Recipe
from cytodistill.train.fit import fit
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

FILE = "folds.json"
FORMAT = 1


@dataclass(frozen=True)
class Folds:
    """A finished cross-validation: its folder, its content of folds.json, and the run that stands for each fold."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Folds:
        """Open a folder of ``fit_folds``.

        Raises:
            CytodistillError: there is none, it is damaged, or it is not finished.
        """
        path = Path(path)
        try:
            info = json.loads((path / FILE).read_text(encoding="utf-8"))
            chosen = info["chosen"]
        except OSError:
            raise CytodistillError(
                f"{path}: no cross-validation in it; make one with `cytodistill fit SOURCE -o {path} --folds 5`"
            ) from None
        except (ValueError, KeyError, TypeError):
            raise CytodistillError(f"{path / FILE}: damaged; delete the folder and fit again") from None
        if len(chosen) < info["folds"]:
            raise CytodistillError(
                f"{path}: {len(chosen)} of {info['folds']} folds are finished; go on with the same fit and --resume"
            )
        return cls(path, info)

    @property
    def runs(self) -> list[Run]:
        """The chosen run of every fold, in order."""
        return [Run.open(self.path / name) for name in self.info["chosen"]]


def is_folds(path: str | Path) -> bool:
    """Whether a folder holds a cross-validation."""
    return (Path(path) / FILE).is_file()


def fit_folds(
    source: str | Path | CellTable,
    out: str | Path,
    folds: int | Literal["groups"] = 5,
    *,
    recipe: str | Path | Recipe | None = None,
    teacher: str | None = None,
    pretrained: str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    choices: Mapping[str, Sequence[Any]] | None = None,
    resume: bool = False,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Folds:
    """Fit a run for every fold: it is tested on the fold, validated on the next one and trained on the others.

    With ``choices`` the validation is nested: in each fold every combination is fitted, and the one with the best
    figure on that fold's validation cells (``train.select``) stands for it. The fold's test cells decide nothing.

    Args:
        source: cells without splits of their own.
        out: folder; the runs lie in ``fold<k>``, or ``fold<k>/choice<i>`` where there is a choice.
        folds: how many, or "groups": each group a fold of its own (leave one group out), for small sets.
        recipe: as for ``fit``; ``data.group=none`` lets cells of one group be in two folds.
        teacher: as for ``fit``; a name or file is fine-tuned in each fold on that fold's training cells.
        pretrained: as for ``fit``.
        settings: as for ``fit``.
        choices: values to choose from by dotted setting, such as ``{"train.lr": [1e-4, 3e-4]}``.
        resume: go on with what is in ``out``; finished runs are kept.
        format: as for ``fit``.
        device: as for ``fit``.
        watcher: is told of progress.

    Raises:
        CytodistillError: as ``fit``, or the source has splits, too few groups for the folds, or ``out`` holds another
            cross-validation.
    """
    out, watcher = Path(out), watcher or Silent()
    base = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe or "quick")
    given = {"teacher.source": teacher, "student.pretrained": pretrained}
    base = base.override({key: value for key, value in given.items() if value is not None})
    base = base.override(dict(settings) if isinstance(settings, Mapping) else list(settings))
    table = source if isinstance(source, CellTable) else read_source(source, format, window=base.data.window)
    divided = divide(table, folds, base)
    count = int(divided.frame["fold"].max()) + 1
    combinations = _combinations(choices or {})
    for combination in combinations:
        base.override(combination)  # a wrong one is known now, not after hours
    if combinations != [{}] and base.train.select == "last":
        raise CytodistillError("--choose: train.select=last chooses nothing by validation; set it to f1 or accuracy")
    info: dict[str, Any] = {
        "format": FORMAT,
        "folds": count,
        "kind": "leave one group out" if folds == "groups" else "grouped" if base.data.group != "none" else "by cell",
        "digest": divided.digest(),
        "choices": {key: list(values) for key, values in (choices or {}).items()},
        "chosen": [],
    }
    _claim(out, info, resume)
    divided.write(out / "manifest.csv")
    chosen: list[str] = []
    for fold in range(count):
        names = [f"fold{fold}" if combinations == [{}] else f"fold{fold}/choice{i}" for i in range(len(combinations))]
        runs = []
        for name, combination in zip(names, combinations, strict=True):
            watcher.say(
                f"fold {fold + 1} of {count}" + "".join(f", {key}={value}" for key, value in combination.items())
            )
            own = base.override({"data.fold": fold, **combination})
            runs.append(fit(divided, out / name, recipe=own, resume=True, device=device, watcher=watcher))
        values = [run.info["result"]["best_value"] for run in runs]
        best = int(np.argmax([-np.inf if value is None else value for value in values]))
        chosen.append(names[best])
        _write(out, {**info, "chosen": chosen})
    return Folds.open(out)


def divide(table: CellTable, folds: int | Literal["groups"], recipe: Recipe) -> CellTable:
    """The table with its folds: so many, grouped and stratified, or one a group.

    Raises:
        CytodistillError: the table has splits, or too few groups.
    """
    if (table.frame["split"] != "").any():
        raise CytodistillError(
            "--folds: the source has its own splits; leave --folds out, or give cells without splits"
        )
    if folds != "groups":
        return split_table(table, folds=int(folds), group=recipe.data.group, seed=recipe.seed)
    codes, names = pd.factorize(table.frame["group"], sort=True)
    if len(names) < 3:
        raise CytodistillError(
            f"--folds groups: the cells are of {len(names)} groups; training, validation and test need at least 3"
        )
    spread = table.frame.groupby("label")["group"].nunique()
    if spread.min() < 3:
        raise CytodistillError(
            f"--folds groups: class {spread.idxmin()!r} has cells of {spread.min()} groups; with fewer than 3 there "
            "are folds that train without it; gather more, or leave the class out"
        )
    return table.with_frame(table.frame.assign(fold=codes))


def _combinations(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def _claim(out: Path, info: dict[str, Any], resume: bool) -> None:
    """Make sure that ``out`` is free, or holds this very cross-validation and is to be resumed."""
    if is_folds(out):
        stored = json.loads((out / FILE).read_text(encoding="utf-8"))
        if not resume:
            raise CytodistillError(f"{out}: holds a cross-validation already; --resume continues it, or choose another")
        same = {key: value for key, value in stored.items() if key != "chosen"}
        if same != {key: value for key, value in info.items() if key != "chosen"}:
            raise CytodistillError(f"{out}: --resume goes on with the cells, folds and choices that it was begun with")
        return
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise CytodistillError(f"{out}: is not empty and holds no cross-validation; choose another folder")
    make_folder(out)
    _write(out, info)


def _write(out: Path, info: dict[str, Any]) -> None:
    atomic_write(out / FILE, (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode())

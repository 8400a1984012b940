"""compare: runs tested on the same cells; how far each is from the first, and whether that may be chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytodistill.data.table import BOX, CellTable
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.compare_view import comparison_figure, comparison_markdown, statement
from cytodistill.evaluation.differences import FIGURES, Answered, figures_of, fold_differences, group_differences
from cytodistill.evaluation.intervals import AUC_RESAMPLES
from cytodistill.evaluation.run import answers_to, source_name
from cytodistill.files import atomic_write, save_figure
from cytodistill.infer.cells import cells_to_judge
from cytodistill.infer.policies import weights_digest
from cytodistill.infer.predictor import Predictor, load
from cytodistill.metrics.intervals import LEVEL, RESAMPLES
from cytodistill.metrics.paired import grouped_mcnemar, holm
from cytodistill.train.folds import Folds, is_folds
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

FORMAT = 1
SEED = 0
OVER_GROUPS = "paired group bootstrap: difference ± Student's t times the standard error of the resamples"
OVER_FOLDS = "corrected resampled t over folds (Nadeau & Bengio, Machine Learning 52, 2003)"


@dataclass(frozen=True)
class Comparison:
    """``content`` as in comparison.json, and the ``files`` written: it, comparison.md and comparison.png."""

    content: dict[str, Any]
    files: list[Path]


@dataclass(frozen=True)
class _Part:
    """A run and the cells that test it: one of a run, one a fold of a cross-validation. ``rows`` of the ``table`` are
    in an order that does not depend on the run."""

    run: Run
    predictor: Predictor
    table: CellTable
    rows: np.ndarray
    said: pd.DataFrame


def compare(
    runs: Sequence[str | Path | Run | Folds],
    source: str | Path | CellTable | None = None,
    *,
    out: str | Path | None = None,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Comparison:
    """Differences of finished runs from the first of them, each with its interval and p-value.

    Runs are compared by a bootstrap that draws the same groups for both, and by a McNemar test that flips whole groups;
    cross-validations over the same folds by Nadeau and Bengio's corrected t, and by that McNemar test over the cells of
    all folds. It is the ensembles that are compared, with the probabilities as the networks give them. Where several
    are compared with the first, p-values are also corrected by Holm's step-down over the comparisons, figure by figure.

    Args:
        runs: two or more run folders, exported artifacts, or cross-validations; the first is the reference.
        source: labelled cells that none of the runs has seen; by default the runs' own test split, which must be the
            same cells.
        out: folder for the files; ``compare/<the others' names>`` in the first run's by default.
        format: source format, recognised by itself where None.
        device: "auto", "cpu" or "cuda".
        watcher: is told of progress.

    Raises:
        CytodistillError: a run cannot be used, the runs have other classes or test cells, the cells trained one of them
            or are of a single group, or there are fewer than two runs.

    Example:
        >>> compare(["runs/plain", "runs/distilled"]).content["comparisons"][0]["mcnemar"]["p"]  # doctest: +SKIP
        0.0413
    """
    watcher = watcher or Silent()
    if len(runs) < 2:
        raise CytodistillError(f"compare: {len(runs)} run is given; give two or more, the reference first")
    opened = [_open(run) for run in runs]
    folded = isinstance(opened[0], Folds)
    for one in opened[1:]:
        if isinstance(one, Folds) != folded:
            raise CytodistillError(
                f"{one.path}: a cross-validation and a single run have no test cells in common; compare like with like"
            )
    if folded and source is not None:
        raise CytodistillError(f"{source}: cross-validations are compared on their own folds; leave SOURCE out")
    models = [_parts(one, source, format, device) for one in opened]
    for other, one in zip(models[1:], opened[1:], strict=True):
        _check_alike(models[0], other, opened[0].path, one.path)
    where = source_name(source) or str(opened[0].path)
    _check_groups(np.concatenate([part.said["group"].to_numpy(object) for part in models[0]]), where)
    names = _names(opened)
    folder = Path(out) if out is not None else opened[0].path / "compare" / "+".join(Path(n).name for n in names[1:])

    order = models[0][0].run.classes
    answered = [[_answer(part, order, watcher) for part in model] for model in models]
    content = _content(opened, models, answered, names, source_name(source))
    comparison = Comparison(content, [folder / f"comparison.{kind}" for kind in ("json", "md", "png")])
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    atomic_write(comparison.files[0], f"{text}\n".encode("utf-8", "replace"))
    atomic_write(comparison.files[1], comparison_markdown(content).encode("utf-8", "replace"))
    save_figure(comparison_figure(content), comparison.files[2])
    return comparison


def is_run(path: str | Path) -> bool:
    """Whether a folder holds a run, an artifact or a cross-validation, and not cells."""
    return is_folds(path) or (Path(path) / "run.json").is_file()


def _open(run: str | Path | Run | Folds) -> Run | Folds:
    if isinstance(run, Run | Folds):
        return run
    return Folds.open(run) if is_folds(run) else Run.open(run)


def _names(opened: Sequence[Run | Folds]) -> list[str]:
    """Names of the folders, or their paths where two have the same name."""
    names = [one.path.absolute().name for one in opened]
    return names if len(set(names)) == len(names) else [str(one.path) for one in opened]


def _parts(one: Run | Folds, source: str | Path | CellTable | None, format: str | None, device: str) -> list[_Part]:
    parts = []
    for run in one.runs if isinstance(one, Folds) else [one]:
        predictor = load(run, device)
        table, rows, _ = cells_to_judge(run, source, "test", format)
        said = _said(table, rows)
        parts.append(_Part(run, predictor, table, rows[said.index], said.reset_index(drop=True)))
    return parts


def _said(table: CellTable, rows: np.ndarray) -> pd.DataFrame:
    """What says which cells these are, sorted; its index has where each stands in ``rows``.

    Of a window the middle counts: runs of other window sizes are shown the same cell.
    """
    frame = table.frame.iloc[rows].reset_index(drop=True)
    x, y, width, height = (frame[side].to_numpy(float) for side in BOX)
    middle = {"x": np.round(x + width / 2), "y": np.round(y + height / 2)}
    said = frame[["path", "label", "group"]].assign(**middle).fillna(-1.0)
    return said.sort_values(["path", "x", "y", "label", "group"], kind="stable")


def _check_alike(reference: list[_Part], other: list[_Part], first: Path, second: Path) -> None:
    ours, theirs = set(reference[0].run.classes), set(other[0].run.classes)
    if ours != theirs:
        lone = sorted(ours ^ theirs)[0]
        raise CytodistillError(
            f"{second}: other classes than {first}'s ({lone!r} is of one alone); compare runs of the same classes"
        )
    if len(reference) != len(other):
        raise CytodistillError(
            f"{second}: {len(other)} folds, and {first} has {len(reference)}; compare cross-validations of equal folds"
        )
    for fold, (one, another) in enumerate(zip(reference, other, strict=True)):
        if not one.said.equals(another.said):
            both = len(one.said.merge(another.said.drop_duplicates(), how="inner"))
            what = f"the test cells of fold {fold}" if len(reference) > 1 else "its test cells"
            raise CytodistillError(
                f"{second}: {what} are not those of {first} ({len(another.said)} and {len(one.said)}, {both} "
                "the same); compare runs of one manifest and split, or give cells that none of them has seen as SOURCE"
            )


def _check_groups(groups: np.ndarray, where: str) -> None:
    if len(np.unique(groups)) < 2:
        raise CytodistillError(
            f"{where}: its {len(groups)} test cells are all of the group {groups[0]!r}, and a comparison needs two "
            "groups or more; add cells of others"
        )


def _answer(part: _Part, order: tuple[str, ...], watcher: Watcher) -> Answered:
    answers = answers_to(part.predictor, part.table, part.rows, watcher)
    columns = [part.run.classes.index(name) for name in order]
    labels = part.said["label"].map({name: code for code, name in enumerate(order)}).to_numpy(np.int64)
    trained = int(np.sum(part.run.info["table"]["counts"]["train"]))
    return Answered(answers.probabilities[:, columns], labels, part.said["group"].to_numpy(object), trained)


def _content(
    opened: Sequence[Run | Folds],
    models: list[list[_Part]],
    answered: list[list[Answered]],
    names: list[str],
    source: str | None,
) -> dict[str, Any]:
    folded = isinstance(opened[0], Folds)
    reference = answered[0]
    labels, groups = (np.concatenate([getattr(part, what) for part in reference]) for what in ("labels", "groups"))
    comparisons = [
        _against(name, reference, other, folded) for name, other in zip(names[1:], answered[1:], strict=True)
    ]
    _correct(comparisons)
    content = {
        "format": FORMAT,
        "kind": "folds" if folded else "runs",
        "reference": names[0],
        "source": source,
        "cells": len(labels),
        "groups": len(np.unique(groups)),
        "folds": len(reference) if folded else None,
        "classes": list(models[0][0].run.classes),
        "level": LEVEL,
        "method": OVER_FOLDS if folded else OVER_GROUPS,
        "resamples": None if folded else {"counted figures": RESAMPLES, "auc and nll": AUC_RESAMPLES},
        "seed": SEED,
        "runs": [
            {
                "name": name,
                "fingerprint": [part.run.info["fingerprint"] for part in model],
                "weights": [weights_digest(part.run) for part in model],
                "figures": _means([figures_of(part) for part in own]),
            }
            for name, model, own in zip(names, models, answered, strict=True)
        ],
        "comparisons": comparisons,
    }
    content["statements"] = [statement(content, comparison) for comparison in comparisons]
    return content


def _against(name: str, reference: list[Answered], other: list[Answered], folded: bool) -> dict[str, Any]:
    """One model less the reference: its figures, and which cells only one of the two has right."""
    differences: dict[str, Any] = (
        dict(fold_differences(other, reference)) if folded else dict(group_differences(other[0], reference[0]))
    )
    ours, theirs = (np.concatenate([part.correct for part in of]) for of in (other, reference))
    test = grouped_mcnemar(ours, theirs, np.concatenate([part.groups for part in reference]), seed=SEED)
    return {
        "name": name,
        "differences": {figure: asdict(found) for figure, found in differences.items()},
        "mcnemar": {
            "only_this": int((ours & ~theirs).sum()),
            "only_reference": int((theirs & ~ours).sum()),
            **asdict(test),
        },
    }


def _correct(comparisons: list[dict[str, Any]]) -> None:
    """Add ``p_holm``: p corrected over the comparisons with the reference, each figure and the test by itself."""
    tests = [[entry["mcnemar"] for entry in comparisons]]
    tests += [[entry["differences"][name] for entry in comparisons if name in entry["differences"]] for name in FIGURES]
    for family in tests:
        if family:
            for entry, corrected in zip(family, holm([entry["p"] for entry in family]).tolist(), strict=True):
                entry["p_holm"] = corrected


def _means(parts: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Of the folds that define a figure; of a run its own."""
    found: dict[str, float | None] = {}
    for name in FIGURES:
        known = [value for part in parts if (value := part[name]) is not None]
        found[name] = float(np.mean(known)) if known else None
    return found

"""fit: a source of labelled cells in, a run folder out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytodistill.data.cache import DeviceCells, cached_cells
from cytodistill.data.prepare import prepare_table
from cytodistill.data.table import SPLITS, CellTable
from cytodistill.distill import Pretraining
from cytodistill.errors import CytodistillError
from cytodistill.files import make_folder
from cytodistill.models.count import count_parameters
from cytodistill.recipe import Recipe
from cytodistill.train.curves import learning_curves
from cytodistill.train.distributed import Ranks, ranks_of_job
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.loop import Job, Trainer
from cytodistill.train.plan import Plan, make_plan, show_stages
from cytodistill.train.run_folder import FORMAT, Run, environment, sole_writer
from cytodistill.train.sampling import least_batch
from cytodistill.train.teacher import FrozenTeacher

if TYPE_CHECKING:
    from cytodistill.train.estimator import EstimatorPlan

PRETRAINING = "pretraining"
"""Folder in a run of the stage that a method has before the training."""


def fit(
    source: str | Path | CellTable,
    out: str | Path,
    *,
    recipe: str | Path | Recipe | None = None,
    teacher: str | None = None,
    pretrained: str | None = None,
    settings: Sequence[str] | dict[str, Any] = (),
    resume: bool = False,
    format: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Run:
    """Train a classifier: transfer learning, the teacher's fine-tuning where one is named, then the student.

    Args:
        source: folder, zip or manifest of labelled cells, or a table of them.
        out: the run folder; it must not hold another run.
        recipe: name, YAML file or Recipe; "quick" by default, on resuming the run's own.
        teacher: ``teacher.source`` (a timm name, weight file, run folder or "none").
        pretrained: ``student.pretrained`` ("imagenet", "none", a weight file or run folder).
        settings: ``section.key=value`` strings or a dotted mapping, applied last.
        resume: go on with the run in ``out`` from its last checkpoint; a finished run is returned as it is, and where
            there is none yet the run starts.
        format: source format; recognised by itself where None.
        device: "auto", "cpu" or "cuda". Under torchrun every rank calls ``fit`` alike.
        watcher: is told of progress.

    Raises:
        CytodistillError: whatever is wrong with data, recipe, folder or weights, before the folder is made.
    """
    out = Path(out)
    watcher = watcher or Silent()
    stored = _stored_run(out, resume)
    chosen = _choose_recipe(recipe, teacher, pretrained, settings, stored)
    with ranks_of_job(device) as ranks:
        watcher = watcher if ranks.first else Silent()
        table = prepare_table(source, chosen, format)
        named = "a table" if isinstance(source, CellTable) else str(source)
        if stored and stored.info["table"]["digest"] != table.digest():
            raise CytodistillError(
                f"{out}: --resume goes on with the cells and splits that the run was begun with, and {named} has "
                "others; give the same, or choose another folder"
            )
        if stored and stored.finished:
            watcher.say(f"{out}: finished already")
            return stored
        return _fit(table, out, chosen, named, ranks, watcher)


def _fit(
    table: CellTable, out: Path, recipe: Recipe, source: str, ranks: Ranks, watcher: Watcher, stage: str = "student"
) -> Run:
    if recipe.estimator.head != "none":
        return _fit_estimator(table, out, recipe, source, ranks, watcher)
    plan = make_plan(recipe, table)
    data, smallest = recipe.data, min(recipe.train.batch_size, len(table.indices("train")))
    least = least_batch(recipe.train, ranks)
    if smallest < least:
        raise CytodistillError(
            f"train.batch_size={recipe.train.batch_size}: a batch of {smallest} cells leaves some of the {ranks.world} "
            f"ranks with fewer than {least // ranks.world}; raise it, or start fewer processes"
        )
    _say_transfer(plan, stage, watcher)
    with ranks.first_then_others():
        cells = cached_cells(
            table, data.image_size, data.resize, lambda done, total: watcher.step("decode", done, total)
        )
    with sole_writer(out) if ranks.first else nullcontext():
        _train(plan, out, cells, source, ranks, watcher, stage)
    ranks.barrier()
    return Run.open(out)


def _fit_estimator(table: CellTable, out: Path, recipe: Recipe, source: str, ranks: Ranks, watcher: Watcher) -> Run:
    """A fit without epochs, which the first of several ranks does alone."""
    # Here and not above: other recipes need no scikit-learn, which takes a second to import.
    from cytodistill.train.estimator import plan_estimator, read_inputs, train_estimator

    plan = plan_estimator(recipe, table)
    _say_transfer(plan, "student", watcher)
    with ranks.first_then_others():
        if ranks.first:
            cells = read_inputs(plan, watcher)
            with sole_writer(out):
                run = Run(out, _describe(plan, source, fingerprint(recipe, table), ranks))
                table.write(out / "manifest.csv")
                run.write()
                train_estimator(plan, run, cells, ranks.device, watcher)
    return Run.open(out)


def _say_transfer(plan: Plan | EstimatorPlan, stage: str, watcher: Watcher) -> None:
    transfer = plan.transfer
    if transfer.source != "none":
        total = transfer.loaded + len(transfer.fresh)
        watcher.say(f"{stage}: {transfer.loaded} of {total} tensors from {transfer.source}, the others fresh")


def _train(plan: Plan, out: Path, cells: np.ndarray, source: str, ranks: Ranks, watcher: Watcher, stage: str) -> None:
    """From here on the run folder exists: describe the run, fine-tune its teacher, train it."""
    recipe, table = plan.recipe, plan.table
    mark = fingerprint(recipe, table)
    run = Run(out, _describe(plan, source, mark, ranks))
    if ranks.first:
        table.write(out / "manifest.csv")
        run.write()
    ranks.barrier()
    teacher = None
    if plan.teacher is not None:
        taught_by = plan.teacher.run
        if taught_by is None:
            assert plan.teacher.recipe is not None
            taught_by = _fit_teacher(plan.teacher.recipe, table, out / "teacher", source, ranks, watcher)
        network = taught_by.network()
        show_stages(network, recipe)
        teacher = FrozenTeacher(network, ranks.device)
        run.info["teacher"] = _describe_teacher(recipe, taught_by)
    job = Job(
        recipe=recipe,
        classes=table.classes,
        network=plan.network,
        method=plan.method,
        teacher=teacher,
        cells=DeviceCells(cells, ranks.device),
        labels=table.labels,
        train_rows=table.indices("train"),
        val_rows=table.indices("val"),
        folder=out,
        fingerprint=mark,
        ranks=ranks,
        watcher=watcher,
        stage=stage,
    )
    before = 0.0
    if (pretraining := plan.method.pretraining()) is not None:
        before = Trainer(_stage_before(job, pretraining)).run()["seconds"]
    result = Trainer(job).run()
    result["seconds"] = round(result["seconds"] + before, 1)
    if ranks.first:
        learning_curves(out / "log.jsonl", out / "report" / "learning_curves.png")
        run.info.update(status="finished", result=result)
        run.write()
        for folder in (out, out / PRETRAINING):
            (folder / "checkpoint.pt").unlink(missing_ok=True)  # a finished run has nothing to resume


def _stage_before(job: Job, pretraining: Pretraining) -> Job:
    """The method's stage before the training, as a job of its own in RUN/pretraining: its own optimiser and schedule,
    no validation, and at its end a checkpoint in which it stays done."""
    train = job.recipe.train
    stretched = (round(milestone * pretraining.epochs / train.epochs) for milestone in train.milestones)
    settings = {
        "epochs": pretraining.epochs,
        "cycles": 1,
        "ema": 0.0,
        "warmup_epochs": train.warmup_epochs * pretraining.epochs / train.epochs,
        "milestones": [milestone for milestone in stretched if 0 < milestone < pretraining.epochs],
        **pretraining.train,
    }
    recipe = job.recipe.override({f"train.{key}": value for key, value in settings.items()})
    folder = make_folder(job.folder / PRETRAINING) if job.ranks.first else job.folder / PRETRAINING
    return replace(
        job,
        recipe=recipe,
        val_rows=job.val_rows[:0],
        folder=folder,
        stage=f"{job.stage}, first stage",
        pretraining=pretraining,
    )


def _fit_teacher(recipe: Recipe, table: CellTable, out: Path, source: str, ranks: Ranks, watcher: Watcher) -> Run:
    stored = _stored_run(out, resume=True)
    if stored and stored.finished:
        return stored
    return _fit(table, out, recipe, source, ranks, watcher, stage="teacher")


def _stored_run(out: Path, resume: bool) -> Run | None:
    """The run in ``out`` that is to be resumed, if there is one."""
    if (out / "run.json").is_file():
        if not resume:
            raise CytodistillError(f"{out}: holds a run already; --resume continues it, or choose another folder")
        return Run.open(out)
    # A run that was killed at its very start has left the manifest alone.
    known = {"manifest.csv"} if resume else set()
    if out.is_file() or (out.is_dir() and any(e.name[0] != "." and e.name not in known for e in out.iterdir())):
        raise CytodistillError(f"{out}: is not empty and not a run folder; choose another folder")
    return None


def _choose_recipe(
    recipe: str | Path | Recipe | None,
    teacher: str | None,
    pretrained: str | None,
    settings: Sequence[str] | dict[str, Any],
    stored: Run | None,
) -> Recipe:
    named = recipe if recipe is not None else (stored.recipe if stored else "quick")
    chosen = named if isinstance(named, Recipe) else Recipe.load(named)
    given = {"teacher.source": teacher, "student.pretrained": pretrained}
    chosen = chosen.override({key: value for key, value in given.items() if value is not None})
    chosen = chosen.override(settings if isinstance(settings, dict) else list(settings))
    if stored and chosen != stored.recipe:
        raise CytodistillError(
            f"{stored.path}: --resume continues with the run's own recipe, and "
            f"{_first_difference(chosen, stored.recipe)}; leave the settings out, or choose another folder"
        )
    return chosen


def _first_difference(chosen: Recipe, stored: Recipe) -> str:
    def flat(recipe: Recipe) -> dict[str, Any]:
        return {
            f"{section}.{key}" if isinstance(value, dict) else section: setting
            for section, value in recipe.model_dump(mode="json").items()
            for key, setting in (value.items() if isinstance(value, dict) else [("", value)])
        }

    ours, theirs = flat(chosen), flat(stored)
    key = next(key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key))
    return f"{key} is {ours.get(key)!r} now and {theirs.get(key)!r} there"


def fingerprint(recipe: Recipe, table: CellTable) -> str:
    """Hash of all that a run is made from: every setting, the cells, their splits."""
    said = json.dumps(recipe.model_dump(mode="json"), sort_keys=True) + table.digest()
    return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()


def _describe(plan: Plan | EstimatorPlan, source: str, fingerprint: str, ranks: Ranks) -> dict[str, Any]:
    recipe, table = plan.recipe, plan.table
    counts = {
        split: np.bincount(table.labels[table.indices(split)], minlength=len(table.classes)).tolist()
        for split in SPLITS
    }
    return {
        "format": FORMAT,
        "status": "training",
        "recipe": recipe.model_dump(mode="json"),
        "seed": recipe.seed,
        "classes": list(table.classes),
        "preprocessing": recipe.data.model_dump(mode="json", include={"image_size", "resize", "window", "mean", "std"}),
        "table": {
            "digest": table.digest(),
            "source": source,
            "format": table.format,
            "cells": len(table),
            "groups": int(table.frame["group"].nunique()),
            "counts": counts,
            "windowed": table.is_windowed(recipe.data.window),
        },
        "exits": plan.network.exits,
        "parameters": count_parameters(plan.network),
        "transfer": {
            "source": plan.transfer.source,
            "tensors_loaded": plan.transfer.loaded,
            "tensors_fresh": len(plan.transfer.fresh),
        },
        "fingerprint": fingerprint,
        "ranks": ranks.world,
        **environment(ranks.device),
    }


def _describe_teacher(recipe: Recipe, run: Run) -> dict[str, Any]:
    return {
        "source": recipe.teacher.source,
        "backbone": run.recipe.student.backbone,
        "parameters": run.info["parameters"],
        "run": run.info["fingerprint"],
        "result": run.info.get("result"),
    }

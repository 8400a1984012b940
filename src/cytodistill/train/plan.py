"""All that a run needs, checked and built before a file is touched: what is wrong then leaves nothing behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from cytodistill.data.table import CellTable
from cytodistill.distill import CrossEntropy, Method, build_method, method_class, method_settings
from cytodistill.errors import CytodistillError
from cytodistill.models.backbone import check_backbone, is_backbone
from cytodistill.models.multi_exit import Network, build_network, check_network
from cytodistill.models.outputs import OutputShapes
from cytodistill.models.preactivations import keep_preactivations
from cytodistill.models.weights import Transfer, load_pretrained
from cytodistill.recipe import Recipe
from cytodistill.train.leaks import refuse_seen
from cytodistill.train.log import summary_writer
from cytodistill.train.run_folder import Run
from cytodistill.train.sampling import class_weights
from cytodistill.train.teacher import backbone_of, is_file, open_teacher_run, teacher_recipe


@dataclass
class TeacherPlan:
    """Where the teacher comes from: a finished ``run``, or the ``recipe`` of the run that makes it."""

    shapes: OutputShapes
    run: Run | None = None
    recipe: Recipe | None = None


@dataclass
class Plan:
    """A run that can start: its network with its first weights, its method, and its teacher where it has one."""

    recipe: Recipe
    table: CellTable
    network: Network
    transfer: Transfer
    method: Method
    teacher: TeacherPlan | None


def make_plan(recipe: Recipe, table: CellTable) -> Plan:
    """Check the recipe against the cells and build what it asks for.

    Raises:
        CytodistillError: a setting that does not fit, or weights or a teacher that cannot be had.
    """
    check_network(recipe.student.backbone, "student.backbone")
    kind = method_class(recipe.method.name)
    method_settings(recipe.method.name, recipe.method.settings)
    if recipe.train.tensorboard:
        summary_writer()
    wants_teacher = recipe.teacher.source != "none"
    if "teacher" in kind.needs and not wants_teacher:
        raise CytodistillError(
            f"method.name={recipe.method.name}: needs a teacher; give --teacher NAME, FILE or RUN, or another method"
        )
    if "snapshot" in kind.needs and recipe.train.cycles < 2:
        raise CytodistillError(
            f"method.name={recipe.method.name}: learns from what an earlier cycle of the rate ended with, and "
            f"train.cycles={recipe.train.cycles}; set train.cycles=2 or more"
        )
    if wants_teacher and "teacher" not in kind.needs | kind.uses:
        raise CytodistillError(
            f"method.name={recipe.method.name}: does not learn from a teacher; set --teacher none, or another method"
        )
    classes, side = len(table.classes), recipe.data.image_size
    network = build_network(recipe.student, classes, side, recipe.seed)
    show_stages(network, recipe)
    check_pretrained_run(recipe.student.pretrained, table)
    transfer = load_pretrained(network, recipe.student.backbone, recipe.student.pretrained)
    teacher = _plan_teacher(recipe, table) if wants_teacher else None
    if recipe.student.multi_exit and not kind.trains_every_exit:
        raise CytodistillError(
            f"method.name={recipe.method.name}: trains the deepest exit alone and would leave the others as they were "
            "drawn; set student.multi_exit=false, or a method that trains every exit"
        )
    weights = class_weights(torch.from_numpy(table.labels[table.indices("train")]), classes, recipe.train.imbalance)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        method = build_method(
            recipe.method.name,
            recipe.method.settings,
            CrossEntropy(weights, recipe.train.label_smoothing),
            OutputShapes.of(network, side),
            teacher.shapes if teacher else None,
        )
        if "cells" in kind.needs:
            rows = torch.from_numpy(table.indices("train"))
            method.see_cells(rows, torch.from_numpy(table.labels)[rows])
    return Plan(recipe, table, network, transfer, method, teacher)


def check_pretrained_run(source: str, table: CellTable) -> None:
    """A run to start from must be finished and must not have seen the test cells."""
    if not (Path(source) / "run.json").is_file():
        return
    run = Run.open(source)
    if not run.finished:
        raise CytodistillError(f"student.pretrained={source}: that run is not finished; resume it first")
    refuse_seen(
        run,
        table,
        table.indices("test"),
        f"student.pretrained={source}: {{seen}} of the {{all}} test cells trained that run; start from one that was "
        "fitted on the same manifest (same seed)",
    )


def show_stages(network: Network, recipe: Recipe) -> None:
    """Have a student or teacher show the stage maps that the recipe's method compares, and what stands before their
    activations where it compares those."""
    kind = method_class(recipe.method.name)
    wanted = kind.needs | kind.uses
    if "preactivations" in wanted:
        network.keep_maps = True
        keep_preactivations(network, recipe.data.image_size)
    elif "maps" in wanted:
        network.keep_maps = True


def _plan_teacher(recipe: Recipe, table: CellTable) -> TeacherPlan:
    """A run folder is a finished teacher; a name or weight file is fine-tuned on the same training cells first."""
    teacher, side = recipe.teacher, recipe.data.image_size
    if Path(teacher.source).is_dir():
        run = open_teacher_run(teacher.source, table.classes)
        for key in ("image_size", "resize", "mean", "std"):
            theirs, ours = getattr(run.recipe.data, key), getattr(recipe.data, key)
            if theirs != ours:
                raise CytodistillError(
                    f"teacher.source={teacher.source}: fitted with data.{key}={theirs}, the student has {ours}; "
                    "both see the same images, so give both the same"
                )
        refuse_seen(
            run,
            table,
            table.indices("test"),
            f"teacher.source={teacher.source}: {{seen}} of the {{all}} test cells trained that teacher; fit it on the "
            "same manifest (same seed), so that both leave out the same cells",
        )
        network = run.network()
        show_stages(network, recipe)
        return TeacherPlan(OutputShapes.of(network, side), run=run)
    backbone, pretrained = backbone_of(teacher)
    if (is_file(teacher.source) or "/" in teacher.source) and not Path(teacher.source).is_file():
        raise CytodistillError(f"teacher.source={teacher.source!r}: no such weight file or run folder; check the path")
    if not is_file(teacher.source):
        check_backbone(teacher.source, "teacher.source")
    elif teacher.backbone is None and not is_backbone(backbone):
        raise CytodistillError(
            f"teacher.source={teacher.source!r}: the file's name does not say which network it is of; "
            "set teacher.backbone to its timm name"
        )
    check_backbone(backbone, "teacher.backbone")
    own = teacher_recipe(recipe)
    # Built here for its shapes and errors: the teacher's own fit builds it again when its turn comes.
    network = build_network(own.student, len(table.classes), side, own.seed)
    show_stages(network, recipe)
    load_pretrained(
        network, backbone, pretrained, "teacher.source" if is_file(teacher.source) else "teacher.pretrained"
    )
    return TeacherPlan(OutputShapes.of(network, side), recipe=own)

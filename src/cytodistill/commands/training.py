"""demo, fit and model: what makes a classifier, and what it will cost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import AsJson, Device, DeviceOption, Format, Grouping, RecipeOption, Settings, Source
from cytodistill.errors import CytodistillError


def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to; an earlier demo there is replaced.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Synthetic cells → teacher → student → report, in minutes on two cores."""
    from cytodistill.demo import run_demo
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        run_demo(out, terminal)


def fit(
    source: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="The run folder to make.", metavar="RUN")],
    recipe: RecipeOption = None,
    teacher: Annotated[str | None, typer.Option(help="timm name, weight file, run folder, or none.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="imagenet, weight file, run folder, or none.")] = None,
    settings: Settings = None,
    group: Annotated[Grouping | None, typer.Option(help="none: cells of a group may be in two splits.")] = None,
    folds: Annotated[
        str | None, typer.Option(help="Cross-validate: so many folds, or `groups` to leave one group out at a time.")
    ] = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(help="With --folds: section.key=[a, b], the best of which each fold's validation cells choose."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Train a classifier: transfer learning, teacher, student. Under torchrun, on several processes."""
    from cytodistill.terminal import Terminal
    from cytodistill.train.fit import fit as fit_run

    chosen = [*([f"data.group={group.value}"] if group else []), *(settings or [])]
    if choose and folds is None:
        raise CytodistillError("--choose: chooses inside each fold; give --folds too")
    if folds is not None:
        from cytodistill.recipe import parse_choices
        from cytodistill.train.folds import fit_folds

        if folds != "groups" and not folds.isdigit():
            raise CytodistillError(f"--folds {folds}: give a number of folds, or groups")
        with Terminal() as terminal:
            fit_folds(
                source,
                out,
                "groups" if folds == "groups" else int(folds),
                recipe=recipe,
                teacher=teacher,
                pretrained=pretrained,
                settings=chosen,
                choices=parse_choices(choose or []),
                resume=resume,
                format=format,
                device=device.value,
                watcher=terminal,
            )
        terminal.result(f"{out}: every fold is finished; now `cytodistill evaluate {out}`")
        return
    with Terminal() as terminal:
        run = fit_run(
            source,
            out,
            recipe=recipe,
            teacher=teacher,
            pretrained=pretrained,
            settings=chosen,
            resume=resume,
            format=format,
            device=device.value,
            watcher=terminal,
        )
    if os.environ.get("RANK", "0") == "0":
        result = run.info["result"]
        terminal.result(
            f"{out}: best epoch {result['best_epoch'] + 1}, {result['seconds']:.0f} s; now `cytodistill evaluate {out}`"
        )


def model(
    recipe: RecipeOption = None,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 5,
    size: Annotated[int | None, typer.Option(min=16, max=1024, help="Image side in pixels; the recipe's.")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Parameters and multiply-accumulates (MACs) of a recipe's student, whole and up to each exit."""
    from cytodistill.models.count import network_cost
    from cytodistill.models.multi_exit import build_network, check_network
    from cytodistill.recipe import Recipe
    from cytodistill.terminal import Terminal, cost_table

    chosen = Recipe.load(recipe or "quick").override(settings or [])
    if size is not None:
        chosen = chosen.override({"data.image_size": size})
    if chosen.estimator.head != "none":
        raise CytodistillError("estimator.head: `model` counts networks; set estimator.head=none for the network alone")
    check_network(chosen.student.backbone, "student.backbone")
    side = chosen.data.image_size
    cost = network_cost(build_network(chosen.student, classes, side, chosen.seed), side)
    if as_json:
        print(json.dumps({"recipe": chosen.name, "classes": classes, "image_size": side, **cost.to_dict()}, indent=2))
    else:
        Terminal().out.print(cost_table(chosen, classes, cost))

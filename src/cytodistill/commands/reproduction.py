"""reproduce: a table of the paper on your own cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, Format, Settings
from cytodistill.errors import CytodistillError


def reproduce(
    table: Annotated[str, typer.Argument(help="table2, table3, table4, table5 or table6.")],
    source: Annotated[str | None, typer.Argument(help="Folder, zip or manifest CSV of labelled cells.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the runs and the tables.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="quick (the default), cifar100 (Table 6's default), paper, or a YAML file.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each draws its own split and training.")] = 3,
    folds: Annotated[
        int | None, typer.Option(help="Grouped cross-validation with so many folds, in place of seeds.")
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows to run, by name, system or pattern (* for all, with those beyond the paper); may be repeated."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every row; milestones are moved along.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Network of the teacher; the paper's by default.")] = None,
    students: Annotated[str | None, typer.Option(help="Networks of Table 6's students, with commas between.")] = None,
    weights: Annotated[
        str, typer.Option(help="Where networks start: imagenet, none, or a folder of <network>.safetensors.")
    ] = "imagenet",
    workers: Annotated[int, typer.Option(min=1, help="Runs side by side, through Ray (extra `scale`).")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and how long it would take.")] = False,
    settings: Settings = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Run a table of the paper on your own cells: same splits and budget for every row; resumable."""
    from cytodistill.recipe import Recipe
    from cytodistill.reproduce import run
    from cytodistill.terminal import Terminal, plan_table

    chosen = Recipe.load(recipe or ("cifar100" if table == "table6" else "quick")).override(settings or [])
    if epochs:
        chosen = chosen.shortened(epochs)
    choice = run.choose(
        table,
        chosen,
        rows=rows or (["*"] if dry_run else []),
        teacher=teacher,
        students=students.split(",") if students else (),
        weights=weights,
    )
    draws = folds or seeds
    with Terminal() as terminal:
        if dry_run:
            planned = run.plan(choice, source, recipe=chosen, format=format, device=device.value, watcher=terminal)
            terminal.out.print(plan_table(planned, draws))
            return
        if source is None or out is None:
            raise CytodistillError(f"reproduce {table}: give SOURCE and -o FOLDER; --dry-run alone does without them")
        file = run.reproduce(
            choice,
            source,
            out,
            recipe=chosen,
            seeds=seeds,
            folds=folds,
            format=format,
            device=device.value,
            workers=workers,
            watcher=terminal,
        )
    terminal.result(file.with_suffix(".md").read_text(encoding="utf-8"))
    terminal.result(f"{file.with_suffix('.html')}")

"""audit: how much a random split would flatter, and what leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, Format, RecipeOption, Settings, Source


def audit(
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for the runs and the findings; runs/audit-SOURCE.", metavar="DIR"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each draws its own splits and trainings.")] = 3,
    data_only: Annotated[
        bool, typer.Option("--data-only", help="Groups, copies and leaks alone; no training.")
    ] = False,
    recipe: RecipeOption = None,
    teacher: Annotated[str | None, typer.Option(help="timm name, weight file, or none (the default).")] = None,
    pretrained: Annotated[str | None, typer.Option(help="imagenet, weight file, run folder, or none.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every run; milestones are moved along.")] = None,
    settings: Settings = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """The same model under a random and a grouped split, copies across splits, doubtful labels; resumable."""
    from cytodistill.audit import audit as run_audit
    from cytodistill.audit.report import grids, rich_table, verdict
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        found = run_audit(
            source,
            out or Path("runs", f"audit-{Path(source).stem}"),
            seeds=seeds,
            recipe=recipe,
            teacher=teacher,
            pretrained=pretrained,
            settings=settings or [],
            epochs=epochs,
            data_only=data_only,
            format=format,
            device=device.value,
            watcher=terminal,
        )
    for grid in grids(found.content):
        terminal.out.print(rich_table(grid))
        terminal.out.print()
    for line in verdict(found.content):
        terminal.result(line)
    for file in found.files[1:]:
        terminal.result(str(file))

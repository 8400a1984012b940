"""evaluate and explain: how good a run is, and where it looked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, Format, OwnOrOtherCells, RunFolder, Split
from cytodistill.errors import CytodistillError


def evaluate(
    run: RunFolder,
    source: OwnOrOtherCells = None,
    split: Annotated[
        str | None, typer.Option(help="test (by default), val, train or all; of an external SOURCE all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the files; RUN/report, or RUN/external/SOURCE.")
    ] = None,
    class_map: Annotated[
        str | None, typer.Option("--map", help="What the run's classes count as: a map's name or file.")
    ] = None,
    source_map: Annotated[
        str | None, typer.Option(help="The map of SOURCE's classes, where these are not the run's.")
    ] = None,
    one_group: Annotated[
        bool, typer.Option("--one-group", help="Accept cells of a single group; there are no intervals then.")
    ] = False,
    folds: Annotated[str | None, typer.Option(hidden=True)] = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Figures of each exit and the ensemble, of a run or a cross-validation; writes a report, a model card and JSON."""
    from cytodistill.evaluation import metrics_table
    from cytodistill.evaluation.external import evaluate_external, external_lines
    from cytodistill.evaluation.folds import evaluate_folds
    from cytodistill.evaluation.run import evaluate as evaluate_run
    from cytodistill.evaluation.trust import trust_lines
    from cytodistill.terminal import Terminal
    from cytodistill.train.folds import is_folds

    if folds is not None:
        raise CytodistillError(
            f"--folds {folds}: a finished run has been trained once; fit a cross-validation with `cytodistill fit "
            f"SOURCE -o CV --folds {folds}`, and `cytodistill evaluate CV` tests every fold"
        )
    with Terminal() as terminal:
        if is_folds(run):
            if source is not None or source_map is not None or split not in (None, "test"):
                raise CytodistillError(
                    f"{run}: a cross-validation is evaluated on its own test cells; leave out the rest"
                )
            found = evaluate_folds(run, out=out, class_map=class_map, device=device.value, watcher=terminal)
        elif source_map is not None:
            if source is None or class_map is None:
                raise CytodistillError(
                    "--source-map: is for an external test; give SOURCE and the --map of the run's classes too"
                )
            found = evaluate_external(
                run,
                source,
                class_map=class_map,
                source_map=source_map,
                split=split,
                out=out,
                format=format,
                device=device.value,
                one_group=one_group,
                watcher=terminal,
            )
        else:
            found = evaluate_run(
                run,
                source,
                split=split,
                out=out,
                class_map=class_map,
                format=format,
                device=device.value,
                one_group=one_group,
                watcher=terminal,
            )
    terminal.out.print(metrics_table(found.metrics))
    for line in (*external_lines(found.metrics), *trust_lines(found.metrics)):
        terminal.result(line)
    for file in found.files:
        if file.name in ("metrics.json", "predictions.csv", "report.html"):
            terminal.result(str(file))


def explain(
    run: RunFolder,
    source: OwnOrOtherCells = None,
    split: Split = "test",
    limit: Annotated[int, typer.Option(min=1, help="Cells: wrong and doubtful ones first, each class in turn.")] = 24,
    method: Annotated[str, typer.Option(help="hirescam, gradcam or gradcam++.")] = "hirescam",
    at: Annotated[str, typer.Option(help="tap (what an exit is given) or branch (its last map).")] = "tap",
    of: Annotated[str | None, typer.Option(help="Class to explain; by default each exit's own answer.")] = None,
    contours: Annotated[str | None, typer.Option(help="auto, file, segment or none.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the files; RUN/explain.")] = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Where each exit looked, cell by cell, and whether such a map means anything."""
    from cytodistill.explain.entries import verdict_lines
    from cytodistill.explain.run import explain as explain_run
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        found = explain_run(
            run,
            source,
            split=split,
            limit=limit,
            method=method,  # type: ignore[arg-type]
            at=at,  # type: ignore[arg-type]
            of=of,
            contours=contours,
            out=out,
            format=format,
            device=device.value,
            watcher=terminal,
        )
    for line in verdict_lines(found.content):
        terminal.result(line)
    for file in found.files[:2]:
        terminal.result(str(file))
    terminal.result(f"{len(found.files) - 2} panels in {found.files[0].parent / 'maps'}")

"""predict: answers for cells without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Cut, Device, DeviceOption, Format


def predict(
    run: Annotated[Path, typer.Argument(help="Run folder or exported artifact.", metavar="RUN")],
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders, zips or manifests.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help=".csv or .jsonl; of --cells .geojson or .json (COCO) too; by default CSV to stdout."
        ),
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(
            help="Cells of the one field or slide that is given: GeoJSON, COCO or CSV.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    cut: Annotated[
        Cut | None, typer.Option(help="Of cells with outlines: what they span, or the run's window round them.")
    ] = None,
    microns_per_pixel: Annotated[
        float | None, typer.Option(min=0.001, max=20, help="Pixel size of the field, where it does not say it itself.")
    ] = None,
    ignore_pixel_size: Annotated[
        bool, typer.Option("--ignore-pixel-size", help="Cut cells as if the pixels were those of the training.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="The network's own probabilities, not calibrated.")] = False,
    operating_point: Annotated[
        str | None, typer.Option(help="Decide by one of the run's, such as sensitivity-0.95.", metavar="NAME")
    ] = None,
    sets: Annotated[
        str | None, typer.Option(help="Conformal sets, by default lac-0.9-by-group; none.", metavar="NAME")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Stop early by one of the run's exit policies.", metavar="NAME")
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(help="Also one row a field, slide or patient, with a decision: a .csv file.", metavar="FILE"),
    ] = None,
    group_point: Annotated[
        str | None, typer.Option(help="What decides there; by default max-sensitivity-0.95.", metavar="NAME")
    ] = None,
    format: Format = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Cells computed at once.")] = 64,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Cores for the network (of each worker); all by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes, through Ray: here, or on RAY_ADDRESS's cluster.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a file that was left unfinished.")] = False,
    device: DeviceOption = Device.auto,
) -> None:
    """Predict every image; files that cannot be read are listed and passed over."""
    from cytodistill.formats.pixel_size import PixelSize
    from cytodistill.infer.batch import predict as predict_all
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        done = predict_all(
            run,
            inputs,
            out,
            raw=raw,
            policy=policy,
            operating_point=operating_point,
            sets=sets,
            format=format,
            batch_size=batch_size,
            device=device.value,
            threads=threads,
            workers=workers,
            resume=resume,
            cells=cells,
            cut=cut.value if cut else None,
            pixels=PixelSize(microns_per_pixel, ignore_pixel_size) if microns_per_pixel or ignore_pixel_size else None,
            groups=groups,
            group_point=group_point,
            watcher=terminal,
        )
    for problem in done.problems:
        terminal.err.print(f"passed over: {problem}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if done.passed_over > len(done.problems):
        more = done.passed_over - len(done.problems)
        terminal.err.print(f"… and {more} more; the error column has them all", style="yellow")
    if out is not None:
        applied = "".join(f", {words}" for words in done.applied)
        terminal.result(
            f"{out}: {done.cells - done.passed_over} cells predicted, {done.passed_over} passed over{applied}"
        )
    if done.groups is not None:
        rows = done.groups
        silent = f", {rows.unanswered} without an answer" if rows.unanswered else ""
        terminal.result(f"{rows.file}: {rows.groups} groups, {rows.abnormal} abnormal by {rows.name}{silent}")
    if done.cells and done.passed_over == done.cells:
        raise typer.Exit(1)

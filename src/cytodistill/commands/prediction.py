"""predict: answers for cells without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, Format, RunFolder


def predict(
    run: RunFolder,
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders, zips or manifests.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help=".csv or .jsonl; by default CSV to stdout.")] = None,
    format: Format = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Cells computed at once.")] = 64,
    device: DeviceOption = Device.auto,
) -> None:
    """Predict every image; files that cannot be read are listed and passed over."""
    from cytodistill.infer.files import collect, predict_files
    from cytodistill.infer.predictor import load
    from cytodistill.infer.writers import open_writer
    from cytodistill.terminal import Terminal
    from cytodistill.train.estimator import say_contours

    predictor = load(run, device.value)
    items = collect(inputs, format, predictor.recipe.data.window)
    with Terminal() as terminal, open_writer(out, predictor.classes, predictor.exits) as writer:
        problems = predict_files(
            predictor,
            items,
            writer,
            batch_size=batch_size,
            progress=lambda done, total: terminal.step("predict", done, total),
        )
        say_contours(predictor.inputs, terminal)
    for problem in problems[:10]:
        terminal.err.print(f"passed over: {problem}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if len(problems) > 10:
        terminal.err.print(f"… and {len(problems) - 10} more; the error column has them all", style="yellow")
    if out is not None:
        terminal.result(f"{out}: {len(items) - len(problems)} cells predicted, {len(problems)} passed over")
    if items and len(problems) == len(items):
        raise typer.Exit(1)

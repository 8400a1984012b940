"""export: a run for another runtime, proven to answer as the run does."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import RunFolder


class Runtime(StrEnum):
    onnx = "onnx"
    openvino = "openvino"


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make, the artifact.", metavar="DIR")],
    runtime: Annotated[Runtime, typer.Option(help="What will compute it.")] = Runtime.onnx,
    int8: Annotated[bool, typer.Option("--int8", help="Quantise, by ranges measured on validation cells.")] = False,
    difference: Annotated[
        float, typer.Option(min=0, help="float32: largest difference of a probability; no label may change.")
    ] = 1e-4,
    agreement: Annotated[
        float, typer.Option(min=0, max=1, help="int8: least share of validation cells that keep their label.")
    ] = 0.97,
    accuracy_change: Annotated[
        float, typer.Option(min=0, max=1, help="int8: largest change of their accuracy, up or down.")
    ] = 0.02,
    measured: Annotated[int, typer.Option(min=1, help="int8: validation cells that ranges are measured on.")] = 128,
) -> None:
    """Segments and a whole graph for ONNX Runtime or OpenVINO, compared with the run on all validation cells."""
    from cytodistill.export import export as export_run
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        done = export_run(
            run,
            out,
            runtime=runtime.value,
            int8=int8,
            difference=difference,
            agreement=agreement,
            accuracy_change=accuracy_change,
            measured=measured,
            watcher=terminal,
        )
    terminal.result(f"{done.path}: {done.segments} segments and the whole, {done.bytes / 1e6:.1f} MB")
    terminal.result(done.parity.words)
    terminal.result(f"use it like a run: `cytodistill predict {done.path} …`")

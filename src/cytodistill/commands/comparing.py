"""compare: which of several runs is better, and whether that may be chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, Format


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more runs, artifacts or cross-validations, the reference first; then other cells to test them "
            "on, by default their own test split.",
            metavar="RUN RUN… [SOURCE]",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for the files; in the first RUN's compare.")
    ] = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Differences of runs on the same cells, with intervals over groups and tests; JSON, Markdown and a picture."""
    from cytodistill.evaluation.compare import compare as compare_runs
    from cytodistill.evaluation.compare import is_run
    from cytodistill.evaluation.compare_view import comparison_tables, tested
    from cytodistill.terminal import Terminal

    # What comes last and holds no run is cells; of two names, the second is a run that is not there.
    source = runs.pop() if len(runs) > 2 and not is_run(runs[-1]) else None
    with Terminal() as terminal:
        found = compare_runs(runs, source, out=out, format=format, device=device.value, watcher=terminal)
    terminal.result(tested(found.content))
    for table in comparison_tables(found.content):
        terminal.out.print(table)
    for line in found.content["statements"]:
        terminal.result(line)
    for file in found.files:
        terminal.result(str(file))

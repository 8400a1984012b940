"""bench: how fast a run and its exports answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, Format, Split


def bench(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folder, exported artifacts of it, or both; ratios are to the first.", metavar="RUN|DIR…"
        ),
    ],
    source: Annotated[str | None, typer.Option(help="Other cells; by default the run's own.", metavar="SOURCE")] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="One of the run's exit policies; may be repeated. All by default; none.", metavar="NAME"),
    ] = None,
    batch: Annotated[
        list[int] | None, typer.Option(help="Cells at once; may be repeated. 1 and 64 by default.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(help="Cores for the network; may be repeated. One and all by default.")
    ] = None,
    cells: Annotated[int, typer.Option(help="Cells answered in a round.")] = 256,
    rounds: Annotated[int, typer.Option(help="Rounds that count; all take their turn in each.")] = 5,
    split: Split = "test",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the files; RUN/bench.")] = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Latency, throughput, files to CSV and memory, by runtime, exit policy, batch and threads."""
    from cytodistill.bench.run import bench as bench_runs
    from cytodistill.bench.tables import bench_tables
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        found = bench_runs(
            runs,
            source,
            policies=policy or None,
            batches=batch or (1, 64),
            threads=threads or None,
            cells=cells,
            rounds=rounds,
            split=split,
            format=format,
            out=out,
            device=device.value,
            watcher=terminal,
        )
    for table in bench_tables(found.content):
        terminal.out.print(table)
    for file in found.files:
        terminal.result(str(file))

"""Tables of a comparison, for people."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cytodistill.bench.picture import label

MEBI = 1 << 20


def bench_tables(content: dict[str, Any]) -> list[Table]:
    """Of the content of bench.json: the network alone, from files to CSV, and memory."""
    network = _table("The network alone", "threads", "batch", "ms a cell", "cells/s", "times", "latency ms", "of 95 %")
    group = None
    for row in content["network"]:
        if group not in (None, (row["threads"], row["batch"])):
            network.add_section()
        group = (row["threads"], row["batch"])
        latency = row["latency_ms"]
        waited = [f"{latency[key]:.2f}" for key in ("median", "p95")] if latency else ["–", "–"]
        network.add_row(label(row), *map(str, group), f"{row['ms_a_cell']:.2f}", *_speed(row), *waited)
    files = _table("Files to CSV", "threads", "batch", "cells/s", "times")
    for row in content["files"]:
        files.add_row(label(row), str(row["threads"]), str(row["batch"]), *_speed(row))
    memory = _table("Most memory of a process", "MiB", "of it libraries")
    for row in content["memory"]:
        memory.add_row(row["name"], *(f"{row[key] / MEBI:,.0f}" for key in ("answering", "libraries")))
    return [network, files, memory]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _speed(row: dict[str, Any]) -> list[str]:
    return [f"{row['cells_a_second']:,.1f}", f"{row['times']:.2f}"]

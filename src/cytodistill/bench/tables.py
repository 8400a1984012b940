"""Tables of a comparison, for people."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cytodistill.bench.picture import label

MEBI = 1 << 20


def bench_tables(content: dict[str, Any]) -> list[Table]:
    """Of the content of bench.json: the network alone, by threads and batch, from files to CSV, and memory."""
    groups = dict.fromkeys((row["threads"], row["batch"]) for row in content["network"])
    tables = [
        _network_table(group, [row for row in content["network"] if (row["threads"], row["batch"]) == group])
        for group in groups
    ]
    first = content["files"][0]
    files = _table(f"Files to CSV, {_where(first['threads'], first['batch'])}", "cells/s", "times")
    for row in content["files"]:
        files.add_row(label(row), *_speed(row))
    memory = _table("Most memory of a process", "MiB", "of it libraries")
    for row in content["memory"]:
        memory.add_row(row["name"], *(f"{row[key] / MEBI:,.0f}" for key in ("answering", "libraries")))
    return [*tables, files, memory]


def _network_table(group: tuple[int, int], rows: list[dict[str, Any]]) -> Table:
    latency = ("median ms", "95 % ms") if rows[0]["latency_ms"] else ()
    table = _table(f"The network alone, {_where(*group)}", "ms a cell", "cells/s", "times", *latency)
    for row in rows:
        waited = [f"{row['latency_ms'][key]:.2f}" for key in ("median", "p95")] if latency else []
        table.add_row(label(row), f"{row['ms_a_cell']:.2f}", *_speed(row), *waited)
    return table


def _where(threads: int, batch: int) -> str:
    together = f"batches of {batch}" if batch > 1 else "cell by cell"
    return f"{threads} thread{'s' if threads > 1 else ''}, {together}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _speed(row: dict[str, Any]) -> list[str]:
    return [f"{row['cells_a_second']:,.1f}", f"{row['times']:.2f}"]

"""data: look at, split and make sets of cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import AsJson, Format, Grouping, Source
from cytodistill.errors import CytodistillError

app = typer.Typer(help="Look at, split and make sets of cells.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def inspect(
    source: Source,
    near: Annotated[bool, typer.Option("--near", help="Look for near duplicates too: re-encoded or turned.")] = False,
    format: Format = None,
    as_json: AsJson = False,
) -> None:
    """Classes, counts, sizes, groups, unreadable and duplicate files."""
    from cytodistill.data import near_duplicates
    from cytodistill.data.cache import cached_cells
    from cytodistill.data.inspect import inspect_source, render
    from cytodistill.data.sources import read_source
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        table = read_source(source, format)
        inspection = inspect_source(table, lambda done, total: terminal.step("inspect", done, total))
        found = None
        if near:
            cells = cached_cells(table, 96, "pad", lambda done, total: terminal.step("decode", done, total))
            found = near_duplicates.judge_pairs(table, near_duplicates.hash_pairs(cells))
    if as_json:
        content = inspection.to_dict() | ({"near_duplicates": found.to_dict(table)} if found else {})
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for part in [*render(inspection), *(near_duplicates.render(found, table) if found else ())]:
        terminal.out.print(part)


@app.command()
def split(
    source: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="The manifest to write, a .csv file.")],
    ratio: Annotated[str, typer.Option(help="Training : validation : test.")] = "3:1:1",
    folds: Annotated[int | None, typer.Option(help="Folds for cross-validation instead of a ratio.")] = None,
    group: Annotated[Grouping, typer.Option(help="Keep groups whole, or split cell by cell.")] = Grouping.auto,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    window: Annotated[int, typer.Option(min=2, help="Side in pixels of a cell round its nucleus (CRIC).")] = 90,
    format: Format = None,
) -> None:
    """Split by group, stratified by class, into a manifest that `fit` takes."""
    from cytodistill.data.sources import read_source
    from cytodistill.data.split import split_table
    from cytodistill.terminal import Terminal, counts_table

    if out.suffix.lower() != ".csv":
        raise CytodistillError(f"-o {out}: a manifest is a .csv file; name it so")
    table = split_table(
        read_source(source, format, window=window), ratio=ratio, folds=folds, group=group.value, seed=seed
    )
    table.write(out)
    terminal = Terminal()
    terminal.out.print(counts_table(table))
    cells = f"{out}: {len(table)} cells"
    if group is Grouping.none:
        terminal.result(
            f"{cells}, split cell by cell: cells of one field may be in two splits, so figures will flatter"
        )
    else:
        terminal.result(f"{cells} of {table.frame['group'].nunique()} groups, no group in two splits")


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    cells: Annotated[int, typer.Option(help="How many cells, over five classes.")] = 1000,
    seed: Annotated[int, typer.Option(help="Same seed, same cells.")] = 0,
) -> None:
    """Draw a synthetic set of Pap cells in SIPaKMeD's format."""
    from cytodistill.data.sources.synthetic import synthesize
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        synthesize(out, cells, seed, lambda done, total: terminal.step("synth", done, total))
    terminal.result(f"{out}: {cells} synthetic cells")

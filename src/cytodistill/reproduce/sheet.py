"""What a reproduced table says, in words and grids of text: the same for every form that it is written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytodistill.errors import CytodistillError

FIGURES = {
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F-measure",
    "auc": "AUC",
}
COMPARED = ("accuracy", "f1")
NOTHING, REFERENCE = "–", "reference"
INTERVAL = "[95\u00a0%]"  # in one piece where a heading is broken

TableRow = dict[str, Any]
Columns = dict[str, list[str]]
"""By heading, a cell for each row."""


@dataclass(frozen=True)
class Line:
    """A line of a grid: a name and its cells, or a heading over the lines that follow it (no cells)."""

    name: str
    cells: tuple[str, ...] = ()
    paper: bool = False
    """The paper's own figures, beneath the line that they are compared with."""


@dataclass(frozen=True)
class Grid:
    """A table: its title, the columns beside the names, its lines, and what explains it."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    caption: str = ""


@dataclass(frozen=True)
class Sheet:
    """A reproduced table in words. ``notes``, ``missing`` and ``settings`` are pairs of a row's name and a text."""

    title: str
    lead: str
    comparable: str
    """Whether the paper's figures are of the same data, in a sentence."""
    grids: tuple[Grid, ...]
    notes: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    made: str
    """With what the runs were made."""


def sheet(content: dict[str, Any]) -> Sheet:
    """Words and grids of a table's JSON content.

    Raises:
        CytodistillError: no row has been run.
    """
    rows, missing = rows_of(content), content.get("missing") or []
    names = names_of([*rows, *missing])
    grids = (_figures(rows), _exits(rows), _intervals(rows), _papers_own(rows))
    return Sheet(
        content["title"],
        _lead(content, rows),
        "The paper's figures are of the same data set, whose cells it may have split in another way."
        if content["comparable"]
        else "The paper's figures are those of other data and are not comparable.",
        tuple(grid for grid in grids if grid is not None),
        tuple((name, text) for name, row in zip(names, rows, strict=False) if (text := _note(content, row))),
        tuple((name, row["why"]) for name, row in zip(names[len(rows) :], missing, strict=True)),
        tuple((name, _settings(row["settings"])) for name, row in zip(names, rows, strict=False) if row["settings"]),
        _made(content),
    )


def rows_of(content: dict[str, Any]) -> list[TableRow]:
    """The rows that have runs, those of a group together, those without a group first.

    Raises:
        CytodistillError: no row has been run.
    """
    rows = [row for row in content["rows"] if row["runs"]]
    if not rows:
        raise CytodistillError(f"{content['table']}: no row has been run, so there is nothing to show; run one")
    groups = list(dict.fromkeys([None, *(row.get("group") for row in rows)]))
    return sorted(rows, key=lambda row: groups.index(row.get("group")))


def names_of(rows: Sequence[TableRow]) -> list[str]:
    """Each row's name, after that of its group where two groups have a row of that name."""
    often = Counter(row["name"] for row in rows)
    return [
        f"{row['group']}: {row['name']}" if row.get("group") and often[row["name"]] > 1 else row["name"] for row in rows
    ]


def several_exits(row: TableRow) -> bool:
    """Whether the row's model has exits before its last one."""
    return len(row["runs"][0]["exits"]) > 1


def exit_accuracies(row: TableRow) -> NDArray[np.float64]:
    """(runs, exits + 1) accuracies in [0, 1] of each run's exits, shallow to deep, and last of its ensemble."""
    return np.array([[one["accuracy"] for one in (*run["exits"], run["ensemble"])] for run in row["runs"]], dtype=float)


def paper_of(row: TableRow) -> dict[str, Any]:
    """The paper's figures of a row in %, those that it has."""
    return {name: value for name, value in (row.get("paper") or {}).items() if value is not None}


def draws_of(content: dict[str, Any]) -> str:
    """What figures are averaged over, counted: 3 seeds, 5 folds."""
    folds = any(str(draw).startswith("fold") for draw in content.get("draws") or [])
    return _counted(content["seeds"], "fold" if folds else "seed")


def _figures(rows: Sequence[TableRow]) -> Grid:
    columns: Columns = {heading: [_mean_sd(**row[name]) for row in rows] for name, heading in FIGURES.items()}
    columns["Paper's accuracy"] = [_of_paper(row, "accuracy") for row in rows]
    columns[f"Δ F-measure to the reference {INTERVAL}"] = [_difference(row, "f1") for row in rows]
    columns["Parameters"] = [_short(row.get("parameters")) for row in rows]
    columns["MACs"] = [_short(row.get("macs")) for row in rows]
    columns["Seconds"] = [f"{np.mean([run['seconds'] for run in row['runs']]):,.0f}" for row in rows]
    return _grid("Figures", rows, columns)


def _exits(rows: Sequence[TableRow]) -> Grid | None:
    """As the paper's Table 4, each row above the paper's own figures."""
    rows = [row for row in rows if several_exits(row)]
    if not rows:
        return None
    most = max(len(of) for row in rows for of in (row["runs"][0]["exits"], paper_of(row).get("exits", [])))

    def line(name: str, exits: Sequence[str], ensemble: str, paper: bool = False) -> Line:
        return Line(name, (*exits, *[NOTHING] * (most - len(exits)), ensemble), paper)

    blocks = []
    for row in rows:
        accuracies = exit_accuracies(row)
        shown = [_mean_sd(*_moments(accuracies[:, e])) for e in range(accuracies.shape[1])]
        block = [line(row["name"], shown[:-1], shown[-1])]
        if "exits" in paper_of(row):
            theirs = [f"{value:.2f}" for value in paper_of(row)["exits"]]
            block.append(line("in the paper", theirs, _of_paper(row, "ensemble"), paper=True))
        blocks.append(block)
    columns = (*(f"Exit {e}" for e in range(1, most + 1)), "Ensemble")
    return Grid("Accuracy by exit, shallow to deep", columns, _under_headings(rows, blocks))


def _intervals(rows: Sequence[TableRow]) -> Grid | None:
    if not any(row.get("interval") or row.get("difference") for row in rows):
        return None
    columns: Columns = {f"{FIGURES[name]} {INTERVAL}": [_interval(row, name) for row in rows] for name in COMPARED}
    for name in COMPARED:
        columns[f"Δ {FIGURES[name]} {INTERVAL}"] = [_difference(row, name) for row in rows]
        columns[f"p of Δ {FIGURES[name]}"] = [_p(row, name) for row in rows]
        columns[f"Holm's p of Δ {FIGURES[name]}"] = [_p(row, name, "p_holm") for row in rows]
    caption = (
        "Whole groups of test cells are drawn again and again, the same for both rows of a difference, and the mean "
        "over the splits is taken; an interval of 95 % is Student's t times the spread of these means, shares on the "
        "scale of their logit. It says how far a figure hangs on which cells were tested, and not what another "
        "training would give. Δ is in points; p is two-sided and of the row alone; Holm's is "
        "corrected for all the rows of the table."
    )
    return _grid("Intervals and differences to the reference", rows, columns, caption)


def _papers_own(rows: Sequence[TableRow]) -> Grid | None:
    """Where the paper has more figures than accuracy."""
    rows = [row for row in rows if paper_of(row)]
    if not any(name in paper_of(row) for row in rows for name in ("sensitivity", "specificity", "f1")):
        return None
    columns = {heading: [_of_paper(row, name) for row in rows] for name, heading in FIGURES.items()}
    return _grid("The paper's own figures", rows, columns)


def _grid(title: str, rows: Sequence[TableRow], columns: Columns, caption: str = "") -> Grid:
    """Columns that no row has anything in are left out."""
    kept = {heading: cells for heading, cells in columns.items() if {*cells} - {NOTHING, REFERENCE}}
    blocks = [[Line(row["name"], tuple(cells[r] for cells in kept.values()))] for r, row in enumerate(rows)]
    return Grid(title, tuple(kept), _under_headings(rows, blocks), caption)


def _under_headings(rows: Sequence[TableRow], blocks: Sequence[list[Line]]) -> tuple[Line, ...]:
    lines: list[Line] = []
    above = None
    for row, block in zip(rows, blocks, strict=True):
        if row.get("group") and row["group"] != above:
            lines.append(Line(row["group"]))
        above = row.get("group")
        lines += block
    return tuple(lines)


def _lead(content: dict[str, Any], rows: Sequence[TableRow]) -> str:
    data, recipe, draws, runs = content["data"], content["recipe"], draws_of(content), rows[0]["runs"]
    many, by = content["seeds"] > 1, "cell by cell" if recipe["data"]["group"] == "none" else "by group"
    if "split" in data:
        split = f"{draws}; {data['split']}"
    elif "fold" in draws:
        split = f"{draws}, split {by}, each of them once the test cells"
    else:
        own = f"{by}, {recipe['data']['ratio']}, where the data bring none"
        split = f"{draws}, {'each ' if many else ''}with its own split ({own})"
    averaged = f", mean ± sample standard deviation over {draws}" if many else ""
    reference = [name for name, row in zip(names_of(rows), rows, strict=True) if row.get("reference")]
    sentences = [
        f"{data['name']}: {data['cells']:,} cells, of which {_range(run['n'] for run in runs)} from "
        f"{_range(run['groups'] for run in runs)} groups are the test cells of a split. {split[0].upper()}{split[1:]}. "
        f"{recipe['data']['image_size']} px, {_counted(recipe['train']['epochs'], 'epoch')}, batch "
        f"{recipe['train']['batch_size']}, recipe {recipe['name']}.",
        f"Figures in %{averaged}; all but accuracy are averages over classes. Where a model has several exits they are "
        "the ensemble's.",
        "Seconds are those of training one model.",
    ]
    if reference:
        sentences.append(f"The reference is “{'”, “'.join(reference)}”.")
    return " ".join(sentences)


def _note(content: dict[str, Any], row: TableRow) -> str:
    notes = [row["note"]] if row.get("note") else []
    # What is not the same for all rows is said, not left to be found in the settings.
    own = {key: value for key, value in row["settings"].items() if key.startswith(("data.", "augment.", "train."))}
    if own:
        notes.append(f"with settings of its own: {_settings(own)}")
    if len(row["runs"]) < content["seeds"]:
        notes.append(f"{len(row['runs'])} of {draws_of(content)}")
    shared = {found["draws"] for found in (row.get("difference") or {}).values() if "draws" in found}
    if shared and max(shared) < len(row["runs"]):
        notes.append(f"compared with the reference over the {max(shared)} that both have")
    return "; ".join(notes)


def _made(content: dict[str, Any]) -> str:
    hardware = content["hardware"]
    cores = f"{_counted(hardware['cores'], 'core')}, {_counted(hardware['threads'], 'thread')} a run"
    device = "" if hardware["device"] == "cpu" else f", {hardware['device']}"
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    digests = ", ".join(dict.fromkeys(digest[:12] for digest in content["data"]["digests"]))
    return f"Made on {hardware['processor']}, {cores}{device}, with {versions}; cells and splits {digests}."


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_plain(value)}" for name, value in settings.items())


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _moments(values: NDArray[np.float64]) -> tuple[float, float | None]:
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def _mean_sd(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return NOTHING
    return f"{100 * mean:.2f}" if sd is None else f"{100 * mean:.2f} ± {100 * sd:.2f}"


def _of_paper(row: TableRow, figure: str) -> str:
    value = paper_of(row).get(figure)
    return NOTHING if value is None else f"{value:.2f}"


def _interval(row: TableRow, figure: str) -> str:
    found, mean = (row.get("interval") or {}).get(figure), row[figure]["mean"]
    if found is None or mean is None:
        return NOTHING
    return f"{100 * mean:.2f} [{100 * found['low']:.2f}, {100 * found['high']:.2f}]"


def _difference(row: TableRow, figure: str) -> str:
    if row.get("reference"):
        return REFERENCE
    found = (row.get("difference") or {}).get(figure)
    if found is None:
        return NOTHING
    return f"{_signed(found['value'])} [{_signed(found['low'])}, {_signed(found['high'])}]"


def _signed(value: float) -> str:
    """In points, with a true minus; what rounds to nothing has no sign."""
    shown = f"{100 * value:+.2f}"
    return "0.00" if float(shown) == 0 else shown.replace("-", "−")


def _p(row: TableRow, figure: str, kind: str = "p") -> str:
    found = (row.get("difference") or {}).get(figure)
    if found is None or kind not in found:
        return NOTHING  # tables of earlier versions have no corrected ones
    return "< 0.001" if found[kind] < 0.001 else f"{found[kind]:.3f}"


def _short(count: float | None) -> str:
    """Four figures and a unit: 12.33 M, 582 M."""
    if count is None:
        return NOTHING
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count:,.0f}"


def _range(numbers: Iterable[int]) -> str:
    low, high = min(found := list(numbers)), max(found)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"

"""What a source holds, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from cytodistill.data.images import ImageError, crop_box, decode
from cytodistill.data.storage import StorageError, display, read_bytes
from cytodistill.data.table import BOX, CellTable

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 10
"""Files named for each kind of finding by ``render``; ``to_dict`` has them all."""


@dataclass(frozen=True)
class Problem:
    """A file that cannot be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Duplicate:
    """Files of the very same content; more than one label is a contradiction, more than one split a leak."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]

    @property
    def conflicting(self) -> bool:
        return len(self.labels) > 1

    @property
    def leaking(self) -> bool:
        return len(self.splits) > 1


@dataclass(frozen=True)
class Inspection:
    """Findings of ``inspect_source``; sizes are (width, height) in pixels, taken side by side, None without images."""

    format: str
    cells: int
    files: int
    classes: dict[str, int]
    unlabelled: int
    splits: dict[str, int]
    groups: int
    median_cells_per_group: float
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    repeated_cells: int
    unreadable: tuple[Problem, ...]
    duplicates: tuple[Duplicate, ...]

    def to_dict(self) -> dict:
        """The findings as JSON takes them."""
        found = asdict(self)
        for entry, duplicate in zip(found["duplicates"], self.duplicates, strict=True):
            entry |= {"conflicting": duplicate.conflicting, "leaking": duplicate.leaking}
        return found


def inspect_source(table: CellTable, progress: Callable[[int, int], None] | None = None) -> Inspection:
    """Read every file of the table once and report counts, sizes, unreadable files and files of equal content.

    ``progress`` is called after each file with (files done, files in all).
    """
    frame = table.frame
    files: dict[tuple[str, str], list[int]] = {}
    for row, file in enumerate(zip(frame["root"].astype(str), frame["path"].astype(str), strict=True)):
        files.setdefault(file, []).append(row)
    sizes: list[tuple[int, int]] = []
    unreadable: list[Problem] = []
    same: dict[bytes, list[tuple[str, list[int]]]] = {}
    boxes = frame[list(BOX)].to_numpy(float)
    for done, ((root, path), rows) in enumerate(files.items(), 1):
        name = display(root, path)
        try:
            content = read_bytes(root, path)
            same.setdefault(hashlib.blake2b(content, digest_size=16).digest(), []).append((name, rows))
            image = decode(content, name)
            sizes.append((image.shape[1], image.shape[0]))
            for box in boxes[rows]:
                if not np.isnan(box[0]):
                    crop_box(image, *box)
        except (ImageError, StorageError) as error:
            unreadable.append(Problem(name, str(error).removeprefix(f"{name}: ")))
        if progress:
            progress(done, len(files))
    counts = frame["label"].value_counts()
    per_group = frame.groupby("group").size()
    return Inspection(
        format=table.format,
        cells=len(table),
        files=len(files),
        classes={name: int(counts.get(name, 0)) for name in table.classes},
        unlabelled=int((frame["label"] == "").sum()),
        splits={str(name): int(count) for name, count in frame["split"].value_counts().items() if name},
        groups=len(per_group),
        median_cells_per_group=float(per_group.median()),
        smallest=_size(sizes, np.min),
        median=_size(sizes, np.median),
        largest=_size(sizes, np.max),
        repeated_cells=int(frame.duplicated(["root", "path", *BOX]).sum()),
        unreadable=tuple(unreadable),
        duplicates=tuple(_duplicate(table, found) for found in same.values() if len(found) > 1),
    )


def render(inspection: Inspection) -> Iterator[RenderableType]:
    """The findings for a terminal, as rich renderables to be printed one after another."""
    from rich.table import Table
    from rich.text import Text

    found = inspection
    classes = Table("class", title=f"{found.format}: {found.cells} cells in {found.files} files", title_justify="left")
    classes.add_column("cells", justify="right")
    classes.add_column("share", justify="right")
    unlabelled = {"(no label)": found.unlabelled} if found.unlabelled else {}
    for name, count in (found.classes | unlabelled).items():
        classes.add_row(Text(name), str(count), f"{count / found.cells:.1%}")
    yield classes
    yield Text(f"groups: {found.groups}, median {found.median_cells_per_group:g} cells each")
    if found.splits:
        yield Text("splits: " + ", ".join(f"{name} {count}" for name, count in found.splits.items()))
    if found.smallest and found.median and found.largest:
        yield Text(
            "image sizes (width×height): "
            f"smallest {_times(found.smallest)}, median {_times(found.median)}, largest {_times(found.largest)}"
        )
    if found.repeated_cells:
        yield Text(f"cells listed more than once: {found.repeated_cells}", style="yellow")
    unreadable = [f"{problem.path}: {problem.reason}" for problem in found.unreadable]
    yield from _list("unreadable files", unreadable, "red")
    # Contradictions and leaks first: they are what spoils a result.
    ranked = sorted(found.duplicates, key=lambda d: -d.conflicting - d.leaking)
    yield from _list("groups of files with the same content", [_says(duplicate) for duplicate in ranked], "yellow")
    for kind, count in (
        ("different labels", sum(d.conflicting for d in found.duplicates)),
        ("different splits", sum(d.leaking for d in found.duplicates)),
    ):
        if count:
            yield Text(f"  of these with {kind}: {count}", style="red")


def _says(duplicate: Duplicate) -> str:
    labels = f" with labels {', '.join(duplicate.labels)}" if duplicate.conflicting else ""
    splits = f" in splits {', '.join(duplicate.splits)}" if duplicate.leaking else ""
    return " = ".join(duplicate.paths) + labels + splits


def _list(title: str, entries: list[str], style: str) -> Iterator[RenderableType]:
    from rich.text import Text

    yield Text(f"{title}: {len(entries) or 'none'}", style=style if entries else "green")
    for entry in entries[:SHOWN]:
        yield Text(f"  {entry}")
    if len(entries) > SHOWN:
        yield Text(f"  and {len(entries) - SHOWN} more (--json lists all)")


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _size(sizes: list[tuple[int, int]], of: Callable[..., np.ndarray]) -> tuple[int, int] | None:
    if not sizes:
        return None
    width, height = of(np.array(sizes), axis=0)
    return int(width), int(height)


def _duplicate(table: CellTable, found: list[tuple[str, list[int]]]) -> Duplicate:
    rows = table.frame.iloc[[row for _, rows in found for row in rows]]
    # A field holds cells of many classes; only files that are one cell each can contradict each other.
    labels = rows.loc[rows["x"].isna() & (rows["label"] != ""), "label"]
    splits = rows.loc[rows["split"] != "", "split"]
    return Duplicate(tuple(name for name, _ in found), tuple(sorted(set(labels))), tuple(sorted(set(splits))))

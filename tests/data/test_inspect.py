"""Inspection against a source whose faults were put there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from cytodistill.data.inspect import Inspection, inspect_source, render
from cytodistill.data.sources import read_source
from cytodistill.data.table import CellTable


@pytest.fixture
def faulty(plant) -> Path:
    """Seven files: 4 good of 3 contents (two of them the same under two labels and splits), and 3 bad."""
    root = plant("train/a/1.png", "train/a/2.png", "test/b/3.png", "test/b/4.png", "test/b/5.png")
    Image.new("RGB", (30, 8)).save(root / "train/a/2.png")
    (root / "test/b/4.png").write_bytes(b"")
    (root / "test/b/5.png").write_bytes((root / "train/a/1.png").read_bytes()[:-30])
    shutil.copy(root / "train/a/1.png", root / "test/b/6.png")
    (root / "test/b/7.png").write_bytes(b"no image")
    return root


def printed(inspection: Inspection) -> str:
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(*render(inspection), sep="\n")
    return console.export_text()


@pytest.mark.parametrize("packed", [False, True])
def test_faults_are_found_and_named(faulty: Path, zipped, packed: bool):
    root = zipped(faulty) if packed else faulty
    progress: list[tuple[int, int]] = []
    found = inspect_source(read_source(root), lambda done, total: progress.append((done, total)))
    assert (found.format, found.cells, found.files) == ("folder", 7, 7)
    assert found.classes == {"a": 2, "b": 5}
    assert found.splits == {"train": 2, "test": 5}
    assert found.groups == 7
    assert found.median_cells_per_group == 1
    assert (found.smallest, found.median, found.largest) == ((6, 5), (6, 5), (30, 8))
    assert [Path(problem.path).name for problem in found.unreadable] == ["4.png", "5.png", "7.png"]
    assert found.unreadable[0].reason.startswith("empty (0 bytes)")
    assert "truncated" in found.unreadable[1].reason
    (duplicate,) = found.duplicates
    assert [path.replace(":", "/").removeprefix(f"{root}/") for path in duplicate.paths] == [
        "test/b/6.png",
        "train/a/1.png",
    ]
    assert duplicate.conflicting
    assert duplicate.leaking
    assert progress == [(n, 7) for n in range(1, 8)]
    text = printed(found)
    assert "unreadable files: 3" in text
    assert "with labels a, b in splits test, train" in text
    assert json.loads(json.dumps(found.to_dict()))["duplicates"][0]["leaking"] is True


def test_fields_are_read_once_and_windows_off_them_named(plant):
    root = plant("f.png", size=(20, 20))
    row = {"root": str(root), "path": "f.png", "y": 0, "width": 5, "height": 5, "group": "f"}
    rows = [row | {"x": x, "label": label} for x, label in ((0, "a"), (0, "a"), (16, "b"), (20, "b"))]
    found = inspect_source(CellTable.from_rows(rows, ("a", "b"), "cric"))
    assert (found.cells, found.files, found.groups, found.median_cells_per_group) == (4, 1, 1, 4)
    assert found.repeated_cells == 1
    assert [problem.reason[:42] for problem in found.unreadable] == ["the window 5×5 at (20, 0) lies outside the"]
    assert found.duplicates == ()


def test_nothing_readable_and_long_lists(plant):
    root = plant(*(f"{label}/{n:02}.png" for label in "ab" for n in range(15)))
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    found = inspect_source(read_source(root))
    assert (found.smallest, found.median, found.largest) == (None, None, None)
    assert len(found.unreadable) == 30
    assert "and 20 more" in printed(found)


def test_markup_in_names_is_printed_as_it_is(plant):
    found = inspect_source(read_source(plant("[red]a/1.png", "[b]/1.png")))
    assert "[red]a" in printed(found)


def test_shared_herlev_is_clean(shared_data: Path):
    found = inspect_source(read_source(shared_data / "herlev"))
    assert (found.cells, found.unreadable) == (685, ())
    assert found.smallest == found.largest == (200, 200)

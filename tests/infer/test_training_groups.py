"""Which groups of a source trained a run: by image, by folder and name, and not by name alone."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from cytodistill.data.sources import read_source
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.infer.training_groups import training_groups
from cytodistill.train.run_folder import Run


def fields(root: Path, *cells: tuple[str, float, str], group: str | None = None, split: str = "") -> CellTable:
    """Cells as windows of fields: (field, x, label); the group is the field, or one for all."""
    rows = [
        {
            "root": str(root),
            "path": field,
            "x": x,
            "y": 1.0,
            "width": 8.0,
            "height": 8.0,
            "label": label,
            "group": group or field,
            "split": split,
        }
        for field, x, label in cells
    ]
    return CellTable.from_rows(rows, ("benign", "malign"), "manifest")


@pytest.fixture
def trained(tmp_path: Path, plant) -> Run:
    """A run whose manifest says that the fields a and b trained it, b in validation, and c did not."""
    root = plant("a.png", "b.png", "c.png", size=(40, 30))
    parts = [
        fields(root, ("a.png", 1, "benign"), split="train"),
        fields(root, ("b.png", 1, "malign"), split="val"),
        fields(root, ("c.png", 1, "malign"), split="test"),
    ]
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    (tmp_path / "run").mkdir()
    parts[0].with_frame(frame).write(tmp_path / "run" / "manifest.csv")
    return Run(tmp_path / "run", {})


def named(run: Run, table: CellTable) -> list[str]:
    return training_groups(run, table, table.indices("all"))


def test_other_cells_of_a_field_that_trained(trained, tmp_path):
    root = tmp_path / "source"
    others = fields(root, ("a.png", 20, "malign"), ("b.png", 20, "benign"), ("c.png", 20, "benign"))
    assert named(trained, others) == ["a.png", "b.png"]
    assert training_groups(trained, others, others.indices("all")[2:]) == []
    # Under a group of another name it is the same field still.
    assert named(trained, fields(root, ("a.png", 20, "benign"), ("c.png", 20, "malign"), group="p1")) == ["p1"]


def test_a_copy_is_the_same_field_and_another_image_of_that_name_is_not(trained, tmp_path):
    copy = shutil.copytree(tmp_path / "source", tmp_path / "copy")
    others = fields(copy, ("a.png", 20, "malign"), ("c.png", 20, "benign"))
    assert named(trained, others) == ["a.png"]
    with zipfile.ZipFile(tmp_path / "copy.zip", "w") as archive:
        archive.write(copy / "a.png", "a.png")
    assert named(trained, fields(tmp_path / "copy.zip", ("a.png", 20, "malign"))) == ["a.png"]
    Image.new("RGB", (40, 30), (200, 1, 2)).save(copy / "a.png")
    assert named(trained, others) == []


def test_a_name_counts_out_of_the_same_folder_alone(trained, tmp_path):
    shutil.copy(tmp_path / "source" / "c.png", tmp_path / "source" / "new.png")
    assert named(trained, fields(tmp_path / "source", ("new.png", 1, "benign"), group="a.png")) == ["a.png"]
    elsewhere = shutil.copytree(tmp_path / "source", tmp_path / "elsewhere")
    assert named(trained, fields(elsewhere, ("new.png", 1, "benign"), group="a.png")) == []


def test_nothing_is_told_where_the_manifest_or_the_images_are_gone(trained, tmp_path):
    others = fields(tmp_path / "source", ("a.png", 20, "malign"))
    (tmp_path / "source").rename(tmp_path / "moved")
    assert named(trained, others) == []
    (tmp_path / "moved").rename(tmp_path / "source")
    (trained.path / "manifest.csv").unlink()
    assert named(trained, others) == []


def test_a_run_is_not_evaluated_on_groups_that_trained_it(tiny_run, cells, tmp_path):
    here = shutil.copytree(cells, tmp_path / "cells")
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    manifest = run / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(str(cells), str(here)))
    trained = Run.open(run).table().frame.query("split == 'train'").iloc[0]
    new = (here / trained["path"]).with_name("new.png")
    Image.new("RGB", (24, 24), (1, 2, 3)).save(new)
    every = read_source(here)
    other = every.with_frame(every.frame[every.frame["path"] == new.relative_to(here).as_posix()])
    with pytest.raises(CytodistillError, match=r"1 of its 1 cells are of groups that trained this run \(.*slide"):
        evaluate(run, other, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()

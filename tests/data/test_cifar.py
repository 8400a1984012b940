"""CIFAR-100 as image files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cytodistill.data.images import read_image
from cytodistill.data.sources import SourceError, read_source


def test_the_given_test_split_is_kept(plant):
    table = read_source(plant("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"), "cifar100")
    assert table.frame["path"].tolist() == ["test/a/1.png", "test/b/1.png", "train/a/1.png", "train/b/1.png"]
    assert table.frame["split"].tolist() == ["test", "test", "train", "train"]
    assert table.frame["group"].tolist() == table.frame["path"].tolist()
    assert table.classes == ("a", "b")


def test_classes_of_one_split_only_are_named(plant):
    with pytest.raises(SourceError, match=r"class 'c' is in only one of train/ and test/"):
        read_source(plant("train/a/1.png", "train/c/1.png", "test/a/1.png"), "cifar100")
    with pytest.raises(SourceError, match="fewer than 2 classes"):
        read_source(plant("train/a/1.png", "test/a/1.png", folder="one"), "cifar100")


def test_the_shared_archive_is_listed_and_read_fast(shared_data: Path):
    start = time.perf_counter()
    table = read_source(shared_data / "cifar100.zip")
    assert time.perf_counter() - start < 10
    assert table.format == "cifar100"
    assert len(table.classes) == 100
    counts = table.counts()
    assert (counts["train"] == 500).all()
    assert (counts["test"] == 100).all()
    start = time.perf_counter()
    cells = table.frame.iloc[::600]
    assert {read_image(r, p).shape for r, p in zip(cells["root"], cells["path"], strict=True)} == {(32, 32, 3)}
    assert time.perf_counter() - start < 5

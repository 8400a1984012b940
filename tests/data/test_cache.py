from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cytodistill.data.cache as caching
from cytodistill.data.cache import DeviceCells, cached_cells
from cytodistill.data.images import load_cell
from cytodistill.data.sources import read_source
from cytodistill.errors import CytodistillError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("CYTODISTILL_CACHE", str(folder))
    return folder


@pytest.fixture
def source(plant):
    return plant("a/1.png", "a/2.png", "b/1.png", "b/2.png", size=(9, 7))


def test_rows_are_the_decoded_cells_in_the_tables_order(source):
    table = read_source(source)
    cells = cached_cells(table, 16, "pad")
    assert (cells.shape, cells.dtype) == ((4, 16, 16, 3), np.uint8)
    for row, (root, path) in enumerate(zip(table.frame["root"], table.frame["path"], strict=True)):
        np.testing.assert_array_equal(cells[row], load_cell(root, path, 16, "pad"))


def test_threads_are_given_a_part_at_a_time_and_every_row_is_told_of(source, monkeypatch):
    monkeypatch.setattr(caching, "AT_ONCE", 3)
    table, told = read_source(source), []
    cells = cached_cells(table, 16, "pad", lambda done, total: told.append((done, total)))
    for row, (root, path) in enumerate(zip(table.frame["root"], table.frame["path"], strict=True)):
        np.testing.assert_array_equal(cells[row], load_cell(root, path, 16, "pad"))
    assert told == [(4, 4)]


def test_another_split_shares_the_file_and_another_content_or_order_does_not(source, cache):
    table = read_source(source)
    cells = cached_cells(table, 16, "pad")
    assert isinstance(cells, np.memmap)
    cached_cells(table.with_frame(table.frame.assign(split="train", group="g")), 16, "pad")
    assert len(list(cache.iterdir())) == 1
    turned = table.with_frame(table.frame.iloc[::-1])
    np.testing.assert_array_equal(cached_cells(turned, 16, "pad"), cells[::-1])
    next(file for file in cache.iterdir() if file != _file(cells)).unlink()
    Image.new("RGB", (9, 7), "white").save(source / "a" / "1.png")
    again = cached_cells(read_source(source), 16, "pad")
    assert len(list(cache.iterdir())) == 2
    assert (again[0] == 255).all()
    cached_cells(table, 32, "pad")
    cached_cells(table, 16, "stretch")
    assert len(list(cache.iterdir())) == 4


def _file(cells):
    return Path(cells.filename)


def test_zip_and_folder_decode_alike(source, zipped):
    from_folder = cached_cells(read_source(source), 16, "pad")
    np.testing.assert_array_equal(cached_cells(read_source(zipped(source)), 16, "pad"), from_folder)


def test_an_unreadable_cell_is_named_and_nothing_is_kept(source, cache):
    for name in ("a/2.png", "b/1.png"):
        (source / name).write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    with pytest.raises(CytodistillError, match=r"a/2\.png.*1 more \(`cytodistill data inspect`"):
        cached_cells(read_source(source), 16, "pad")
    assert list(cache.iterdir()) == []


def test_device_cells_are_indexed_without_copying_the_set(source):
    cells = cached_cells(read_source(source), 16, "pad")
    batch = DeviceCells(cells, torch.device("cpu"))[torch.tensor([2, 0, 2])]
    np.testing.assert_array_equal(batch.numpy(), cells[[2, 0, 2]])


def test_expected_cells_are_those_of_the_array(tmp_path):
    # Larger than a page, so that cells begin and end within pages.
    cells = np.random.default_rng(0).integers(0, 256, (37, 24, 24, 3), np.uint8)
    np.save(tmp_path / "cells.npy", cells)
    held = DeviceCells(np.load(tmp_path / "cells.npy", mmap_mode="r"), torch.device("cpu"))
    everywhere = torch.randperm(len(cells))
    held.expect(everywhere)
    np.testing.assert_array_equal(held[everywhere].numpy(), cells[everywhere.numpy()])


def test_cells_in_memory_are_expected_without_advice():
    cells = np.arange(2 * 3 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3, 3)
    held = DeviceCells(cells, torch.device("cpu"))
    held.expect(torch.tensor([1]))
    np.testing.assert_array_equal(held[torch.tensor([1])].numpy(), cells[[1]])

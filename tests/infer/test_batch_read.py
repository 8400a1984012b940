"""Cells read many at once are those read one by one, and a field is decoded once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import ImageInputs
from cytodistill.infer import batch_read
from cytodistill.infer.batch_read import Item, read_items
from cytodistill.recipe import Recipe


@pytest.fixture(scope="module")
def inputs():
    return ImageInputs(Recipe.load("quick").override({"data.image_size": 16}).data)


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def item(folder, path, box=None):
    return Item(str(folder), path, box, path)


def read(inputs, items):
    with ThreadPoolExecutor(2) as pool:
        return read_items(inputs, items, pool)


def one_by_one(inputs, given):
    try:
        return inputs.read(given.root, given.path, given.box), None
    except CytodistillError as error:
        return None, str(error)


PATHS = st.sampled_from(["a.png", "b.png", "broken.png", "absent.png"])
BOXES = st.none() | st.tuples(st.floats(-9, 50), st.floats(-9, 50), st.floats(1, 20), st.floats(1, 20))


@settings(deadline=None, max_examples=25)
@given(drawn=st.lists(st.tuples(PATHS, BOXES), max_size=24))
def test_is_reading_one_by_one(inputs, fields, drawn):
    items = [item(fields, path, box) for path, box in drawn]
    cells, problems = read(inputs, items)
    assert cells.shape == (len(items), 16, 16, 3)
    for position, given_item in enumerate(items):
        cell, problem = one_by_one(inputs, given_item)
        assert problems.get(position) == problem
        if problem is None:
            np.testing.assert_array_equal(cells[position], cell)


def test_a_field_is_decoded_once_for_all_of_its_cells(inputs, fields, monkeypatch):
    decoded = []

    def read_field_(root, path):
        decoded.append(path)
        return original(root, path)

    original = batch_read.read_field
    monkeypatch.setattr(batch_read, "read_field", read_field_)
    # The fields take turns, as in a manifest in no order.
    items = [item(fields, name, (column, 3, 9, 9)) for column in range(20) for name in ("a.png", "b.png")]
    read(inputs, items)
    assert sorted(decoded) == ["a.png", "b.png"]


def test_another_kind_of_error_is_not_taken_for_a_bad_file(inputs, fields, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(batch_read, "read_field", fail)
    with pytest.raises(MemoryError):
        read(inputs, [item(fields, "a.png", (0, 0, 9, 9)), item(fields, "a.png", (1, 1, 9, 9))])

"""The list of cells: in order, as they were given, and known again by its digest."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytodistill.data.table import BOX
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_read import Item
from cytodistill.infer.files import collect


def frame(*rows):
    return pd.DataFrame(rows, columns=["root", "path", *BOX])


WHOLE = [np.nan] * 4


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 16), st.data())
def test_blocks_end_where_an_image_ends_unless_it_holds_too_many(cells_of_images, size, data):
    rows = [
        ("/x", f"{image}.png", cell, 0, 3, 4) for image, cells in enumerate(cells_of_images) for cell in range(cells)
    ]
    items = Items([frame(*rows)])
    blocks = list(items.blocks(size))
    assert [item for block in blocks for item in block] == list(items)
    at = 0
    for block in blocks:
        at += len(block)
        left = sum(row[1] == rows[at - 1][1] for row in rows[at:])
        if len(block) != size:
            assert left == 0
            assert len(block) <= size + size // 2
        else:
            assert left == 0 or left > size // 2
    number = data.draw(st.integers(0, len(blocks) - 1))
    start = sum(map(len, blocks[:number]))
    assert list(items.blocks(size, start)) == blocks[number:]


def test_items_come_in_order_and_are_named(tmp_path):
    items = Items([frame(("/x", "b.png", *WHOLE), ("/x", "a.png", 1.5, -2, 3, 4)), frame(("/y", "a.png", *WHOLE))])
    assert list(items) == [
        Item("/x", "b.png", None, "/x/b.png"),
        Item("/x", "a.png", (1.5, -2, 3, 4), "/x/a.png#1.5,-2,3,4"),
        Item("/y", "a.png", None, "/y/a.png"),
    ]
    assert items[-1] == items[2]
    assert [[item.name for item in block] for block in items.blocks(2)] == [
        ["/x/b.png", "/x/a.png#1.5,-2,3,4"],
        ["/y/a.png"],
    ]
    assert [block[0].name for block in items.blocks(2, start=1)] == ["/x/a.png#1.5,-2,3,4"]


def test_manifests_of_windows_are_read_as_they_stand(plant):
    folder = plant("a.png", "b.png", size=(20, 20))
    (folder / "cells.csv").write_text("path,x,y,width,height\nb.png,1,2,3,4\na.png,,,,\nb.png,5,6,7,8\n")
    assert [(item.path, item.box) for item in collect([folder / "cells.csv"])] == [
        ("b.png", (1, 2, 3, 4)),
        ("a.png", None),
        ("b.png", (5, 6, 7, 8)),
    ]


@pytest.mark.parametrize(
    "other",
    [
        [("/x", "b.png", *WHOLE)],
        [("/x", "a.png", *WHOLE), ("/x", "b.png", *WHOLE), ("/x", "b.png", *WHOLE)],
        [("/x", "b.png", *WHOLE), ("/x", "a.png", *WHOLE)],
        [("/y", "a.png", *WHOLE), ("/x", "b.png", *WHOLE)],
        [("/x", "a.png", 0, 0, 1, 1), ("/x", "b.png", *WHOLE)],
        [("/x", "a.pn", *WHOLE), ("/x", "gb.png", *WHOLE)],
    ],
)
def test_the_digest_tells_lists_apart(other):
    rows = [("/x", "a.png", *WHOLE), ("/x", "b.png", *WHOLE)]
    assert Items([frame(*rows)]).digest() == Items([frame(rows[0]), frame(rows[1])]).digest()
    assert Items([frame(*rows)]).digest() != Items([frame(*other)]).digest()


def test_an_archive_that_was_written_anew_is_another_list(plant, zipped):
    archive = zipped(plant("a.png", "b.png"))
    before = collect([archive]).digest()
    assert collect([archive]).digest() == before
    os.utime(archive, ns=(0, 0))
    assert collect([archive]).digest() != before


def test_many_cells_take_little_memory():
    cells = 50_000
    many = frame(("/x/fields.zip", "field.jpg", 1.0, 2.0, 3.0, 4.0))
    many = many.loc[many.index.repeat(cells)].reset_index(drop=True)
    tracemalloc.start()
    items = Items([many])
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(items) == cells
    # Four coordinates of eight bytes, and two codes of four.
    assert used < 45 * cells

"""Copies and leaks of small tables, counted by hand."""

import numpy as np
import pytest

from cytodistill.audit.copies import Copies, copies_frame, exact_copies, find_copies, overlapping_windows
from cytodistill.audit.leaks import group_sizes, split_leaks
from cytodistill.data.inspect import Duplicate, inspect_source
from cytodistill.data.near_duplicates import Pair
from cytodistill.data.sources import read_source
from cytodistill.data.table import CellTable


def table_of(cells):
    """Table of (path, x, y, label, group), windows of 10 px where there is a place."""
    rows = [
        {"root": "/data", "path": path, "label": label, "group": group}
        | ({} if x is None else {"x": x, "y": y, "width": 10, "height": 10})
        for path, x, y, label, group in cells
    ]
    return CellTable.from_rows(rows, ("n", "t"), "folder")


@pytest.fixture
def windows():
    return table_of(
        [
            ("a.png", 0, 0, "n", "a"),
            ("a.png", 5, 0, "n", "a"),  # half of the first
            ("a.png", 6, 0, "t", "a"),  # 40 % of the first, 90 % of the second
            ("a.png", 0, 0, "t", "a"),  # the first again, under another label
            ("b.png", 0, 0, "n", "b"),  # a copy of the first's file
            ("b.png", 5, 5, "n", "b"),  # a quarter of the one before
        ]
    )


def test_windows_that_share_half_are_found_in_their_own_image_only(windows):
    assert {tuple(pair) for pair in overlapping_windows(windows).tolist()} == {(0, 1), (1, 2), (1, 3)}
    assert len(overlapping_windows(windows, share=0.25)) == 3 + 2 + 1


def test_cells_without_windows_have_no_overlap():
    assert overlapping_windows(table_of([("a.png", None, None, "n", "a")] * 2)).shape == (0, 2)


def test_the_same_window_of_equal_files_is_an_exact_copy(windows):
    same = Duplicate(("/data/a.png", "/data/b.png"), (), ())
    codes = exact_copies(windows, [same])
    assert codes[0] == codes[3] == codes[4]
    assert len(set(codes)) == 4
    assert len(set(exact_copies(windows, []))) == 5


def test_a_leak_is_a_companion_in_training_and_nowhere_else():
    split = np.array(["train", "test", "val", "test", "test"])
    groups = np.array(["a", "a", "b", "b", "c"])
    copies = Copies(
        exact=np.array([0, 1, 2, 2, 0]),
        near=(Pair(0, 3, 2.0, "hash"), Pair(1, 3, 1.0, "hash"), Pair(0, 1, 0.01, "embedding")),
        overlapping=np.array([[2, 3]]),
    )
    # Row 3's companions validate or are tested but for its near copy, row 0.
    assert split_leaks(split, groups, copies) == {
        "test": 3,
        "own_group": 1,
        "exact": 1,
        "hash": 1,
        "embedding": 1,
        "overlap": 0,
    }


def test_conflicts_come_first_and_exact_copies_are_not_near_ones(windows):
    same = Duplicate(("/data/a.png", "/data/b.png"), (), ())
    hashed = [Pair(0, 4, 0.0, "hash"), Pair(1, 5, 3.0, "hash")]
    copies = find_copies(windows, [same], hashed, [Pair(2, 5, 0.02, "embedding")])
    assert copies.near == (hashed[1], Pair(2, 5, 0.02, "embedding"))
    frame = copies_frame(windows, copies)
    assert frame["labels_differ"].tolist() == [True, True, True, False]
    assert frame["kind"].tolist() == ["embedding", "exact", "exact", "hash"]
    first = frame.iloc[0]
    assert (first["first_x"], first["second_label"], bool(first["groups_differ"])) == (6, "n", True)


def test_no_copies_make_an_empty_list(windows):
    nothing = Copies(np.arange(6), (), np.empty((0, 2), np.int64))
    assert copies_frame(windows, nothing).empty


def test_group_sizes(windows):
    sizes = group_sizes(windows)
    assert (sizes["count"], sizes["smallest"], sizes["median"], sizes["largest"]) == (2, 2, 3, 4)
    assert (sizes["of_one_cell"], sizes["with_several_classes"]) == (0, 1)
    assert sizes["most_cells"] == {"a": 4, "b": 2}


def test_duplicate_files_of_a_real_tree_are_joined(plant):
    folder = plant("n/p1/1.png", "n/p2/2.png", "t/p3/3.png")
    (folder / "t" / "p4").mkdir()
    (folder / "t" / "p4" / "4.png").write_bytes((folder / "n" / "p1" / "1.png").read_bytes())
    table = read_source(folder)
    codes = exact_copies(table, inspect_source(table).duplicates)
    assert codes[0] == codes[3]
    assert len(set(codes)) == 3

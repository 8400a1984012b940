"""CellTable: what it fills in, refuses and hashes."""

from __future__ import annotations

import pandas as pd
import pytest

from cytodistill.data.table import COLUMNS, CellTable
from cytodistill.errors import CytodistillError


def table_of(*rows: tuple[str, str, str, int], classes: tuple[str, ...] = ("a", "b")) -> CellTable:
    keys = ("label", "group", "split", "fold")
    cells = [{"root": "/r", "path": f"{n}.png", **dict(zip(keys, row, strict=True))} for n, row in enumerate(rows)]
    return CellTable.from_rows(cells, classes, "folder")


def test_what_is_not_given_is_filled_in():
    table = CellTable.from_rows([{"root": "/r", "path": "x.png", "label": "b"}], ("a", "b"), "folder")
    assert tuple(table.frame.columns) == COLUMNS
    row = table.frame.iloc[0]
    assert (row["group"], row["split"], row["fold"]) == ("x.png", "", -1)
    assert row[["x", "y", "width", "height"]].isna().all()
    assert table.labels.tolist() == [1]


def test_labels_outside_the_classes_and_missing_columns_are_refused():
    with pytest.raises(CytodistillError, match="label 'c' is not one of the classes a, b"):
        table_of(("c", "g", "", -1))
    frame = table_of(("a", "g", "", -1)).frame.drop(columns=["label", "group"])
    with pytest.raises(CytodistillError, match="columns label, group are missing"):
        CellTable(frame, ("a",), "folder")


def test_counts_and_indices():
    table = table_of(("a", "1", "train", -1), ("a", "2", "test", -1), ("b", "3", "", -1), ("", "4", "train", -1))
    assert table.counts().to_dict("index") == {
        "a": {"train": 1, "test": 1, "unassigned": 0},
        "b": {"train": 0, "test": 0, "unassigned": 1},
    }
    assert table.indices("train").tolist() == [0, 3]
    assert table.indices("all").tolist() == [0, 1, 2, 3]
    assert table.labels.tolist() == [0, 0, 1, -1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            [("a", "g", "train", -1), ("a", "g", "test", -1)],
            r"'g' has cells in splits test and train \(1 such groups\)",
        ),
        ([("a", "g", "", 0), ("b", "g", "", 2)], r"'g' has cells in folds 0 and 2"),
    ],
)
def test_a_group_in_two_splits_is_an_error(rows, says: str):
    with pytest.raises(CytodistillError, match=says):
        table_of(*rows).check_groups()


def test_an_unassigned_cell_leaks_nothing():
    table_of(("a", "g", "train", -1), ("b", "g", "", -1)).check_groups()


def test_folds_become_splits():
    table = table_of(*[("ab"[n % 2], str(n), "", n % 4) for n in range(8)])
    assert table.with_fold(3).frame["split"].tolist() == ["val", "train", "train", "test"] * 2
    with pytest.raises(CytodistillError, match="has folds 0 to 3"):
        table.with_fold(4)
    with pytest.raises(CytodistillError, match="has no folds"):
        table_of(("a", "g", "", -1)).with_fold(0)


def test_the_digest_follows_all_but_the_roots():
    table = table_of(("a", "1", "train", -1), ("b", "2", "test", -1))
    assert table.with_frame(table.frame.assign(root="/elsewhere")).digest() == table.digest()
    changes: list[dict[str, object]] = [
        {"path": ["0.png", "2.png"]},
        {"label": ["a", "a"]},
        {"group": ["1", "3"]},
        {"split": ["train", "val"]},
        {"fold": [0, 1]},
        dict.fromkeys(("x", "y", "width", "height"), 1.0),
    ]
    digests = [table.with_frame(table.frame.assign(**change)).digest() for change in changes]
    digests.append(CellTable(table.frame, ("b", "a"), "folder").digest())
    assert len({table.digest(), *digests}) == 8


def test_a_written_table_has_codes_only_where_the_classes_are_not_sorted(tmp_path):
    rows = [("a", "1", "", -1), ("b", "2", "", -1)]
    table_of(*rows).write(tmp_path / "sorted.csv")
    table_of(*rows, classes=("b", "a")).write(tmp_path / "official.csv")
    assert list(pd.read_csv(tmp_path / "sorted.csv")) == ["root", "path", "label", "group", "split", "fold"]
    assert pd.read_csv(tmp_path / "official.csv")["code"].tolist() == [1, 0]

"""Manifests: written tables come back the same, and each mistake of a hand-made one is named with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.data.sources import SourceError, read_source
from cytodistill.data.split import split_table
from cytodistill.data.table import CellTable


@pytest.fixture
def manifest(plant) -> Callable[[str | bytes], Path]:
    """Writes a CSV file beside the images 1.png, 2.png, "a, b.png" and ü/3.png."""

    def write(text: str | bytes) -> Path:
        file = plant("1.png", "2.png", "a, b.png", "ü/3.png") / "cells.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


def assert_same(table: CellTable, other: CellTable) -> None:
    pd.testing.assert_frame_equal(table.frame, other.frame, check_dtype=False)
    assert table.classes == other.classes
    assert table.digest() == other.digest()


def test_the_least_manifest(manifest):
    file = manifest('path,label\n2.png,late\n1.png,early\n"a, b.png",late\n')
    table = read_source(file)
    assert table.frame["path"].tolist() == ["2.png", "1.png", "a, b.png"]
    assert table.frame["root"].unique().tolist() == [str(file.parent)]
    assert table.frame["group"].tolist() == table.frame["path"].tolist()
    assert table.classes == ("early", "late")
    assert table.format == "manifest"
    assert table.frame["fold"].unique().tolist() == [-1]


def test_every_column_with_a_byte_order_mark_and_foreign_ones(manifest, tmp_path: Path):
    file = manifest("")
    moved = tmp_path / "elsewhere" / "cells.csv"
    moved.parent.mkdir()
    moved.write_bytes(
        b"\xef\xbb\xbf"
        + "path, label,root,group,split,fold,x,y,width,height,note\r\n"
        "ü/3.png,NA,../source,g,val,2,-1.5,2,3,4.25,x\r\n"
        f'"{file.parent}/1.png",None,,,,,,,,,"y\nz"\r\n'.encode()
    )
    table = read_source(moved)
    first, second = table.frame.to_dict("records")
    assert first == {
        "root": str(file.parent),
        "path": "ü/3.png",
        "label": "NA",
        "group": "g",
        "split": "val",
        "fold": 2,
        "x": -1.5,
        "y": 2,
        "width": 3,
        "height": 4.25,
    }
    assert Path(second["root"], second["path"]) == file.parent / "1.png"
    assert (second["label"], second["split"], second["fold"]) == ("None", "", -1)
    assert pd.isna(second["x"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"cells\.csv: empty"),
        ("path,label\n", r"cells\.csv: no rows"),
        ("path\n1.png\n", r"cells\.csv: no column label; a manifest needs path and label"),
        ("file,class\n1.png,a\n", r"no column path and label"),
        ("path,label,label\n1.png,a,b\n", r"a column stands twice"),
        ("path,label\n1.png\n", r"line 2: 1 values for 2 columns"),
        ("path,label\na, b.png,c\n", r"line 2: 3 values for 2 columns; quote values with commas"),
        ("path,label\n1.png,a\n9.png,a\n", r"cells\.csv, line 3: the image .*9\.png does not exist"),
        ('path,label,note\n1.png,a,"x\ny"\n9.png,a,\n', r"line 4: the image"),
        ("path,label\n,a\n", r"line 2: no path"),
        ("path,label\n1.png,\n", r"line 2: no label"),
        ("path,label\n1.png,a\n1.png,b\n", r"line 3: the same image and window as line 2"),
        ("path,label\n1.png,a\n1.png,a\n", r"line 3: the same image and window as line 2"),
        ("path,label,split\n1.png,a,training\n", r"line 2: split 'training' is not known; use train, val, test"),
        ("path,label,fold\n1.png,a,one\n", r"line 2: fold 'one' is not a whole number"),
        ("path,label,fold\n1.png,a,-2\n", r"line 2: fold -2 is negative"),
        ("path,label,x,y\n1.png,a,1,2\n", r"line 2: a window without width, height"),
        ("path,label,x,y,width,height\n1.png,a,1,,3,4\n", r"line 2: a window without y"),
        ("path,label,x,y,width,height\n1.png,a,1,2,3,four\n", r"line 2: height 'four' is not a number"),
        ("path,label,x,y,width,height\n1.png,a,1,inf,3,4\n", r"line 2: y 'inf' is not a number"),
        ("path,label,x,y,width,height\n1.png,a,1,2,0,4\n", r"line 2: a window of 0×4 pixels"),
        ("path,label,x,y,width,height\n1.png,a,1,2,3,4\n1.png,b,1.0,2,3,4\n", r"line 3: the same image and window"),
        ("path,label,code\n1.png,a,0\n2.png,a,1\n", r"line 3: code 1 of 'a', which had 0 before"),
        ("path,label,code\n1.png,a,0\n2.png,b,0\n", r"column code must give every label its own number"),
        ("path,label,code\n1.png,a,0\n2.png,b,\n", r"column code must give every label its own number"),
        ('path,label\n"1.png,a\n', r"not a CSV file in UTF-8"),
        (b"path,label\n1.png,\xe9\n", r"not a CSV file in UTF-8"),
    ],
)
def test_mistakes_are_named_with_their_line(manifest, text: str | bytes, says: str):
    with pytest.raises(SourceError, match=says) as refusal:
        read_source(manifest(text))
    assert "\n" not in str(refusal.value)


def test_another_format_for_a_csv_is_refused(manifest):
    with pytest.raises(SourceError, match="a CSV file is read as a manifest; for cric give"):
        read_source(manifest("path,label\n1.png,a\n"), "cric")


def test_labels_may_be_absent_for_prediction(manifest):
    assert read_source(manifest("path\n1.png\n"), require_labels=False).labels.tolist() == [-1]
    some = read_source(manifest("path,label\n1.png,\n2.png,b\n"), require_labels=False)
    assert some.labels.tolist() == [-1, 0]


@pytest.mark.parametrize("source", ["herlev", "cric", "cifar100.zip"])
def test_real_tables_come_back_with_their_order_of_classes(shared_data: Path, tmp_path: Path, source: str):
    table = read_source(shared_data / source)
    if source != "cifar100.zip":
        table = split_table(table)
    table.write(tmp_path / "cells.csv")
    assert_same(read_source(tmp_path / "cells.csv"), table)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=12)
NAMES = TEXT.filter(lambda name: name not in (".", "..") and len(name.encode()) < 100 and name.strip())
LABELS = TEXT.filter(lambda label: label.strip())


@settings(deadline=None, max_examples=60)
@given(
    cells=st.lists(
        st.tuples(NAMES, LABELS, TEXT, st.sampled_from(["", "train", "val", "test"])), min_size=1, max_size=6
    ),
    box=st.none() | st.tuples(*[st.floats(-1e4, 1e4)] * 2, *[st.floats(0.01, 1e4)] * 2),
    backwards=st.booleans(),
)
def test_nasty_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, cells, box, backwards: bool):
    folder = tmp_path_factory.mktemp("nasty")
    rows = []
    for number, (name, label, group, split) in enumerate(cells):
        path = f"{number}/{name}"
        (folder / str(number)).mkdir()
        (folder / path).touch()
        row = {"root": str(folder), "path": path, "label": label, "group": group, "split": split, "fold": number - 1}
        rows.append(row | dict(zip(("x", "y", "width", "height"), box or (), strict=False)))
    classes = sorted({row["label"] for row in rows}, reverse=backwards)
    table = CellTable.from_rows(rows, tuple(classes), "folder")
    table.write(folder / "cells.csv")
    assert_same(read_source(folder / "cells.csv"), table)

"""CRIC's annotations and fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cytodistill.data.images import crop_box, read_image
from cytodistill.data.sources import SourceError, read_source

HEADER = "image_id,image_filename,image_doi,cell_id,bethesda_system,nucleus_x,nucleus_y"
ROWS = [
    "1,b.png,10.1/x,7,SCC,20.5,30",
    "1,b.png,10.1/x,8,Negative for intraepithelial lesion,0.5,39.9",
    "2,a.png,10.1/y,9,LSIL,39,1",
]


@pytest.fixture
def cric(plant) -> Callable[..., Path]:
    def write(*rows: str, header: str = HEADER, place: str = "images/") -> Path:
        root = plant(f"{place}a.png", f"{place}b.png", size=(40, 40))
        (root / "classifications.csv").write_text("\n".join([header, *rows]) + "\n")
        return root

    return write


@pytest.mark.parametrize("place", ["images/", ""])
def test_windows_round_the_nuclei(cric, zipped, place: str):
    root = cric(*ROWS, place=place)
    table = read_source(root, window=10)
    assert table.format == "cric"
    assert table.classes == ("NILM", "LSIL", "SCC")
    assert table.frame["path"].tolist() == [f"{place}a.png", f"{place}b.png", f"{place}b.png"]
    assert table.frame["group"].tolist() == ["a.png", "b.png", "b.png"]
    assert table.frame[["x", "y", "width", "height"]].to_numpy().tolist() == [
        [34, -4, 10, 10],
        [15.5, 25, 10, 10],
        [-4.5, 34.9, 10, 10],
    ]
    assert read_source(zipped(root, "wrap"), window=10).frame["label"].tolist() == ["LSIL", "SCC", "NILM"]
    assert read_source(root).frame["width"].tolist() == [90] * 3
    assert table.is_windowed(10)
    assert not table.is_windowed(90)
    # A manifest of them is windowed too; one cell of another size makes it a table of outlines.
    table.write(root / "m.csv")
    assert read_source(root / "m.csv").is_windowed(10)
    assert not table.with_frame(table.frame.assign(height=[10, 11, 10])).is_windowed(10)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("1,b.png,d,7,SCC,x,30", r"classifications\.csv, line 5: nucleus_x 'x' is not a number"),
        ("1,b.png,d,7,SCC,3,", r"line 5: nucleus_y '' is not a number"),
        ("1,b.png,d,7,SCC,inf,3", r"line 5: nucleus_x 'inf' is not a number"),
        ("1,b.png,d,7,SCC,-1,3", r"line 5: nucleus_x -1 is negative, outside the image"),
        ("1,b.png,d,7,SCC,40,3", r"line 5: the nucleus at \(40, 3\) is outside b\.png of 40×40 pixels"),
        ("1,b.png,d,7,AGC,3,3", r"line 5: bethesda_system 'AGC' is not one of NILM, ASC-US"),
        ("1,c.png,d,7,SCC,3,3", r"line 5: the image 'c\.png' is neither beside it nor in images/ \(1 such images\)"),
        ("1,b.png", r"line 5: bethesda_system '' is not one of"),
    ],
)
def test_refusals_name_the_line(cric, row: str, says: str):
    with pytest.raises(SourceError, match=says):
        read_source(cric(*ROWS, row))


def test_refusals_of_the_whole_file(cric):
    with pytest.raises(SourceError, match=r"no column bethesda_system, nucleus_y"):
        read_source(cric("b.png,3", header="image_filename,nucleus_x"))
    with pytest.raises(SourceError, match=r"classifications\.csv: no cells"):
        read_source(cric())
    with pytest.raises(SourceError, match=r"window=1"):
        read_source(cric(*ROWS), window=1)


def test_a_damaged_field_is_left_to_inspection(cric):
    root = cric(*ROWS)
    (root / "images" / "b.png").write_bytes(b"damaged")
    assert len(read_source(root)) == 3


def test_the_shared_part(shared_data: Path):
    table = read_source(shared_data / "cric")
    assert len(table) == 4072
    assert table.frame["group"].nunique() == table.frame["path"].nunique() == 159
    assert table.counts()["unassigned"].to_dict() == {
        "NILM": 3072,
        "ASC-US": 293,
        "LSIL": 338,
        "ASC-H": 71,
        "HSIL": 236,
        "SCC": 62,
    }
    cell = table.frame.iloc[0]
    window = crop_box(read_image(cell["root"], cell["path"]), cell["x"], cell["y"], cell["width"], cell["height"])
    assert window.shape == (90, 90, 3)

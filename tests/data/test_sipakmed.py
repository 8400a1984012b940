"""SIPaKMeD's tree and its contour files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytodistill.data.sources import SourceError, read_contours, read_source

CELLS = [
    "im_Dyskeratotic/im_Dyskeratotic/CROPPED/001_01.bmp",
    "im_Dyskeratotic/im_Dyskeratotic/CROPPED/001_02.bmp",
    "im_Dyskeratotic/im_Dyskeratotic/CROPPED/014_01.bmp",
    "im_Superficial-Intermediate/CROPPED/001_01.bmp",
    "im_Superficial-Intermediate/CROPPED/002_11.png",
]
FIELDS = ["im_Dyskeratotic/im_Dyskeratotic/001.bmp", "im_Superficial-Intermediate/001.bmp"]


def test_both_nestings_groups_and_classes(plant):
    table = read_source(plant(*CELLS, *FIELDS))
    assert table.format == "sipakmed"
    assert table.frame["path"].tolist() == CELLS
    assert table.frame["label"].tolist() == ["Dyskeratotic"] * 3 + ["Superficial-Intermediate"] * 2
    assert table.frame["group"].tolist() == [
        "Dyskeratotic/001",
        "Dyskeratotic/001",
        "Dyskeratotic/014",
        "Superficial-Intermediate/001",
        "Superficial-Intermediate/002",
    ]
    assert table.classes == ("Superficial-Intermediate", "Dyskeratotic")


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        ([*CELLS, "im_Parabasal/CROPPED/cell.bmp"], r"CROPPED/cell\.bmp: not named <cluster>_<cell>"),
        (CELLS[:3], r"only the class Dyskeratotic"),
    ],
)
def test_refusals(plant, paths: list[str], says: str):
    with pytest.raises(SourceError, match=says):
        read_source(plant(*paths), "sipakmed")


def test_contours_beside_the_cell_in_folder_and_archive(tmp_path: Path):
    (tmp_path / "CROPPED").mkdir()
    (tmp_path / "CROPPED" / "001_01_cyt.dat").write_text("1,2\n3.5,4\r\n\n-5,6e1\n")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(tmp_path / "CROPPED" / "001_01_cyt.dat", "CROPPED/001_01_cyt.dat")
    for root in (tmp_path, tmp_path / "set.zip"):
        cytoplasm, nucleus = read_contours(root, "CROPPED/001_01.bmp")
        assert nucleus is None
        assert cytoplasm is not None
        assert cytoplasm.tolist() == [[1, 2], [3.5, 4], [-5, 60]]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("1,2\n3,4\n", r"001_01_nuc\.dat: 2 points, a contour needs at least 3"),
        ("", r"001_01_nuc\.dat: 0 points"),
        ("1,2\n3;4\n5,6\n", r"001_01_nuc\.dat, line 2: '3;4' is not a point x,y"),
        ("1,2\n3,4,5\n5,6\n", r"line 2"),
        ("1,2\n3,4\nnan,6\n", r"line 3"),
    ],
)
def test_malformed_contours_name_file_and_line(tmp_path: Path, content: str, says: str):
    (tmp_path / "001_01_nuc.dat").write_text(content)
    with pytest.raises(SourceError, match=says):
        read_contours(tmp_path, "001_01.bmp")


@given(points=st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=3, max_size=40))
def test_contours_come_back_as_written(tmp_path_factory: pytest.TempPathFactory, points: list[tuple[float, float]]):
    folder = tmp_path_factory.mktemp("contour")
    (folder / "1_1_cyt.dat").write_text("".join(f"{x},{y}\n" for x, y in points))
    np.testing.assert_array_equal(read_contours(folder, "1_1.bmp")[0], np.array(points))


@given(content=st.binary(max_size=60))
def test_any_bytes_are_a_contour_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    folder = tmp_path_factory.mktemp("contour")
    (folder / "1_1_cyt.dat").write_bytes(content)
    try:
        contour = read_contours(folder, "1_1.bmp")[0]
    except SourceError:
        return
    assert contour is not None
    assert contour.shape[1:] == (2,)
    assert np.isfinite(contour).all()

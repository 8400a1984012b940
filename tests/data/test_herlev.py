"""Herlev's class folders, without the masks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cytodistill.data.sources import SourceError, read_source

CELLS = [
    "carcinoma_in_situ/149143370-149143378-001.BMP",
    "carcinoma_in_situ/149143370-149143378-002.BMP",
    "normal_columnar/153956040-153956058-001.bmp",
]
MASKS = ["carcinoma_in_situ/149143370-149143378-001-d.bmp", "normal_columnar/153956040-153956058-001-D.BMP"]


def test_masks_are_left_out_and_the_acquisition_is_the_group(plant):
    table = read_source(plant(*CELLS, *MASKS))
    assert table.format == "herlev"
    assert table.frame["path"].tolist() == CELLS
    assert table.frame["group"].tolist() == ["149143370", "149143370", "153956040"]
    assert table.classes == ("normal_columnar", "carcinoma_in_situ")  # from normal to carcinoma


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("normal_columnar/cell.bmp", r"cell\.bmp: no acquisition number"),
        ("severe_dysplasia/1-2-3.bmp", r"severe_dysplasia: not a class of Herlev; its folders are normal_superficiel"),
        ("severe_dysplastic/1-2-3-d.bmp", r"severe_dysplastic: no images of this class"),
    ],
)
def test_refusals(plant, extra: str, says: str):
    with pytest.raises(SourceError, match=says):
        read_source(plant(*CELLS, extra), "herlev")


def test_the_shared_part(shared_data: Path):
    table = read_source(shared_data / "herlev")
    said = (shared_data / "README.md").read_text()
    expected = {name: int(count) for name, count in re.findall(r"(\w+(?:_\w+)+) (\d+)", said.split("`cric")[0])}
    assert len(table) == 685
    assert len(table.classes) == 7
    assert table.counts()["unassigned"].to_dict() == expected
    assert table.frame["group"].nunique() == 227

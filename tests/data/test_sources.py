"""Recognition of the formats, alike in a folder, an archive and a wrapping folder, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from cytodistill.data.sources import FORMATS, SourceError, read_source
from cytodistill.data.sources.registry import ordered_classes, register
from cytodistill.errors import CytodistillError

CIFAR = [f"{split}/class{n:03d}/{split}_{n}.png" for split in ("train", "test") for n in range(100)]
TREES = {
    "sipakmed": ["im_Parabasal/CROPPED/001_01.bmp", "im_Dyskeratotic/im_Dyskeratotic/CROPPED/001_01.bmp"],
    "herlev": ["normal_columnar/1-2-001.BMP", "light_dysplastic/3-4-001.BMP"],
    "cifar100": CIFAR,
    "folder": ["a/1.png", "b/1.png"],
}


@pytest.mark.parametrize("format", TREES)
def test_recognised_in_folder_archive_and_wrapped_archive(format: str, plant, zipped):
    root = plant(*TREES[format])
    tables = [read_source(source) for source in (root, zipped(root), zipped(root, "some wrapping"))]
    assert [table.format for table in tables] == [format] * 3
    assert len(tables[0]) == len(TREES[format])
    assert tables[0].digest() == tables[1].digest()
    assert tables[0].classes == tables[1].classes == tables[2].classes
    assert all(path.startswith("some wrapping/") for path in tables[2].frame["path"])
    assert set(tables[1].frame["root"]) == {str(zipped(root))}


@pytest.mark.parametrize("format", ["sipakmed", "herlev", "cifar100"])
def test_a_known_data_set_is_found_in_lone_folders(format: str, plant, zipped):
    root = plant(*(f"smear2005/New database pictures/{path}" for path in TREES[format]))
    (root / "smear2005" / "README.txt").write_text("beside the wrapping")
    assert read_source(root).format == read_source(zipped(root)).format == format


def test_a_lone_split_folder_in_an_archive_is_no_wrapping(plant, zipped):
    table = read_source(zipped(plant("train/a/1.png", "train/b/1.png")))
    assert table.classes == ("a", "b")
    assert set(table.frame["split"]) == {"train"}


def test_format_overrides(plant):
    root = plant("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png")
    assert read_source(root).format == "folder"
    assert read_source(root, "cifar100").format == "cifar100"
    herlev = plant(*TREES["herlev"], folder="herlev")
    assert read_source(herlev, "folder").classes == ("light_dysplastic", "normal_columnar")


def test_rows_are_in_code_point_order_of_their_paths(plant):
    table = read_source(plant("b/ä.png", "b/Z.png", "b/a.png", "a/2.png", "a/10.png"))
    assert table.frame["path"].tolist() == ["a/10.png", "a/2.png", "b/Z.png", "b/a.png", "b/ä.png"]


@pytest.mark.parametrize(
    ("paths", "format", "says"),
    [
        (["a/1.png", "b/1.png"], "pascal", r"--format pascal: not known; the formats are sipakmed, herlev"),
        (["a/1.png", "b/1.png"], "sipakmed", r"source: does not look like sipakmed \(im_<Class>"),
        (["a/1.png", "b/1.png"], "cric", r"source: does not look like cric \(classifications\.csv"),
        (["a/1.png", "b/1.png"], "manifest", r"source: a manifest is a \.csv file"),
        (["1.png", "2.png"], None, r"source: in no known format; the formats are .*folder, manifest"),
        (["a/1.gif"], None, r"source: no images in it"),
    ],
)
def test_what_does_not_fit_is_named_with_the_known_formats(plant, paths: list[str], format: str | None, says: str):
    with pytest.raises(SourceError, match=says):
        read_source(plant(*paths), format)


def test_absent_and_strange_files_are_named(tmp_path: Path):
    with pytest.raises(SourceError, match=r"nowhere: no such folder or file"):
        read_source(tmp_path / "nowhere")
    (tmp_path / "set.rar").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"set\.rar: neither a folder, a \.zip archive nor a manifest"):
        read_source(tmp_path / "set.rar")
    (tmp_path / "set.zip").write_bytes(b"x")
    with pytest.raises(CytodistillError, match=r"set\.zip: not a readable zip archive"):
        read_source(tmp_path / "set.zip")


def test_without_labels_a_flat_folder_and_a_single_image_are_read(plant):
    root = plant("1.png", "x/2.png")
    table = read_source(root, require_labels=False)
    assert table.frame["path"].tolist() == ["1.png", "x/2.png"]
    assert table.classes == ()
    assert table.labels.tolist() == [-1, -1]
    alone = read_source(root / "1.png", require_labels=False)
    assert (alone.frame.loc[0, "root"], alone.frame.loc[0, "path"]) == (str(root), "1.png")


def test_a_format_name_is_registered_once():
    with pytest.raises(CytodistillError, match="'folder' is registered twice"):
        register(FORMATS["folder"])


def test_classes_beyond_the_official_ones_follow_sorted():
    assert ordered_classes(["z", "b", "y", "a"], ("b", "a", "c")) == ("b", "a", "y", "z")

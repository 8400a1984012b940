"""Plain class folders."""

from __future__ import annotations

import pytest

from cytodistill.data.sources import SourceError, read_source


def test_class_folders_with_images_at_any_depth(plant):
    table = read_source(plant("b/1.png", "a/2.JPG", "a/deep/er/3.tif", "a/notes.gif", "b/deep/4.webp"))
    assert table.frame["path"].tolist() == ["a/2.JPG", "a/deep/er/3.tif", "b/1.png", "b/deep/4.webp"]
    assert table.classes == ("a", "b")
    assert table.frame["split"].unique().tolist() == [""]
    # "deep" is the only subfolder name there is: it tells nothing apart and so is no group
    assert table.frame["group"].tolist() == table.frame["path"].tolist()


def test_a_patient_with_cells_of_two_classes_is_one_group(plant):
    table = read_source(plant("a/p1/1.png", "a/p2/2.png", "b/p1/x/3.png", "b/4.png"))
    assert dict(zip(table.frame["path"], table.frame["group"], strict=True)) == {
        "a/p1/1.png": "p1",
        "a/p2/2.png": "p2",
        "b/p1/x/3.png": "p1",
        "b/4.png": "b/4.png",
    }


def test_split_folders_become_the_split_column(plant):
    table = read_source(plant("train/a/1.png", "train/b/1.png", "Valid/a/2.png", "test/b/3.png"))
    assert dict(zip(table.frame["path"], table.frame["split"], strict=True)) == {
        "train/a/1.png": "train",
        "train/b/1.png": "train",
        "Valid/a/2.png": "val",
        "test/b/3.png": "test",
    }
    assert table.classes == ("a", "b")


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["a/1.png"], r"only the class folder a/; a classifier needs at least 2"),
        (["a/1.png", "b/1.png", "stray.png"], r"stray\.png: an image outside the class folders"),
        (["a/1.png", "b/1.png", "c/1.gif"], r"/c: a class folder without images \(\.png"),
        (["train/a/1.png", "train/b/1.png", "more/1.png"], r"/more: stands beside the split folder train/"),
        (["train/a/1.png", "train/1.png"], r"train/1\.png: an image outside the class folders"),
    ],
)
def test_refusals(plant, paths: list[str], says: str):
    with pytest.raises(SourceError, match=says):
        read_source(plant(*paths))


def test_an_empty_class_folder_is_named_in_folder_and_archive(plant, zipped):
    root = plant("a/1.png", "b/1.png")
    (root / "ö empty").mkdir()
    for source in (root, zipped(root)):
        with pytest.raises(SourceError, match="ö empty: a class folder without images"):
            read_source(source)


def test_a_class_of_one_image_is_read(plant):
    assert read_source(plant("a/1.png", "a/2.png", "b/1.png")).labels.tolist() == [0, 0, 1]

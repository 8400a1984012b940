from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from cytodistill.data.cache import cached_cells
from cytodistill.data.images import read_image
from cytodistill.data.sources import read_contours, read_source
from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import ImageInputs, ShapeInputs, inputs_of
from cytodistill.estimators.shape import shape_features
from cytodistill.recipe import Recipe

SHAPE = {"estimator.head": "svm", "estimator.features": "shape"}


def test_a_recipe_says_what_its_network_is_fed():
    assert isinstance(inputs_of(Recipe()), ImageInputs)
    assert isinstance(inputs_of(Recipe().override({"estimator.features": "shape"})), ImageInputs)  # no head
    assert isinstance(inputs_of(Recipe().override(SHAPE | {"estimator.features": "conv"})), ImageInputs)
    assert isinstance(inputs_of(Recipe().override(SHAPE)), ShapeInputs)


def test_image_inputs_are_the_caches_cells(cells):
    table, data = read_source(cells), Recipe().override({"data.image_size": 32}).data
    inputs = ImageInputs(data)
    whole = inputs.of_table(table, np.arange(3))
    np.testing.assert_array_equal(whole, cached_cells(table, 32, data.resize))
    root, path = table.frame.iloc[5][["root", "path"]]
    np.testing.assert_array_equal(inputs.read(root, path), whole[5])
    np.testing.assert_array_equal(inputs.of_image(read_image(root, path)), whole[5])
    given = inputs.tensor(torch.from_numpy(whole[5:6].copy()))
    expected = (whole[5] / 255 - data.mean) / data.std
    np.testing.assert_allclose(given[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_shapes_are_measured_by_the_contours_beside_the_image(drawn, zipped, packed):
    table = read_source(zipped(drawn) if packed else drawn)
    inputs, rows = ShapeInputs("auto"), np.array([2, 9])
    found = inputs.of_table(table, rows)
    assert found.shape == (len(table), 27)
    for row in rows:
        root, path = table.frame.iloc[row][["root", "path"]]
        cytoplasm, nucleus = read_contours(root, path)
        np.testing.assert_array_equal(found[row], shape_features(read_image(root, path), nucleus, cytoplasm))
        np.testing.assert_array_equal(inputs.read(root, path), found[row])
    assert np.isnan(np.delete(found, rows, axis=0)).all()
    assert dict(inputs.origins) == {"file": 4}
    assert inputs.tensor(torch.from_numpy(found[rows])).dtype == torch.float32


def test_segmented_cells_are_counted_and_agree_however_they_come(drawn):
    root, path = read_source(drawn).frame.iloc[0][["root", "path"]]
    inputs = ShapeInputs("segment")
    image = read_image(root, path)
    np.testing.assert_array_equal(inputs.read(root, path), inputs.of_image(image))
    height, width = image.shape[:2]
    np.testing.assert_array_equal(inputs.read(root, path, (0.0, 0.0, width, height)), inputs.of_image(image))
    assert dict(inputs.origins) == {"segmented": 4}


def test_measured_contours_and_segmented_ones_are_alike(drawn):
    """Nuclear area and colour by segmentation, against those by the drawn contours."""
    table = read_source(drawn)
    rows = np.arange(0, len(table), 5)
    filed, segmented = (ShapeInputs(source).of_table(table, rows)[rows] for source in ("file", "segment"))
    for column in (0, 2, 14, 15):  # nucleus_area, nucleus_ratio, nucleus_red, nucleus_green
        assert np.corrcoef(filed[:, column], segmented[:, column])[0, 1] > 0.85


def test_the_first_cell_without_contours_is_named_and_the_others_counted(cells):
    table = read_source(cells)
    first = table.frame["path"].iloc[0]
    with pytest.raises(CytodistillError, match=f"{first}: has no contours .*; 4 more"):
        ShapeInputs("file").of_table(table, np.arange(5))


def test_what_cannot_be_measured_is_named(tmp_path):
    Image.new("RGB", (20, 20), (200, 190, 180)).save(tmp_path / "flat.png")
    with pytest.raises(CytodistillError, match="flat.png: no cell can be told from the slide"):
        ShapeInputs("auto").read(tmp_path, "flat.png")
    with pytest.raises(CytodistillError, match="^image: no cell can be told"):
        ShapeInputs("auto").of_image(np.zeros((20, 20, 3), np.uint8))


def test_a_picture_has_no_files():
    with pytest.raises(CytodistillError, match="estimator.contours=file: a picture in memory has no contours"):
        ShapeInputs("file").of_image(np.zeros((20, 20, 3), np.uint8))


def test_without_scikit_image_shapes_are_refused(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "skimage"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "skimage", None)
    for name in ("contours", "segmentation", "shape"):
        monkeypatch.delitem(sys.modules, f"cytodistill.estimators.{name}", raising=False)
        monkeypatch.delattr(f"cytodistill.estimators.{name}", raising=False)
    with pytest.raises(CytodistillError, match=r"pip install 'cytodistill\[estimators\]'"):
        ShapeInputs("auto")
    assert isinstance(inputs_of(Recipe()), ImageInputs)

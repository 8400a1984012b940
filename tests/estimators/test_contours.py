from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from cytodistill.data.images import read_image
from cytodistill.data.sources import SourceError, read_source
from cytodistill.errors import CytodistillError
from cytodistill.estimators.contours import cell_contours, contour_mask, contours_from_files, mask_contour

from .conftest import ellipse

WHOLE = (float("nan"),) * 4


def mask_image(size=(40, 50), nucleus=ellipse(24, 20, 7, 5), cell=ellipse(25, 20, 18, 14)) -> np.ndarray:
    """A mask in Herlev's colours."""
    image = np.zeros((*size, 3), np.uint8)
    image[:] = (255, 0, 0)
    image[contour_mask(cell, size)] = (0, 0, 128)
    image[contour_mask(nucleus, size)] = (0, 0, 255)
    image[0, :5] = 128  # the masks' grey is neither
    return image


@pytest.fixture
def herlev(tmp_path):
    """Two cells in Herlev's tree; the first alone has its mask."""
    folder = tmp_path / "herlev" / "normal_columnar"
    folder.mkdir(parents=True)
    for number in (1, 2):
        Image.new("RGB", (50, 40), (200, 180, 190)).save(folder / f"153956040-153956058-00{number}.BMP")
    Image.fromarray(mask_image()).quantize(8).save(folder / "153956040-153956058-001-d.bmp")
    return tmp_path / "herlev"


@pytest.mark.parametrize("place", [(20.0, 20.0), (1.0, 30.0), (47.5, 3.0)])
def test_mask_to_contour_to_mask_is_the_same_mask(place):
    mask = contour_mask(ellipse(*place, 9, 6, 0.7), (40, 50))
    assert mask.sum() > 40
    np.testing.assert_array_equal(contour_mask(mask_contour(mask), mask.shape), mask)


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_scikit_images(seed):
    """Of stars that wind about themselves and leave the image on all sides."""
    contour = np.random.default_rng(seed).uniform(-15, 65, (3 + 7 * seed, 2))
    np.testing.assert_array_equal(contour_mask(contour, (40, 50)), polygon2mask((40, 50), contour[:, ::-1]))


def test_a_mask_has_the_pixels_whose_centres_lie_inside():
    mask = contour_mask(np.array([[1.5, 0.5], [4.5, 0.5], [4.5, 2.5], [1.5, 2.5]]), (5, 7))
    assert np.argwhere(mask).tolist() == [[1, 2], [1, 3], [1, 4], [2, 2], [2, 3], [2, 4]]


@pytest.mark.parametrize("packed", [False, True])
def test_sipakmeds_files_are_read_from_folders_and_zips(drawn, zipped, packed):
    source = zipped(drawn) if packed else drawn
    row = read_source(source).frame.iloc[3]
    image = read_image(row["root"], row["path"])
    found = cell_contours(image, row["root"], row["path"], WHOLE, "auto")
    assert found.origin == "file"
    assert found.nucleus.shape == found.cytoplasm.shape == (64, 2)
    nucleus, cell = (contour_mask(contour, image.shape[:2]) for contour in (found.nucleus, found.cytoplasm))
    assert (cell & nucleus).sum() == nucleus.sum() > 20


@pytest.mark.parametrize("packed", [False, True])
def test_herlevs_masks_are_read_by_their_colours(herlev, zipped, packed):
    root = zipped(herlev) if packed else herlev
    found = contours_from_files(root, "normal_columnar/153956040-153956058-001.BMP", (40, 50))
    assert found is not None
    drawn = mask_image()
    np.testing.assert_array_equal(contour_mask(found.nucleus, (40, 50)), (drawn == (0, 0, 255)).all(2))
    np.testing.assert_array_equal(contour_mask(found.cytoplasm, (40, 50)), drawn[..., 0] == 0)
    assert contours_from_files(root, "normal_columnar/153956040-153956058-002.BMP", (40, 50)) is None


def test_files_segmentation_or_what_there_is(drawn):
    row = read_source(drawn).frame.iloc[0]
    image = read_image(row["root"], row["path"])

    def origin(source: str, box=WHOLE) -> str:
        return cell_contours(image, row["root"], row["path"], box, source).origin

    assert [origin(source) for source in ("auto", "file", "segment")] == ["file", "file", "segmented"]
    assert origin("auto", (0.0, 0.0, 40.0, 40.0)) == "segmented"  # files describe the whole image
    with pytest.raises(CytodistillError, match="has no contours .* or set estimator.contours=auto"):
        origin("file", (0.0, 0.0, 40.0, 40.0))


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (mask_image((20, 25)), "a mask of 25×20 pixels for an image of 50×40"),
        (np.full((40, 50, 3), 128, np.uint8), r"no pixel of the nucleus's colour \(0, 0, 255\)"),
    ],
)
def test_bad_masks_are_named(herlev, mask, says):
    Image.fromarray(mask).save(herlev / "normal_columnar" / "153956040-153956058-002-d.bmp")
    with pytest.raises(SourceError, match=f"002-d.bmp: {says}"):
        contours_from_files(herlev, "normal_columnar/153956040-153956058-002.BMP", (40, 50))

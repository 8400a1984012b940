"""Whole slides: a window is the one of the whole image, whatever the tiles; what cannot be read is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.data import slides
from cytodistill.data.images import ImageError, crop_box, cut_cell, load_cell
from cytodistill.data.slides import Slide, slide_of

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("tiffslide")

APERIO = "Aperio Image Library v11\n300x200 [0,0 300x200] (64x64) JPEG/RGB Q=70|AppMag = 40|MPP = 0.2500"


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(1).integers(0, 256, (200, 300, 3), dtype=np.uint8)


def write(file, pixels, *, resolution=(40_000, 40_000), levels=2, **options):
    """A pyramid with each level as a page of its own."""
    options = {"tile": (64, 64), "compression": "deflate", **options}
    with tifffile.TiffWriter(file) as writer:
        for level in range(levels):
            writer.write(
                pixels[:: 4**level, :: 4**level],
                resolution=tuple(side / 4**level for side in resolution) if resolution else None,
                resolutionunit="CENTIMETER" if resolution else None,
                subfiletype=int(level > 0),
                metadata=None,
                **options,
            )
    return file


@pytest.fixture(scope="module")
def slide(pixels, tmp_path_factory):
    return Slide(write(tmp_path_factory.mktemp("slide") / "a.svs", pixels, description=APERIO))


@settings(deadline=None, max_examples=80)
@given(x=st.floats(-150, 320), y=st.floats(-150, 220), width=st.floats(0.1, 160), height=st.floats(0.1, 160))
def test_a_window_is_that_of_the_whole_image(slide, pixels, x, y, width, height):
    try:
        wanted = crop_box(pixels, x, y, width, height)
    except ImageError:
        with pytest.raises(ImageError, match="outside the slide of 300×200"):
            slide.window(x, y, width, height)
        return
    np.testing.assert_array_equal(slide.window(x, y, width, height), wanted)


def test_tiles_are_decoded_once_and_few_are_kept(pixels, tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "CACHE_BYTES", 2 * 64 * 64 * 3)
    slide = Slide(write(tmp_path / "a.svs", pixels))
    for _ in range(3):
        slide.window(10, 10, 80, 20)
    assert slide._tile.cache_info()[:4] == (4, 2, 2, 2)


@pytest.mark.parametrize(
    ("options", "microns"),
    [
        ({"description": APERIO, "resolution": None}, 0.25),
        ({"resolution": (20_000, 20_000)}, 0.5),
        ({"resolution": None}, None),
        ({"resolution": (72 / 2.54, 72 / 2.54)}, None),
    ],
)
def test_the_pixel_size_is_the_slides_own(pixels, tmp_path, options, microns):
    assert Slide(write(tmp_path / "a.svs", pixels, **options)).microns_per_pixel == microns


def test_pixels_that_are_not_square_are_refused(pixels, tmp_path):
    slide = Slide(write(tmp_path / "a.svs", pixels, resolution=(40_000, 20_000)))
    with pytest.raises(ImageError, match="0.25 × 0.5 µm"):
        _ = slide.microns_per_pixel


def test_grey_slides_have_three_channels_alike(pixels, tmp_path):
    slide = Slide(write(tmp_path / "a.svs", pixels[..., 0], photometric="minisblack"))
    window = slide.window(50, 60, 40, 30)
    np.testing.assert_array_equal(window, np.repeat(pixels[60:90, 50:90, :1], 3, axis=2))


def test_cells_are_cut_from_slides_as_from_images(pixels, tmp_path, monkeypatch):
    write(tmp_path / "a.tif", pixels)
    assert slide_of(tmp_path, "a.tif") is None
    as_image = load_cell(tmp_path, "a.tif", 32, box=(250, 150, 90, 90))
    monkeypatch.setattr(slides, "MAX_PIXELS", 1000)
    write(tmp_path / "b.tif", pixels)
    assert slide_of(tmp_path, "b.tif") is not None
    assert slide_of(tmp_path, "b.tif") is slide_of(tmp_path, "b.tif")
    np.testing.assert_array_equal(load_cell(tmp_path, "b.tif", 32, box=(250, 150, 90, 90)), as_image)


def test_what_cannot_be_read_is_named(pixels, tmp_path):
    (tmp_path / "none.svs").write_bytes(b"no slide")
    with pytest.raises(ImageError, match="none.svs: not a readable slide"):
        cut_cell(tmp_path, "none.svs", (0, 0, 9, 9))
    write(tmp_path / "strips.svs", pixels, tile=None)
    with pytest.raises(ImageError, match="strips.svs: 300×200 pixels without tiles"):
        slide_of(tmp_path, "strips.svs")
    write(tmp_path / "deep.svs", pixels.astype(np.uint16))
    with pytest.raises(ImageError, match="uint16"):
        slide_of(tmp_path, "deep.svs")
    with pytest.raises(ImageError, match="no cell's; 4096 a side"):
        Slide(write(tmp_path / "a.svs", pixels)).window(0, 0, 5000, 10)


def test_a_damaged_tile_costs_its_own_cells_only(pixels, tmp_path):
    file = write(tmp_path / "a.svs", pixels, levels=1)
    with tifffile.TiffFile(file) as opened:
        at = opened.pages[0].dataoffsets[0]
    content = bytearray(file.read_bytes())
    content[at : at + 40] = bytes(40)
    file.write_bytes(content)
    slide = Slide(file)
    with pytest.raises(ImageError, match="not a readable slide"):
        slide.window(0, 0, 30, 30)
    np.testing.assert_array_equal(slide.window(100, 100, 30, 30), pixels[100:130, 100:130])


def test_without_tiffslide_the_mend_is_said(pixels, tmp_path, monkeypatch):
    write(tmp_path / "a.svs", pixels)
    monkeypatch.setitem(__import__("sys").modules, "tiffslide", None)
    with pytest.raises(ImageError, match=r"pip install 'cytodistill\[wsi\]'"):
        Slide(tmp_path / "a.svs")

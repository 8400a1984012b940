"""Decoding to RGB against colours known by construction, refusals by name, cropping and resizing."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cytodistill.data import images
from cytodistill.data.images import ImageError, crop_box, cut, decode, image_size, load_cell, read_image, resize
from cytodistill.errors import CytodistillError


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(height: int = 16, width: int = 12) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("format", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
def test_lossless_formats_give_the_very_pixels(format: str, options: dict):
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(noise()), format, **options), "cell"), noise())


def test_jpeg_is_near_and_the_format_is_told_by_content_not_by_name(tmp_path: Path):
    grey = np.full((16, 12, 3), (200, 120, 60), np.uint8)
    (tmp_path / "cell.png").write_bytes(encoded(Image.fromarray(grey), "JPEG", quality=95))
    assert np.abs(read_image(tmp_path, "cell.png").astype(int) - grey).max() <= 4


RED_SQUARE = Image.new("RGB", (4, 4), (255, 0, 0))


@pytest.mark.parametrize(
    ("image", "format", "options", "colour"),
    [
        pytest.param(Image.new("L", (4, 4), 90), "PNG", {}, (90, 90, 90), id="grey"),
        pytest.param(Image.new("1", (4, 4), 1), "PNG", {}, (255, 255, 255), id="1-bit"),
        pytest.param(Image.new("1", (4, 4), 0), "TIFF", {}, (0, 0, 0), id="1-bit TIFF"),
        pytest.param(RED_SQUARE.quantize(4), "PNG", {}, (255, 0, 0), id="palette"),
        pytest.param(RED_SQUARE.quantize(4), "PNG", {"transparency": 0}, (255, 255, 255), id="transparent palette"),
        pytest.param(RED_SQUARE, "PNG", {"transparency": (255, 0, 0)}, (255, 255, 255), id="transparent colour"),
        pytest.param(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG", {}, (255, 255, 255), id="alpha 0"),
        pytest.param(Image.new("RGBA", (4, 4), (255, 0, 0, 51)), "PNG", {}, (255, 204, 204), id="alpha 1/5 on white"),
        pytest.param(Image.new("LA", (4, 4), (0, 51)), "PNG", {}, (204, 204, 204), id="grey and alpha"),
        pytest.param(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", {}, (255, 0, 0), id="CMYK TIFF"),
        pytest.param(Image.new("I;16", (4, 4), 0x8080), "PNG", {}, (128, 128, 128), id="16-bit PNG"),
        pytest.param(Image.new("I;16", (4, 4), 65535), "TIFF", {}, (255, 255, 255), id="16-bit TIFF"),
        pytest.param(Image.new("I", (4, 4), 257 * 3), "TIFF", {}, (3, 3, 3), id="32-bit within 16"),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, format: str, options: dict, colour: tuple[int, int, int]):
    rgb = decode(encoded(image, format, **options), "cell")
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, np.broadcast_to(np.uint8(colour), (4, 4, 3)))


def test_cmyk_jpeg_is_red_where_it_was_red():
    rgb = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95), "cell").astype(int)
    assert np.abs(rgb - (255, 0, 0)).max() < 12


@pytest.mark.parametrize("format", ["WEBP", "TIFF", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(format: str, orientation: int, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(noise()), format, exif=exif, **({"lossless": True} if format == "WEBP" else {}))
    (tmp_path / "cell").write_bytes(content)
    stored = noise()
    rows_and_columns_run = {  # as the EXIF standard says which side of the scene row 0 and column 0 show
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.swapaxes(0, 1),
        6: stored[::-1].swapaxes(0, 1),
        7: stored[::-1, ::-1].swapaxes(0, 1),
        8: stored[:, ::-1].swapaxes(0, 1),
    }
    np.testing.assert_array_equal(decode(content, "cell"), rows_and_columns_run[orientation])
    assert image_size(tmp_path, "cell") == ((12, 16) if orientation < 5 else (16, 12))


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_broken_exif_does_not_spoil_good_pixels(format: str, exif: bytes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(encoded(Image.fromarray(noise()), format, exif=exif), "cell").shape == (16, 12, 3)


def test_the_first_frame_of_several_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert decode(content, "cell")[0, 0].tolist() == [255, 0, 0]


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is huge and holds no pixels, so that decoding it could not succeed."""
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    idat = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (ihdr, idat, b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "empty", id="0 bytes"),
        pytest.param(b"not an image", "not a readable PNG", id="text"),
        pytest.param(encoded(RED_SQUARE, "GIF"), "not a readable PNG", id="GIF"),
        pytest.param(encoded(Image.new("RGB", (1, 40))), "too small", id="1 pixel wide"),
        pytest.param(png_header(10_001, 10_000), "10001×10000 pixels, more than the 100 megapixels", id="101 MP"),
        pytest.param(png_header(60_000, 60_000), "more than the 100 megapixels", id="3.6 GP"),
        pytest.param(encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "floating-point", id="float"),
        pytest.param(encoded(Image.new("I", (4, 4), 70_000), "TIFF"), "32-bit", id="beyond 16 bits"),
        pytest.param(encoded(Image.new("I", (4, 4), -1), "TIFF"), "32-bit", id="negative"),
    ],
)
def test_refused_in_one_line_that_names_the_file(content: bytes, says: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as refusal:
            decode(content, "set/cell 7.png")
    assert str(refusal.value).startswith("set/cell 7.png: ")
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("kept", [0.25, 0.5, 0.9])
def test_truncated_files_are_refused(format: str, kept: float):
    content = encoded(Image.fromarray(noise(64, 64)), format)
    with pytest.raises(ImageError, match=r"^cell: "):
        decode(content[: int(len(content) * kept)], "cell")


@settings(max_examples=150, deadline=None)
@given(
    format=st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_an_image_or_a_refusal_and_nothing_else(format: str, damage: list[tuple[float, int]]):
    content = bytearray(encoded(Image.fromarray(noise()), format))
    for where, value in damage:
        content[int(where * len(content))] = value
    with contextlib.suppress(ImageError):
        image = decode(bytes(content), "cell")
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)


def test_non_ascii_names_in_folder_and_archive(tmp_path: Path):
    name = "клетки/細胞 é.png"
    (tmp_path / "клетки").mkdir()
    (tmp_path / name).write_bytes(encoded(Image.fromarray(noise())))
    with zipfile.ZipFile(tmp_path / "набор.zip", "w") as archive:
        archive.write(tmp_path / name, name)
    np.testing.assert_array_equal(read_image(tmp_path, name), noise())
    np.testing.assert_array_equal(read_image(tmp_path / "набор.zip", name), noise())


@given(
    x=st.floats(-20, 20), y=st.floats(-20, 20), width=st.integers(1, 30), height=st.integers(1, 30)
)  # an image of 12 × 16
def test_crop_is_numpys_edge_padding(x: float, y: float, width: int, height: int):
    image = noise()
    left, top = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    if left >= 12 or top >= 16 or left + width <= 0 or top + height <= 0:
        with pytest.raises(ImageError, match="outside the image of 12×16"):
            crop_box(image, x, y, width, height)
        with pytest.raises(ImageError, match="outside the image of 12×16"):
            cut(Image.fromarray(image), x, y, width, height)
        return
    padded = np.pad(image, ((60, 60), (60, 60), (0, 0)), mode="edge")
    expected = padded[60 + top : 60 + top + height, 60 + left : 60 + left + width]
    np.testing.assert_array_equal(crop_box(image, x, y, width, height), expected)
    np.testing.assert_array_equal(np.asarray(cut(Image.fromarray(image), x, y, width, height)), expected)


def test_stretch_changes_the_aspect_and_is_antialiased():
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize(stripes, 16, "stretch")
    assert small.shape == (16, 16, 3)
    assert np.abs(small.astype(int) - 127.5).max() < 8  # without antialiasing it would be 0 or 255


def test_pad_keeps_the_aspect_on_the_median_colour_of_the_border():
    cell = np.full((10, 40, 3), (230, 220, 210), np.uint8)
    cell[4:6, 10:30] = 20
    cell[0, 0] = 0  # an odd corner does not change a median
    square = resize(cell, 20, "pad")
    assert square.shape == (20, 20, 3)
    for band in (square[:7], square[13:]):
        np.testing.assert_array_equal(band, np.broadcast_to(np.uint8((230, 220, 210)), band.shape))
    assert square[9, 8:12].max() < 120


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(1, 64),
    mode=st.sampled_from(["stretch", "pad"]),
)
def test_resize_always_gives_the_square(height: int, width: int, size: int, mode: images.ResizeMode):
    assert resize(np.full((height, width, 3), 9, np.uint8), size, mode).tolist() == [[[9, 9, 9]] * size] * size


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    size=st.integers(1, 32),
    mode=st.sampled_from(["stretch", "pad"]),
)
def test_a_picture_is_resized_as_its_array(height: int, width: int, size: int, mode: images.ResizeMode):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    np.testing.assert_array_equal(resize(Image.fromarray(image), size, mode), resize(image, size, mode))


def test_unknown_mode_is_refused():
    with pytest.raises(CytodistillError, match="use stretch or pad"):
        resize(noise(), 8, "squash")  # type: ignore[arg-type]


def test_load_cell_crops_then_resizes_and_sees_a_changed_field(tmp_path: Path):
    field = np.zeros((40, 40, 3), np.uint8)
    field[10:20, 20:30] = (10, 200, 30)
    file = tmp_path / "field.png"
    Image.fromarray(field).save(file)
    cell = load_cell(tmp_path, "field.png", 8, box=(20.0, 10.0, 10.0, 10.0))
    np.testing.assert_array_equal(cell, np.broadcast_to(np.uint8((10, 200, 30)), (8, 8, 3)))
    nan = float("nan")
    np.testing.assert_array_equal(load_cell(tmp_path, "field.png", 40, box=(nan, nan, nan, nan)), field)
    with pytest.raises(ImageError, match=r"field\.png: the window 10×10 at \(50, 0\) lies outside"):
        load_cell(tmp_path, "field.png", 8, box=(50.0, 0.0, 10.0, 10.0))
    Image.new("RGB", (40, 40), "white").save(file)
    assert load_cell(tmp_path, "field.png", 8, box=(20.0, 10.0, 10.0, 10.0)).min() == 255

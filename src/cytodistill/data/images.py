"""Image files of cells to RGB arrays: safe decoding, cropping and resizing."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from PIL import Image

from cytodistill.data.storage import display, read_bytes
from cytodistill.errors import CytodistillError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 100_000_000
MIN_SIDE = 2

ResizeMode = Literal["stretch", "pad"]
Box = tuple[float, float, float, float]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_warning_filters = Lock()


class ImageError(CytodistillError):
    """An image that cannot be used; the message names the file, what is wrong and the mend."""


def is_image_name(path: str) -> bool:
    """Whether the name's extension, in any case, is one of an image format that ``read_image`` reads."""
    return path.lower().endswith(EXTENSIONS)


def read_image(root: str | Path, path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB image of the file ``path`` (POSIX, relative) of ``root``, a folder or zip archive.

    See ``decode``; raises ImageError, or StorageError where the bytes cannot be had.
    """
    return decode(read_bytes(root, path), display(root, path))


def decode(content: bytes, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB image from the bytes of a PNG, JPEG, BMP, TIFF or WebP file, told by content.

    The first frame counts; EXIF orientation is applied, transparency laid on white, 16-bit grey scaled from
    0..65535. Raises ImageError, naming ``name``, where the bytes are empty, of another kind, damaged or truncated,
    where the header says more than ``MAX_PIXELS`` or less than 2 pixels a side (before anything is decoded), and for
    floating-point or 32-bit pixels, whose range is not known.
    """
    return np.asarray(_decoded(content, name))


def rgb_array(image: Image.Image, name: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a loaded Pillow image, by the rules of ``decode``; ``name`` is for messages."""
    return np.asarray(_upright_rgb(image, name))


def read_field(root: str | Path, path: str) -> Image.Image:
    """What ``read_image`` reads, as Pillow holds it: to cut cells out of. As an array the whole field would be copied
    three times, which takes longer than decoding it."""
    return _decoded(read_bytes(root, path), display(root, path))


def cut(field: Image.Image, x: float, y: float, width: float, height: float) -> Image.Image:
    """Window of a field as ``crop_box`` cuts it; raises like it."""
    left, top, wide, high = whole_pixels(x, y, width, height)
    if left >= 0 and top >= 0 and left + wide <= field.width and top + high <= field.height:
        return _crop(field, left, top, left + wide, top + high)
    # Of a window that leaves the field only what lies inside need become an array.
    _refuse_outside(field.width, field.height, left, top, wide, high)
    start_x, start_y = max(left, 0), max(top, 0)
    stop_x, stop_y = min(left + wide, field.width), min(top + high, field.height)
    inside = np.asarray(_crop(field, start_x, start_y, stop_x, stop_y))
    return Image.fromarray(crop_box(inside, left - start_x, top - start_y, wide, high))


def image_size(root: str | Path, path: str) -> tuple[int, int]:
    """(width, height) in pixels as displayed, from the header alone where it is not turned; raises like
    ``read_image``."""
    image = _open(read_bytes(root, path), display(root, path))
    if _turn(image) is None:
        return image.size
    # Whether a turned image's size is given before or after turning differs between Pillow's formats.
    height, width = read_image(root, path).shape[:2]
    return width, height


def crop_box(image: np.ndarray, x: float, y: float, width: float, height: float) -> np.ndarray:
    """(height, width, 3) window of ``image`` with its upper left corner at ``x, y``, all rounded to whole pixels.

    Where the window leaves the image, the image's edge pixels continue. Raises ImageError where they do not meet.
    """
    left, top, wide, high = whole_pixels(x, y, width, height)
    rows, columns = image.shape[:2]
    _refuse_outside(columns, rows, left, top, wide, high)
    inside_y = np.clip(np.arange(top, top + high), 0, rows - 1)
    inside_x = np.clip(np.arange(left, left + wide), 0, columns - 1)
    return image[inside_y[:, None], inside_x]


def _crop(field: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """Pillow's, which warns of windows that are large, as of whole images."""
    corners = left, top, right, bottom
    if (right - left) * (bottom - top) < (Image.MAX_IMAGE_PIXELS or 0):
        return field.crop(corners)
    with quiet():
        return field.crop(corners)


def _refuse_outside(columns: int, rows: int, left: int, top: int, wide: int, high: int) -> None:
    if left >= columns or top >= rows or left + wide <= 0 or top + high <= 0:
        raise ImageError(
            f"the window {wide}×{high} at ({left}, {top}) lies outside the image of {columns}×{rows} pixels; "
            "correct its coordinates"
        )


def whole_pixels(x: float, y: float, width: float, height: float) -> tuple[int, int, int, int]:
    """A window in whole pixels, as ``crop_box`` cuts it; one pixel a side at least."""
    left, top = math.floor(x + 0.5), math.floor(y + 0.5)
    return left, top, max(1, math.floor(width + 0.5)), max(1, math.floor(height + 0.5))


def resize(image: np.ndarray | Image.Image, size: int, mode: ResizeMode = "stretch") -> np.ndarray:
    """(size, size, 3) uint8 image of an (H, W, 3) array or an RGB picture, antialiased bicubic.

    ``stretch`` changes the aspect ratio where the image is not square; ``pad`` keeps it and fills the rest with the
    median colour of the image's border, the likeliest background.
    """
    if mode not in ("stretch", "pad"):
        raise CytodistillError(f"resize mode {mode!r} is not known; use stretch or pad")
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    columns, rows = picture.size
    if mode == "stretch" or rows == columns:
        return _resample(picture, size, size)
    scale = size / max(rows, columns)
    high, wide = max(1, round(rows * scale)), max(1, round(columns * scale))
    image = np.asarray(image)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    square = np.empty((size, size, 3), np.uint8)
    square[:] = np.median(border, axis=0).astype(np.uint8)
    top, left = (size - high) // 2, (size - wide) // 2
    square[top : top + high, left : left + wide] = _resample(picture, wide, high)
    return square


def load_cell(
    root: str | Path, path: str, size: int, mode: ResizeMode = "stretch", box: Box | None = None
) -> np.ndarray:
    """(size, size, 3) uint8 cell: ``cut_cell``, resized. Raises ImageError or StorageError naming the file."""
    return resize(_cell(root, path, box), size, mode)


def cut_cell(root: str | Path, path: str, box: Box | None = None) -> np.ndarray:
    """(H, W, 3) uint8 cell: the image of ``read_image``, or its window ``box`` (x, y, width, height; None or NaN for
    the whole image). Raises ImageError or StorageError naming the file.

    The last few fields stay decoded, so that cells asked for field by field decode each field once. Of whole slides
    (``data/slides.py``) only the window is read.
    """
    return np.asarray(_cell(root, path, box))


def _cell(root: str | Path, path: str, box: Box | None) -> Image.Image | np.ndarray:
    if box is None or math.isnan(box[0]):
        return read_field(root, path)
    # Slides are cut as images are, so that the two modules need each other.
    from cytodistill.data.slides import slide_of

    if slide := slide_of(root, path):
        return slide.window(*box)
    stamp = Path(root, path) if Path(root).is_dir() else Path(root)
    changed = stamp.stat().st_mtime_ns if stamp.exists() else 0
    try:
        return cut(_field(str(root), path, changed), *box)
    except ImageError as error:
        named = str(error) if path in str(error) else f"{display(root, path)}: {error}"
        raise ImageError(named) from None


@lru_cache(maxsize=4)
def _field(root: str, path: str, changed: int) -> Image.Image:
    # Without the file and the decoder, which an image that was read holds on to.
    return read_field(root, path).copy()


def _decoded(content: bytes, name: str) -> Image.Image:
    image = _open(content, name)
    try:
        image.load()
        return _upright_rgb(image, name)
    except (ImageError, MemoryError):
        raise
    # Pillow's decoders raise nearly anything on damaged files: OSError, SyntaxError, struct.error, ValueError, ...
    except Exception as error:
        raise ImageError(f"{name}: damaged or truncated ({error}); replace the file or remove it") from None


def _upright_rgb(image: Image.Image, name: str) -> Image.Image:
    turn = _turn(image)
    return _to_rgb(image if turn is None else image.transpose(turn), name)


def _open(content: bytes, name: str) -> Image.Image:
    """The image with only its header read, its size checked."""
    if not content:
        raise ImageError(f"{name}: empty (0 bytes); replace the file or remove it")
    try:
        # Pillow's own warning comes at 89 megapixels and would go to stderr; the limit here is the one that counts.
        with quiet():
            image = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: {_too_large()}") from None
    except Exception as error:
        known = "not a readable PNG, JPEG, BMP, TIFF or WebP image"
        why = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error})"
        raise ImageError(f"{name}: {known}{why}; convert the file or remove it") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{name}: {width}×{height} pixels, {_too_large()}")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name}: {width}×{height} pixels, too small to show a cell; remove the file")
    return image


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How the image is to be turned as its EXIF orientation says; not at all where that cannot be read, which says
    nothing against the pixels."""
    try:
        with quiet():
            return _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:
        return None


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's warnings; the filters belong to the whole process, so one thread at a time."""
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _too_large() -> str:
    return f"more than the {MAX_PIXELS // 1_000_000} megapixels allowed; cut it into fields or cells"


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise ImageError(f"{name}: floating-point pixels, whose range is not known; save it as 8-bit")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name}: 32-bit pixels outside 0 to 65535; save it as 8-bit or 16-bit")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _resample(picture: Image.Image, width: int, height: int) -> np.ndarray:
    return np.array(picture.resize((width, height), Image.Resampling.BICUBIC))

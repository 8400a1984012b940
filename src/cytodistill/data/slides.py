"""Whole slides: TIFF images too large to be decoded at once, read window by window through tiffslide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image

from cytodistill.data.images import MAX_PIXELS, ImageError, crop_box, quiet, whole_pixels

SLIDES = (".svs", ".ndpi", ".scn")
"""Scanners' own kinds of TIFF: slides whatever their size."""
TIFFS = (".tif", ".tiff")
"""Slides where they have more than ``MAX_PIXELS``; others are images like any."""
WIDEST = 4096
"""Pixels of a window's side: at 0.25 µm a pixel a millimetre, which no cell has."""
SQUARE = 0.01
"""Share by which a pixel's sides may differ."""
COARSEST = 20.0
"""µm of a pixel's side; a TIFF that claims more says how it is to be printed, not how it was scanned."""
CACHE_BYTES = 64 << 20
"""Decoded tiles that are kept of each slide: neighbours often share some."""

_opening = Lock()


class Slide:
    """A whole slide that is open. Threads may read it at once; only the file's bytes are read by one at a time.

    tiffslide says where the full resolution is and how large its pixels are. The tiles are decoded here: through
    tiffslide's own ``read_region`` a cell's window costs some three times the processor time and waits for threads.

    Args:
        file: the slide.

    Raises:
        ImageError: tiffslide is not installed, or the slide is damaged, has no tiles or no 8-bit colours.
    """

    def __init__(self, file: Path) -> None:
        try:
            from tiffslide import TiffSlide
        except ImportError:
            raise ImageError(
                f"{file}: a whole slide, and tiffslide is not installed; pip install 'cytodistill[wsi]'"
            ) from None
        self.file = file
        with self._readable():
            self._slide = TiffSlide(file)
            self.size: tuple[int, int] = self._slide.dimensions
            series = self._slide.ts_tifffile.series[self._slide.properties["tiffslide.series-index"]]
            self._page: Any = series.levels[0].keyframe
            self._axes = series.axes
        self._check()
        self._bytes_lock = Lock()
        tile_bytes = self._page.tilewidth * self._page.tilelength * 3
        self._tile = lru_cache(max(1, CACHE_BYTES // tile_bytes))(self._decoded)

    @property
    def microns_per_pixel(self) -> float | None:
        """Side of a pixel, None where the slide does not say.

        Raises:
            ImageError: its pixels are not square.
        """
        sides = [self._slide.properties.get(f"tiffslide.mpp-{axis}") for axis in "xy"]
        if None in sides:
            return None
        x, y = (float(str(side)) for side in sides)
        if not (0 < x <= COARSEST and 0 < y <= COARSEST):
            return None
        if abs(x - y) > SQUARE * max(x, y):
            raise ImageError(f"{self.file}: pixels of {x:g} × {y:g} µm, and cells need square ones; resample the slide")
        return (x + y) / 2

    def window(self, x: float, y: float, width: float, height: float) -> np.ndarray:
        """(height, width, 3) uint8 window at full resolution, as ``crop_box`` cuts it from the whole image.

        Raises:
            ImageError: the window is not in the slide or wider than ``WIDEST``, or its tiles are damaged.
        """
        left, top, wide, high = whole_pixels(x, y, width, height)
        columns, rows = self.size
        if max(wide, high) > WIDEST:
            raise ImageError(f"{self.file}: a window of {wide}×{high} pixels is no cell's; {WIDEST} a side is the most")
        start_x, start_y = max(left, 0), max(top, 0)
        end_x, end_y = min(left + wide, columns), min(top + high, rows)
        if start_x >= end_x or start_y >= end_y:
            raise ImageError(
                f"{self.file}: the window {wide}×{high} at ({left}, {top}) lies outside the slide of {columns}×{rows} "
                "pixels; correct its coordinates"
            )
        inside = self._region(start_x, start_y, end_x, end_y)
        return crop_box(inside, left - start_x, top - start_y, wide, high)

    def _region(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """(bottom - top, right - left, 3) pixels, put together from the tiles that they lie in."""
        wide, high = self._page.tilewidth, self._page.tilelength
        across = -(-self.size[0] // wide)
        region = np.empty((bottom - top, right - left, 3), np.uint8)
        for row in range(top // high, -(-bottom // high)):
            for column in range(left // wide, -(-right // wide)):
                tile = self._tile(row * across + column)
                x, y = column * wide, row * high
                part = tile[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
                at_y, at_x = max(y - top, 0), max(x - left, 0)
                region[at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = part
        return region

    def _decoded(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 tile."""
        page = self._page
        with self._readable():
            size = page.databytecounts[index]
            if not size:
                # Scanners leave out tiles of empty glass.
                return np.full((page.tilelength, page.tilewidth, 3), 255, np.uint8)
            with self._bytes_lock:
                stream = page.parent.filehandle
                stream.seek(page.dataoffsets[index])
                content = stream.read(size)
            if len(content) != size:
                raise EOFError("the file ends within a tile")
            pixels, _, _ = page.decode(content, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
            return np.broadcast_to(pixels[0], (*pixels.shape[1:3], 3))

    def _check(self) -> None:
        page, channels = self._page, self._page.samplesperpixel
        if not page.is_tiled:
            raise ImageError(
                f"{self.file}: {self.size[0]}×{self.size[1]} pixels without tiles; save it as a tiled TIFF"
            )
        if page.dtype != np.uint8 or channels not in (1, 3) or self._axes not in ("YXS", "YX"):
            raise ImageError(
                f"{self.file}: {channels} channels of {page.dtype} ({self._axes}); export the slide as 8-bit RGB"
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        # tifffile and its codecs raise nearly anything on damaged files.
        except Exception as error:
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise ImageError(f"{self.file}: not a readable slide ({why:.200}); export it again") from None


def slide_of(root: str | Path, path: str) -> Slide | None:
    """The slide ``path`` of the folder ``root``; None where the file is an image like any, is in an archive or is not
    there. A few slides stay open.

    Raises:
        ImageError: the slide cannot be read.
    """
    if not path.lower().endswith((*SLIDES, *TIFFS)):
        return None
    file = os.path.join(root, path)
    try:
        said = os.stat(file)
    except OSError:
        return None
    if not _is_slide(file, said.st_mtime_ns, said.st_size):
        return None
    with _opening:
        return _open(file, said.st_mtime_ns, said.st_size, os.getpid())


@lru_cache(maxsize=8)
def _open(file: str, changed: int, size: int, process: int) -> Slide:
    """One handle a slide and process: forked workers must not share a file position."""
    return Slide(Path(file))


@lru_cache(maxsize=1024)
def _is_slide(file: str, changed: int, size: int) -> bool:
    if file.lower().endswith(SLIDES):
        return True
    try:
        with quiet(), Image.open(file, formats=("TIFF",)) as image:
            return image.width * image.height > MAX_PIXELS
    except Image.DecompressionBombError:
        return True
    except Exception:
        # Whatever it is, `read_image` says what is wrong with it.
        return False

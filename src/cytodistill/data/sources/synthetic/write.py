"""Write a synthetic set in SIPaKMeD's own format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cytodistill.data.sources.synthetic.field import CELLS, Field, make_field
from cytodistill.data.sources.synthetic.traits import CLASSES
from cytodistill.errors import CytodistillError

# A grouped 3:1:1 split needs three fields of each class: two full ones and a cell of a third are enough of any seed.
LEAST_CELLS = len(CLASSES) * (2 * max(CELLS) + 1)
CONTOUR = 64  # points of a contour


def synthesize(out: Path, cells: int, seed: int = 0, progress: Callable[[int, int], None] | None = None) -> Path:
    """Write ``cells`` drawn cells under ``out`` in the tree and format of SIPaKMeD, and return ``out``.

    For every class ``out/im_<Class>/im_<Class>/`` holds the fields ``XXX.bmp`` with the outlines ``XXX_cytNN.dat``
    and ``XXX_nucNN.dat`` in the field's pixels, and ``CROPPED/`` the cells ``XXX_NN.bmp`` with ``XXX_NN_cyt.dat`` and
    ``XXX_NN_nuc.dat`` in the crop's pixels: one ``x,y`` a line, (0, 0) being the centre of the upper left pixel.
    XXX counts the fields from 001 in each class, 3 to 6 cells each. Classes differ by one cell at most.

    The same ``seed`` writes the same bytes, and a larger ``cells`` adds files to those of a smaller one without
    changing any. ``progress(done, cells)`` is called after every field. The tree is built beside ``out`` and renamed
    at the end, so ``out`` is whole or absent.

    Raises CytodistillError where ``out`` exists and is not an empty folder, where ``cells`` is below 65 (each class
    needs three fields to be split by field), and where ``seed`` is negative.
    """
    out = Path(out)
    if cells < LEAST_CELLS:
        raise CytodistillError(
            f"cells={cells}: at least {LEAST_CELLS} are needed, so that each of the {len(CLASSES)} classes has the "
            "three fields that a split by field takes"
        )
    if seed < 0:
        raise CytodistillError(f"seed={seed}: it must be 0 or more")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise CytodistillError(f"{out}: already exists and is not an empty folder; name a new folder or remove it")
    whole = out.resolve()
    building = whole.with_name(f".{whole.name}.{os.getpid()}.tmp")
    try:
        building.mkdir(parents=True)
        _write_classes(building, cells, seed, progress or (lambda done, total: None))
        if whole.exists():
            whole.rmdir()
        building.replace(whole)
    except OSError as error:
        raise CytodistillError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return out


def _write_classes(out: Path, cells: int, seed: int, progress: Callable[[int, int], None]) -> None:
    """Write the five class folders into ``out``."""
    done = 0
    for kind, name in enumerate(CLASSES):
        folder = out / f"im_{name}" / f"im_{name}"
        (folder / "CROPPED").mkdir(parents=True)
        left, number = cells // len(CLASSES) + (kind < cells % len(CLASSES)), 0
        while left:
            number += 1
            field = make_field(seed, kind, number)
            # The last field may hold more cells than are wanted: those stay in the picture, without outlines, so that
            # it is the same picture as in a larger set.
            wanted = min(left, len(field.cells))
            _write_field(folder, f"{number:03d}", field, wanted)
            left -= wanted
            done += wanted
            progress(done, cells)


def _write_field(folder: Path, name: str, field: Field, wanted: int) -> None:
    """Write a field, its outlines, and crops of its first ``wanted`` cells."""
    Image.fromarray(field.image).save(folder / f"{name}.bmp")
    for place, (cell, box) in enumerate(zip(field.cells[:wanted], field.boxes, strict=False), start=1):
        left, top, right, bottom = box
        crop = folder / "CROPPED" / f"{name}_{place:02d}"
        Image.fromarray(field.image[top:bottom, left:right]).save(f"{crop}.bmp")
        for part, points in (("cyt", cell.cytoplasm.points(CONTOUR)), ("nuc", cell.nucleus.points(CONTOUR))):
            _write_outline(folder / f"{name}_{part}{place:02d}.dat", points)
            _write_outline(Path(f"{crop}_{part}.dat"), points - (left, top))


def _write_outline(path: Path, points: np.ndarray) -> None:
    path.write_bytes("".join(f"{x:.2f},{y:.2f}\n" for x, y in points).encode())

"""One field or whole slide with a list of its cells: windows in, and the list out again with an answer at each cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from cytodistill.data.images import image_size
from cytodistill.data.slides import slide_of
from cytodistill.data.sources import FORMATS
from cytodistill.data.table import BOX
from cytodistill.errors import CytodistillError
from cytodistill.formats.cell_list import read_cells
from cytodistill.formats.coco import Annotations, AnnotationWriter, made_annotations
from cytodistill.formats.geojson import Features, FeatureWriter, made_features
from cytodistill.formats.pixel_size import PixelSize, scale_between
from cytodistill.formats.places import CellsError, Cut, refuse_outside, windows
from cytodistill.infer.batch_answer import Block
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_rules import Request
from cytodistill.infer.writers import layout_of
from cytodistill.train.run_folder import Run

WOVEN = (".geojson", ".json")
"""Files that have the list of cells in them: GeoJSON and COCO."""


class Writer(Protocol):
    """Text of a list of cells with their answers: ``head``, a ``line`` a cell with commas between, and ``tail``."""

    head: str
    tail: str

    def line(self, position: int, record: dict) -> str: ...


class Field:
    """A field and its cells.

    Args:
        image: image or whole slide.
        cells: list of its cells: GeoJSON, COCO's JSON, or a CSV of points or windows.

    Raises:
        CytodistillError: one of the two cannot be read, or a cell is not in the field.
    """

    def __init__(self, image: str | Path, cells: str | Path) -> None:
        self.image = Path(image).expanduser().absolute()
        self.cells = Path(cells).expanduser()
        if not self.image.is_file():
            raise CytodistillError(f"{image}: not an image file; --cells is for the cells of one field or slide")
        root, name = str(self.image.parent), self.image.name
        slide = slide_of(root, name)
        self.size = slide.size if slide else image_size(root, name)
        self.microns_per_pixel = slide.microns_per_pixel if slide else None
        content = _content(self.cells)
        self.digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        try:
            listed = read_cells(_text(content), name)
            self.given, self.extents = listed.given, listed.extents
            refuse_outside(self.extents, self.size, listed.called)
        except CellsError as error:
            raise CellsError(f"{cells}: {error}") from None

    def items(self, run: Run, pixels: PixelSize, cut: Cut | None = None) -> Items:
        """The cells' windows, of the size that they had in the run's training.

        Args:
            run: the run that is asked.
            pixels: of the field.
            cut: see ``places.windows``; by default the run's own.

        Raises:
            CytodistillError: the field's pixels are not those of the training, and that is not allowed.
        """
        data = run.recipe.data
        field = self.microns_per_pixel if pixels.microns is None else pixels.microns
        scale = scale_between(data.microns_per_pixel, field, str(self.image), pixels.ignore)
        boxes = windows(self.extents, data.window * scale, cut or cut_of(run))
        frame = pd.DataFrame(boxes, columns=list(BOX))
        return Items([frame.assign(root=str(self.image.parent), path=self.image.name)])

    def writer(self, suffix: str, items: Items, classes: Sequence[str]) -> Writer | None:
        """Writer of GeoJSON or COCO of the cells of `items`; None for the other kinds of file."""
        if suffix == ".geojson":
            return FeatureWriter(
                self.given if isinstance(self.given, Features) else made_features(self.extents), classes
            )
        if suffix == ".json":
            given = self.given
            if not isinstance(given, Annotations):
                boxes = np.array([item.box for item in items], np.float64)
                given = made_annotations(boxes, self.image.name, self.size)
            return AnnotationWriter(given, classes)
        return None


def request_of(request: Request, out: Path | None, with_cells: bool) -> Request:
    """The request to those who answer: for GeoJSON and COCO they write JSON lines, which are woven into the list.

    Raises:
        CytodistillError: the file's extension is not a known one, or needs a list of cells.
    """
    if out is None or out.suffix.lower() not in WOVEN:
        layout_of(out)
        return request
    if not with_cells:
        raise CytodistillError(f"{out}: GeoJSON and COCO are for the cells of one field; give --cells, or name a .csv")
    return replace(request, suffix=".jsonl")


def woven(blocks: Generator[Block], writer: Writer, start: int, total: int) -> Generator[Block]:
    """Blocks of JSON lines as blocks of a writer's lines, the last one with its tail.

    Args:
        blocks: from the item at ``start`` on.
        writer: of the list of cells.
        start: position of the first cell.
        total: cells in all.
    """
    with closing(blocks):
        for block in blocks:
            records = map(json.loads, block.text.splitlines())
            lines = [writer.line(position, record) for position, record in enumerate(records, start=start)]
            text = (",\n" if start else "") + ",\n".join(lines)
            start += block.cells
            yield replace(block, text=text + writer.tail if start == total else text)


def cut_of(run: Run) -> Cut:
    """What is cut of a cell with an outline: the window where the run was trained on windows round nuclei, else the
    outline; see ``places.windows``."""
    table = run.info["table"]
    known = FORMATS.get(table["format"])
    # Runs of earlier versions say it by their format alone.
    return "window" if table.get("windowed") or (known and known.windowed) else "outline"


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CytodistillError(f"{file}: cannot be read ({error.strerror}); check the path of --cells") from None


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CellsError("not text in UTF-8; export it again") from None

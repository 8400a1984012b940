"""Class-activation maps of cells for the page: computed between two batches, kept for a moment, drawn as PNG."""

from __future__ import annotations

import io
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool

from cytodistill.errors import CytodistillError
from cytodistill.serve.batching import Batcher
from cytodistill.serve.bodies import Content
from cytodistill.serve.decode import Cell, Decoders, Failed, Task
from cytodistill.serve.errors import Refused
from cytodistill.serve.schemas import ExitMap, Maps, Prediction

if TYPE_CHECKING:
    from cytodistill.explain.cam import ClassMaps
    from cytodistill.serve.model import Model

Method = Literal["hirescam", "gradcam", "gradcam++"]
At = Literal["tap", "branch"]
KEPT = 32
"""Cells whose maps are kept: a page asks for the exits one by one."""


@dataclass(frozen=True)
class Way:
    """How maps are made: see `explain.cam.class_maps`. ``of`` is the class explained, each exit's own answer where it
    is None."""

    method: Method = "hirescam"
    at: At = "tap"
    of: str | None = None


@dataclass(frozen=True)
class Explained:
    """The network's input (S, S, 3) uint8, and the maps over it."""

    cell: np.ndarray
    maps: ClassMaps


class Explainer:
    """Maps of a run's cells.

    Args:
        decoders: read the pictures.
        batcher: has the network's thread.
        model: of the run.
    """

    def __init__(self, decoders: Decoders, batcher: Batcher[Prediction], model: Model) -> None:
        self._decoders, self._batcher, self._model = decoders, batcher, model
        self._kept: OrderedDict[tuple[str, Way], Explained] = OrderedDict()

    async def stored(self, id: str, file: Path, way: Way) -> Explained:
        """Maps of a stored cell.

        Raises:
            Refused: its picture is not there, or the run has no maps.
        """
        if (id, way) in self._kept:
            self._kept.move_to_end((id, way))
            return self._kept[id, way]
        found = self._kept[id, way] = await self.explain(await self._input(file), way)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found

    def forget(self) -> None:
        """Drop what is kept, of cells that were deleted."""
        self._kept.clear()

    async def explain(self, cell: np.ndarray, way: Way) -> Explained:
        """Maps of one of the network's inputs; raises as `stored`."""
        if not self._model.explains:
            raise Refused(409, "explain: this run has no maps; serve the run folder of a network")
        if way.of is not None and way.of not in self._model.classes:
            raise Refused(422, f"of: give one of {', '.join(self._model.classes)}"[:300])
        try:
            maps = await self._batcher.call(lambda: self._model.maps(cell, way.method, way.at, way.of))
        except CytodistillError as error:
            raise Refused(409, f"explain: {error}") from None
        return Explained(cell, maps)

    def exit_of(self, found: Explained, exit: int) -> int:
        """Position of an exit, from 1.

        Raises:
            Refused: the run has no such exit.
        """
        count = found.maps.maps.shape[1]
        if not 1 <= exit <= count:
            raise Refused(404, f"exit: the run has exits 1 to {count}")
        return exit - 1

    async def picture(self, found: Explained, exit: int, plain: bool = False) -> bytes:
        """PNG of one exit's map: over the cell, or ``plain`` in grey, white where it is 1."""
        heat = found.maps.maps[0, self.exit_of(found, exit)]
        return await run_in_threadpool(_picture, found.cell, heat, plain)

    def describe(self, found: Explained, way: Way) -> Maps:
        """The maps in words and figures."""
        maps, classes = found.maps, self._model.classes
        exits = []
        for place, code in enumerate(maps.classes[0]):
            exits.append(
                ExitMap(
                    exit=place + 1,
                    explained=classes[int(code)],
                    probability=float(maps.probabilities[0, place, code]),
                    empty=not maps.maps[0, place].any(),
                    grid=maps.grids[place],
                )
            )
        return Maps(method=way.method, at=way.at, exits=exits)

    async def _input(self, file: Path) -> np.ndarray:
        # A stored picture was made by a process that had read hostile bytes, so it is read by such a one too.
        task = Task(self._model.prepared_size, self._model.predictor.recipe.data.resize)
        try:
            content = Content(None, file, file.stat().st_size, b"")
        except FileNotFoundError:
            raise Refused(404, "cell: its picture is not here any more") from None
        async with aclosing(self._decoders.image(content, task)) as results:
            async for result in results:
                if isinstance(result, Cell):
                    return result.pixels
                if isinstance(result, Failed):
                    raise Refused(result.status, result.detail)
        raise Refused(404, "cell: its picture is not here any more")


def _picture(cell: np.ndarray, heat: np.ndarray, plain: bool) -> bytes:
    from cytodistill.explain.pictures import overlay

    shades = heat if plain else overlay(cell, heat)
    buffer = io.BytesIO()
    Image.fromarray((255 * np.clip(shades, 0, 1) + 0.5).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()

"""From what a client sent to cells with answers: decoding, preparing, and the network's turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from starlette.concurrency import run_in_threadpool

from cytodistill.data.images import Box
from cytodistill.errors import CytodistillError
from cytodistill.serve.batching import Batcher
from cytodistill.serve.bodies import Form, Part
from cytodistill.serve.coordinates import IGNORE, MICRONS, boxes_of, pixel_size_of
from cytodistill.serve.decode import Cell, Decoded, Decoders, Failed, Field, Listing, Task
from cytodistill.serve.errors import Refused
from cytodistill.serve.schemas import Prediction

if TYPE_CHECKING:
    from cytodistill.serve.model import Model


@dataclass(frozen=True)
class Found:
    """A cell that was sent, or why it is none: the name it has for people, its window, and its answer."""

    name: str
    box: Box | None
    cell: Cell | None
    prediction: Prediction | None
    failed: Failed | None = None


class Intake:
    """Answers to images.

    Args:
        decoders: decode.
        batcher: computes.
        model: of the run.
    """

    def __init__(self, decoders: Decoders, batcher: Batcher[Prediction], model: Model) -> None:
        self._decoders, self._batcher, self._model = decoders, batcher, model

    async def boxes(self, form: Form, most: int) -> list[Box] | None:
        """Windows of the cells, where the form says that its one image is a field.

        Raises:
            Refused: they are not to be understood, there are more images, or the field's pixels are not those of the
                training, and that is not allowed.
        """
        text = form.fields.get("cells")
        pixels = pixel_size_of(form.fields, form.flag(IGNORE))
        if text is None:
            if stray := [name for name in (MICRONS, IGNORE) if name in form.fields]:
                raise Refused(422, f"{stray[0]}: it is for the cells of a field; give cells, or leave it out")
            return None
        if len(form.parts) > 1 or form.parts[0].content.kind == "ZIP":
            raise Refused(422, "cells: they are of one field; send it alone")
        try:
            side = self._model.window(pixels)
        except CytodistillError as error:
            raise Refused(422, str(error)) from None
        # A long list takes a second to read; the others' requests go on meanwhile.
        return await run_in_threadpool(boxes_of, text, side, self._model.cut, most, form.parts[0].name)

    async def decoded(self, part: Part, boxes: list[Box] | None, *, keep: bool) -> AsyncGenerator[Decoded]:
        """What one part holds; with pictures of cells and fields where they are to be kept."""
        task = Task(
            self._model.prepared_size,
            self._model.predictor.recipe.data.resize,
            png=keep,
            field=keep and boxes is not None,
        )
        zipped = part.content.kind == "ZIP"
        results = (
            self._decoders.archive(part.content, task) if zipped else self._decoders.image(part.content, task, boxes)
        )
        async with aclosing(results):
            async for found in results:
                yield found

    async def answer(self, cell: Cell, *, in_turn: bool) -> Prediction:
        """Answer to a decoded cell; one of an upload takes its turn, another is refused where too many wait.

        Raises:
            Busy: too many wait.
            CytodistillError: the run measures cells, and this one cannot be measured.
        """
        pixels = cell.pixels
        if self._model.prepared_size is None:
            pixels = await self._batcher.call(lambda: self._model.predictor.cell(cell.pixels))
        return await (self._batcher.answer_in_turn(pixels) if in_turn else self._batcher.answer(pixels))

    async def found(self, part: Part, boxes: list[Box] | None, most: int) -> list[Found]:
        """Cells of one part with their answers, in order; nothing of them is kept.

        Raises:
            Refused: there are more than ``most``, or the network is busy.
        """
        tasks: list[asyncio.Task[Found]] = []
        try:
            async with aclosing(self.decoded(part, boxes, keep=False)) as results:
                async for result in results:
                    if isinstance(result, Listing) and result.count > most:
                        raise Refused(413, f"zip: {result.count} images, more than the {most} allowed; send an upload")
                    if isinstance(result, Cell | Failed):
                        tasks.append(asyncio.create_task(self._named(part, boxes, result)))
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _named(self, part: Part, boxes: list[Box] | None, result: Cell | Failed) -> Found:
        return await self.named(part, boxes, result, in_turn=False)

    async def named(self, part: Part, boxes: list[Box] | None, result: Cell | Failed, *, in_turn: bool) -> Found:
        """A decoded cell with its answer."""
        name = member_name(part, result)
        box = boxes[result.place] if boxes is not None and result.place < len(boxes) else None
        if isinstance(result, Failed):
            return Found(name, box, None, None, result)
        try:
            return Found(name, box, result, await self.answer(result, in_turn=in_turn))
        except CytodistillError as error:
            return Found(name, box, None, None, Failed(422, str(error).removeprefix("image: "), result.place))

    async def prepared(self, part: Part) -> np.ndarray:
        """The network's input for one image.

        Raises:
            Refused: it cannot be used.
        """
        async with aclosing(self.decoded(part, None, keep=False)) as results:
            async for result in results:
                if isinstance(result, Failed):
                    raise Refused(result.status, f"image: {result.detail}")
                if isinstance(result, Cell):
                    return result.pixels
        raise Refused(422, "image: nothing in it")


def member_name(part: Part, result: Cell | Failed | Field) -> str:
    """Name of a cell for people: its file's, or its member's in a zip."""
    member = getattr(result, "name", None)
    return part.name if member is None else f"{part.name}:{member}" if part.name else str(member)

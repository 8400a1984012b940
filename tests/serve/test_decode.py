"""Decoding happens in processes that can be killed, and are."""

import asyncio
import io
import os
import signal
import struct
from contextlib import aclosing

import numpy as np
import pytest
from PIL import Image

from cytodistill.data.images import decode, resize
from cytodistill.serve import frames
from cytodistill.serve.bodies import Content
from cytodistill.serve.decode import Cell, Decoders, Failed, Listing, Task
from cytodistill.serve.errors import Refused
from cytodistill.serve.settings import Limits

from . import hostile
from .conftest import a_cell, encoded

LIMITS = Limits(decode_seconds=20, pixels=20_000_000, images=50)


def content(data: bytes) -> Content:
    return Content(data, None, len(data), data[:16])


def running(scenario, limits=LIMITS):
    async def run():
        decoders = Decoders(1, limits)
        await decoders.start()
        try:
            return await scenario(decoders)
        finally:
            await decoders.close()

    return asyncio.run(run())


async def every(results):
    async with aclosing(results):
        return [found async for found in results]


def only_worker(decoders):
    (worker,) = decoders._all
    return worker._process.pid


def test_pixels_are_those_of_the_package_whatever_the_format():
    task, raw = Task(64, "pad", png=True), Task(None, "pad")
    images = [encoded(a_cell(n, 30, 20 + n), kind) for n, kind in enumerate(("PNG", "JPEG", "BMP", "TIFF", "WEBP"))]

    async def scenario(decoders):
        return [[await every(decoders.image(content(image), way)) for way in (task, raw)] for image in images]

    for image, ((prepared,), (plain,)) in zip(images, running(scenario), strict=True):
        wanted = decode(image, "image")
        np.testing.assert_array_equal(plain.pixels, wanted)
        np.testing.assert_array_equal(prepared.pixels, resize(wanted, 64, "pad"))
        np.testing.assert_array_equal(decode(prepared.picture, "picture"), wanted)
        assert plain.picture == b""


def test_one_that_is_killed_is_replaced_and_the_zip_goes_on_behind_it():
    members = [(f"{n}.png", encoded(a_cell(n, 150, 150))) for n in range(12)]

    async def scenario(decoders):
        found = []
        async with aclosing(decoders.archive(content(hostile.zipped(*members)), Task(64, "pad", png=True))) as results:
            async for result in results:
                if len(found) == 3:
                    os.kill(only_worker(decoders), signal.SIGKILL)
                found.append(result)
        return found, decoders.killed

    found, killed = running(scenario)
    assert killed >= 1
    assert found[0] == Listing(12)
    places = [result.place for result in found[1:]]
    assert places == list(range(12))
    lost = [result for result in found[1:] if isinstance(result, Failed)]
    assert len(lost) <= 1
    for result in found[1:]:
        if isinstance(result, Cell):
            np.testing.assert_array_equal(result.pixels, resize(a_cell(result.place, 150, 150), 64, "pad"))


def test_one_that_takes_too_long_is_killed():
    async def scenario(decoders):
        os.kill(only_worker(decoders), signal.SIGSTOP)
        (slow,) = await every(decoders.image(content(encoded(a_cell())), Task(64, "pad")))
        (fast,) = await every(decoders.image(content(encoded(a_cell())), Task(64, "pad")))
        return slow, fast

    slow, fast = running(scenario, Limits(decode_seconds=4))
    assert isinstance(slow, Failed)
    assert "longer than 4 s" in slow.detail
    assert isinstance(fast, Cell)


def test_memory_is_bounded():
    large = io.BytesIO()
    Image.new("1", (4400, 4400)).save(large, "PNG")

    async def scenario(decoders):
        first = await every(decoders.image(content(large.getvalue()), Task(64, "pad")))
        then = await every(decoders.image(content(encoded(a_cell())), Task(64, "pad")))
        return first, then

    (first,), (then,) = running(scenario, Limits(memory=200 << 20))
    assert isinstance(first, Failed)
    assert first.status in (413, 422)
    assert isinstance(then, Cell)


def test_pixels_of_all_images_together_are_bounded():
    members = hostile.zipped(*((f"{n}.png", encoded(a_cell(n, 100, 100))) for n in range(9)))

    async def scenario(decoders):
        with pytest.raises(Refused) as refused:
            await every(decoders.archive(content(members), Task(64, "pad")))
        return refused.value.status_code

    assert running(scenario, Limits(pixels_in_all=50_000)) == 413


def test_who_does_not_read_to_the_end_blocks_nobody():
    members = hostile.zipped(*((f"{n}.png", encoded(a_cell(n))) for n in range(20)))

    async def scenario(decoders):
        async with aclosing(decoders.archive(content(members), Task(64, "pad"))) as results:
            async for _ in results:
                break
        return await every(decoders.image(content(encoded(a_cell())), Task(64, "pad")))

    (found,) = running(scenario)
    assert isinstance(found, Cell)


@pytest.mark.parametrize(
    "prefix", [struct.pack(">IQ", 2**32 - 1, 0), struct.pack(">IQ", 10, 2**63), struct.pack(">IQ", 5, 2**40)]
)
def test_lengths_that_a_broken_process_may_say_are_bounded(prefix):
    with pytest.raises(frames.BrokenFrame):
        frames.lengths(prefix, 1 << 30)


@pytest.mark.parametrize("text", [b"[1]", b"nul", b"\xff", b"[" * 100_000])
def test_headers_that_are_no_objects_are_broken(text):
    with pytest.raises(frames.BrokenFrame):
        frames.unpack(text)


def test_one_that_nobody_reads_from_any_more_is_ended_too():
    async def scenario(decoders):
        results = decoders.image(
            content(encoded(a_cell(1, 200, 200))), Task(64, "pad", png=True), [(0, 0, 64, 64)] * 2000
        )
        await anext(results)
        (worker,) = decoders._all
        async with asyncio.timeout(60):
            # It has written more than is taken before somebody asks for it.
            while not worker._process.stdout._paused:
                await asyncio.sleep(0.01)
            await results.aclose()
            return await every(decoders.image(content(encoded(a_cell())), Task(64, "pad")))

    (cell,) = running(scenario)
    assert isinstance(cell, Cell)

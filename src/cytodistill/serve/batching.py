"""Micro-batching: cells of many requests in one forward pass, on the one thread that touches the network."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, Generic, TypeVar

import numpy as np

from cytodistill.serve.errors import Busy

T = TypeVar("T")
R = TypeVar("R")
JOBS_SHARE = 4
"""One in so many places of a batch is for cells of uploads, where any wait."""


@dataclass
class _Waiting:
    cell: np.ndarray
    future: asyncio.Future[Any]


class Batcher(Generic[T]):
    """Collects cells while a batch is computed, and computes all that have come as the next one.

    A cell that comes while the network rests waits at most ``max_wait`` seconds for others. Cells of uploads fill what
    room the batches have, and a share of it that is theirs.

    Args:
        compute: (B, …) cells → B answers; called on the network's thread.
        max_batch: cells of one pass.
        max_wait: seconds.
        capacity: cells that may wait.
        observe: told the cells and the seconds of every batch.
    """

    def __init__(
        self,
        compute: Callable[[np.ndarray], list[T]],
        max_batch: int,
        max_wait: float,
        capacity: int,
        observe: Callable[[int, float], None] = lambda cells, seconds: None,
    ) -> None:
        self._compute, self._observe = compute, observe
        self._max_batch, self._max_wait, self._capacity = max_batch, max_wait, capacity
        self._asked: deque[_Waiting] = deque()
        self._of_jobs: deque[_Waiting] = deque()
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._thread = ThreadPoolExecutor(1, "network")
        self._loop_task: asyncio.Task[None] | None = None
        self._seconds_a_cell = 0.01

    def __len__(self) -> int:
        return len(self._asked) + len(self._of_jobs)

    def start(self) -> None:
        """Begin to compute; cells may wait already."""
        self._loop_task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Stop; who still waits is cancelled."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        for waiting in (*self._asked, *self._of_jobs):
            waiting.future.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def seconds_to_wait(self) -> int:
        """When all who wait now will have been answered."""
        return max(1, ceil(len(self) * self._seconds_a_cell))

    async def answer(self, cell: np.ndarray) -> T:
        """The answer to a cell.

        Raises:
            Busy: too many wait.
        """
        if len(self) >= self._capacity:
            raise Busy("queue: full; try again later", self.seconds_to_wait)
        return await self._put(self._asked, cell)

    async def answer_in_turn(self, cell: np.ndarray) -> T:
        """The answer to a cell of an upload, which waits for room."""
        while len(self._of_jobs) >= self._max_batch:
            self._room.clear()
            await self._room.wait()
        return await self._put(self._of_jobs, cell)

    async def call(self, function: Callable[[], R]) -> R:
        """Result of a function that needs the network, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def _put(self, queue: deque[_Waiting], cell: np.ndarray) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue.append(_Waiting(cell, future))
        self._some.set()
        return await future

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if self._max_wait and len(self) < self._max_batch:
                await self._wait_for_more()
            batch = self._take()
            if not len(self):
                self._some.clear()
            self._room.set()
            if batch:
                await self._answer(batch)

    async def _wait_for_more(self) -> None:
        """Wait for a full batch, ``max_wait`` at most, and no longer than cells keep coming."""
        step, until = self._max_wait / 4, time.monotonic() + self._max_wait
        before = -1
        while before < len(self) < self._max_batch and time.monotonic() < until:
            before = len(self)
            await asyncio.sleep(step)

    def _take(self) -> list[_Waiting]:
        own = min(len(self._of_jobs), self._max_batch // JOBS_SHARE)
        batch: list[_Waiting] = []
        for queue, most in ((self._asked, self._max_batch - own), (self._of_jobs, self._max_batch)):
            while queue and len(batch) < most:
                waiting = queue.popleft()
                # Whoever asked may have gone.
                if not waiting.future.done():
                    batch.append(waiting)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        cells = np.stack([waiting.cell for waiting in batch])
        started = time.perf_counter()
        try:
            answers = await self.call(lambda: self._compute(cells))
        except Exception as error:
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        seconds = time.perf_counter() - started
        self._seconds_a_cell += 0.2 * (seconds / len(batch) - self._seconds_a_cell)
        self._observe(len(batch), seconds)
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(answer)

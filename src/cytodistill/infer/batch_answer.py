"""Answers to blocks of cells, as text: read, computed and laid out, several blocks at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import torch

from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_read import Item, read_items
from cytodistill.infer.batch_rules import Request, Rules, rules_of
from cytodistill.infer.early_exit import Answers
from cytodistill.infer.predictor import Predictor, load
from cytodistill.infer.runtimes import GraphEngine
from cytodistill.infer.writers import Layout, error_record, layout_of, prediction_columns, prediction_records
from cytodistill.metrics.calibration import clipped_log

BATCHES = 16
"""Batches in a block at most: few of its cells then wait alone for the deep segments of an early exit."""
BLOCKS = 32
"""Blocks that there are at least, so that all cores have some."""
BLOCK_BYTES = 32 << 20
WAITING = 2
"""Blocks that are read or laid out while others are computed."""

Work = TypeVar("Work")
Handle = TypeVar("Handle")
Done = TypeVar("Done")


@dataclass(frozen=True)
class Block:
    """Answers to consecutive cells: their lines, how many cells they are, and why some were passed over."""

    text: str
    cells: int
    problems: tuple[str, ...]


class Answering:
    """Answers blocks of cells. Threads may ask at once: while one computes, another reads or lays out.

    The answer to a cell depends on the block that it is in and on nothing else: not on the number of threads, for each
    computes batches of its own on one core. Two threads within one batch would also add numbers up in another order.

    Args:
        predictors: one for each thread that computes; of one network, and all the same one where that may be shared.
        rules: what is made of the network's answers.
        layout: of the lines.
        batch_size: cells computed at once.
        readers: threads that read and decode; all cores by default.
    """

    def __init__(
        self,
        predictors: Sequence[Predictor],
        rules: Rules,
        layout: Layout,
        batch_size: int = 64,
        readers: int | None = None,
    ) -> None:
        self.predictor = predictors[0]
        self.rules = rules
        self.batch_size = batch_size
        self.columns = prediction_columns(self.predictor.classes, self.predictor.exits, rules.columns)
        self.ahead = len(predictors) + WAITING
        """Blocks that are worth asking for at once."""
        self._layout = layout
        self._readers: Executor = ThreadPoolExecutor(readers or os.cpu_count() or 1)
        self._free: SimpleQueue[Predictor] = SimpleQueue()
        for predictor in predictors:
            self._free.put(predictor)

    def block_size(self, cells: int) -> int:
        """Cells of a block where there are so many in all: whole batches, which take up to 32 MiB. `Items.blocks` adds
        the last image's other cells."""
        inputs = self.predictor.inputs
        fitting = BLOCK_BYTES // (self.batch_size * int(np.prod(inputs.shape)) * inputs.dtype.itemsize)
        return self.batch_size * min(max(cells // (self.batch_size * BLOCKS), 1), max(fitting, 1), BATCHES)

    @property
    def head(self) -> str:
        """What a file begins with."""
        return self._layout.head(self.columns)

    def block(self, items: Sequence[Item]) -> Block:
        """Answers to some cells.

        Raises:
            CytodistillError: the network cannot answer them. A cell that cannot be read is none: it has its line.
        """
        cells, problems = read_items(self.predictor.inputs, items, self._readers)
        read = np.array([position for position in range(len(items)) if position not in problems], np.int64)
        answers = self._answers(cells if not problems else cells[read])
        del cells
        answered = iter(self._records([items[position].name for position in read], answers))
        records = [
            error_record(item.name, problems[position]) if position in problems else next(answered)
            for position, item in enumerate(items)
        ]
        text = self._layout.lines(self.columns, records)
        return Block(text, len(items), tuple(problems[position] for position in sorted(problems)))

    def blocks(self, items: Items, start: int = 0) -> Generator[Block]:
        """Answers to the items from ``start`` on, block after block in their order."""
        pool = ThreadPoolExecutor(self.ahead)
        try:
            work = items.blocks(self.block_size(len(items)), start)
            yield from in_order(work, lambda block: pool.submit(self.block, block), Future.result, self.ahead)
        finally:
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Let the threads go."""
        self._readers.shutdown(cancel_futures=True)

    def _answers(self, cells: np.ndarray) -> Answers:
        predictor = self._free.get()
        try:
            return predictor.answer(cells, self.rules.policy, self.rules.calibrated, self.batch_size)
        finally:
            self._free.put(predictor)

    def _records(self, names: Sequence[str], answers: Answers) -> list[dict]:
        if not names:
            return []
        classes, exits = self.predictor.classes, self.predictor.exits
        used: list[int | str] = [exit + 1 for exit in answers.used.tolist()]
        if self.rules.policy is None and exits > 1:
            used = ["ensemble"] * len(names)
        return prediction_records(
            names,
            answers.probabilities,
            used,
            self._exits(answers.exits),
            classes,
            self.rules.values(answers.probabilities, classes),
        )

    def _exits(self, probabilities: np.ndarray) -> np.ndarray:
        """(N, E, C) of the exits, each by its own temperature; NaN stays."""
        fitted = self.predictor.fitted
        if fitted is None or not self.rules.calibrated:
            return probabilities
        found = probabilities.copy()
        for exit in range(found.shape[1]):
            computed = ~np.isnan(found[:, exit, 0])
            found[computed, exit] = fitted.temperature[exit].calibrated(clipped_log(found[computed, exit]))
        return found


def answering(request: Request, readers: int | None = None) -> Answering:
    """What answers a request, in this process.

    Raises:
        CytodistillError: the run cannot be used, or has not what was asked for.
    """
    first = load(request.run, request.device, threads=1)
    rules = rules_of(request, first.fitted)
    predictors = [first]
    if isinstance(first.engine, GraphEngine):
        # A runtime's engine is for one thread at a time.
        predictors += [load(request.run, request.device, threads=1) for _ in range(request.threads - 1)]
    elif first.device.type == "cpu":
        predictors *= request.threads
    return Answering(predictors, rules, layout_of(f"x{request.suffix}"), request.batch_size, readers)


@contextmanager
def one_core_a_thread() -> Iterator[None]:
    """Torch computes on the core of the thread that asks; a process has one such setting for all of its threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_order(
    work: Iterable[Work], submit: Callable[[Work], Handle], result: Callable[[Handle], Done], ahead: int
) -> Iterator[Done]:
    """Results of the pieces of work in their order, with at most ``ahead`` handed in and not yet taken."""
    waiting: deque[Handle] = deque()
    for piece in work:
        waiting.append(submit(piece))
        if len(waiting) >= ahead:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())

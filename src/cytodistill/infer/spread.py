"""Blocks of cells answered by several processes, on this machine or on a cluster, through Ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cytodistill.errors import CytodistillError
from cytodistill.infer.batch_answer import WAITING, Block, answering, in_order
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_read import Item
from cytodistill.infer.batch_rules import Request
from cytodistill.train.distributed import wants_gpu

RETRIES = 3
"""Times that a worker which was lost is started again, and that a block which was lost with it is answered again."""


class Worker:
    """Answers blocks in a process of its own."""

    def __init__(self, request: Request) -> None:
        torch.set_num_threads(1)
        self._answering = answering(request, readers=request.threads)

    def block(self, items: list[Item]) -> Block:
        """See `Answering.block`."""
        return self._answering.block(items)


class Team:
    """Workers that take blocks; the one with the fewest waiting gets the next.

    Args:
        request: what to answer; ``threads`` are the cores of each worker.
        workers: how many.
    """

    def __init__(self, request: Request, workers: int) -> None:
        import ray

        self._ray = ray
        gpus = 1 if wants_gpu(request.device) else 0
        made = ray.remote(Worker).options(
            num_cpus=request.threads,
            num_gpus=gpus,
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
            max_concurrency=request.threads + WAITING,
            scheduling_strategy="SPREAD",
        )
        self._workers: list[Any] = [made.remote(request) for _ in range(workers)]
        self._waiting: dict[Any, int] = {}
        """The worker of each block that is not answered yet."""

    def submit(self, items: list[Item]) -> Any:
        """Hand a block to a worker."""
        if self._waiting:
            ready, _ = self._ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
            for done in ready:
                del self._waiting[done]
        loads = [0] * len(self._workers)
        for worker in self._waiting.values():
            loads[worker] += 1
        chosen = loads.index(min(loads))
        handle = self._workers[chosen].block.remote(items)
        self._waiting[handle] = chosen
        return handle

    def result(self, handle: Any) -> Block:
        """The block of a handle, once it is answered.

        Raises:
            CytodistillError: a worker cannot answer it, or is lost for good.
        """
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, CytodistillError) else error from None
        except self._ray.exceptions.RayError as error:
            why = getattr(error, "cause", None) or error
            raise CytodistillError(
                f"--workers: a worker was lost ({str(why).splitlines()[0]:.200}); --resume goes on"
            ) from None


def spread_blocks(request: Request, items: Items, workers: int, size: int, start: int = 0) -> Generator[Block]:
    """Answers to the items from ``start`` on, block after block in their order, as one process gives them.

    Args:
        request: what to answer; ``threads`` are the cores of each worker.
        items: the cells.
        workers: processes: on the cluster of ``RAY_ADDRESS``, whose machines must see the run and the cells under the
            same absolute paths, or on this machine.
        size: cells of a block, from `Answering.block_size`.
        start: the first cell's position.

    Raises:
        CytodistillError: Ray is not installed, or a worker is lost or cannot answer.
    """
    with _cluster(workers * request.threads):
        team = Team(request, workers)
        ahead = workers * (request.threads + WAITING)
        yield from in_order(items.blocks(size, start), team.submit, team.result, ahead)


def on_cluster() -> bool:
    """Whether ``RAY_ADDRESS`` names a cluster to work on."""
    return bool(os.environ.get("RAY_ADDRESS"))


@contextmanager
def _cluster(cores: int) -> Iterator[None]:
    try:
        import ray
    except ImportError:
        raise CytodistillError("--workers: Ray is not installed; pip install 'cytodistill[scale]'") from None
    # By default Ray's workers give way to everything else on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    here: dict[str, Any] = {} if on_cluster() else {"num_cpus": cores, "include_dashboard": False}
    ray.init(address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        yield
    finally:
        ray.shutdown()

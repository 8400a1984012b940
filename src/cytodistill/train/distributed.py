"""Ranks of a ``torchrun`` job; a single process is a job of one rank and none of this costs it anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from cytodistill.errors import CytodistillError


@dataclass(frozen=True)
class Ranks:
    """Place of this process in the job, and the device it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and speaks to the user."""
        return self.rank == 0

    def share(self, positions: Tensor) -> Tensor:
        """This rank's part of (n,) positions; the parts differ by one at most and every rank knows them all."""
        return positions[self.rank :: self.world]

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over ranks."""
        if self.world > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """The first rank runs the block alone, then the others do: for caches and files that it makes for all. What it
        fails with, they fail with, instead of waiting for it."""
        if self.world == 1:
            yield
            return
        failure: list[str | None] = [None]
        if not self.first:
            dist.broadcast_object_list(failure, src=0)
            if failure[0] is not None:
                raise CytodistillError(failure[0])
            yield
            return
        try:
            yield
        except BaseException as error:
            failure = [str(error) or type(error).__name__]
            raise
        finally:
            dist.broadcast_object_list(failure, src=0)


def gather_rows(rows: Tensor, positions: Tensor, total: int, ranks: Ranks) -> Tensor:
    """(total, …) rows of all ranks put at their positions; each rank gives its own (n_r, …) rows and (n_r,) positions.

    Exact: every position is written by one rank, so summing adds zeros to it.
    """
    whole = torch.zeros(total, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    whole[positions.to(rows.device)] = rows
    return ranks.sum(whole)


def wants_gpu(device: str) -> bool:
    """Whether "auto", "cpu" or "cuda" means a GPU here.

    Raises:
        CytodistillError: the device is not there, or not known.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise CytodistillError(f"--device {device}: choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise CytodistillError("--device cuda: torch finds no GPU here; use --device cpu")
    return device != "cpu" and torch.cuda.is_available()


@contextmanager
def ranks_of_job(device: str = "auto") -> Iterator[Ranks]:
    """This process's ranks: from torchrun's environment (gloo on CPUs, nccl on GPUs), or one rank.

    Args:
        device: "auto" (a GPU where there is one), "cpu" or "cuda".

    Raises:
        CytodistillError: the device is not there.
    """
    on_gpu = wants_gpu(device)
    started = dist.is_initialized()
    world = dist.get_world_size() if started else int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if on_gpu and local >= torch.cuda.device_count():
        raise CytodistillError(
            f"torchrun --nproc-per-node: rank {local} finds {torch.cuda.device_count()} GPUs; start one process a GPU"
        )
    where = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(where)
    if world == 1 or started:
        yield Ranks(dist.get_rank() if started else 0, world, where)
        return
    # The first rank may decode a large set while the others wait.
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(hours=6))
    try:
        yield Ranks(dist.get_rank(), world, where)
    finally:
        dist.destroy_process_group()

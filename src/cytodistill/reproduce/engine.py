"""Running many systems: one after another in this process, or side by side through Ray.

A run that fails takes with it only those that need it; everything else goes on, and what is finished stays finished.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError, Interrupted, reason
from cytodistill.recipe import Recipe
from cytodistill.reproduce.records import run_system, stored_record
from cytodistill.reproduce.systems import System
from cytodistill.train.distributed import wants_gpu
from cytodistill.train.log import Silent, Watcher


@dataclass(frozen=True)
class Task:
    """One run: a system on one draw of the cells (a seed's split, or a fold)."""

    system: System
    draw: str
    folder: Path
    """Where the draw's runs lie, each in its system's home."""
    recipe: Recipe
    table: CellTable

    @property
    def name(self) -> tuple[str, str]:
        return self.draw, self.system.key

    @property
    def needs(self) -> list[tuple[str, str]]:
        return [(self.draw, key) for key in self.system.needs]


@dataclass(frozen=True)
class Done:
    """A task's end: its record, or why there is none."""

    task: Task
    record: dict[str, Any] | None
    problem: str | None = None


def run_tasks(tasks: Sequence[Task], *, workers: int, device: str, watcher: Watcher) -> Iterator[Done]:
    """Run the tasks, which stand after those that they need, and yield each as it ends.

    A task whose record is there is not run again, unless another one needs its run and that is gone.

    Raises:
        CytodistillError: interrupted, or Ray is wanted and not installed.
    """
    records = {task.name: record for task in tasks if (record := _stored(task)) is not None}
    for task in reversed(tasks):  # what is needed stands before what needs it
        if task.name not in records:
            for other in tasks:
                home = other.folder / other.system.home
                gone = other.name in task.needs and not (home / "model.safetensors").is_file()
                if gone and records.pop(other.name, None) is not None:
                    # A finished run without its weights is of no use, so it is made again from the start.
                    shutil.rmtree(home, ignore_errors=True)
    for task in tasks:
        if task.name in records:
            yield Done(task, records[task.name])
    waiting = [task for task in tasks if task.name not in records]
    if not waiting:
        return
    run = _one_by_one(waiting, device, watcher) if workers == 1 else _side_by_side(waiting, workers, device, watcher)
    yield from run


def _stored(task: Task) -> dict[str, Any] | None:
    try:
        return stored_record(task.folder, task.system, task.recipe, task.table)
    except Interrupted:
        raise
    except CytodistillError:  # a run that it starts from is not there yet
        return None


def _one_by_one(tasks: Sequence[Task], device: str, watcher: Watcher) -> Iterator[Done]:
    failed: set[tuple[str, str]] = set()
    for number, task in enumerate(tasks, start=1):
        done = _without(task, failed)
        if done is None:
            watcher.say(f"run {number} of {len(tasks)}: {task.draw}, {task.system.key}")
            done = _attempt(task, device, watcher)
        if done.problem:
            failed.add(task.name)
            watcher.say(f"{task.draw}, {task.system.key}: not run: {done.problem}")
        yield done


def _attempt(task: Task, device: str, watcher: Watcher) -> Done:
    try:
        return Done(task, run_system(task.system, task.folder, task.recipe, task.table, device, watcher))
    except Interrupted:
        raise
    except CytodistillError as error:
        return Done(task, None, str(error))
    except (RuntimeError, MemoryError) as error:  # a GPU out of memory is a RuntimeError
        return Done(task, None, f"{type(error).__name__}: {reason(error)}")


def _without(task: Task, failed: set[tuple[str, str]]) -> Done | None:
    """The end of a task that needs one that failed."""
    lost = [key for draw, key in task.needs if (draw, key) in failed]
    return Done(task, None, f"needs the run of {lost[0]}, which failed") if lost else None


def _side_by_side(tasks: Sequence[Task], workers: int, device: str, watcher: Watcher) -> Iterator[Done]:
    """The tasks on a Ray cluster: the one of ``RAY_ADDRESS``, or ``workers`` processes on this machine, which share
    its cores. On GPUs every task takes one."""
    try:
        import ray
    except ImportError:
        raise CytodistillError("--workers: Ray is not installed; pip install 'cytodistill[scale]'") from None
    address = os.environ.get("RAY_ADDRESS")
    # By default Ray's workers give way to everything else on the machine.
    os.environ.setdefault("RAY_worker_niceness", "0")
    here: dict[str, Any] = {} if address else {"num_cpus": workers, "include_dashboard": False}
    gpus = 1 if wants_gpu(device) else 0
    threads = 0 if address else max(1, (os.cpu_count() or 1) // workers)
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=1)(_in_worker)
        ends: dict[tuple[str, str], Any] = {}
        running = {}
        for task in tasks:
            # What it needs ends first: Ray starts a task when its arguments are there.
            needed = [ends[name] for name in task.needs if name in ends]
            ends[task.name] = remote.remote(task, device, threads, *needed)
            running[ends[task.name]] = task
        watcher.say(f"{len(tasks)} runs, {workers} at a time")
        while running:
            ready, _ = ray.wait(list(running), num_returns=1)
            task = running.pop(ready[0])
            try:
                done = Done(task, *ray.get(ready[0]))
            except ray.exceptions.RayError as error:
                done = Done(task, None, f"its worker was lost ({str(error).splitlines()[0]:.80})")
            watcher.say(
                f"{len(tasks) - len(running)} of {len(tasks)}: {task.draw}, {task.system.key}"
                + (f": not run: {done.problem}" if done.problem else "")
            )
            yield done
    finally:
        ray.shutdown()


def _in_worker(task: Task, device: str, threads: int, *needed: tuple[Any, str | None]) -> tuple[Any, str | None]:
    """What a Ray worker does: the record, or why there is none."""
    if any(problem for _, problem in needed):
        return None, f"needs {' and '.join(task.system.needs)}, which failed"
    if threads:
        torch.set_num_threads(threads)
    done = _attempt(task, device, Silent())
    return done.record, done.problem

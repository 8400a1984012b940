"""Training cells that do not fit in memory: shuffled whole, and in blocks.

    python benchmarks/larger_than_memory.py [--mib 3072] [--limit 1024] [--json FILE]

A memory-mapped array of random cells, as the cache of `fit` is, is read for one epoch in the order that training
visits it, batch by batch, by a process whose memory the kernel limits, page cache included (a control group; needs root
and cgroup v1's memory controller). Nothing is computed with the cells, so that reading is what is measured: seconds,
what the disk gave, and the most the process held. An epoch that reads more than the set has read pages twice.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from cytodistill.data.cache import DeviceCells
from cytodistill.train.sampling import batch_slices, epoch_order

MIB = 2**20
SIZE, BATCH = 64, 32
GROUPS = Path("/sys/fs/cgroup/memory")


@contextmanager
def limited(mib: int) -> Iterator[Path]:
    """A control group whose processes may hold so much memory and page cache together."""
    group = GROUPS / f"cytodistill-benchmark-{os.getpid()}"
    if not (GROUPS / "memory.limit_in_bytes").exists():
        raise SystemExit(f"{GROUPS}: no memory controller of cgroup v1 here")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(mib * MIB))
        yield group
    finally:
        group.rmdir()


def read_epoch(file: Path, block: int, seconds: float) -> dict[str, float]:
    """In this process: one epoch's batches from the map, or as much of it as ``seconds`` allow."""
    mapped = np.load(file, mmap_mode="r")
    cells, count = DeviceCells(mapped, torch.device("cpu")), len(mapped)
    order = epoch_order(torch.zeros(count, dtype=torch.long), 0, 0, "none", block)
    before, started, done = disk_bytes(), time.monotonic(), 0
    for part in batch_slices(count, BATCH, 1):
        cells[order[part]]
        cells.expect(order[part.stop : part.stop + BATCH])
        done = part.stop
        if time.monotonic() - started > seconds:
            break
    took = time.monotonic() - started
    return {
        "share": done / count,
        "cells_a_second": done / took,
        "read_over_set": (disk_bytes() - before) / (done * SIZE * SIZE * 3),
    }


def disk_bytes() -> int:
    """What this process has had read from a disk."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def measured(file: Path, block: int, limit: int, seconds: float) -> dict[str, float]:
    """`read_epoch` in a process of its own, in a control group, with nothing of the file in memory."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with limited(limit) as group:
        command = [sys.executable, __file__, "--worker", str(file), "--block", str(block), "--seconds", str(seconds)]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        )
        said, _ = process.communicate()
        peak = int((group / "memory.max_usage_in_bytes").read_text()) / MIB
        if process.returncode:
            raise SystemExit(f"block {block}: exit code {process.returncode}")
        (group / "memory.force_empty").write_text("0")
    return {**json.loads(said), "peak_mib": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=3072, help="size of the set")
    parser.add_argument("--limit", type=int, default=1024, help="MiB that the process may hold, page cache included")
    parser.add_argument(
        "--blocks", type=int, nargs="+", default=[0, 256], help="train.shuffle_block; 0: shuffled whole"
    )
    parser.add_argument("--seconds", type=float, default=90, help="an epoch that takes longer is broken off")
    parser.add_argument("--folder", type=Path, help="where the set is written, on a real disk")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--block", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(read_epoch(options.worker, options.block, options.seconds)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        file, count = Path(folder, "cells.npy"), options.mib * MIB // (SIZE * SIZE * 3)
        cells = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(count, SIZE, SIZE, 3))
        rng = np.random.default_rng(0)
        for start in range(0, count, 4096):
            cells[start : start + 4096] = rng.integers(0, 256, (min(4096, count - start), SIZE, SIZE, 3), np.uint8)
        cells.flush()
        del cells
        rows = {block: measured(file, block, options.limit, options.seconds) for block in options.blocks}
    for block, row in rows.items():
        name = f"blocks of {block}" if block else "whole"
        print(
            f"{name:14} {row['cells_a_second']:8.0f} cells/s, {row['read_over_set']:5.2f} bytes read for each one used,"
            f" at most {row['peak_mib']:5} MiB of {options.limit}, {row['share']:.0%} of an epoch"
        )
    figures = {"set_mib": options.mib, "limit_mib": options.limit, "cell_px": SIZE, "batch": BATCH, "by_block": rows}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

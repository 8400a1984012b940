"""The most memory that a process took to answer; each contestant is asked in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from cytodistill.bench.contestants import Setting
from cytodistill.errors import CytodistillError


def peak_memory(setting: Setting, cells: np.ndarray, device: str = "auto") -> dict[str, int]:
    """{"libraries", "answering"}: the most bytes in memory after everything is imported, and after the cells have been
    answered twice.

    Args:
        setting: how to answer.
        cells: (N, S, S, 3) uint8.
        device: of run folders; the memory of a GPU is not counted.

    Raises:
        CytodistillError: the process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "cells.npy")
        np.save(file, cells)
        where = device if setting.contestant.runtime == "torch" else "cpu"
        asked = [setting.contestant.path, setting.policy or "", setting.batch, setting.threads, where, file]
        done = subprocess.run(
            [sys.executable, "-m", __name__, *map(str, asked)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CytodistillError(f"{setting.contestant.path}: its memory could not be measured ({said}); free some")
    return json.loads(done.stdout.splitlines()[-1])


def most_so_far() -> int:
    """Most bytes that this process has had in memory."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage, which on Linux remembers the process that this one was started from.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _answer(path: str, policy: str, batch: str, threads: str, device: str, file: str) -> None:
    import torch

    from cytodistill.infer.policies import load_policy
    from cytodistill.infer.predictor import load

    torch.set_num_threads(int(threads))
    libraries = most_so_far()
    predictor = load(path, device, int(threads))
    stops = load_policy(path, policy) if policy else None
    cells = np.load(file, mmap_mode="r")
    for _ in range(2):
        predictor.answer(cells, stops, calibrated=False, batch_size=int(batch))
    print(json.dumps({"libraries": libraries, "answering": most_so_far()}))


if __name__ == "__main__":
    _answer(*sys.argv[1:])

"""A long batch prediction: memory while it runs, and whether one that was killed ends as one that was not.

    python benchmarks/predict_many.py RUN --cells 200000 --out /tmp/many [--json FILE]

Synthetic cells, PNG files of 64 px in zip archives, are drawn once. `cytodistill predict` answers them in a process of
its own, whose resident memory is read all the while. A second one is killed (SIGKILL) when half of the cells are in its
file, and the same command with ``--resume`` ends it. The two files are then compared byte for byte.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 64
ARCHIVE = 20_000
"""Cells of one zip archive."""
MOST = 1536
"""MiB that the process may take."""
SECONDS = 0.1
"""Between two looks at the process."""


def draw_cell(rng: np.random.Generator) -> bytes:
    """A PNG of a cell: paper, cytoplasm and a nucleus, each of its own size and tone, and grain coarse enough to
    compress."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(x - rng.uniform(26, 38), y - rng.uniform(26, 38))
    nucleus, body = rng.uniform(5, 13), rng.uniform(16, 30)
    image = np.full((SIDE, SIDE, 3), (240, 236, 238), np.int16)
    image[distance < body] = rng.integers((160, 140, 180), (210, 190, 230))
    image[distance < nucleus] = rng.integers((70, 40, 110), (120, 90, 170))
    grain = rng.integers(-6, 7, (SIDE // 4, SIDE // 4, 1)).repeat(4, axis=0).repeat(4, axis=1)
    stream = io.BytesIO()
    Image.fromarray(np.clip(image + grain, 0, 255).astype(np.uint8)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def make_archives(folder: Path, cells: int) -> list[Path]:
    """Zip archives with so many cells in all, drawn by number where they are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for start in range(0, cells, ARCHIVE):
        stop = min(start + ARCHIVE, cells)
        file = folder / f"cells-{start:07}-{stop:07}.zip"
        files.append(file)
        if file.exists():
            continue
        part = file.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for number in range(start, stop):
                archive.writestr(f"{number:07}.png", draw_cell(np.random.default_rng(number)))
        part.rename(file)
        print(f"drawn: {stop:,} of {cells:,} cells", flush=True)
    return files


@dataclass
class Watched:
    """A `predict` that was watched: its exit code (negative: the signal that killed it), its wall time in ``seconds``,
    its peak memory, and (share of cells in the file, MiB resident) from time to time."""

    code: int = 0
    seconds: float = 0.0
    peak_mib: float = 0.0
    seen: list[tuple[float, float]] = field(default_factory=list)

    def at(self, share: float) -> float:
        """MiB when that share of the cells was in the file; the first look after it."""
        return next((mib for done, mib in self.seen if done >= share), self.seen[-1][1])


def status(process: int, name: str) -> float:
    """A size from /proc/PID/status in MiB, 0 where the process is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


class Lines:
    """Counts the lines of a growing file, reading each byte once; the header is none."""

    def __init__(self, file: Path) -> None:
        self.file, self.count, self._size = file, 0, 0

    def look(self) -> int:
        if self.file.exists():
            with self.file.open("rb") as stream:
                stream.seek(self._size)
                while piece := stream.read(1 << 20):
                    self.count += piece.count(b"\n")
                    self._size += len(piece)
        return max(self.count - 1, 0)


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[None]:
    """So that an interrupted benchmark leaves nothing running."""
    try:
        yield
    finally:
        process.kill()
        process.wait()


def watch(command: list[str], out: Path, cells: int, kill_at: float | None = None) -> Watched:
    """Run a command that writes ``out`` and look at it; kill it once that share of the cells is in its file."""
    found, lines, started = Watched(), Lines(out.with_name(f"{out.name}.part")), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    with ended(process):
        while process.poll() is None:
            share = lines.look() / cells
            if resident := status(process.pid, "VmRSS"):
                found.seen.append((share, resident))
                found.peak_mib = max(found.peak_mib, status(process.pid, "VmHWM"))
            if kill_at is not None and share >= kill_at:
                process.send_signal(signal.SIGKILL)
            time.sleep(SECONDS)
    found.code, found.seconds = process.returncode, time.monotonic() - started
    return found


def same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    with one.open("rb") as first, other.open("rb") as second:
        while piece := first.read(1 << 20):
            if piece != second.read(1 << 20):
                return False
        return not second.read(1)


def measured(run: Path, archives: list[Path], cells: int, folder: Path, more: list[str]) -> dict[str, Any]:
    """The uninterrupted prediction, the killed one and the resumed one, in figures."""
    whole, resumed = folder / "whole.csv", folder / "resumed.csv"
    for file in folder.glob("*.csv*"):
        file.unlink()

    def command(out: Path, *options: str) -> list[str]:
        asked = ["predict", run, *archives, "-o", out, *more, *options]
        return [sys.executable, "-m", "cytodistill", *map(str, asked)]

    def told(name: str, expected: int, watching: Callable[[], Watched]) -> Watched:
        found = watching()
        print(f"{name:14} {found.seconds:8.1f} s, peak {found.peak_mib:6.0f} MiB, exit code {found.code}", flush=True)
        if found.code != expected:
            raise SystemExit(f"{name}: exit code {found.code}, and {expected} was expected")
        return found

    first = told("uninterrupted", 0, lambda: watch(command(whole), whole, cells))
    killed = told("killed", -signal.SIGKILL, lambda: watch(command(resumed), resumed, cells, kill_at=0.5))
    journal = resumed.with_name(f"{resumed.name}.journal").read_text(encoding="utf-8").splitlines()
    second = told("resumed", 0, lambda: watch(command(resumed, "--resume"), resumed, cells))
    return {
        "cells": cells,
        "seconds": first.seconds,
        "cells_a_second": cells / first.seconds,
        "resident_mib": {f"{share:.0%}": first.at(share) for share in (0.1, 0.5, 1.0)},
        "peak_mib": {"uninterrupted": first.peak_mib, "killed": killed.peak_mib, "resumed": second.peak_mib},
        "most_mib": MOST,
        "killed_at": killed.seen[-1][0],
        "kept_of_killed": json.loads(journal[-1])["cells"] / cells if len(journal) > 1 else 0.0,
        "seconds_killed_and_resumed": killed.seconds + second.seconds,
        "bytes": whole.stat().st_size,
        "identical": same(whole, resumed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder or exported artifact")
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--out", type=Path, required=True, help="folder for the archives and the answers")
    parser.add_argument("--policy", help="one of the run's exit policies")
    parser.add_argument("--threads", type=int, help="all cores by default")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    archives = make_archives(options.out / "cells", options.cells)
    more = []
    for name in ("policy", "threads"):
        if (value := getattr(options, name)) is not None:
            more += [f"--{name}", str(value)]
    threads = options.threads or os.cpu_count()
    found = measured(options.run, archives, options.cells, options.out, more) | {"threads": threads}
    print(f"{found['cells']:,} cells, {found['cells_a_second']:.0f} a second with the start of the process")
    print("resident, MiB:", ", ".join(f"{mib:.0f} at {share}" for share, mib in found["resident_mib"].items()))
    print(f"peak, MiB: {max(found['peak_mib'].values()):.0f}; the bound is {MOST}")
    print(f"killed at {found['killed_at']:.1%}, of which {found['kept_of_killed']:.1%} of all cells were kept")
    print(f"the two files of {found['bytes']:,} bytes are {'identical' if found['identical'] else 'DIFFERENT'}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if not found["identical"] or max(found["peak_mib"].values()) >= MOST:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Cells of a whole slide through `predict`: peak memory and cells a second, with one core.

python benchmarks/slide.py RUN --out /tmp/slide

The slide is made first, tile by tile, where it is not there yet: a pyramidal TIFF of JPEG tiles, with a cell drawn at
each place that cells.geojson names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

TILE = 512
STEP = 4
"""Sides of one level to those of the next."""
CELL = 91
"""Pixels of a cell's side."""
KINDS = 64
MICRONS_PER_PIXEL = 0.25


def places(side: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 2) int centres x, y of cells that do not overlap, in an order without any."""
    across = int(np.ceil(np.sqrt(cells)))
    pitch = side // across
    if pitch <= CELL:
        raise SystemExit(f"{cells} cells of {CELL} px do not fit into {side} px; take fewer")
    chosen = rng.permutation(across * across)[:cells]
    corner = np.stack([chosen % across, chosen // across], axis=1) * pitch
    return corner + CELL // 2 + rng.integers(0, pitch - CELL, (cells, 2))


def drawings(rng: np.random.Generator) -> np.ndarray:
    """(KINDS, CELL, CELL, 3) uint8 cells: cytoplasm, a nucleus of its own size in it, and grain."""
    y, x = np.mgrid[-1 : 1 : CELL * 1j, -1 : 1 : CELL * 1j]
    distance = np.hypot(x, y)[None, :, :, None]
    nucleus = rng.uniform(0.15, 0.6, KINDS)[:, None, None, None]
    plain = np.where(distance < nucleus, (90, 60, 140), np.where(distance < 0.95, (190, 170, 215), (240, 236, 238)))
    return np.clip(plain + rng.normal(0, 6, (KINDS, CELL, CELL, 3)), 0, 255).astype(np.uint8)


def tiles(side: int, centres: np.ndarray, below: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The full resolution's tiles row by row; their means over ``STEP``² pixels go into ``below``."""
    kinds = drawings(rng)
    grain = rng.normal(0, 4, (TILE, TILE, 3))
    paper = np.clip(grain + np.array((240, 236, 238)), 0, 255).astype(np.uint8)
    corners = centres - CELL // 2
    for top in range(0, side, TILE):
        row = np.flatnonzero((corners[:, 1] < top + TILE) & (corners[:, 1] + CELL > top))
        for left in range(0, side, TILE):
            tile = paper.copy()
            for cell in row[(corners[row, 0] < left + TILE) & (corners[row, 0] + CELL > left)]:
                x, y = corners[cell] - (left, top)
                window = tile[max(y, 0) : y + CELL, max(x, 0) : x + CELL]
                window[:] = kinds[cell % KINDS][max(-y, 0) :, max(-x, 0) :][: window.shape[0], : window.shape[1]]
            shrunk(tile, below, top, left)
            yield tile


def shrunk(tile: np.ndarray, below: np.ndarray, top: int, left: int) -> None:
    """Write the means over ``STEP``² pixels of a tile at its place in the level below."""
    small = tile.reshape(TILE // STEP, STEP, TILE // STEP, STEP, 3).mean(axis=(1, 3)).astype(np.uint8)
    place = below[top // STEP :, left // STEP :][: len(small), : len(small)]
    place[:] = small[: place.shape[0], : place.shape[1]]


def pieces(level: np.ndarray, below: np.ndarray | None) -> Iterator[np.ndarray]:
    """Tiles of a level that is there, white where they leave it."""
    for top in range(0, level.shape[0], TILE):
        for left in range(0, level.shape[1], TILE):
            tile = np.full((TILE, TILE, 3), 255, np.uint8)
            part = level[top : top + TILE, left : left + TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            if below is not None:
                shrunk(tile, below, top, left)
            yield tile


def make_slide(file: Path, side: int, centres: np.ndarray, seed: int) -> None:
    """Write the pyramid; only its lower levels are ever whole, in a file that is mapped into memory."""
    from tifffile import TiffWriter

    sides = [side]
    while sides[-1] > 2 * TILE:
        sides.append(-(-sides[-1] // STEP))
    maps = [file.with_name(f"level{at}.npy") for at in range(1, len(sides))]
    levels = [open_memmap(path, "w+", np.uint8, (n, n, 3)) for path, n in zip(maps, sides[1:], strict=True)]
    options = {
        "photometric": "rgb",
        "tile": (TILE, TILE),
        "compression": "jpeg",
        "compressionargs": {"level": 85},
        "dtype": np.uint8,
        "resolutionunit": "CENTIMETER",
        "maxworkers": 1,
    }
    written = file.with_suffix(".part")
    with TiffWriter(written, bigtiff=True) as writer:
        for at, n in enumerate(sides):
            below = levels[at] if at < len(levels) else None
            if at == 0:
                data = tiles(side, centres, levels[0], np.random.default_rng(seed))
            else:
                data = pieces(levels[at - 1], below)
            writer.write(
                data,
                shape=(n, n, 3),
                resolution=(1e4 / MICRONS_PER_PIXEL / STEP**at,) * 2,
                subfiletype=int(at > 0),
                metadata=None,
                **options,
            )
    for path in maps:
        path.unlink()
    written.rename(file)


def make_cells(file: Path, centres: np.ndarray) -> None:
    """Write an outline of 24 corners for each cell, as QuPath's cell detection exports them."""
    angles = np.linspace(0, 2 * np.pi, 25)
    ring = np.round(0.475 * CELL * np.stack([np.cos(angles), np.sin(angles)], axis=1), 2)
    ring[-1] = ring[0]
    with file.open("w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        for number, centre in enumerate(centres):
            feature = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [(centre + ring).round(2).tolist()]},
                "properties": {"objectType": "detection", "name": str(number), "measurements": {"Area µm²": 366.1}},
            }
            stream.write((",\n" if number else "\n") + json.dumps(feature))
        stream.write("\n]}\n")


def measure(run: str, folder: Path, *options: str) -> dict[str, float]:
    """Predict in a process of its own, with one core."""
    command = [sys.executable, "-m", "cytodistill", "predict", run, str(folder / "slide.tif")]
    command += ["--cells", str(folder / "cells.geojson"), "-o", str(folder / "out.geojson"), "--threads", "1", *options]
    print("$", " ".join(command), flush=True)
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit("predict failed")
    with (folder / "out.geojson").open(encoding="utf-8") as stream:
        features = json.load(stream)["features"]
    answered = sum("error" not in feature["properties"] for feature in features)
    return {
        "cells": len(features),
        "answered": answered,
        "seconds": round(seconds, 1),
        "cells_per_second": round(len(features) / seconds, 1),
        "peak_mib": round(used.ru_maxrss / 1024, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", help="finished run")
    parser.add_argument("--out", type=Path, required=True, help="folder for the slide, which is kept, and the answers")
    parser.add_argument("--side", type=int, default=40_000)
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("options", nargs="*", help="more options of predict, after --")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    centres = places(given.side, given.cells, np.random.default_rng(given.seed))
    slide, cells = given.out / "slide.tif", given.out / "cells.geojson"
    if not slide.is_file():
        started = time.perf_counter()
        make_slide(slide, given.side, centres, given.seed)
        print(f"{slide}: {slide.stat().st_size / 2**20:,.0f} MiB in {time.perf_counter() - started:,.0f} s", flush=True)
    make_cells(cells, centres)
    print(json.dumps(measure(given.run, given.out, *given.options), indent=1))


if __name__ == "__main__":
    main()

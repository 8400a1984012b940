"""The cells of a table, decoded once to a memory-mapped uint8 array, and held on the training device where they fit."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cytodistill.data.images import load_cell
from cytodistill.data.storage import content_stamp
from cytodistill.data.table import BOX, CellTable
from cytodistill.errors import CytodistillError
from cytodistill.files import replacing

Progress = Callable[[int, int], None]
DEVICE_SHARE = 0.5
"""Share of an accelerator's free memory that the cells may take; a larger set stays in host memory."""
AT_ONCE = 4096
"""Cells that the decoding threads are given at once."""


def cache_folder() -> Path:
    """Where caches are kept: ``CYTODISTILL_CACHE``, or cytodistill below the user's cache folder."""
    if named := os.environ.get("CYTODISTILL_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cytodistill"


def cached_cells(table: CellTable, size: int, resize: str, progress: Progress | None = None) -> np.ndarray:
    """(N, size, size, 3) uint8 cells of ``table``, row by row, memory-mapped read-only.

    The array is keyed by what the files contain, the boxes, the size and the way of resizing, so it is made once for
    any split or labelling of the same cells, and never stale.

    Raises:
        CytodistillError: cells that cannot be read; the first is named and the others counted. Nothing is kept.
    """
    key = _key(table, size, resize)
    file = cache_folder() / f"cells-{size}-{key}.npy"
    if not file.is_file():
        with replacing(file) as temporary:
            _decode(table.frame, size, resize, temporary, progress)
    try:
        return np.load(file, mmap_mode="r")
    except (ValueError, EOFError):
        raise CytodistillError(f"{file}: the cache is damaged; delete it and run again") from None


def _key(table: CellTable, size: int, resize: str) -> str:
    """Hash of all that the array depends on, the order of the rows (which sources sort) included."""
    frame = table.frame
    files = frame[["root", "path"]].drop_duplicates()
    stamps = {(root, path): content_stamp(root, path) for root, path in files.itertuples(index=False)}
    stamp = [stamps[pair] for pair in zip(frame["root"], frame["path"], strict=True)]
    described = pd.DataFrame({"stamp": stamp, **{side: frame[side].round(3) for side in BOX}})
    said = described.to_csv(index=False, lineterminator="\n")
    header = json.dumps({"version": 1, "size": size, "resize": resize})
    return hashlib.blake2b((header + said).encode(), digest_size=16).hexdigest()


def _decode(frame: pd.DataFrame, size: int, resize: str, file: Path, progress: Progress | None) -> None:
    cells = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(len(frame), size, size, 3))
    problems: list[str] = []
    rows = list(frame[["root", "path", *BOX]].itertuples(index=False, name=None))

    def decode(position: int) -> None:
        root, path, *box = rows[position]
        try:
            cells[position] = load_cell(root, path, size, resize, tuple(box))  # type: ignore[arg-type]
        except CytodistillError as error:
            problems.append(str(error))

    # Pillow decodes and resizes without the interpreter lock. A pool makes a future of each that it is given, at once,
    # so it is given a part at a time.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for start in range(0, len(rows), AT_ONCE):
            for done, _ in enumerate(pool.map(decode, range(start, min(start + AT_ONCE, len(rows)))), start=start + 1):
                if progress and (done % 64 == 0 or done == len(rows)):
                    progress(done, len(rows))
    cells.flush()
    if problems:
        more = f"; {len(problems) - 1} more (`cytodistill data inspect` lists them)" if len(problems) > 1 else ""
        raise CytodistillError(f"{min(problems)}{more}")


class DeviceCells:
    """Cells where the training step wants them.

    On a CPU the memory map itself is indexed; on an accelerator the array is moved there whole if it takes less than
    half of the free memory, else each batch is copied as uint8.

    Cells of a map are read from the disk alone, without the megabytes around them that a system reads on a guess, and
    those of a batch at once: a set that is larger than memory is visited in any order and read about once.
    """

    def __init__(self, cells: np.ndarray, device: torch.device) -> None:
        self.device = device
        self._cells = torch.from_numpy(np.asarray(cells)) if cells.flags.writeable else _read_only_tensor(cells)
        if device.type == "cuda" and cells.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._cells = self._cells.to(device)
        # Not before the whole was moved, which is read in one go.
        self._map = _mapped(cells) if self._cells.device.type == "cpu" else None

    def expect(self, index: Tensor) -> None:
        """Have the system begin to read (B,) cells that are soon asked for; returns at once."""
        if self._map is None:
            return
        for row in index.tolist():
            start = self._map.offset + row * self._map.stride
            page = start - start % mmap.PAGESIZE
            self._map.map.madvise(mmap.MADV_WILLNEED, page, start + self._map.stride - page)

    def __getitem__(self, index: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 cells on the device."""
        self.expect(index)
        cells = self._cells[index.to(self._cells.device)]
        return cells.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class _Mapped:
    """A file's map, where the first cell begins in it, and the bytes from one cell to the next."""

    map: mmap.mmap
    offset: int
    stride: int


def _mapped(cells: np.ndarray) -> _Mapped | None:
    """The map that an array read by ``np.load(mmap_mode=…)`` lies in, told to read what is asked for and no more; None
    for any other array, and where the system takes no advice."""
    if not isinstance(cells, np.memmap) or not isinstance(cells.base, mmap.mmap) or not hasattr(mmap, "MADV_RANDOM"):
        return None
    cells.base.madvise(mmap.MADV_RANDOM)
    return _Mapped(cells.base, cells.offset % mmap.ALLOCATIONGRANULARITY, cells.strides[0])


def _read_only_tensor(cells: np.ndarray) -> Tensor:
    """Tensor over a read-only map; torch warns that writing would be undefined, and nothing here writes."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(cells)

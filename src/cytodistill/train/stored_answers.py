"""The teacher's answers to K fixed views of each training cell, computed once and replayed in every epoch: fast
knowledge distillation (Shen and Xing 2022, "A Fast Knowledge Distillation Framework for Visual Recognition").

RUN/teacher-answers holds ``logits.npy`` (n, K, C) and, for methods that compare embeddings, ``features.npy`` (n, K, D),
both float16, and ``answers.json``: which teacher, recipe and cells they are of, and how many are there yet.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cytodistill.data.cache import DeviceCells
from cytodistill.distill.feature_method import FeatureMethod
from cytodistill.distill.method import Method
from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write, make_folder
from cytodistill.models.outputs import ExitOutputs
from cytodistill.train.distributed import Ranks, gather_rows
from cytodistill.train.log import Watcher
from cytodistill.train.sampling import in_chunks

FOLDER = "teacher-answers"
BATCH = 128
"""Views that are answered at a time, over all ranks."""
SECONDS_AT_RISK = 5.0
"""Work that a kill may cost: how long answers are written before they are synced and counted."""


def parts_learnt_from(method: type[Method]) -> tuple[str, ...]:
    """Which of a teacher's answers a method reads: its logits, and its features where it compares embeddings."""
    return ("logits", "features") if issubclass(method, FeatureMethod) else ("logits",)


class StoredAnswers:
    """Callable as ``answers(cells, views)``: what the teacher said of views, (B,) each, of cells by their positions."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
        self.views = arrays["logits"].shape[1]
        # Held on the device or read from the map as the cells are, and for the same reason.
        self.parts = {name: DeviceCells(array.reshape(-1, array.shape[-1]), device) for name, array in arrays.items()}

    def __call__(self, cells: Tensor, views: Tensor) -> ExitOutputs:
        rows = cells * self.views + views
        found = {name: [part[rows].float()] for name, part in self.parts.items()}
        return ExitOutputs(found["logits"], found.get("features", []))


def store_answers(
    folder: Path,
    key: str,
    answer: Callable[[Tensor, Tensor], dict[str, Tensor]],
    cells: int,
    views: int,
    ranks: Ranks,
    watcher: Watcher,
) -> StoredAnswers:
    """Answers to ``views`` views of ``cells`` cells: those that are there, and the others computed and written.

    Every rank answers its share and the first writes. What a killed process had written is kept, and the bytes do not
    depend on where it was killed.

    Args:
        folder: made where it is not there.
        key: of teacher, recipe and cells; answers of another key are replaced.
        answer: (b,) positions of cells and (b,) numbers of views → (b, W) float tensors by name, "logits" among them.

    Raises:
        CytodistillError: an answer that float16 cannot hold, or no room for them.
    """
    files = AnswerFiles(folder, key, cells, views)
    done = int(ranks.sum(torch.tensor(files.answered() if ranks.first else 0, device=ranks.device)))
    saved = time.monotonic()
    for numbers in in_chunks(torch.arange(done, cells * views), BATCH):
        mine = ranks.share(torch.arange(len(numbers)))
        # A last batch may leave a rank none; it answers one for nothing, and so knows the shapes.
        asked = numbers[mine if len(mine) else slice(1)]
        found = answer(asked // views, asked % views)
        whole = {
            name: gather_rows(rows[: len(mine)].float(), mine, len(numbers), ranks) for name, rows in found.items()
        }
        done += len(numbers)
        if ranks.first:
            files.write(done - len(numbers), {name: as_half(name, rows, views) for name, rows in whole.items()})
            if done == cells * views or time.monotonic() - saved > SECONDS_AT_RISK:
                files.count(done)
                saved = time.monotonic()
            watcher.step("teacher's answers", done, cells * views, f"{views} views a cell")
    ranks.barrier()
    return StoredAnswers(folder, ranks.device)


def as_half(name: str, rows: Tensor, views: int) -> np.ndarray:
    """Rows as float16, rounded to 11 bits.

    Raises:
        CytodistillError: beyond ±65504, or not a number.
    """
    half = rows.half()
    if not torch.isfinite(half).all():
        raise CytodistillError(
            f"teacher.views={views}: the teacher's {name} go up to {rows.abs().max():.3g}, more than float16 holds; "
            "set teacher.views=0, or take another teacher"
        )
    return half.cpu().numpy()


class AnswerFiles:
    """The files, while they are written."""

    def __init__(self, folder: Path, key: str, cells: int, views: int) -> None:
        self.folder = folder
        self.key = hashlib.blake2b(json.dumps([1, key, cells, views]).encode(), digest_size=16).hexdigest()
        self.shape = (cells, views)

    def answered(self) -> int:
        """How many views' answers are there; 0 where they are others, or damaged."""
        try:
            said = json.loads((self.folder / "answers.json").read_text(encoding="utf-8"))
            arrays = [np.load(file, mmap_mode="r") for file in self.folder.glob("*.npy")]
            whole = arrays and all(array.shape[:2] == self.shape for array in arrays)
            return int(said["answered"]) if whole and said["key"] == self.key else 0
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return 0

    def write(self, start: int, parts: dict[str, np.ndarray]) -> None:
        """Write (b, W) rows from place ``start`` on; at the first ones the files are made."""
        try:
            if start == 0:
                self._make({name: rows.shape[1] for name, rows in parts.items()})
            for name, rows in parts.items():
                # A full disk is an error of a write, and the end of a process that writes to a map.
                with open(self._file(name), "r+b") as file:
                    file.seek(np.load(self._file(name), mmap_mode="r").offset + start * rows[0].nbytes)
                    file.write(rows.tobytes())
        except OSError as error:
            raise CytodistillError(
                f"{self.folder}: the teacher's answers cannot be written ({error.strerror}); make room, or set "
                "teacher.views=0"
            ) from None

    def count(self, answered: int) -> None:
        """Sync what was written, and say how much it is."""
        for file in self.folder.glob("*.npy"):
            with open(file, "rb") as written:
                os.fsync(written.fileno())
        said = {"key": self.key, "answered": answered}
        atomic_write(self.folder / "answers.json", f"{json.dumps(said)}\n".encode())

    def _make(self, widths: dict[str, int]) -> None:
        make_folder(self.folder)
        for old in [self.folder / "answers.json", *self.folder.glob("*.npy")]:
            old.unlink(missing_ok=True)
        for name, width in widths.items():
            np.lib.format.open_memmap(self._file(name), mode="w+", dtype=np.float16, shape=(*self.shape, width))

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

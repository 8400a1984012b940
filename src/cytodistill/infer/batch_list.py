"""A list of cells that a million of them fit into."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pandas as pd

from cytodistill.data.storage import display
from cytodistill.data.table import BOX
from cytodistill.infer.batch_read import Item


class Items(Sequence[Item]):
    """Cells, column by column: a million of them take some 10 MB and the texts of their paths, and an `Item` is made
    when it is asked for.

    Args:
        frames: tables with the columns root, path, x, y, width and height, one after another.
        grouped: keep the column group too; `group_codes` and `group_names` then have it.
    """

    def __init__(self, frames: Iterable[pd.DataFrame], grouped: bool = False) -> None:
        # The table's own columns are let go one by one: of a million cells they would weigh more than all this.
        kept = [frame[["root", "path", *BOX, *(["group"] if grouped else [])]] for frame in frames]
        self._boxes = np.concatenate([frame[list(BOX)].to_numpy(np.float64) for frame in kept])
        self._root_of, self._roots = _codes([frame["root"] for frame in kept])
        self._path_of, self._paths = _codes([frame["path"] for frame in kept])
        self.group_codes = np.zeros(0, np.int32)
        """(N,) positions in ``group_names`` where groups are kept."""
        self.group_names: list[tuple[int, str]] = []
        """Groups in the order in which they come: which of the frames each is of, and its name there."""
        for number, frame in enumerate(kept if grouped else []):
            codes, names = pd.factorize(frame["group"])
            codes = (codes + len(self.group_names)).astype(np.int32)
            self.group_codes = np.concatenate([self.group_codes, codes])
            self.group_names += [(number, str(name)) for name in names]

    def __len__(self) -> int:
        return len(self._path_of)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        root, path = self._roots[self._root_of[index]], self._paths[self._path_of[index]]
        x, y, width, height = self._boxes[index].tolist()
        name = display(root, path)
        if np.isnan(x):
            return Item(root, path, None, name)
        return Item(root, path, (x, y, width, height), f"{name}#{x:g},{y:g},{width:g},{height:g}")

    def blocks(self, size: int, start: int = 0) -> Iterator[list[Item]]:
        """Items from ``start`` on, about ``size`` at a time: where the next items are of the last one's image, and at
        most half a block, they are taken too, so that a field is decoded for one block and not for two.

        Where a block ends depends on where it begins and on nothing before.
        """
        while start < len(self):
            end = min(start + size, len(self))
            of_one_image = self._following(end, size // 2 + 1)
            end += of_one_image if of_one_image <= size // 2 else 0
            yield self[start:end]
            start = end

    def _following(self, at: int, most: int) -> int:
        """How many items from ``at`` on, ``most`` at most, are of the image of the item before."""
        roots, paths = self._root_of[at - 1 : at + most], self._path_of[at - 1 : at + most]
        other = (roots != roots[0]) | (paths != paths[0])
        return int(other.argmax()) - 1 if other.any() else len(other) - 1

    def digest(self) -> str:
        """Hex hash of which cells these are, in which order, and of when their archives were written; folders' images
        are known by their names alone, since to look at a million files takes minutes."""
        found = hashlib.blake2b(digest_size=16)
        for texts in (self._roots, self._paths):
            for text in texts:
                found.update(f"{len(text)} {text}\n".encode())
        for numbers in (self._root_of, self._path_of, self._boxes):
            found.update(numbers.tobytes())
        for root in self._roots:
            if os.path.isfile(root):
                said = os.stat(root)
                found.update(f"{said.st_size} {said.st_mtime_ns}\n".encode())
        return found.hexdigest()


def _codes(columns: list[pd.Series]) -> tuple[np.ndarray, list[str]]:
    """(N,) int32 codes, and the different texts that they index, in the order in which they come."""
    codes, texts = pd.factorize(pd.concat(columns, ignore_index=True))
    return codes.astype(np.int32), list(texts)

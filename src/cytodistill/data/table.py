"""CellTable: one row a cell, from whichever source, with label, group and split."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write

SPLITS = ("train", "val", "test")
BOX = ("x", "y", "width", "height")
COLUMNS = ("root", "path", *BOX, "label", "group", "split", "fold")


@dataclass(frozen=True)
class CellTable:
    """Cells of one or more sources, and the class names that label codes index.

    ``frame`` has one row a cell and exactly the columns of ``COLUMNS``:

    - ``root`` folder or zip archive that ``path`` is relative to (absolute once read);
    - ``path`` POSIX path of the image inside ``root``;
    - ``x, y, width, height`` window of the cell in the image's pixels (``x, y`` its upper left corner, which may lie
      outside the image near a border), NaN where the whole image is the cell;
    - ``label`` class name, or "" where it is not known;
    - ``group`` what must not be split: the field, cluster or acquisition the cell was cut from;
    - ``split`` one of "train", "val", "test", or "" where not assigned;
    - ``fold`` cross-validation fold from 0, or -1 where not assigned.
    """

    frame: pd.DataFrame
    classes: tuple[str, ...]
    format: str

    def __post_init__(self) -> None:
        missing = [c for c in COLUMNS if c not in self.frame.columns]
        if missing:
            raise CytodistillError(f"table: columns {', '.join(missing)} are missing; it needs {', '.join(COLUMNS)}")
        unknown = sorted(set(self.frame["label"]) - set(self.classes) - {""})
        if unknown:
            raise CytodistillError(f"table: label {unknown[0]!r} is not one of the classes {', '.join(self.classes)}")

    @classmethod
    def from_rows(cls, rows: list[dict] | Mapping[str, Any], classes: tuple[str, ...], format: str) -> CellTable:
        """Table from dictionaries that hold at least root, path and label, or from one of columns, which for a million
        cells takes a fraction of the memory; the other columns are filled with their "not assigned" values, an absent
        group with the path itself (every image its own group)."""
        frame = pd.DataFrame(rows)
        for column in BOX:
            frame[column] = frame[column].astype(float) if column in frame else np.nan
        frame["group"] = frame["group"] if "group" in frame else frame["path"]
        frame["split"] = frame.get("split", "")
        frame["fold"] = frame["fold"].astype(int) if "fold" in frame else -1
        return cls(frame[list(COLUMNS)].reset_index(drop=True), tuple(classes), format)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 codes into ``classes``; -1 where the label is not known."""
        codes = {name: code for code, name in enumerate(self.classes)}
        return self.frame["label"].map(lambda name: codes.get(name, -1)).to_numpy(np.int64, copy=True)

    @property
    def groups(self) -> np.ndarray:
        """(N,) group names."""
        return self.frame["group"].to_numpy(object)

    def indices(self, split: str) -> np.ndarray:
        """(n,) int64 positions of the rows of one split, or of every row for "all"."""
        if split == "all":
            return np.arange(len(self))
        return np.flatnonzero((self.frame["split"] == split).to_numpy())

    def counts(self) -> pd.DataFrame:
        """Cells by class (rows) and split (columns), for people to read."""
        split = self.frame["split"].replace("", "unassigned")
        table = pd.crosstab(self.frame["label"], split)
        order = [s for s in (*SPLITS, "unassigned") if s in table.columns]
        return table.reindex(index=list(self.classes), columns=order, fill_value=0)

    def with_frame(self, frame: pd.DataFrame) -> CellTable:
        """The same classes and format over another frame."""
        return replace(self, frame=frame.reset_index(drop=True))

    def with_fold(self, fold: int) -> CellTable:
        """Splits from folds: ``fold`` is the test split, the next one validation, the others training."""
        folds = self.frame["fold"].to_numpy()
        count = int(folds.max()) + 1 if len(folds) else 0
        if count < 3 or folds.min() < 0:
            raise CytodistillError(
                f"data.fold={fold}: the table has no folds (or fewer than 3); make them with "
                "`cytodistill data split SOURCE --folds 5 -o manifest.csv`"
            )
        if not 0 <= fold < count:
            raise CytodistillError(f"data.fold={fold}: the table has folds 0 to {count - 1}")
        split = np.where(folds == fold, "test", np.where(folds == (fold + 1) % count, "val", "train"))
        return self.with_frame(self.frame.assign(split=split))

    def check_groups(self) -> None:
        """Raise CytodistillError where a group has cells in more than one split (or fold): that is leakage."""
        for column, unassigned in (("split", ""), ("fold", -1)):
            rows = self.frame[self.frame[column] != unassigned]
            spread = rows.groupby("group", sort=True)[column].nunique()
            if (bad := spread[spread > 1]).size:
                where = sorted(rows.loc[rows["group"] == bad.index[0], column].unique())
                raise CytodistillError(
                    f"group {bad.index[0]!r} has cells in {column}s {' and '.join(map(str, where))} ({bad.size} such "
                    "groups): cells of one group in two splits leak; split again with `cytodistill data split`, or "
                    "pass --group none to accept it"
                )

    def is_windowed(self, side: float) -> bool:
        """Whether every cell is a square window of this side in pixels: cut round its nucleus, not to its outline."""
        sides = self.frame[["width", "height"]].to_numpy(np.float64)
        return len(sides) > 0 and bool((np.abs(sides - side) < 1e-3).all())

    def digest(self) -> str:
        """Hex hash of what the table says (paths, boxes, labels, groups, splits), the same on any machine: roots
        are left out."""
        said = self.frame.drop(columns="root").to_csv(index=False, float_format="%.3f", lineterminator="\n")
        return hashlib.blake2b(f"{self.classes}\n{said}".encode(), digest_size=16).hexdigest()

    def write(self, path: str | Path) -> None:
        """Write the manifest: a CSV of the columns above, in the order of the rows; ``read_source`` reads it back.

        Where the classes are not in sorted order, a column ``code`` keeps theirs; windows are left out where no cell
        has one.
        """
        frame = self.frame.dropna(axis="columns", how="all")
        if self.classes != tuple(sorted(self.classes)):
            frame = frame.assign(code=pd.Series(self.labels, frame.index).astype(object).where(self.labels >= 0, ""))
        # Python's csv writer leaves a lone carriage return bare, which readers take for the end of a line.
        bare = any("\r" in text for column in ("root", "path", "label", "group") for text in frame[column].unique())
        text = frame.to_csv(
            index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
        )
        atomic_write(path, text.encode())

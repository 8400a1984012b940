"""Groups that a run has learnt from: another cell of such a field, cluster or slide is no test of it either."""

from __future__ import annotations

import numpy as np

from cytodistill.data.sources import read_source
from cytodistill.data.storage import content_stamp, has_file, read_bytes
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.train.run_folder import Run


def training_groups(run: Run, table: CellTable, rows: np.ndarray) -> list[str]:
    """Sorted names of the groups of some rows of a table from which the run has training or validation cells.

    Group names alone do not tell: "1" is a slide in many data sets. A group is one that trained where

    - one of its images did: the same path inside the source, and the same folder or archive, or the same content; or
    - its name did, out of the same folder or archive.

    A copy elsewhere of cells that are cut out one by one, none of which the run has seen, cannot be told from another
    slide of that name. Nor can anything where the run's manifest or its images are gone: then none is named.
    """
    manifest = run.path / "manifest.csv"
    if not manifest.is_file():
        return []
    try:
        frame = read_source(manifest).frame
    except CytodistillError:
        return []  # its images were moved away
    used = frame[frame["split"].isin(["train", "val"])]
    roots: dict[str, set[str]] = {}
    for path, root in set(zip(used["path"], used["root"], strict=True)):
        roots.setdefault(path, set()).add(root)
    named = set(zip(used["root"], used["group"], strict=True))
    chosen = table.frame.iloc[rows][["root", "path", "group"]].drop_duplicates()
    found = {group for root, _, group in chosen.itertuples(index=False, name=None) if (root, group) in named}
    for root, path, group in chosen.itertuples(index=False, name=None):
        if group not in found and any(_same_file(root, before, path) for before in roots.get(path, ())):
            found.add(group)
    return sorted(found)


def _same_file(root: str, other: str, path: str) -> bool:
    if root == other:
        return True
    if not has_file(other, path):
        return False
    if root.lower().endswith(".zip") == other.lower().endswith(".zip"):
        return content_stamp(root, path) == content_stamp(other, path)
    return read_bytes(root, path) == read_bytes(other, path)  # stamps of a file and of a zip's member differ

"""CIFAR-100 as image files: ``train|test/<class>/*``, the benchmark's own test split kept."""

from __future__ import annotations

from cytodistill.data.sources.registry import Format, SourceError, Tree
from cytodistill.data.table import CellTable

SPLITS = ("train", "test")


def _classes(tree: Tree, split: str) -> set[str]:
    return {path.split("/")[1] for path in tree.images if path.startswith(f"{split}/") and path.count("/") == 2}


def recognise(tree: Tree) -> bool:
    return set(tree.top_folders) == set(SPLITS) and len(_classes(tree, "train") & _classes(tree, "test")) == 100


def fits(tree: Tree) -> bool:
    return set(SPLITS) <= set(tree.top_folders)


def read(tree: Tree) -> CellTable:
    """Table with the split column set to train or test; every image is its own group."""
    train, test = (_classes(tree, split) for split in SPLITS)
    if odd := train ^ test:
        raise SourceError(f"{tree.name()}: class {min(odd)!r} is in only one of train/ and test/; complete the other")
    if len(train) < 2:
        raise SourceError(f"{tree.name()}: fewer than 2 classes in train/<class>/ and test/<class>/")
    rows = [
        {"root": str(tree.root), "path": tree.path(path), "label": path.split("/")[1], "split": path.split("/")[0]}
        for path in tree.images
        if path.count("/") == 2 and path.split("/")[0] in SPLITS
    ]
    return CellTable.from_rows(rows, tuple(sorted(train)), "cifar100")


FORMAT = Format("cifar100", "train/<class>/* and test/<class>/*", recognise, fits, read)

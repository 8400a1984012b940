"""Class folders, the plainest source: ``<class>/…`` or ``train|val|test/<class>/…``."""

from __future__ import annotations

from cytodistill.data.images import EXTENSIONS
from cytodistill.data.sources.registry import Format, SourceError, Tree
from cytodistill.data.table import CellTable

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def recognise(tree: Tree) -> bool:
    return bool(tree.top_folders) and bool(tree.images)


def read(tree: Tree) -> CellTable:
    """Table of the images anywhere below each class folder; top folders train, val (valid, validation) and test
    become the split column.

    Subfolders of the classes (patients, slides) are the groups, by the name of the first one: the same name under
    two classes is the same patient and so one group. Where a number restarts in each class, this joins groups that
    could stand apart, which leaks nothing. A name that all subfolders share says nothing, and images without a
    subfolder stand alone: each is its own group.
    """
    split_folders = [name for name in tree.top_folders if name.lower() in SPLITS]
    if split_folders and len(split_folders) < len(tree.top_folders):
        other = next(name for name in tree.top_folders if name not in split_folders)
        raise SourceError(
            f"{tree.name(other)}: stands beside the split folder {split_folders[0]}/; move it into a split folder or "
            "out of the data set"
        )
    depth = 1 if split_folders else 0
    class_folders = [path for path in tree.folders if path.count("/") == depth]
    rows = []
    for path in tree.images:
        parts = path.split("/")
        if len(parts) <= depth + 1:
            raise SourceError(f"{tree.name(path)}: an image outside the class folders; move it into its class's folder")
        rows.append(
            {
                "root": str(tree.root),
                "path": tree.path(path),
                "label": parts[depth],
                "group": parts[depth + 1] if len(parts) > depth + 2 else "",
                "split": SPLITS[parts[0].lower()] if depth else "",
            }
        )
    if len({row["group"] for row in rows} - {""}) < 2:
        rows = [row | {"group": ""} for row in rows]
    rows = [row | {"group": row["group"] or row["path"]} for row in rows]
    filled = {"/".join(path.split("/")[: depth + 1]) for path in tree.images}
    if empty := [folder for folder in class_folders if folder not in filled]:
        raise SourceError(
            f"{tree.name(empty[0])}: a class folder without images ({', '.join(EXTENSIONS)}); fill it or remove it"
        )
    classes = sorted({row["label"] for row in rows})
    if len(classes) < 2:
        raise SourceError(
            f"{tree.name()}: only the class folder {classes[0]}/; a classifier needs at least 2, one for each class "
            "(if it wraps the class folders, give its own path)"
        )
    return CellTable.from_rows(rows, tuple(classes), "folder")


def read_unlabelled(tree: Tree) -> CellTable:
    """Table without labels of every image below the tree, each its own group, for prediction."""
    if not tree.images:
        raise SourceError(f"{tree.name()}: no images ({', '.join(EXTENSIONS)}) in it")
    columns = {"root": str(tree.root), "path": [tree.path(path) for path in tree.images], "label": ""}
    return CellTable.from_rows(columns, (), "folder")


FORMAT = Format("folder", "one folder of images a class, or train|val|test/<class>/", recognise, recognise, read)

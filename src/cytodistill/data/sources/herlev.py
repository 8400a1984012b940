"""Herlev: 917 single cells of 7 classes, named by their acquisition."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from cytodistill.data.sources.registry import Format, SourceError, Tree, ordered_classes
from cytodistill.data.table import CellTable

CLASSES = (
    "normal_superficiel",
    "normal_intermediate",
    "normal_columnar",
    "light_dysplastic",
    "moderate_dysplastic",
    "severe_dysplastic",
    "carcinoma_in_situ",
)
"""Official names, from normal to carcinoma."""

_ACQUISITION = re.compile(r"(\d+)-")


def recognise(tree: Tree) -> bool:
    return len(tree.top_folders) > 1 and set(tree.top_folders) <= set(CLASSES)


def fits(tree: Tree) -> bool:
    return bool(set(tree.top_folders) & set(CLASSES))


def read(tree: Tree) -> CellTable:
    """Table of ``<class>/<acquisition>-<…>-NNN.BMP``, without the masks ``…-d.bmp``; the group is the acquisition, the
    number before the first "-"."""
    if unknown := set(tree.top_folders) - set(CLASSES):
        raise SourceError(f"{tree.name(min(unknown))}: not a class of Herlev; its folders are {', '.join(CLASSES)}")
    rows = []
    for path in tree.images:
        label, _, _ = path.partition("/")
        name = PurePosixPath(path)
        if name.stem.lower().endswith("-d"):
            continue
        if not (acquisition := _ACQUISITION.match(name.name)):
            raise SourceError(
                f"{tree.name(path)}: no acquisition number before a '-' in its name, so its group is not known; "
                "rename or remove it"
            )
        rows.append({"root": str(tree.root), "path": tree.path(path), "label": label, "group": acquisition[1]})
    classes = ordered_classes((row["label"] for row in rows), CLASSES)
    if empty := set(tree.top_folders) - set(classes):
        raise SourceError(f"{tree.name(min(empty))}: no images of this class; fill the folder or remove it")
    return CellTable.from_rows(rows, classes, "herlev")


FORMAT = Format("herlev", "class folders normal_superficiel … carcinoma_in_situ", recognise, fits, read)

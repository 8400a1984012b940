"""SIPaKMeD: single cells cut from cluster images, with the contours of cytoplasm and nucleus."""

from __future__ import annotations

import math
import re
from pathlib import Path, PurePosixPath

import numpy as np

from cytodistill.data.sources.registry import Format, SourceError, Tree, ordered_classes
from cytodistill.data.storage import display, has_file, read_bytes
from cytodistill.data.table import CellTable

CLASSES = ("Superficial-Intermediate", "Parabasal", "Koilocytotic", "Dyskeratotic", "Metaplastic")
"""Official order: the two normal classes, the two abnormal ones, the benign one."""

_CELL = re.compile(r"im_(?P<label>[^/]+)/(?:im_(?P=label)/)?CROPPED/(?P<file>[^/]+)", re.IGNORECASE)
_NAME = re.compile(r"(?P<cluster>\d+)_\d+")


def recognise(tree: Tree) -> bool:
    return any(_CELL.fullmatch(path) for path in tree.images)


def read(tree: Tree) -> CellTable:
    """Table of ``im_<Class>/[im_<Class>/]CROPPED/XXX_YY.bmp`` (also .png, .jpg, ...); full fields are left out.

    The group is ``<Class>/XXX``: the number XXX of the cluster image restarts in each class.
    """
    rows = []
    for path in tree.images:
        if not (cell := _CELL.fullmatch(path)):
            continue
        if not (name := _NAME.fullmatch(PurePosixPath(path).stem)):
            raise SourceError(
                f"{tree.name(path)}: not named <cluster>_<cell> like 012_03.bmp, so its cluster image is not known; "
                "rename or remove it"
            )
        label = cell["label"]
        rows.append(
            {
                "root": str(tree.root),
                "path": tree.path(path),
                "label": label,
                "group": f"{label}/{name['cluster']}",
            }
        )
    classes = ordered_classes((row["label"] for row in rows), CLASSES)
    if len(classes) < 2:
        raise SourceError(
            f"{tree.name()}: only the class {classes[0]}; a classifier needs at least 2 im_<Class> folders"
        )
    return CellTable.from_rows(rows, classes, "sipakmed")


def read_contours(root: str | Path, path: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Contours of the cytoplasm and the nucleus of a cell image: (n, 2) float64 x, y in its pixels, n ≥ 3.

    They stand beside the image ``XXX_YY.bmp`` as ``XXX_YY_cyt.dat`` and ``XXX_YY_nuc.dat``, one ``x,y`` a line; None
    for one that is absent. Raises SourceError naming the file and line of one that is malformed.
    """
    stem = str(PurePosixPath(path).with_suffix(""))
    return _contour(root, f"{stem}_cyt.dat"), _contour(root, f"{stem}_nuc.dat")


def _contour(root: str | Path, path: str) -> np.ndarray | None:
    if not has_file(root, path):
        return None
    name = display(root, path)
    points = []
    for number, line in enumerate(read_bytes(root, path).decode("utf-8-sig", "replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            x, y = (float(value) for value in line.split(","))
            if not (math.isfinite(x) and math.isfinite(y)):
                raise ValueError
        except ValueError:
            raise SourceError(
                f"{name}, line {number}: {line.strip()[:40]!r} is not a point x,y; mend the file"
            ) from None
        points.append((x, y))
    if len(points) < 3:
        raise SourceError(f"{name}: {len(points)} points, a contour needs at least 3; mend or remove the file")
    return np.array(points, np.float64)


FORMAT = Format("sipakmed", "im_<Class>/[im_<Class>/]CROPPED/XXX_YY.bmp", recognise, recognise, read)

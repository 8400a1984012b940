"""Sources of cells: known data sets, class folders and manifests, each read into a CellTable."""

from __future__ import annotations

from pathlib import Path

from cytodistill.data.images import is_image_name
from cytodistill.data.sources import cifar, cric, folder, herlev, sipakmed
from cytodistill.data.sources.manifest import read_manifest
from cytodistill.data.sources.registry import FORMATS, SourceError, Tree, register
from cytodistill.data.sources.sipakmed import read_contours
from cytodistill.data.table import CellTable

__all__ = ["FORMATS", "SourceError", "read_contours", "read_source"]

for _known in (sipakmed, herlev, cric, cifar, folder):
    register(_known.FORMAT)


def read_source(
    source: str | Path, format: str | None = None, *, window: int = 90, require_labels: bool = True
) -> CellTable:
    """Table of the cells of ``source``: a folder, a zip archive or a manifest CSV; rows of trees sorted by path.

    The format is recognised from the tree, or given by name (``FORMATS``, "manifest"). ``window`` is the side in
    pixels of a cell where the source gives nuclei (CRIC). With ``require_labels`` False, for prediction, a manifest
    may lack labels, and a folder in no known data set's format, or a single image, is read without labels.
    Raises SourceError (a CytodistillError) naming the path and what is amiss.
    """
    path = Path(source).expanduser().absolute()
    if format is not None and format not in (*FORMATS, "manifest"):
        raise SourceError(f"--format {format}: not known; the formats are {_names()}")
    if not path.exists():
        raise SourceError(f"{path}: no such folder or file; check the path")
    if path.is_file() and path.suffix.lower() == ".csv":
        if format not in (None, "manifest"):
            raise SourceError(f"{path}: a CSV file is read as a manifest; for {format} give the folder or zip archive")
        return read_manifest(path, require_labels)
    if format == "manifest":
        raise SourceError(f"{path}: a manifest is a .csv file; give that file, or another of {_names()}")
    if path.is_file() and not require_labels and is_image_name(path.name):
        return CellTable.from_rows([{"root": str(path.parent), "path": path.name, "label": ""}], (), "folder")
    if path.is_file() and path.suffix.lower() != ".zip":
        raise SourceError(f"{path}: neither a folder, a .zip archive nor a manifest .csv; give one of these")
    tree = Tree.of(path)
    if not tree.images:
        raise SourceError(f"{path}: no images in it (PNG, JPEG, BMP, TIFF, WebP); check the path")
    return _read_tree(tree, format, window, require_labels)


def _read_tree(tree: Tree, name: str | None, window: int, require_labels: bool) -> CellTable:
    for known in FORMATS.values() if name is None else [FORMATS[name]]:
        if known.name == "folder" and name is None and not require_labels:
            return folder.read_unlabelled(tree)
        for candidate in _candidates(tree, known.name):
            if known.recognise(candidate) or (name and known.fits(candidate)):
                return known.read(candidate, window) if known.windowed else known.read(candidate)
    wanted = f"does not look like {name} ({FORMATS[name].needs})" if name else "in no known format"
    raise SourceError(f"{tree.root}: {wanted}; the formats are {_names()}")


def _candidates(tree: Tree, format: str) -> list[Tree]:
    """The tree, and what folders that stand alone wrap. For plain class folders an archive's only folder is its
    wrapping, but one on disk is a lone class, to be named as a mistake."""
    inner = tree.unwrapped()
    if format == "folder":
        is_wrapping = tree.root.is_file() and tree.top_folders and tree.top_folders[0].lower() not in folder.SPLITS
        return [inner if inner and is_wrapping else tree]
    return [tree] if inner is None else [tree, *_candidates(inner, format)]


def _names() -> str:
    return ", ".join((*FORMATS, "manifest"))

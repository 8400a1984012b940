"""The known source formats, and the tree of files that each looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cytodistill.data.images import is_image_name
from cytodistill.data.storage import Listing, display, list_root
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError


class SourceError(CytodistillError):
    """A source that cannot be read as a table of cells."""


@dataclass(frozen=True)
class Tree:
    """Files of a source; ``top`` is the folder inside ``root`` ("" or "name/") that wraps them all."""

    root: Path
    listing: Listing
    top: str = ""

    @classmethod
    def of(cls, root: Path) -> Tree:
        return cls(root, list_root(root))

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Paths below ``top`` of every file, in code-point order."""
        return self._below(self.listing.files)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Paths below ``top`` of the files with an image's extension, in code-point order."""
        return tuple(path for path in self.files if is_image_name(path))

    @cached_property
    def folders(self) -> tuple[str, ...]:
        """Paths below ``top`` of every folder, in code-point order."""
        return self._below(self.listing.folders)

    @cached_property
    def top_folders(self) -> tuple[str, ...]:
        """Names of the folders right below ``top``."""
        return tuple(path for path in self.folders if "/" not in path)

    def unwrapped(self) -> Tree | None:
        """The tree inside the only folder at the top, or None where there are more, or images beside it."""
        if len(self.top_folders) != 1 or any("/" not in path for path in self.images):
            return None
        return replace(self, top=f"{self.top}{self.top_folders[0]}/")

    def path(self, below: str) -> str:
        """Path inside ``root`` of a path below ``top``."""
        return self.top + below

    def name(self, below: str = "") -> str:
        """Name for messages of a path below ``top``, or of the tree itself."""
        return display(self.root, self.path(below)) if self.path(below) else str(self.root)

    def _below(self, paths: Iterable[str]) -> tuple[str, ...]:
        return tuple(path[len(self.top) :] for path in paths if path.startswith(self.top))


@dataclass(frozen=True)
class Format:
    """A source format: ``recognise`` says whether a tree is surely in it, ``fits`` whether it may be read so when the
    user says so, ``read`` makes its table.

    ``needs`` describes the tree in the words of an error message. ``read`` takes the tree, and the side of a cell's
    window in pixels where ``windowed``.
    """

    name: str
    needs: str
    recognise: Callable[[Tree], bool]
    fits: Callable[[Tree], bool]
    read: Callable[..., CellTable]
    windowed: bool = False


FORMATS: dict[str, Format] = {}


def register(format: Format) -> None:
    """Add a format; the order of registration is the order of recognition. A name used twice is an error."""
    if format.name in FORMATS:
        raise CytodistillError(f"source format {format.name!r} is registered twice; give one another name")
    FORMATS[format.name] = format


def ordered_classes(names: Iterable[str], official: tuple[str, ...]) -> tuple[str, ...]:
    """The names in their official order, others after them sorted."""
    present = set(names)
    return tuple(n for n in official if n in present) + tuple(sorted(present - set(official)))

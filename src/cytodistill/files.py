"""Files that are either the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

from cytodistill.errors import CytodistillError, reason

_NO_ROOM_OR_RIGHT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}


def make_folder(path: str | Path) -> Path:
    """Make a folder and those above it, where they are not there yet.

    Raises:
        CytodistillError: a file is in the way, or the place cannot be written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CytodistillError(f"{path}: cannot be made a folder ({error.strerror}); choose another place") from None
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Temporary path beside ``path``; on a clean exit it is synced and renamed over ``path``, else removed.

    Raises:
        CytodistillError: ``path`` is a folder, or there is no room or no right to write it.
    """
    path = Path(path)
    if path.is_dir():
        raise CytodistillError(f"{path}: is a folder, and a file is to be written; choose another name")
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in _NO_ROOM_OR_RIGHT:
            raise
        raise CytodistillError(
            f"{path}: cannot be written ({error.strerror}); make room, or choose another place"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a reader or a crash sees the whole of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def named_or_file(name: str | Path, what: str, folder: str) -> tuple[str, str]:
    """Text of a YAML file by its path, or by the name under which this package has it, and what messages call it.

    Args:
        name: a path that ends in .yaml or .yml, or a name.
        what: what it is, for people: "recipe".
        folder: of the package, where the named ones lie.

    Raises:
        CytodistillError: there is no such file or name, or it is not text.
    """
    path, called = Path(name), f"{what} {name}"
    names = package_names(folder)
    if path.suffix not in (".yaml", ".yml"):
        if name not in names:
            raise CytodistillError(
                f"{what} {str(name)!r}: no such {what}; there are {', '.join(names)}, or give a .yaml file"
            )
        return (resources.files("cytodistill") / folder / f"{name}.yaml").read_text(encoding="utf-8"), called
    if not path.is_file():
        raise CytodistillError(f"{called}: no such file; check the path")
    try:
        return path.read_text(encoding="utf-8"), called
    except (OSError, UnicodeDecodeError) as error:
        raise CytodistillError(f"{called}: not a text file in UTF-8 ({reason(error)}); save it so") from None


def package_names(folder: str) -> list[str]:
    """Names of the YAML files in a folder of this package."""
    entries = (resources.files("cytodistill") / folder).iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def place_in_yaml(error: Exception) -> str:
    """Where YAML is wrong and how, on one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark and problem else reason(error)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG at 150 dots an inch, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150, bbox_inches="tight")
    return Path(path)

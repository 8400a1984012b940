"""Journal: how far a long file is that is being written, on disk, so that the next process can go on with it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from cytodistill.errors import CytodistillError

NAMED = 10
"""Problems that are kept word for word; the file's error column has them all."""


@dataclass(frozen=True)
class Progress:
    """How far a file is: its ``cells``, how many of them were passed over and the first reasons why, the ``size`` in
    bytes, and the hex BLAKE2b of these bytes."""

    cells: int = 0
    passed_over: int = 0
    problems: tuple[str, ...] = ()
    size: int = 0
    digest: str = ""

    def after(self, cells: int, problems: Sequence[str], size: int = 0, digest: str = "") -> Progress:
        """Progress with some more cells, of which some were passed over."""
        named = (*self.problems, *problems)[:NAMED]
        return Progress(self.cells + cells, self.passed_over + len(problems), named, size, digest)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Progress:
        """Progress of an `asdict` that went through JSON; raises TypeError or KeyError where it is none."""
        return cls(**{**values, "problems": tuple(values["problems"])})


class Journal:
    """A file of JSON lines: what was asked for, then from time to time a `Progress`. A kill may leave half a line at
    its end, which does not count.

    Args:
        path: the file; it need not be there.

    Raises:
        CytodistillError: the file is there and is no journal.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: dict[str, Any] | None = None
        """What the file was begun with; None where there is no journal."""
        self.progress: Progress | None = None
        """As the last line has it; None before the first."""
        whole, _, _ = (path.read_bytes() if path.is_file() else b"").rpartition(b"\n")
        self._size = len(whole) + 1 if whole else 0
        try:
            for number, line in enumerate(whole.splitlines()):
                if number:
                    self.progress = Progress.from_dict(json.loads(line))
                else:
                    self.asked = json.loads(line)["asked"]
        except (ValueError, KeyError, TypeError):
            raise CytodistillError(f"{path}: damaged; delete it to begin again") from None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """For this process alone, to `begin` or go on with; the lock goes with the process, however it ends.

        Raises:
            CytodistillError: another process has it.
        """
        with open(self.path, "ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise CytodistillError(f"{self.path}: another process is writing; wait for it or stop it") from None
            stream.truncate(self._size)
            self._stream: BinaryIO = stream
            yield

    def begin(self, asked: Mapping[str, Any]) -> None:
        """The first line, over any others."""
        self._stream.truncate(0)
        self.progress = None
        self._write({"asked": asked})

    def save(self, progress: Progress) -> None:
        """The next line; what it speaks of must be on disk."""
        self._write(asdict(progress))
        self.progress = progress

    def _write(self, line: Mapping[str, Any]) -> None:
        self._stream.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
        self._stream.flush()
        os.fsync(self._stream.fileno())

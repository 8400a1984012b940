"""Disk for what is on its way in: files of random names, and how much all of them take."""

from __future__ import annotations

from pathlib import Path

from cytodistill.files import make_folder
from cytodistill.serve.errors import Busy

RETRY_SECONDS = 30


class Incoming:
    """A folder of what requests have sent and what accepted uploads wait with. Used by one thread.

    Args:
        folder: made where it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = make_folder(folder)
        self.size = 0
        """Bytes in it of requests and uploads."""
        self._files: dict[Path, int] = {}

    def claim(self, file: Path, size: int, most: int) -> None:
        """Take so many bytes more for a file.

        Raises:
            Busy: all files together would have more than ``most``.
        """
        if self.size + size > most:
            raise Busy("service: too much is on its way in; try again later", RETRY_SECONDS)
        self._files[file] = self._files.get(file, 0) + size
        self.size += size

    def remove(self, file: Path) -> None:
        """Delete a file, if it is there still."""
        self.size -= self._files.pop(file, 0)
        file.unlink(missing_ok=True)

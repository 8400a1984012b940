"""What tests of several parts share: the real data where it is, and small trees of images."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the development data: ``CYTODISTILL_DATA``, or shared/data beside the repository."""
    folder = Path(os.environ.get("CYTODISTILL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the development data, which is not in {folder} (CYTODISTILL_DATA names another folder)")
    return folder


@pytest.fixture
def plant(tmp_path: Path) -> Callable[..., Path]:
    """``plant(*paths)`` writes a small distinct image at each path below a new source folder and returns the folder."""

    def write(*paths: str, folder: str = "source", size: tuple[int, int] = (6, 5)) -> Path:
        for number, path in enumerate(paths):
            file = tmp_path / folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size, (number % 256, number // 256, 77)).save(file)
        return tmp_path / folder

    return write


@pytest.fixture
def zipped() -> Callable[..., Path]:
    """``zipped(folder, wrap="")`` packs a folder into an archive beside it, below the folder ``wrap`` inside."""

    def pack(folder: Path, wrap: str = "") -> Path:
        archive = folder.with_name(f"{folder.name}{wrap and '-wrapped'}.zip")
        with zipfile.ZipFile(archive, "w") as file:
            for path in folder.rglob("*"):
                file.write(path, Path(wrap, path.relative_to(folder)))
        return archive

    return pack

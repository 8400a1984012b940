"""What tests of several parts share: the real data where it is, small trees of images, and a run that takes seconds."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytodistill.recipe import Recipe

DATA = Path(os.environ.get("CYTODISTILL_DATA") or Path(__file__).parents[2] / "shared" / "data")
DATA_SETS = ("herlev", "cric", "cifar100.zip")


def pytest_configure(config):
    """Data that was asked for and is not there is one line, not a failure a test."""
    if os.environ.get("CYTODISTILL_DATA") and not any((DATA / name).exists() for name in DATA_SETS):
        raise pytest.UsageError(
            f"CYTODISTILL_DATA={DATA}: has none of {', '.join(DATA_SETS)}; name the folder that holds them, or unset it"
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With ``--dist loadgroup`` each file of the service's tests goes to one worker: some tell one story on one
    service, in order, and all share what takes seconds to start. xdist keeps its own groups by changing a test's id,
    which pytest 9.2 does not let it do (pytest-dev/pytest-xdist#1386): it parts them without a word."""
    from xdist.scheduler import LoadGroupScheduling

    class WholeFiles(LoadGroupScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return file if file.startswith("tests/serve/") else super()._split_scope(nodeid)

    return WholeFiles(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the development data: ``CYTODISTILL_DATA``, or shared/data beside the repository."""
    if not DATA.is_dir():
        pytest.skip(f"needs the development data, which is not in {DATA} (CYTODISTILL_DATA names another folder)")
    return DATA


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


def draw_cells(folder: Path, per_class: int = 15) -> Path:
    """Three classes of noisy 24 px cells told apart by where a blob of varying colour lies; four cells a group."""
    rng = np.random.default_rng(0)
    for code, name in enumerate(("left", "middle", "right")):
        for number in range(per_class):
            cell = rng.integers(90, 160, (24, 24, 3))
            column = 2 + 7 * code + rng.integers(0, 2)
            cell[6:18, column : column + 6] = rng.integers(0, 60, 3)
            file = folder / name / f"{name}-slide{number // 4}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(cell.astype(np.uint8)).save(file)
    return folder


TINY = {
    "data.image_size": 64,
    "augment.rotation": 0,
    "augment.horizontal_flip": False,
    "student.backbone": "test_resnet",
    "student.taps": 3,
    "student.pretrained": "none",
    "teacher.pretrained": "none",
    "train.epochs": 3,
    "train.batch_size": 8,
    "train.precision": "fp32",
    "train.optimizer": "sgd",
    "train.nesterov": True,
    "train.weight_decay": 5e-4,
    "train.lr": 0.02,
}


@pytest.fixture(scope="session")
def cells(tmp_path_factory) -> Path:
    return draw_cells(tmp_path_factory.mktemp("cells") / "tiny")


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    return Recipe.load("quick").override(TINY)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CYTODISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_run(cells, tiny, tmp_path_factory):
    """A finished multi-exit run on the tiny cells; tests that change it work on a copy."""
    from cytodistill.train.fit import fit

    return fit(cells, tmp_path_factory.mktemp("runs") / "tiny", recipe=tiny.override({"train.epochs": 12}))

"""Run folder: what a training leaves behind, and all that is needed to use it."""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cytodistill.data.sources import read_source
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError, reason
from cytodistill.files import atomic_write, make_folder
from cytodistill.recipe import Recipe

if TYPE_CHECKING:
    from cytodistill.models.multi_exit import Network

# What builds a network is imported where one is built: opening a folder or an artifact, which is all that many commands
# do, would otherwise take 2 s and 300 MiB more (timm, and scikit-learn for estimators).

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A run folder that has been opened: ``path`` and the content of its run.json."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder, finished or not.

        Raises:
            CytodistillError: no run there, a damaged run.json, or one from a later version.
        """
        path = Path(path)
        file = path / "run.json"
        if not file.is_file():
            what = "no such folder" if not path.exists() else "not a run folder (it has no run.json)"
            raise CytodistillError(f"{path}: {what}; make one with `cytodistill fit SOURCE -o {path}`")
        try:
            info = json.loads(file.read_text(encoding="utf-8"))
            if info["format"] != FORMAT:
                raise CytodistillError(
                    f"{file}: written by another version (format {info['format']}); update cytodistill"
                )
            Recipe.check(info["recipe"], f"{file}")
            _ = info["classes"], info["status"], info["fingerprint"], info["parameters"], info["table"]["digest"]
        except (ValueError, KeyError, TypeError) as error:
            raise CytodistillError(f"{file}: damaged ({type(error).__name__}: {error}); fit again") from None
        return cls(path, info)

    @property
    def finished(self) -> bool:
        return self.info["status"] == "finished"

    @property
    def recipe(self) -> Recipe:
        return Recipe.check(self.info["recipe"], str(self.path / "run.json"))

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.info["classes"])

    def table(self) -> CellTable:
        """The cells that the run was made from, with their splits.

        Raises:
            CytodistillError: the manifest is gone, was changed since, or its images are.
        """
        file = self.path / "manifest.csv"
        if not file.is_file():
            raise CytodistillError(f"{file}: gone; give a source or manifest to work on")
        table = read_source(file)
        if set(table.classes) <= set(self.classes):
            table = CellTable(table.frame, self.classes, self.info["table"]["format"])
            if table.digest() == self.info["table"]["digest"]:
                return table
        raise CytodistillError(
            f"{file}: not the table that the run was fitted on (its hash differs); give the changed one as SOURCE"
        )

    def network(self, weights: str = "model.safetensors") -> Network:
        """The network in eval mode on the CPU, with the kept weights.

        Raises:
            CytodistillError: the run is not finished, or its weights are gone, damaged or of another network.
        """
        file = self.path / weights
        if not self.finished:
            raise CytodistillError(
                f"{self.path}: the run is not finished; continue it with `cytodistill fit … -o {self.path} --resume`"
            )
        if not file.is_file():
            raise CytodistillError(f"{file}: gone; fit again")
        from cytodistill.models.multi_exit import build_network

        recipe, classes = self.recipe, len(self.classes)
        try:
            state = load_file(file)
            if recipe.estimator.head != "none":
                from cytodistill.estimators.estimator import restore_estimator

                # A network of one exit in all but its class.
                return cast("Network", restore_estimator(recipe, classes, state))
            network = build_network(recipe.student, classes, recipe.data.image_size)
            network.load_state_dict(state)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise CytodistillError(f"{file}: damaged or of another network ({reason(error)}); fit again") from None
        return network.eval()

    def fresh_network(self) -> Network:
        """The network with weights drawn anew, in eval mode on the CPU, for what depends on its structure alone; an
        artifact, which has no weights of its own, gives it too."""
        from cytodistill.models.multi_exit import build_network

        return build_network(self.recipe.student, len(self.classes), self.recipe.data.image_size, seed=0).eval()

    def write(self) -> None:
        """Write run.json."""
        text = json.dumps(self.info, indent=2, ensure_ascii=False)
        atomic_write(self.path / "run.json", f"{text}\n".encode())


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Hold a run folder for this process; the lock goes with the process, however it ends.

    Raises:
        CytodistillError: another process is training into it.
    """
    with open(make_folder(path) / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CytodistillError(f"{path}: another process is training into it; wait for it or stop it") from None
        for left_over in path.glob(".*.tmp"):  # of a process that was killed while it wrote
            left_over.unlink()
        yield


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware that a run is made with."""
    packages = ("cytodistill", "torch", "torchvision", "timm", "numpy", "pillow", "scikit-learn")
    hardware: dict[str, Any] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    return {
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "hardware": hardware,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()

"""Artifact: a folder with the graphs of an exported run and all that is needed to use them; every file is checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write

FILE = "artifact.json"
FORMAT = 1
MANIFEST = "manifest.csv"
"""The one file that may be taken away: it names the laboratory's images, and only an evaluation on them needs it."""
SEAL = "sha256"


@dataclass(frozen=True)
class Graph:
    """One graph: its name, its files, and the number of exits K that it answers for. Its first output is ``logits``
    (B, K, C); a segment's others are the inputs of the next one, in order."""

    name: str
    files: tuple[str, ...]
    exits: int


@dataclass(frozen=True)
class Graphs:
    """The graphs of a network: cut into segments, and whole. ``weights`` is the SHA-256 of the weights that they were
    made from, which each of them carries too."""

    weights: str
    segments: tuple[Graph, ...]
    whole: Graph


@dataclass(frozen=True)
class Artifact:
    """An artifact that has been opened: ``path`` and the content of its artifact.json."""

    path: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Artifact:
        """Open an artifact and check every file of it.

        Raises:
            CytodistillError: a file is gone, damaged or of another artifact, or written by another version.
        """
        artifact = cls(Path(path), _read(Path(path) / FILE))
        for name in artifact.info["files"]:
            if name != MANIFEST or (artifact.path / name).exists():
                artifact.read(name)
        return artifact

    @property
    def runtime(self) -> str:
        return self.info["runtime"]

    @property
    def graphs(self) -> Graphs:
        segments = tuple(_graph(values) for values in self.info["segments"])
        return Graphs(self.info["run"]["weights"], segments, _graph(self.info["whole"]))

    def read(self, name: str) -> bytes:
        """Content of one of its files.

        Raises:
            CytodistillError: the file is gone, or is not the one that was exported.
        """
        file, expected = self.path / name, self.info["files"][name]
        try:
            content = file.read_bytes()
        except OSError as error:
            raise CytodistillError(f"{file}: cannot be read ({error.strerror}); export the run again") from None
        if len(content) != expected["bytes"]:
            why = f"{len(content)} bytes, and {expected['bytes']} were written"
        elif hashlib.sha256(content).hexdigest() != expected["sha256"]:
            why = "its SHA-256 differs"
        else:
            return content
        raise CytodistillError(
            f"{file}: not the file that was exported ({why}): damaged, or of another artifact; export the run again"
        )


def is_artifact(path: str | Path) -> bool:
    """Whether a folder is an exported artifact, perhaps a damaged one."""
    path = Path(path)
    return (path / FILE).exists() or any(path.glob("whole.*"))


def write_artifact(folder: Path, content: dict[str, Any], graphs: Graphs) -> None:
    """Write artifact.json over the files that are in ``folder``.

    Args:
        folder: everything in it becomes part of the artifact.
        content: what else to say, as JSON.
        graphs: of the network.
    """
    files = {}
    for file in sorted(folder.iterdir()):
        written = file.read_bytes()
        files[file.name] = {"bytes": len(written), "sha256": hashlib.sha256(written).hexdigest()}
    info = {
        "format": FORMAT,
        **content,
        "segments": [asdict(graph) for graph in graphs.segments],
        "whole": asdict(graphs.whole),
        "files": files,
    }
    info[SEAL] = _seal(info)
    atomic_write(folder / FILE, (json.dumps(info, indent=1, ensure_ascii=False) + "\n").encode())


def _read(file: Path) -> dict[str, Any]:
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        if info["format"] != FORMAT:
            raise CytodistillError(
                f"{file}: written by another version (format {info['format']}); update cytodistill, or export again"
            )
        if info[SEAL] != _seal(info):
            raise CytodistillError(f"{file}: changed since it was written; export the run again")
        _ = info["runtime"], info["run"]["weights"], info["segments"], info["whole"], info["files"]
    except FileNotFoundError:
        raise CytodistillError(f"{file}: gone; export the run again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CytodistillError(f"{file}: damaged ({type(error).__name__}); export the run again") from None
    return info


def _seal(info: dict[str, Any]) -> str:
    """SHA-256 of all that the file says but this: a changed order of classes would answer wrongly without a sound."""
    said = {name: value for name, value in info.items() if name != SEAL}
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _graph(values: dict[str, Any]) -> Graph:
    return Graph(values["name"], tuple(values["files"]), values["exits"])

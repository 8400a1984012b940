"""What a run is, read without torch, so that stored cells and reviews are served at once and the network follows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cytodistill.errors import CytodistillError


@dataclass(frozen=True)
class Identity:
    """A finished run: its name for people, its fingerprint and its class names, in the network's order."""

    name: str
    fingerprint: str
    classes: tuple[str, ...]


def identify(path: Path) -> Identity:
    """Identity of a finished run folder.

    Raises:
        CytodistillError: there is none, it is not finished, or it is damaged.
    """
    file = path / "run.json"
    if not file.is_file():
        what = "no such folder" if not path.exists() else "not a run folder (it has no run.json)"
        raise CytodistillError(f"{path}: {what}; make one with `cytodistill fit SOURCE -o {path}`")
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        found = Identity(path.resolve().name, str(info["fingerprint"]), tuple(map(str, info["classes"])))
        finished = info["status"] == "finished"
    except (ValueError, KeyError, TypeError) as error:
        raise CytodistillError(f"{file}: damaged ({type(error).__name__}: {error}); fit again") from None
    if not finished:
        raise CytodistillError(
            f"{path}: the run is not finished; continue it with `cytodistill fit … -o {path} --resume`"
        )
    return found

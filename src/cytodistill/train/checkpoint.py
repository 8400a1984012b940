"""Everything a killed run needs to go on to the bit-identical end, in one file that is whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cytodistill.errors import CytodistillError, reason
from cytodistill.files import replacing


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, strings and containers of them) with the RNG states added."""
    rng = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        rng["cuda"] = torch.cuda.get_rng_state()
    with replacing(path) as temporary:
        torch.save({**state, "rng": rng}, temporary)


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any]:
    """State of ``save_checkpoint``, RNGs restored; no pickled code is run.

    Raises:
        CytodistillError: the file is damaged, or was written by another recipe or for other cells.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["fingerprint"]
    except Exception as error:  # a damaged file raises anything from EOFError to pickle's own errors
        raise CytodistillError(
            f"{path}: the checkpoint is damaged ({reason(error, 80)}); delete the run folder and fit again"
        ) from None
    if found != fingerprint:
        raise CytodistillError(
            f"{path}: written with another recipe, seed or cells; resume with those of run.json, or take another folder"
        )
    torch.set_rng_state(state["rng"]["cpu"])
    if "cuda" in state["rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["rng"]["cuda"])
    return state

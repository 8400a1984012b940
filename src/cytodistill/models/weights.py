"""Transfer learning's first stage: weights learnt elsewhere, loaded by name into a network of ours."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor

from cytodistill.errors import CytodistillError, reason
from cytodistill.models import deeppap
from cytodistill.models.backbone import OWN, is_backbone
from cytodistill.models.multi_exit import Network

IMAGENET: dict[str, Callable[[], dict[str, Tensor]]] = {"deeppap": deeppap.imagenet_weights}
"""Natural-image weights of those of our own networks that have any; timm's hub has those of timm's."""


@dataclass(frozen=True)
class Transfer:
    """What a load did: tensors taken, and the network's tensors that kept their fresh values."""

    source: str
    loaded: int
    fresh: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing at all was left fresh: the source is a finished classifier of this very shape."""
        return not self.fresh


def read_weights(path: Path, setting: str) -> dict[str, Tensor]:
    """State dict of a .safetensors file, or of a .pt/.pth file that holds tensors only (no pickled code is run)."""
    if not path.is_file():
        raise CytodistillError(f"{setting}={str(path)!r}: no such weight file or run folder; check the path")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly anything on a damaged file, and pickle's errors on code in one
        # Before what it found, torch's message gives a page of advice on how to run the code.
        found = str(error).rpartition("WeightsUnpickler error:")[2]
        if isinstance(error, pickle.UnpicklingError) and re.search("global|class", found, re.IGNORECASE):
            raise CytodistillError(
                f"{setting}={str(path)!r}: holds more than tensors ({found.strip().split('. ')[0]:.80}), which is not "
                "run; save its state_dict as .safetensors"
            ) from None
        raise CytodistillError(
            f"{setting}={str(path)!r}: not a readable weight file ({reason(error, 80)}); fetch or save it again"
        ) from None
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CytodistillError(f"{setting}={str(path)!r}: not a state dict of tensors; save model.state_dict()")
    return state


def load_pretrained(network: Network, backbone: str, source: str, setting: str = "student.pretrained") -> Transfer:
    """Load weights into ``network`` by name and shape; what does not match stays fresh.

    Args:
        network: receives the weights, in place, cast to its own dtype.
        backbone: its name, timm's with its tag if one is meant (for "imagenet").
        source: "imagenet", "none", a weight file or a run folder of ours.
        setting: named in errors.

    Raises:
        CytodistillError: the source cannot be had or read, or fits less than half of the backbone.
    """
    if source == "none":
        return Transfer(source, 0, tuple(network.state_dict()))
    if source == "imagenet":
        state = _from_hub(backbone, setting)
    else:
        path = Path(source)
        state = read_weights(path / "model.safetensors" if path.is_dir() else path, setting)
    offered = {_plain(name): tensor for name, tensor in state.items()}
    own = network.state_dict()
    taken = {
        name: offered[key].to(tensor.dtype)
        for name, tensor in own.items()
        if (key := _plain(name)) in offered and offered[key].shape == tensor.shape
    }
    of_backbone = [n for n in own if n.startswith("backbone.") and own[n].ndim >= 2]
    hits = sum(name in taken for name in of_backbone)
    if hits < len(of_backbone) / 2:
        raise CytodistillError(
            f"{setting}={source!r}: fits {hits} of the {len(of_backbone)} weight tensors of {backbone!r}; "
            "it is the weight file of another network; give one of this network"
        )
    network.load_state_dict(taken, strict=False)
    return Transfer(source, len(taken), tuple(name for name in own if name not in taken))


def on_a_hub(backbone: str) -> bool:
    """Whether natural-image weights of a network may be on a hub: those of timm's, and of few of ours."""
    return backbone in IMAGENET or (backbone not in OWN and is_backbone(backbone))


def _from_hub(backbone: str, setting: str) -> dict[str, Tensor]:
    mend = f"give a local file (--pretrained {backbone.split('.')[0]}.safetensors) or --pretrained none"
    if backbone in OWN and backbone not in IMAGENET:
        raise CytodistillError(f"{setting}=imagenet: there are no such weights of {backbone!r}; {mend}")
    hub = "torchvision" if backbone in IMAGENET else "timm"
    try:
        if backbone in IMAGENET:
            return IMAGENET[backbone]()
        return timm.create_model(backbone, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises a dozen kinds for "cannot be reached"
        raise CytodistillError(
            f"{setting}=imagenet: cannot get the weights of {backbone!r} from {hub}'s hub ({reason(error)}); {mend}"
        ) from None


def _plain(name: str) -> str:
    """Name without our "backbone." and without the dots, which timm's feature pyramids and our own networks flatten to
    underscores."""
    return name.removeprefix("backbone.").replace(".", "_")

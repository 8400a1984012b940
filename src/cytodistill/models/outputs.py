"""What every network here returns."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cytodistill.errors import CytodistillError, reason


@dataclass
class ExitOutputs:
    """Exits of one forward pass, ordered shallow → deep.

    ``logits`` E tensors (B, C); ``features`` E tensors (B, D), each exit's embedding before its classifier (the paper's
    F_m after the bottleneck μ_m); ``maps`` the backbone's stage maps (B, C_i, H_i, W_i), for methods that compare them;
    ``preactivations`` the same maps before the activation that each ends in, where a method asked for them.
    """

    logits: list[Tensor]
    features: list[Tensor]
    maps: list[Tensor] = field(default_factory=list)
    preactivations: list[Tensor] = field(default_factory=list)

    def detach(self) -> ExitOutputs:
        """The same values, cut from the graph: what a teacher hands out."""
        parts = (self.logits, self.features, self.maps, self.preactivations)
        return ExitOutputs(*([tensor.detach() for tensor in part] for part in parts))

    def probabilities(self) -> Tensor:
        """(B, E, C) float32 softmax of every exit."""
        return torch.stack([logits.float().softmax(-1) for logits in self.logits], dim=1)


@dataclass(frozen=True)
class OutputShapes:
    """Shapes of a network's ``ExitOutputs`` without the batch: widths D of each exit's features, and (C, H, W) of each
    stage map, where it returns maps."""

    features: tuple[int, ...]
    maps: tuple[tuple[int, ...], ...] = ()

    @classmethod
    @torch.no_grad()
    def of(cls, network: nn.Module, image_size: int) -> OutputShapes:
        """Shapes at square images of ``image_size`` px, by running one through ``network`` in eval mode.

        Raises:
            CytodistillError: the network cannot take images of that size.
        """
        training = network.training
        try:
            outputs = network.eval()(torch.zeros(1, 3, image_size, image_size))
        except RuntimeError as error:  # Inception below 75 px, say
            raise CytodistillError(
                f"data.image_size={image_size}: the network cannot take images of that size ({reason(error)}); use "
                "larger ones"
            ) from None
        finally:
            network.train(training)
        return cls(tuple(f.shape[1] for f in outputs.features), tuple(tuple(m.shape[1:]) for m in outputs.maps))


def ensemble(probabilities: Tensor) -> Tensor:
    """Average ensemble, eq. 7: the mean over exits of (B, E, C) probabilities, (B, C)."""
    return probabilities.mean(dim=1)

"""Pre-activations: each stage map of a network before the activation that it ends in."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cytodistill.models.multi_exit import Network
from cytodistill.models.outputs import ExitOutputs

ACTIVATION_SOURCES = frozenset({"torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me"})
"""Python modules that define activations; theirs, and what is derived from theirs, counts as one."""


def is_activation(module: nn.Module) -> bool:
    """Whether ``module`` is an activation (ReLU, SiLU, …) and nothing else: attention, say, has parts."""
    known = any(kind.__module__ in ACTIVATION_SOURCES for kind in type(module).__mro__)
    return known and not list(module.children())


def find_activations(network: Network, image_size: int) -> list[tuple[nn.Module, int] | None]:
    """The activation that each stage map comes from: the module, and which of its calls in a pass (from 0). None where
    a stage ends in something else: a sum (ConvNeXt), a concatenation (DenseNet), an activation that is no module.

    One random image is run in eval mode. Map and activation are told to belong together by the autograd graph, where
    the map is the activation's very result. Values would not do: a residual branch that starts at zero makes the
    outputs of several blocks equal.
    """
    by_result: dict[Any, tuple[nn.Module, int]] = {}
    calls: dict[nn.Module, int] = {}

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        call = calls.get(module, 0)
        calls[module] = call + 1
        if output.grad_fn is not None:  # else it does not depend on the image
            by_result[output.grad_fn] = (module, call)

    modes = [(module, module.training) for module in network.modules()]
    handles = [module.register_forward_hook(note) for module in network.modules() if is_activation(module)]
    weight = next(network.parameters())
    image = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    image = image.to(weight.device, weight.dtype)
    try:
        # The image asks for gradients, so that a frozen network has a graph too; a clone may be written to in place.
        with torch.inference_mode(False), torch.enable_grad():
            maps = network.eval()(image.requires_grad_().clone()).maps
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return [by_result.get(stage.grad_fn) for stage in maps]


class Preactivations:
    """Hooks that fill ``ExitOutputs.preactivations`` in each pass of a network.

    A hook is a method of this object and is given its module, so that a deep copy of the network has a copy of this
    object too and shares nothing with the first. Between two passes it holds no tensor. What it takes is cloned,
    because an activation may overwrite its input, and keeps its gradients, type and memory format.
    """

    def __init__(self, names: list[tuple[str, int] | None]) -> None:
        self.names = names
        """Of each stage: name of its activation and which of its calls it is, or None."""
        self.calls: dict[str, int] | None = None
        """How often each activation was called in this pass; None between passes."""
        self.taken: dict[tuple[str, int], Tensor] = {}

    def hook(self, network: Network) -> None:
        """Put the hooks on ``network``."""
        modules = dict(network.named_modules())
        network.register_forward_pre_hook(self.start)
        for name in {wanted[0] for wanted in self.names if wanted}:
            modules[name].register_forward_pre_hook(partial(self.take, name))
        network.register_forward_hook(self.fill)

    def start(self, network: nn.Module, images: Any) -> None:
        """A pass begins."""
        self.calls, self.taken = {}, {}

    def take(self, name: str, activation: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """The activation of that name is about to see its input."""
        if self.calls is None:  # called outside a pass of the network: there is nobody to hand it to
            return
        call = self.calls.get(name, 0)
        self.calls[name] = call + 1
        if (name, call) in self.names:
            self.taken[name, call] = inputs[0].clone()

    def fill(self, network: nn.Module, images: Any, outputs: ExitOutputs) -> None:
        """A pass ends: hand out what was taken."""
        outputs.preactivations = [
            self.taken[wanted] if wanted else stage for wanted, stage in zip(self.names, outputs.maps, strict=True)
        ]
        self.calls, self.taken = None, {}


def keep_preactivations(network: Network, image_size: int) -> None:
    """Make ``network`` return stage maps and their pre-activations in every pass from now on; a second call does
    nothing more. Parameters, their names and its answers stay as they are.

    A stage that ends in an activation shows what goes into it: act(preactivation) = map. Any other stage shows its map,
    which is a pre-activation already.

    Args:
        network: a network of this package, on any device, in any mode.
        image_size: side in pixels of the square images that it is made for.
    """
    network.keep_maps = True
    if any(isinstance(getattr(hook, "__self__", None), Preactivations) for hook in network._forward_hooks.values()):
        return
    names = {module: name for name, module in network.named_modules()}
    found = find_activations(network, image_size)
    Preactivations([(names[one[0]], one[1]) if one else None for one in found]).hook(network)

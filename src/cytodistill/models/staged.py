"""Networks that timm lacks, behind the part of timm's interface that exits and methods use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from timm.models import FeatureListNet
from torch import Tensor, nn


class Staged(nn.Module):
    """Named layers that run one after another, some of them ending a stage, then a head: average pool → hidden layers,
    each with ReLU and dropout → linear classifier ``fc``. (B, 3, S, S) images → (B, num_classes) logits.

    The layers become children under the names given. These are the names in the weight files that are in circulation,
    so that such a file loads by name as it is; a dot in the file's name is an underscore here.

    Args:
        layers: name → layer, in the order in which they run.
        stages: name of the layer that ends each stage → (channels, stride against the image), shallow → deep.
        num_classes: width of the classifier.
        drop_rate: dropout in front of the classifier and after every hidden layer.
        pool: side of the map that the last one is averaged to, whatever its own size.
        hidden: widths of the hidden layers.
    """

    cifar_stem = False
    """Whether the first convolution keeps the image's size, as ``stem: cifar`` asks for."""

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        stages: Mapping[str, tuple[int, int]],
        num_classes: int = 1000,
        drop_rate: float = 0.0,
        pool: int = 1,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.layers = tuple(layers)
        self.stages = tuple(stages)
        channels, stride = list(stages.values())[-1]
        self.smallest_side = stride
        """Side in pixels of the smallest image that the network can take."""
        # A pyramid ends with what the head reads, so that an exit on its last map is the network's own: where layers
        # follow the last stage (the final BN and ReLU of pre-activation networks), they belong to that map.
        ends = (*self.stages[:-1], self.layers[-1])
        self.feature_info = [
            {"num_chs": width, "reduction": reduction, "module": end}
            for end, (width, reduction) in zip(ends, stages.values(), strict=True)
        ]
        self.pool = nn.AdaptiveAvgPool2d(pool)
        widths = [channels * pool * pool, *hidden]
        steps: list[nn.Module] = []
        for width, narrower in pairwise(widths):
            steps += [nn.Linear(width, narrower), nn.ReLU(inplace=True), nn.Dropout(drop_rate)]
        self.hidden = nn.Sequential(*(steps or [nn.Dropout(drop_rate)]))
        self.fc = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward_intermediates(self, images: Tensor, indices: int | None = None) -> tuple[Tensor, list[Tensor]]:
        """What the head reads, (B, C, H, W), and the maps that the ``indices`` deepest stages end with, shallow → deep:
        those of all stages where it is None or there are no more."""
        x, maps = images, []
        for name in self.layers:
            x = getattr(self, name)(x)
            if name in self.stages:
                maps.append(x)
        return x, maps if indices is None else maps[-indices:]

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) → what the head reads, (B, C, H, W)."""
        return self.forward_intermediates(images)[0]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C, H, W) → (B, num_classes) logits, or what the classifier reads, (B, D), with ``pre_logits``."""
        features = self.hidden(self.pool(x).flatten(1))
        return features if pre_logits else self.fc(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Linear:
        return self.fc

    def pyramid(self, out_indices: Sequence[int] | None = None) -> FeatureListNet:
        """The same layers as timm's feature pyramid: images → maps of the stages ``out_indices`` (all of them where it
        is None), without a head and without the layers behind the last of these."""
        return FeatureListNet(self, out_indices=tuple(range(len(self.stages)) if out_indices is None else out_indices))

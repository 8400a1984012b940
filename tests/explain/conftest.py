"""Tiny networks of each kind with weights drawn once, and one built by hand that looks at one place only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cytodistill.models.msdnet import MSDNet, MSDNetDesign
from cytodistill.models.multi_exit import MultiExit, SingleExit
from cytodistill.recipe import Student

SIZE = 64


def images_of(count: int, size: int = SIZE) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(5))


def multi_exit(seed: int = 0, **design) -> MultiExit:
    """Three exits, with attention and context whose weights are not the zeros that they start from."""
    torch.manual_seed(seed)
    network = MultiExit(Student(**{"backbone": "test_resnet", "taps": 3} | design), 3, SIZE)
    with torch.no_grad():
        for head in network.heads:
            for parameter in head.context.parameters():
                parameter.normal_(std=0.5)
    return network.eval()


def msdnet() -> MSDNet:
    torch.manual_seed(0)
    design = MSDNetDesign(blocks=3, base=2, step=1, channels=4, growth=2, classifier_width=8)
    return MSDNet(design, 3, SIZE, stem="cifar").eval()


def single_exit(backbone: str = "test_resnet") -> SingleExit:
    torch.manual_seed(0)
    return SingleExit(backbone, 3, SIZE).eval()


class Looking(nn.Module):
    """Backbone whose 16×16 map is the image's brightness inside a region (channel 0) and outside it (channel 1). The
    logit of class 0 is the mean of the first; that of class 1 is nought."""

    def __init__(self, region: Tensor) -> None:
        super().__init__()
        self.register_buffer("region", region)
        self.classifier = nn.Linear(2, 2)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.tensor([[40.0, 0.0], [0.0, 0.0]]))
            self.classifier.bias.zero_()

    def forward_features(self, images: Tensor) -> Tensor:
        light = nn.functional.avg_pool2d(images.mean(1, keepdim=True), 4).relu()
        return torch.cat([light * self.region, light * ~self.region], 1)

    def forward_head(self, last: Tensor, pre_logits: bool = False) -> Tensor:
        features = last.mean((2, 3))
        return features if pre_logits else self.classifier(features)

    def get_classifier(self) -> nn.Linear:
        return self.classifier


class LookingNetwork(SingleExit):
    def __init__(self, region: Tensor) -> None:
        nn.Module.__init__(self)
        self.backbone = Looking(region)
        self.classes, self.exits, self.keep_maps = 2, 1, False


def region_network() -> tuple[LookingNetwork, Tensor, np.ndarray]:
    """The network, two bright images, and the (64, 64) mask of the region in their pixels."""
    region = torch.zeros(16, 16, dtype=torch.bool)
    region[2:8, 9:15] = True
    images = 1 + 0.1 * images_of(2).abs()
    mask = np.kron(region.numpy(), np.ones((4, 4), bool))
    return LookingNetwork(region).eval(), images, mask

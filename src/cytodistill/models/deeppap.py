"""DeepPap (Zhang et al. 2017), the oldest convolutional network in the paper's table 2."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from cytodistill.models.staged import Staged


class DeepPap(Staged):
    """AlexNet's five convolutions, meant to start from natural images, and new layers of 1024, 256 and ``num_classes``.

    Known from the paper's abstract: a network trained on natural images is fine-tuned on patches around the nuclei.
    Second-hand: it is CaffeNet (the two-column AlexNet with local response normalisation), and its new layers have 1024
    and 256 units. Weights of natural images are published for the one-column AlexNet without that normalisation
    (Krizhevsky 2014), so its widths are taken: torchvision's ``alexnet``, whose file loads by name. The last map is
    averaged to 6×6, its size at their 227 px, so that smaller cells pass too. Stages end with the three max-pools.

    Args:
        num_classes: width of the classifier.
        drop_rate: dropout after both hidden layers (AlexNet's is 0.5).
    """

    def __init__(self, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        chain = [
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        ]
        layers = {f"features_{number}": layer for number, layer in enumerate(chain)}
        stages = {"features_2": (64, 8), "features_5": (192, 16), "features_12": (256, 32)}
        super().__init__(layers, stages, num_classes, drop_rate, pool=6, hidden=(1024, 256))
        # The max-pools pad nothing: a smaller image leaves the last one less than its 3×3.
        self.smallest_side = 63


def imagenet_weights() -> dict[str, Tensor]:
    """Convolutions of torchvision's AlexNet, name → tensor, fetched once into torch's cache."""
    state = AlexNet_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True)
    return {name: tensor for name, tensor in state.items() if name.startswith("features.")}


NETWORKS = {"deeppap": DeepPap}

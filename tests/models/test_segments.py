import pytest
import torch

from cytodistill.models.multi_exit import build_network
from cytodistill.models.segments import segments_of
from cytodistill.recipe import Student


@pytest.mark.parametrize(
    ("backbone", "side", "multi_exit", "cuts"),
    [
        ("resnet18", 32, True, 4),
        ("resnet18", 64, True, 4),
        ("densenet121", 64, True, 4),
        ("mobilenetv3_small_050", 64, True, 4),
        ("efficientnet_lite0", 64, True, 4),
        ("swin_tiny_patch4_window7_224", 224, True, 4),
        ("vit_tiny_patch16_224", 224, True, 1),
        ("cifar_resnet8", 32, True, None),
        ("resnet18", 64, False, 1),
        ("msdnet_4", 32, True, 4),
    ],
)
def test_segments_answer_as_the_whole(backbone, side, multi_exit, cuts):
    taps = 3 if backbone.startswith(("cifar", "vit")) else 4
    network = build_network(Student(backbone=backbone, multi_exit=multi_exit, taps=taps), 5, side, seed=0).eval()
    segments = segments_of(network)
    assert len(segments) == (cuts or taps)
    assert sum(segment.exits for segment in segments) == network.exits
    state = (torch.randn(3, 3, side, side),)
    with torch.inference_mode():
        whole = torch.stack(network(state[0]).logits, dim=1)
        found = []
        for segment in segments:
            logits, *state = segment(*state)
            assert all(len(part) == 3 for part in state)
            found.append(logits)
    assert not state
    torch.testing.assert_close(torch.cat(found, 1), whole)


def test_segments_share_the_weights():
    network = build_network(Student(), 5, 32, seed=0)
    theirs = {id(p) for segment in segments_of(network) for p in segment.parameters()}
    assert theirs == {id(p) for p in network.parameters()}

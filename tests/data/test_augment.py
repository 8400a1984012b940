import numpy as np
import pytest
import torch

from cytodistill.data.augment import DRAWS, Augmenter, Preprocess, draw_views
from cytodistill.recipe import Augment

PLAIN = Preprocess((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
STILL = {"scale": (1.0, 1.0), "horizontal_flip": False, "vertical_flip": False, "rotation": 0}


@pytest.fixture
def cells():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8))


def as_images(cells):
    return cells.permute(0, 3, 1, 2).float() / 255


def augmenter(**settings):
    return Augmenter(Augment(**{**STILL, **settings}), PLAIN)


def draws(count=3, **fixed):
    columns = {"flip_x": 4, "flip_y": 5, "angle": 6, "stain": slice(7, 10), "brightness": 10}
    values = torch.full((count, DRAWS), 0.5)
    for name, value in fixed.items():
        values[:, columns[name]] = value
    return values


def test_preprocess_is_scaling_and_normalisation(cells):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (cells.numpy() / 255 - mean) / std
    np.testing.assert_allclose(Preprocess(mean, std)(cells).permute(0, 2, 3, 1).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_everything_off_is_preprocessing(cells):
    assert torch.equal(augmenter()(cells, draw_views(3, 0, 0)), PLAIN(cells))


@pytest.mark.parametrize(
    ("settings", "fixed", "axes"),
    [
        ({"horizontal_flip": True}, {"flip_x": 0.1, "flip_y": 0.9}, (3,)),
        ({"vertical_flip": True}, {"flip_y": 0.1}, (2,)),
    ],
)
def test_flips_are_exact(cells, settings, fixed, axes):
    torch.testing.assert_close(augmenter(**settings)(cells, draws(**fixed)), as_images(cells).flip(axes))


def test_a_quarter_turn_is_exact(cells):
    turned = augmenter(rotation=90)(cells, draws(angle=1.0))
    torch.testing.assert_close(turned, torch.rot90(as_images(cells), 1, (2, 3)), atol=1e-4, rtol=0)


def test_crop_of_a_quarter_area_shows_half_the_side(cells):
    view = augmenter(scale=(0.25, 0.25)).affine(draws())
    torch.testing.assert_close(view, torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]).expand(3, 2, 3))


def test_crops_stay_inside_the_image():
    views = augmenter(scale=(0.3, 0.9), aspect=0.0).affine(draw_views(500, 0, 0))
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1]])
    assert (torch.einsum("bij,kj->bki", views, corners).abs() <= 1 + 1e-5).all()


def test_stain_scales_optical_density(cells):
    stained = augmenter(stain=0.2)(cells, draws(stain=1.0))
    density = -np.log(np.maximum(as_images(cells).numpy(), 1 / 255))
    np.testing.assert_allclose(stained.numpy(), np.exp(-1.2 * density), rtol=1e-4)
    torch.testing.assert_close(augmenter(stain=0.2)(cells, draws()), as_images(cells).clamp(min=1 / 255))


def test_brightness_shifts_and_contrast_keeps_the_mean(cells):
    shifted = augmenter(brightness=0.1)(cells, draws(brightness=1.0))
    torch.testing.assert_close(shifted, (as_images(cells) + 0.1).clamp(0, 1))
    grey = torch.full((1, 16, 16, 3), 128, dtype=torch.uint8)
    torch.testing.assert_close(augmenter(contrast=0.5)(grey, draw_views(1, 0, 0)), as_images(grey))


def test_cutout_blanks_a_square_of_the_asked_side():
    white = torch.full((1, 20, 20, 3), 255, dtype=torch.uint8)
    blanked = augmenter(cutout=0.5)(white, draws(1))
    assert (blanked == 0).sum() == 3 * 10 * 10


def test_views_depend_on_seed_epoch_and_position_alone(cells):
    drawn = draw_views(3, 4, 7)
    assert torch.equal(drawn, draw_views(3, 4, 7))
    assert not torch.equal(drawn, draw_views(3, 4, 8))
    assert not torch.equal(drawn, draw_views(3, 5, 7))
    whole = Augmenter(Augment(stain=0.1, cutout=0.2), PLAIN)
    together = whole(cells, drawn)
    apart = torch.cat([whole(cells[i : i + 1], drawn[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)


def test_a_smaller_view_is_the_same_view_at_fewer_places():
    # Linear in both directions, so that what lies between pixels is known exactly.
    ramp = torch.arange(32, dtype=torch.float32)
    cells = torch.stack([ramp.expand(32, 32) * 8, ramp[:, None].expand(32, 32) * 8, torch.zeros(32, 32)], dim=-1)
    cells = cells.to(torch.uint8)[None]
    whole = augmenter(scale=(0.4, 0.6), rotation=20, horizontal_flip=True)
    drawn = draw_views(1, 0, 3)
    full, half = whole(cells, drawn), whole(cells, drawn, 16)
    assert half.shape == (1, 3, 16, 16)
    inner = (slice(None), slice(0, 2), slice(2, -2), slice(2, -2))  # off the border, where the ramp is reflected
    torch.testing.assert_close(half[inner], torch.nn.functional.avg_pool2d(full, 2)[inner], atol=1e-4, rtol=0)


def test_a_smaller_view_without_augmentation_is_the_cell_resampled(cells):
    half = augmenter()(cells, draw_views(3, 0, 0), 8)
    expected = torch.nn.functional.avg_pool2d(as_images(cells), 2)
    torch.testing.assert_close(half, expected, atol=1e-5, rtol=0)

"""Pixel size: how large the window of a cell is in a field whose pixels are not those of the training."""

from __future__ import annotations

from dataclasses import dataclass

from cytodistill.errors import CytodistillError

COARSEST = 2.0
"""A field's pixels may be so many times as large as those of the training; in larger ones the detail that the network
has learnt is not there."""


@dataclass(frozen=True)
class PixelSize:
    """What is said of a field's pixels: µm a pixel, by default the slide's own, or that their size is not to count."""

    microns: float | None = None
    ignore: bool = False


@dataclass(frozen=True)
class Words:
    """What a user writes to say a field's pixel size, and to have it ignored."""

    say: str
    ignore: str


OPTIONS = Words("--microns-per-pixel", "--ignore-pixel-size")
"""Of the commands."""


def scale_between(
    trained: float | None, field: float | None, called: str, ignore: bool = False, words: Words = OPTIONS
) -> float:
    """Pixels of a field that are as long as one pixel of the training.

    Args:
        trained: µm a pixel of the images that the run was trained on (``data.microns_per_pixel``), None if not known.
        field: µm a pixel of the field, None if not known.
        called: the field, for messages.
        ignore: 1 whatever the sizes are.
        words: of who is asked, for messages.

    Raises:
        CytodistillError: only one of the two is known, or the field is too coarse.

    Example:
        >>> scale_between(0.5, 0.25, "slide.svs")
        2.0
    """
    if ignore or (trained is None and field is None):
        return 1.0
    allow = f"{words.ignore} cuts as if both were the same"
    if trained is None:
        raise CytodistillError(
            f"{called}: {field:g} µm a pixel, and the run does not say at which pixel size it was trained "
            f"(data.microns_per_pixel); {allow}"
        )
    if field is None:
        raise CytodistillError(
            f"{called}: does not say its pixel size, and the run was trained at {trained:g} µm a pixel; give "
            f"{words.say}, or {allow}"
        )
    if field > COARSEST * trained:
        raise CytodistillError(
            f"{called}: {field:g} µm a pixel are more than {COARSEST:g} times the {trained:g} µm that the run was "
            f"trained at; scan it finer, or {allow}"
        )
    return trained / field

"""Systems that are not trained end to end: a cell's features, hand-made or a frozen network's, and a small head."""

from __future__ import annotations

from cytodistill.errors import CytodistillError


class MeasureError(CytodistillError):
    """A cell whose shape cannot be measured; the message says why, and whoever knows the cell's name adds it."""

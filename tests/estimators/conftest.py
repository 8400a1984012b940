"""Drawn cells whose contours are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytodistill.data.sources.synthetic import synthesize


def ellipse(x: float, y: float, a: float, b: float, turn: float = 0.0, points: int = 256) -> np.ndarray:
    """(n, 2) contour of an ellipse about (x, y) with half axes ``a`` and ``b``, ``a`` turned by ``turn`` radians."""
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    along, across = a * np.cos(angle), b * np.sin(angle)
    return np.stack(
        [x + along * np.cos(turn) - across * np.sin(turn), y + along * np.sin(turn) + across * np.cos(turn)], axis=1
    )


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> Path:
    """Synthetic cells in SIPaKMeD's format, with contours."""
    return synthesize(tmp_path_factory.mktemp("drawn") / "cells", 65)

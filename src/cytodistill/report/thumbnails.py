"""Small pictures that lie inside the page."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from PIL import Image

SIDE = 160
"""Pixels: sharp at 80 CSS pixels on a phone of double density, and still good at 160."""
QUALITY = 82


def thumbnail(picture: np.ndarray, side: int = SIDE) -> str:
    """data: address of an (H, W, 3) picture, uint8 or in [0, 1], as WebP whose longer side is ``side`` pixels."""
    pixels = picture if picture.dtype == np.uint8 else (255 * np.clip(picture, 0, 1)).round().astype(np.uint8)
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(buffer, "WEBP", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"

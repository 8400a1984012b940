"""Gradient of a strided depthwise convolution on a CPU: bfloat16 against float32, in one run.

python benchmarks/depthwise.py
"""

from __future__ import annotations

import time

import torch
from torch import nn


def backward_ms(dtype: torch.dtype, channels: int, side: int, cells: int = 32, repeats: int = 10) -> float:
    """Milliseconds a cell of forward and backward of a 3×3 depthwise convolution of stride 2, channels-last."""
    layer = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False)
    layer = layer.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    maps = torch.randn(cells, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
    maps.requires_grad_()
    layer(maps).sum().backward()
    started = time.perf_counter()
    for _ in range(repeats):
        layer(maps).sum().backward()
    return (time.perf_counter() - started) / repeats / cells * 1000


if __name__ == "__main__":
    for channels, side in ((64, 24), (128, 12), (256, 6)):
        half, full = (backward_ms(dtype, channels, side) for dtype in (torch.bfloat16, torch.float32))
        print(
            f"{channels}×{side}×{side}: bfloat16 {half:.3f} ms, float32 {full:.3f} ms a cell, ratio {half / full:.1f}"
        )

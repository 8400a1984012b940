"""int8 by static quantisation: ranges of activations are measured once, on real validation cells, and kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 32
"""Cells that are measured at once."""
Feeds = list[dict[str, np.ndarray]]
"""Inputs of a graph by name, batch by batch."""


def calibration_rows(labels: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` of ``rows``, or all where they are fewer, drawn by seed; each class in proportion, one at the least.

    Args:
        labels: (N,) codes of all cells.
        rows: positions of those to draw from.
        count: cells to draw.
        seed: same seed, same cells.
    """
    if len(rows) <= count:
        return rows
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(rows)
    # The nth of a class of size m is due at (n + ½) / m: reading in that order takes every class evenly.
    due = np.empty(len(shuffled))
    for code in np.unique(labels[shuffled]):
        own = np.flatnonzero(labels[shuffled] == code)
        due[own] = (np.arange(len(own)) + 0.5) / len(own)
    return np.sort(shuffled[np.argsort(due, kind="stable")[:count]])


def quantise_onnx(file: Path, feeds: Feeds) -> Any:
    """int8 model of a float32 ONNX file: QDQ, weights symmetric and per channel, activations asymmetric.

    Preprocessing and the exits' classifiers stay in float32: the former would cost a rounding of the pixels before the
    first convolution, the latter one of the logits, and neither takes time that counts.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = file.with_suffix(".prepared.onnx")
    result = file.with_suffix(".int8.onnx")
    quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
    model = onnx.load(prepared)
    logging.getLogger().disabled = False
    quantization.quantize_static(
        str(prepared),
        str(result),
        _Reader(feeds),
        per_channel=True,
        nodes_to_exclude=_in_float(model.graph),
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )
    found = onnx.load(result)
    prepared.unlink()
    result.unlink()
    return found


class _Reader:
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)

"""int8 by static quantisation: ranges of activations are measured once, on real validation cells, and kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from cytodistill.export.graphs import import_onnx
from cytodistill.infer.runtimes import import_nncf

BATCH = 32
"""Cells that are measured at once."""
PRODUCTS = ("Conv", "Gemm", "MatMul", "Convolution", "GroupConvolution")
"""Operators that int8 is for, in ONNX's names and in OpenVINO's."""
GATES = {"attention", "context"}
"""Names of an `Exit`'s modules that scale or shift a map; nodes are named after the path of their module."""
Feeds = list[dict[str, np.ndarray]]
"""Inputs of a graph by name, batch by batch."""


def calibration_rows(labels: np.ndarray, rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """``count`` of ``rows``, or all where they are fewer, drawn by seed; each class in proportion, and
    at least one of each where ``count`` allows.

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
    # The nth of a class of size m, from 0, is due at n / m: in that order the first of each class come first, and then
    # every class is taken evenly.
    due = np.empty(len(shuffled))
    for code in np.unique(labels[shuffled]):
        own = np.flatnonzero(labels[shuffled] == code)
        due[own] = np.arange(len(own)) / len(own)
    return np.sort(shuffled[np.argsort(due, kind="stable")[:count]])


def quantise_onnx(file: Path, feeds: Feeds) -> Any:
    """int8 model of a float32 ONNX file: QDQ, weights symmetric and per channel, activations asymmetric.

    What `in_float` names stays in float32.
    """
    onnx = import_onnx()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = file.with_suffix(".prepared.onnx")
    result = file.with_suffix(".int8.onnx")
    with _quiet():
        quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
        for place, node in enumerate(model.graph.node):
            node.name = node.name or f"{node.op_type}_{place}"  # by which nodes are left out; a few come without
        onnx.save(model, prepared)
        quantization.quantize_static(
            str(prepared),
            str(result),
            _Reader(feeds),
            per_channel=True,
            nodes_to_exclude=in_float(*_onnx_nodes(model.graph)),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    found = onnx.load(result)
    prepared.unlink()
    result.unlink()
    return found


def quantise_openvino(model: Any, feeds: Feeds) -> Any:
    """int8 model of a float32 OpenVINO model, by NNCF; what `in_float` names stays in float32.

    Weights keep to half of their range: processors without VNNI add products of int8 pairs up in 16 bits, which
    saturates, and would answer otherwise than others. Ranges are the widest of all cells, as in `quantise_onnx`, and
    not NNCF's mean over batches; its bias correction is off, for on a hundred cells it took twice the time and changed
    as many labels as it kept (docs/export.md).
    """
    nncf = import_nncf()
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    with _quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(feeds),
            subset_size=len(feeds),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=in_float(*_openvino_nodes(model)), validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE,
                disable_bias_correction=True,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


class _Reader:
    def __init__(self, feeds: Feeds) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


@dataclass(frozen=True)
class Node:
    """A node of a graph: its operator, and the names of the nodes or graph inputs that it reads."""

    operator: str
    sources: tuple[str, ...]


def in_float(nodes: dict[str, Node], logits: str) -> list[str]:
    """Names of the nodes that stay in float32, none of which takes time that counts.

    These are the preprocessing, where a rounding would be one of the pixels; the classifiers and what follows them,
    where it would be one of the logits; and the attention and context of the exits, which scale or shift whole maps, so
    that a rounding there is the same error at every place and no average over places removes it.

    Args:
        nodes: of a graph by name; the cells are read under the name "cells".
        logits: the node that makes the logits.
    """
    readers: dict[str, list[str]] = {}
    for name, node in nodes.items():
        for source in node.sources:
            readers.setdefault(source, []).append(name)
    found = {name for name in nodes if not GATES.isdisjoint(name.split("/"))}
    ahead = list(readers.get("cells", []))
    while ahead:
        name = ahead.pop()
        if name not in found and nodes[name].operator not in PRODUCTS:
            found.add(name)
            ahead += readers.get(name, [])
    behind = [logits]
    while behind:
        name = behind.pop()
        if name in nodes and name not in found:
            found.add(name)
            behind += [] if nodes[name].operator in PRODUCTS else nodes[name].sources
    return sorted(found)


def _onnx_nodes(graph: Any) -> tuple[dict[str, Node], str]:
    makers = {output: node.name for node in graph.node for output in node.output}
    nodes = {node.name: Node(node.op_type, tuple(makers.get(name, name) for name in node.input)) for node in graph.node}
    return nodes, makers["logits"]


def _openvino_nodes(model: Any) -> tuple[dict[str, Node], str]:
    nodes = {
        operation.get_friendly_name(): Node(
            operation.get_type_name(),
            tuple(value.get_node().get_friendly_name() for value in operation.input_values()),
        )
        for operation in model.get_ordered_ops()
        if operation.get_type_name() != "Parameter"
    }
    return nodes, model.output("logits").get_node().get_friendly_name()


@contextmanager
def _quiet() -> Iterator[None]:
    """Both quantisers talk of their own workings, to the log and to the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""The graphs of a network: preprocessing and segments, and the whole, as ONNX or as OpenVINO's IR."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cytodistill.errors import CytodistillError, reason
from cytodistill.infer.artifact import Graph, Graphs
from cytodistill.infer.runtimes import import_openvino, marks_of
from cytodistill.models.multi_exit import Network
from cytodistill.models.segments import WholeSegment, segments_of
from cytodistill.recipe import Data

OPSET = 18
"""ONNX operator set: the first in which every operator that these networks need is written without a detour."""


class FromCells(nn.Module):
    """(B, S, S, 3) uint8 cells → normalised (B, 3, S, S) float32 → a segment.

    ``Preprocess`` as one product and one sum: x / (255 σ) − μ / σ.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, segment: nn.Module, data: Data) -> None:
        super().__init__()
        deviation = np.asarray(data.std, np.float64)[:, None, None]
        mean = np.asarray(data.mean, np.float64)[:, None, None]
        self.segment = segment
        self.register_buffer("scale", torch.from_numpy(1 / (255 * deviation)).float())
        self.register_buffer("shift", torch.from_numpy(-mean / deviation).float())
        # The exporter puts a module's whole tree back into the mode of its root, and this one shares the network.
        self.train(segment.training)

    def forward(self, cells: Tensor) -> tuple[Tensor, ...]:
        return self.segment(cells.permute(0, 3, 1, 2).float() * self.scale + self.shift)


@dataclass(frozen=True)
class Part:
    """A module to be written as a graph, and an example of its input."""

    graph: Graph
    module: nn.Module
    example: tuple[Tensor, ...]

    @property
    def inputs(self) -> list[str]:
        """Names of its inputs: the cells, or the state that the segment before left."""
        return ["cells"] if self.example[0].dtype == torch.uint8 else [f"state{i}" for i in range(len(self.example))]


def parts_of(network: Network, data: Data, weights: str, suffixes: Sequence[str]) -> tuple[Graphs, list[Part]]:
    """Graphs of a network, and what to write into them: the whole, then the segments, shallow → deep.

    Args:
        network: on the CPU, in eval mode.
        data: how its cells are preprocessed.
        weights: SHA-256 of its weights.
        suffixes: of a graph's files.
    """
    network.eval()
    cells = torch.zeros(2, data.image_size, data.image_size, 3, dtype=torch.uint8)
    module: nn.Module = FromCells(WholeSegment(network, network.exits).eval(), data)
    whole = Part(_graph("whole", network.exits, suffixes), module, (cells,))
    parts, state = [whole], (cells,)
    segments = segments_of(network)
    if len(segments) == 1:  # it is the whole
        return Graphs(weights, (whole.graph,), whole.graph), parts
    for number, segment in enumerate(segments, start=1):
        module = FromCells(segment.eval(), data) if number == 1 else segment.eval()
        parts.append(Part(_graph(f"segment{number}", segment.exits, suffixes), module, state))
        with torch.no_grad():
            state = module(*state)[1:]
    return Graphs(weights, tuple(part.graph for part in parts[1:]), whole.graph), parts


def _graph(name: str, exits: int, suffixes: Sequence[str]) -> Graph:
    return Graph(name, tuple(f"{name}{suffix}" for suffix in suffixes), exits)


def write_onnx(part: Part, file: Path, marks: dict[str, str]) -> None:
    """Write a part as one ONNX file, its batch dynamic.

    torch's tracing exporter is taken, and not the newer one of ``torch.export``: it writes every network of this
    package in a twentieth of the time, without onnxscript, and what a trace would fix that must stay free, the
    comparison with the run finds.

    Args:
        part: the module; its outputs are named logits, next0, next1 …
        file: to write.
        marks: kept in the file's metadata.

    Raises:
        CytodistillError: torch or ONNX cannot express the network, or it is larger than one file may be.
    """
    onnx = import_onnx()
    with torch.no_grad():
        outputs = ["logits", *(f"next{i}" for i in range(len(part.module(*part.example)) - 1))]
    names = [*part.inputs, *outputs]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                part.module,
                part.example,
                str(file),
                dynamo=False,
                opset_version=OPSET,
                input_names=part.inputs,
                output_names=outputs,
                dynamic_axes={name: {0: "batch"} for name in names},
            )
        model = onnx.load(file, load_external_data=False)
    except Exception as error:  # the exporter raises nearly anything
        raise CytodistillError(
            f"{part.graph.name}: the network cannot be written as ONNX ({reason(error)}); choose another backbone"
        ) from None
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise CytodistillError(f"{part.graph.name}: larger than the 2 GB of one ONNX file; choose a smaller backbone")
    save_onnx(model, file, marks)


def save_onnx(model: Any, file: Path, marks: dict[str, str]) -> None:
    """Check an ONNX model and write it with these marks in its metadata."""
    onnx = import_onnx()
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, marks)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def onnx_to_openvino(file: Path) -> Any:
    """OpenVINO's model of an ONNX file."""
    return import_openvino().convert_model(file)


def save_openvino(model: Any, file: Path, marks: dict[str, str]) -> None:
    """Write an OpenVINO model as ``file`` (.xml) and its .bin, weights in float32, with these marks in it."""
    for name, value in marks.items():
        model.set_rt_info(value, ["cytodistill", name])
    # By default weights are halved to float16, without a word.
    import_openvino().save_model(model, file, compress_to_fp16=False)


def all_marks(graph: Graph, weights: str, classes: Sequence[str]) -> dict[str, str]:
    """What a graph says of itself: `marks_of`, and the classes in the order of its logits, for whoever has it alone."""
    return marks_of(graph, weights) | {"classes": json.dumps(list(classes), ensure_ascii=False)}


def import_onnx() -> Any:
    """The module onnx; a CytodistillError where it is not installed."""
    try:
        import onnx
    except ImportError:
        raise CytodistillError("export: onnx is not installed; pip install 'cytodistill[export]'") from None
    return onnx

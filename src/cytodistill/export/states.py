"""What one int8 segment hands to the next as bytes: a quarter of the memory, and of the time that it takes to move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cytodistill.infer.runtimes import import_openvino

LEVELS = 256
Range = tuple[float, float]
"""The least and the greatest value of a state, 0 among them, so that padding stays exact."""


def range_of(batches: Sequence[np.ndarray]) -> Range:
    """The widest range of (B, …) arrays."""
    return min(0.0, *(float(part.min()) for part in batches)), max(0.0, *(float(part.max()) for part in batches))


def states_as_bytes(model: Any, taken: Sequence[Range], left: Sequence[Range]) -> Any:
    """An OpenVINO model whose states are uint8: ⌊(x − low) / step⌉ with step = (high − low) / 255.

    Its first convolution would round a state to the same steps; now that is done before the state leaves, where
    putting it into the order of memory that a model's outputs have took a fifth of a shallow segment's time.

    Args:
        model: of a segment, quantised.
        taken: ranges of its states, in the order of its inputs; none for the first segment, whose cells are bytes.
        left: ranges of what it leaves, in the order of its outputs behind the logits.
    """
    openvino = import_openvino()
    from openvino import opset13 as operators

    for parameter, (low, high) in zip(model.get_parameters(), taken, strict=bool(taken)):
        name = parameter.output(0).get_any_name()
        given = operators.parameter(parameter.get_partial_shape(), openvino.Type.u8, name)
        given.output(0).set_names({name})
        step = np.float32(_step(low, high))
        value = operators.multiply(operators.convert(given, "f32"), operators.constant(step))
        if low:
            value = operators.add(value, operators.constant(np.float32(low)))
        parameter.output(0).replace(value.output(0))
        model.replace_parameter(model.get_parameter_index(parameter), given)
    for result, (low, high) in zip(model.get_results()[1:], left, strict=True):
        source = result.input_value(0)
        names = source.get_names()
        bounds = [np.float32(value) for value in (low, low + _step(low, high) * (LEVELS - 1), 0, LEVELS - 1)]
        stepped = operators.fake_quantize(source, *map(operators.constant, bounds), LEVELS)
        byte = operators.convert(stepped, "u8")
        result.input(0).replace_source_output(byte.output(0))
        source.set_names(set())
        byte.output(0).set_names(names)
    model.validate_nodes_and_infer_types()
    return model


def _step(low: float, high: float) -> float:
    return (high - low) / (LEVELS - 1) or 1.0

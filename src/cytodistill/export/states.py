"""What one int8 segment hands to the next as bytes: a quarter of the memory, and of the time that it takes to move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cytodistill.infer.runtimes import import_openvino

LEVELS = 256
Range = tuple[float, float]
"""The least and the greatest value of a state, with 0 between them."""
Ranges = Sequence[Range | None]
"""Of some states in their order; None of one that stays float32."""


def range_of(batches: Sequence[np.ndarray]) -> Range:
    """The widest range of (B, …) arrays."""
    return min(0.0, *(float(part.min()) for part in batches)), max(0.0, *(float(part.max()) for part in batches))


def states_as_bytes(model: Any, taken: Ranges, left: Ranges) -> Any:
    """A copy of an OpenVINO model whose states are uint8: ⌊x / step⌉ + zero with step = (high − low) / 255 and the
    whole number zero next to −low / step, so that what is 0, after a ReLU or in padding, stays it.

    Where a state is what a ReLU left, the next convolution would round it to the same steps; now that is done before
    the state leaves, where putting it into the order of memory that a model's outputs have took a fifth of a shallow
    segment's time. Any other state is rounded once more than without.

    Args:
        model: of a segment, quantised.
        taken: ranges of its states, in the order of its inputs; none for the first segment, whose cells are bytes.
        left: ranges of what it leaves, in the order of its outputs behind the logits.
    """
    openvino = import_openvino()
    from openvino import opset13 as operators

    model = model.clone()
    for parameter, taken_range in zip(model.get_parameters(), taken, strict=bool(taken)):
        if taken_range is None:
            continue
        name = parameter.output(0).get_any_name()
        given = operators.parameter(parameter.get_partial_shape(), openvino.Type.u8, name)
        given.output(0).set_names({name})
        step, lowest = _steps(taken_range)
        value = operators.multiply(operators.convert(given, "f32"), operators.constant(np.float32(step)))
        if lowest:
            value = operators.add(value, operators.constant(np.float32(lowest)))
        parameter.output(0).replace(value.output(0))
        model.replace_parameter(model.get_parameter_index(parameter), given)
    for place, (result, left_range) in enumerate(zip(model.get_results()[1:], left, strict=True)):
        if left_range is None:
            continue
        source, name = result.input_value(0), f"next{place}"
        step, lowest = _steps(left_range)
        bounds = [np.float32(value) for value in (lowest, lowest + step * (LEVELS - 1), 0, LEVELS - 1)]
        stepped = operators.fake_quantize(source, *map(operators.constant, bounds), LEVELS)
        byte = operators.convert(stepped, "u8")
        result.input(0).replace_source_output(byte.output(0))
        source.set_names(source.get_names() - {name})
        byte.output(0).set_names({name})
    model.validate_nodes_and_infer_types()
    return model


def ranges_kept(model: Any, feed: Mapping[str, np.ndarray], left: Sequence[Range]) -> list[Range | None]:
    """``left``, but None of a state whose bytes are not what the model leaves in float32, to one step.

    OpenVINO (2026.4) takes a quantisation right behind an int8 convolution for the convolution's own, whose scale is
    then lost; behind the sum of a residual block it does not. What it does is seen from what it answers.

    Args:
        model: of a segment, quantised, its states in float32.
        feed: inputs by name.
        left: ranges of what it leaves.
    """
    if not left:
        return []
    core = import_openvino().Core()
    plain, byte = (
        core.compile_model(each, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(dict(feed))
        for each in (model, states_as_bytes(model, [None] * len(model.inputs), left))
    )
    kept: list[Range | None] = []
    for place, of in enumerate(left, start=1):
        step, lowest = _steps(of)
        meant = np.clip(plain[place], lowest, lowest + step * (LEVELS - 1))
        kept.append(of if np.abs(byte[place] * step + lowest - meant).max() <= step else None)
    return kept


def _steps(of: Range) -> tuple[float, float]:
    """The step, and the value of byte 0, a whole number of steps below 0."""
    step = (of[1] - of[0]) / (LEVELS - 1) or 1.0
    return step, round(of[0] / step) * step

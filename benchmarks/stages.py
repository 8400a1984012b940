"""Where the time of a prediction goes, and how near the processor's own limit: both on one core, as `predict` uses it.

The limit is a square matrix product, in float32 and in int8, by the best of torch, ONNX Runtime and OpenVINO: the most
operations a second that a well-written kernel reaches here. A stage's time is what the thread computed, which
neighbours disturb less than the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from cytodistill.infer.artifact import Artifact, is_artifact
from cytodistill.infer.batch_answer import Answering, answering
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_read import Item, read_items
from cytodistill.infer.batch_rules import Request
from cytodistill.infer.early_exit import Answers
from cytodistill.infer.engine import State
from cytodistill.infer.predictor import Predictor
from cytodistill.infer.runtimes import import_openvino
from cytodistill.infer.writers import layout_of, prediction_records

BATCH = 64
SIDE = 1024
"""Of the matrices."""
MAPS = (1, SIDE, 32, SIDE // 32)
"""One of them as maps of SIDE channels."""


def computed(work: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds that this process computed for a piece of work in each of some rounds, after one that does not count."""
    times = []
    for _ in range(rounds + 1):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return times[1:]


def limits(rounds: int = 15) -> dict[str, float]:
    """Multiply-accumulates a second of one core, by precision: the best round of the best library."""
    openvino, rng = import_openvino(), np.random.default_rng(0)
    a, b = (rng.normal(size=(SIDE, SIDE)).astype(np.float32) for _ in range(2))
    left, right = torch.from_numpy(a), torch.from_numpy(b)
    small = {"a": np.clip(16 * a + 128, 0, 255).astype(np.uint8), "b": np.clip(16 * b, -64, 63).astype(np.int8)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for model in (_product("MatMul", a, b), _product("MatMulInteger", *small.values()))
    ]
    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(_quantised_product(small["b"])), "CPU", settings)
    products: dict[str, list[Callable[[], Any]]] = {
        "fp32": [lambda: left @ right, lambda: sessions[0].run(None, {"a": a, "b": b})],
        "int8": [lambda: sessions[1].run(None, small), lambda: compiled([a.reshape(MAPS)], share_inputs=True)],
    }
    return {
        precision: SIDE**3 / min(min(computed(product, rounds)) for product in own)
        for precision, own in products.items()
    }


def _product(operation: str, a: np.ndarray, b: np.ndarray) -> bytes:
    of = {name: helper.np_dtype_to_tensor_dtype(each.dtype) for name, each in (("a", a), ("b", b))}
    given = [helper.make_tensor_value_info(name, kind, (SIDE, SIDE)) for name, kind in of.items()]
    found = TensorProto.FLOAT if operation == "MatMul" else TensorProto.INT32
    return _model(
        [helper.make_node(operation, ["a", "b"], ["c"])],
        given,
        helper.make_tensor_value_info("c", found, (SIDE, SIDE)),
        {},
    )


def _quantised_product(weights: np.ndarray) -> bytes:
    """As exports say it, for OpenVINO takes int8 from nothing else: a convolution of 1×1 pixel, float32 in and out."""
    nodes = [
        helper.make_node("QuantizeLinear", ["a", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["left"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "none"], ["right"]),
        helper.make_node("Conv", ["left", "right"], ["c"]),
    ]
    constants = {
        "scale": np.float32(1 / 16),
        "zero": np.uint8(128),
        "none": np.int8(0),
        "w": weights.reshape(SIDE, SIDE, 1, 1),
    }
    given, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, MAPS) for name in ("a", "c"))
    return _model(nodes, [given], found, constants)


def _model(nodes: list[Any], given: list[Any], found: Any, constants: dict[str, Any]) -> bytes:
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "product", given, [found], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def segment_times(predictor: Predictor, cells: np.ndarray, rounds: int) -> list[float]:
    """Seconds a cell of each segment in whole batches, preprocessing with the first."""
    engine, found = predictor.engine, []
    states = [engine.start(cells[at : at + BATCH]) for at in range(0, len(cells) - BATCH + 1, BATCH)]
    answered = BATCH * len(states)

    def run(segment: int, states: list[State]) -> list[State]:
        return [engine.run(segment, state)[1] for state in states]

    for segment in range(engine.segments):
        found.append(median(computed(partial(run, segment, states), rounds)) / answered)
        states = run(segment, states)
    starting = computed(lambda: [engine.start(cells[at : at + BATCH]) for at in range(0, answered, BATCH)], rounds)
    found[0] += median(starting) / answered
    return found


def stages(
    path: Path, policy: str | None, items: Items, macs: Sequence[int], peaks: dict[str, float], rounds: int
) -> dict[str, Any]:
    """Milliseconds a cell of a contestant on one core: reading, the network, writing, and each segment's with the
    share of the limit that it runs at.

    Args:
        path: run folder or artifact.
        policy: of the run, by name.
        items: the cells, all of them readable.
        macs: until each exit has answered.
        peaks: from `limits`.
        rounds: that count.
    """
    mine = answering(Request(path, policy=policy, batch_size=BATCH, device="cpu", threads=1), readers=1)
    predictor, whole = mine.predictor, items[:]
    try:
        with ThreadPoolExecutor(1) as reader:
            reading = median(computed(lambda: read_items(predictor.inputs, whole, reader), rounds))
            cells, _ = read_items(predictor.inputs, whole, reader)
        rules = mine.rules

        def answer() -> Answers:
            return predictor.answer(cells, rules.policy, rules.calibrated, BATCH)

        network, answers = median(computed(answer, rounds)), answer()
        writing = median(computed(lambda: _lines(whole, answers, mine), rounds))
        together = median(computed(lambda: mine.block(whole), rounds))
    finally:
        mine.close()
    segments = []
    precision = "int8" if "int8" in _precision(path) else "fp32"
    reach = [float((answers.used >= exit).mean()) for exit in range(predictor.exits)]
    first = np.cumsum([0, *predictor.engine.exits_of])
    for segment, seconds in enumerate(segment_times(predictor, cells, rounds)):
        own = macs[first[segment + 1] - 1] - (macs[first[segment] - 1] if segment else 0)
        segments.append(
            {
                "macs": own,
                "ms_a_cell": 1000 * seconds,
                "of_limit": own / seconds / peaks[precision],
                "reached_by": reach[first[segment]],
            }
        )
    per_cell = 1000 / len(whole)
    return {
        "precision": precision,
        "ms_a_cell": {
            "reading": reading * per_cell,
            "network": network * per_cell,
            "writing": writing * per_cell,
            "together": together * per_cell,
        },
        "segments": segments,
    }


def _lines(items: Sequence[Item], answers: Answers, mine: Answering) -> str:
    classes = mine.predictor.classes
    records = prediction_records(
        [item.name for item in items],
        answers.probabilities,
        (answers.used + 1).tolist(),
        answers.exits,
        classes,
        mine.rules.values(answers.probabilities, classes),
    )
    return layout_of("x.csv").lines(mine.columns, records)


def _precision(path: Path) -> str:
    return Artifact.open(path).info["precision"] if is_artifact(path) else "fp32"

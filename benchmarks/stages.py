"""Where the time of a prediction goes, and how near the processor's own limit: both on one core, as `predict` uses it.

The limit is a square matrix product, float32 in torch and int8 in ONNX Runtime: the most operations a second that a
well-written kernel reaches here. A stage's time is what the thread computed, which neighbours disturb less than the
clock.
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
import torch

from cytodistill.infer.artifact import Artifact, is_artifact
from cytodistill.infer.batch_answer import Answering, answering
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_read import Item, read_items
from cytodistill.infer.batch_rules import Request
from cytodistill.infer.early_exit import Answers
from cytodistill.infer.engine import State
from cytodistill.infer.predictor import Predictor
from cytodistill.infer.writers import layout_of, prediction_records

BATCH = 64
SIDE = 1024
"""Of the matrices."""


def computed(work: Callable[[], Any], rounds: int) -> float:
    """Seconds that this process computed for a piece of work: the median of some rounds, after one that does not
    count."""
    times = []
    for turn in range(rounds + 1):
        started = time.process_time()
        work()
        if turn:
            times.append(time.process_time() - started)
    return median(times)


def limits(rounds: int = 7) -> dict[str, float]:
    """Multiply-accumulates a second of one core, by precision."""
    import onnxruntime
    from onnx import TensorProto, helper

    rng, shape, macs = np.random.default_rng(0), (SIDE, SIDE), SIDE**3
    a, b = (torch.from_numpy(rng.normal(size=shape).astype(np.float32)) for _ in range(2))
    left, right = rng.integers(0, 256, shape).astype(np.uint8), rng.integers(-64, 64, shape).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [
            helper.make_tensor_value_info("a", TensorProto.UINT8, shape),
            helper.make_tensor_value_info("b", TensorProto.INT8, shape),
        ],
        [helper.make_tensor_value_info("c", TensorProto.INT32, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {
        "fp32": macs / computed(lambda: a @ b, rounds),
        "int8": macs / computed(lambda: session.run(None, {"a": left, "b": right}), rounds),
    }


def segment_times(predictor: Predictor, cells: np.ndarray, rounds: int) -> list[float]:
    """Seconds a cell of each segment in whole batches, preprocessing with the first."""
    engine, found = predictor.engine, []
    states = [engine.start(cells[at : at + BATCH]) for at in range(0, len(cells) - BATCH + 1, BATCH)]
    answered = BATCH * len(states)

    def run(segment: int, states: list[State]) -> list[State]:
        return [engine.run(segment, state)[1] for state in states]

    for segment in range(engine.segments):
        found.append(computed(partial(run, segment, states), rounds) / answered)
        states = run(segment, states)
    starting = computed(lambda: [engine.start(cells[at : at + BATCH]) for at in range(0, answered, BATCH)], rounds)
    found[0] += starting / answered
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
            reading = computed(lambda: read_items(predictor.inputs, whole, reader), rounds)
            cells, _ = read_items(predictor.inputs, whole, reader)
        rules = mine.rules

        def answer() -> Answers:
            return predictor.answer(cells, rules.policy, rules.calibrated, BATCH)

        network, answers = computed(answer, rounds), answer()
        writing = computed(lambda: _lines(whole, answers, mine), rounds)
        together = computed(lambda: mine.block(whole), rounds)
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

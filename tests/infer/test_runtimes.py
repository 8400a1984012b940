import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from cytodistill.errors import CytodistillError
from cytodistill.infer.artifact import Graph, Graphs
from cytodistill.infer.engine import all_exits
from cytodistill.infer.runtimes import ENGINES, marks_of

WEIGHTS = "a" * 64
MATRIX = np.arange(24, dtype=np.float32).reshape(12, 2) / 10


def model(graph: Graph, said: dict[str, str]) -> onnx.ModelProto:
    """segment1: cells → mean and itself as floats; segment2: a matrix product; whole: both."""
    cells = helper.make_tensor_value_info("cells", TensorProto.UINT8, ["batch", 2, 2, 3])
    state = helper.make_tensor_value_info("state0", TensorProto.FLOAT, ["batch", 12])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", graph.exits, 2])
    after = helper.make_tensor_value_info("next0", TensorProto.FLOAT, ["batch", 12])
    shapes = [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in (("flat", [-1, 12]), ("one", [-1, 1, 2]))
    ]
    flat = [
        helper.make_node("Cast", ["cells"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "flat"], ["next0"]),
    ]
    first = [
        helper.make_node("MatMul", ["next0", "m"], ["p"]),
        helper.make_node("Neg", ["p"], ["n"]),
        helper.make_node("Reshape", ["n", "one"], ["l1"]),
    ]
    second = [
        helper.make_node("MatMul", ["state0" if graph.name == "segment2" else "next0", "m"], ["q"]),
        helper.make_node("Reshape", ["q", "one"], ["l2"]),
    ]
    parts = {
        "segment1": ([*flat, *first, helper.make_node("Identity", ["l1"], ["logits"])], [cells], [logits, after]),
        "segment2": ([*second, helper.make_node("Identity", ["l2"], ["logits"])], [state], [logits]),
        "whole": (
            [*flat, *first, *second, helper.make_node("Concat", ["l1", "l2"], ["logits"], axis=1)],
            [cells],
            [logits],
        ),
    }
    nodes, inputs, outputs = parts[graph.name]
    made = helper.make_model(
        helper.make_graph(nodes, "tiny", inputs, outputs, [*shapes, numpy_helper.from_array(MATRIX, "m")]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(made, said)
    return made


def written(runtime: str, folder: Path) -> Graphs:
    suffixes = {"onnx": [".onnx"], "openvino": [".xml", ".bin"]}[runtime]
    made = [
        Graph(name, tuple(f"{name}{s}" for s in suffixes), exits)
        for name, exits in (("segment1", 1), ("segment2", 1), ("whole", 2))
    ]
    for graph in made:
        content = model(graph, marks_of(graph, WEIGHTS))
        if runtime == "onnx":
            onnx.save(content, folder / graph.files[0])
        else:
            file = folder / f"{graph.name}.onnx"
            onnx.save(content, file)
            converted = openvino.convert_model(file)
            for name, value in marks_of(graph, WEIGHTS).items():
                converted.set_rt_info(value, ["cytodistill", name])
            openvino.save_model(converted, folder / graph.files[0], compress_to_fp16=False)
    return Graphs(WEIGHTS, (made[0], made[1]), made[2])


@pytest.fixture(scope="module", params=list(ENGINES))
def made(request, tmp_path_factory):
    """A runtime, the graphs, and a reader of their files."""
    folder = tmp_path_factory.mktemp(request.param)
    graphs = written(request.param, folder)
    return request.param, graphs, lambda name: (folder / name).read_bytes()


def test_whole_and_segments_compute_what_they_say(made):
    runtime, graphs, read = made
    engine = ENGINES[runtime](graphs, read, threads=1)
    rng = np.random.default_rng(0)
    for batch in (1, 7):
        cells = rng.integers(0, 256, (batch, 2, 2, 3), np.uint8)
        product = cells.reshape(batch, 12).astype(np.float32) @ MATRIX
        expected = np.stack([-product, product], axis=1)
        np.testing.assert_allclose(engine.whole(cells), expected, rtol=1e-5)
        np.testing.assert_allclose(all_exits(engine, cells), expected, rtol=1e-5)
        _, state = engine.run(0, engine.start(cells))
        np.testing.assert_allclose(engine.run(1, engine.take(state, np.array([0])))[0], expected[:1, 1:], rtol=1e-5)
    assert engine.exits_of == (1, 1)
    assert engine.segments == 2


def test_a_graph_of_another_run_is_refused(made):
    runtime, graphs, read = made
    engine = ENGINES[runtime](replace(graphs, weights="b" * 64), read)
    with pytest.raises(CytodistillError, match=r"^whole\.(onnx|xml): not whole of this run"):
        engine.whole(np.zeros((1, 2, 2, 3), np.uint8))


def test_a_graph_in_the_place_of_another_is_refused(made):
    runtime, graphs, read = made
    engine = ENGINES[runtime](graphs, lambda name: read(name.replace("segment1", "whole")))
    with pytest.raises(CytodistillError, match="not segment1 of this run, but whole of another"):
        engine.run(0, (np.zeros((1, 2, 2, 3), np.uint8),))


def test_what_is_no_graph_is_refused_in_one_line(made):
    runtime, graphs, _ = made
    engine = ENGINES[runtime](graphs, lambda name: b"not a graph")
    with pytest.raises(CytodistillError, match=r"^whole\.(onnx|xml): .* cannot load it") as found:
        engine.whole(np.zeros((1, 2, 2, 3), np.uint8))
    assert "\n" not in str(found.value)


def test_openvino_computes_in_float32_and_stays_off_the_others_core(made, monkeypatch):
    runtime, graphs, read = made
    if runtime != "openvino":
        return
    asked = []
    compile_model = openvino.Core.compile_model

    def spy(self, model, device, settings):
        asked.append((device, settings))
        return compile_model(self, model, device, settings)

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    engine = ENGINES["openvino"](graphs, read, threads=1)
    engine.whole(np.zeros((1, 2, 2, 3), np.uint8))
    ((device, settings),) = asked
    assert device == "CPU"
    assert settings == {
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
    }


@pytest.mark.parametrize(("runtime", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_runtime_that_is_not_installed_is_named(runtime, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CytodistillError, match=r"is not installed; pip install 'cytodistill\[export\]'"):
        ENGINES[runtime](Graphs(WEIGHTS, (), Graph("whole", (), 1)), lambda name: b"")

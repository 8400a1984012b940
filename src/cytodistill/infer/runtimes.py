"""Engines of an artifact's graphs: ONNX Runtime and OpenVINO, on the CPU, in float32 or int8 and never in bfloat16."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cytodistill.errors import CytodistillError, reason
from cytodistill.infer.artifact import Graph, Graphs
from cytodistill.infer.engine import State

Read = Callable[[str], bytes]
Infer = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


class GraphEngine(ABC):
    """An `Engine` of graphs, each loaded when it is first run.

    Args:
        graphs: of one network.
        read: gives the content of one of their files.
        threads: cores to use; all of them by default.
        where: what messages put before a file's name.

    Raises:
        CytodistillError: the runtime is not installed, or (when it is first run) does not take a graph, or a graph is
            another one than it should be.
    """

    runtime: str

    def __init__(self, graphs: Graphs, read: Read, threads: int | None = None, where: str = "") -> None:
        self._graphs, self._read, self._threads, self._where = graphs, read, threads, where
        self._loaded: dict[str, Infer] = {}
        self.exits_of = tuple(graph.exits for graph in graphs.segments)

    @property
    def segments(self) -> int:
        """Number of segments."""
        return len(self._graphs.segments)

    def start(self, cells: np.ndarray) -> State:
        """See `Engine`."""
        return (np.ascontiguousarray(cells),)

    def run(self, segment: int, state: State) -> tuple[np.ndarray, State]:
        """See `Engine`."""
        logits, *state_after = self._infer(self._graphs.segments[segment])(state)
        return logits, tuple(state_after)

    def take(self, state: State, rows: np.ndarray) -> State:
        """See `Engine`."""
        return tuple(part[rows] for part in state)

    def whole(self, cells: np.ndarray) -> np.ndarray:
        """See `Engine`."""
        return self._infer(self._graphs.whole)(self.start(cells))[0]

    @abstractmethod
    def _load(self, files: list[bytes]) -> tuple[Infer, dict[str, str]]:
        """A graph from the content of its files, and its `marks_of`."""

    def _infer(self, graph: Graph) -> Infer:
        if graph.name not in self._loaded:
            file = f"{self._where}{graph.files[0]}"
            content = [self._read(name) for name in graph.files]
            try:
                infer, marks = self._load(content)
            except Exception as error:  # runtimes raise nearly anything
                raise CytodistillError(
                    f"{file}: {self.runtime} cannot load it ({reason(error)}); update it, or export the run again"
                ) from None
            if marks != marks_of(graph, self._graphs.weights):
                raise CytodistillError(
                    f"{file}: not {graph.name} of this run, but {marks.get('part') or 'a graph'} of "
                    "another; export the run again"
                )
            self._loaded[graph.name] = infer
        return self._loaded[graph.name]


def marks_of(graph: Graph, weights: str) -> dict[str, str]:
    """What a graph says of itself, so that it cannot stand in for another."""
    return {"part": graph.name, "weights": weights}


class OnnxEngine(GraphEngine):
    """ONNX Runtime's CPU provider."""

    runtime = "ONNX Runtime"

    def __init__(self, graphs: Graphs, read: Read, threads: int | None = None, where: str = "") -> None:
        super().__init__(graphs, read, threads, where)
        self._onnxruntime = import_onnxruntime()

    def _load(self, files: list[bytes]) -> tuple[Infer, dict[str, str]]:
        options = self._onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = self._threads or 0
        # Else the threads of a segment that is done keep the cores busy while the next one wants them.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Without VNNI, products of int8 pairs are added up in 16 bits, which saturates, and other machines would
        # answer otherwise.
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = self._onnxruntime.InferenceSession(files[0], options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]
        marks = session.get_modelmeta().custom_metadata_map

        def infer(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            return session.run(None, dict(zip(names, inputs, strict=True)))

        return infer, {name: marks.get(name, "") for name in ("part", "weights")}


class OpenVinoEngine(GraphEngine):
    """OpenVINO's CPU plugin. One thread at a time may ask it."""

    runtime = "OpenVINO"

    def __init__(self, graphs: Graphs, read: Read, threads: int | None = None, where: str = "") -> None:
        super().__init__(graphs, read, threads, where)
        self._core = import_openvino().Core()
        # On processors with bfloat16 the plugin would take it for float32, and answer otherwise than on others.
        # Pinned, the engines of several threads of one core each would all sit on the first core.
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads

    def _load(self, files: list[bytes]) -> tuple[Infer, dict[str, str]]:
        structure, weights = files
        model = self._core.read_model(structure, weights)
        marks = {
            name: model.get_rt_info(["cytodistill", name]).astype(str)
            if model.has_rt_info(["cytodistill", name])
            else ""
            for name in ("part", "weights")
        }
        compiled = self._core.compile_model(model, "CPU", self._settings)

        def infer(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            answer = compiled(list(inputs), share_inputs=True)
            return [answer[port] for port in compiled.outputs]

        return infer, marks


def import_onnxruntime() -> Any:
    """The module onnxruntime; a CytodistillError where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise _not_installed("onnx", "ONNX Runtime") from None
    return onnxruntime


def import_openvino() -> Any:
    """The module openvino; a CytodistillError where it is not installed.

    Imported as it comes, it reports to Google Analytics that it was imported and what it converts; a laboratory's
    computer has nothing to report, so its own stand-in for a missing telemetry package is taken.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise _not_installed("openvino", "OpenVINO") from None
    return openvino


def import_nncf() -> Any:
    """The module nncf, which quantises for OpenVINO; a CytodistillError where it is not installed."""
    import_openvino()
    try:
        import nncf
    except ImportError:
        raise _not_installed("openvino", "NNCF") from None
    return nncf


def _not_installed(runtime: str, name: str) -> CytodistillError:
    return CytodistillError(f"runtime {runtime}: {name} is not installed; pip install 'cytodistill[export]'")


ENGINES: dict[str, type[GraphEngine]] = {"onnx": OnnxEngine, "openvino": OpenVinoEngine}
"""Engine of each runtime."""

"""export: a run in, an artifact out that has been shown to answer as the run does."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cytodistill.errors import CytodistillError
from cytodistill.estimators.inputs import ImageInputs
from cytodistill.export import parity
from cytodistill.export.graphs import all_marks, import_onnx, parts_of
from cytodistill.export.parity import BATCHES, Limits, Parity, answers_of, compare, under_policy
from cytodistill.export.quantise import calibration_rows
from cytodistill.export.write import SUFFIXES, Target, described, write_graphs, write_run_files
from cytodistill.files import make_folder
from cytodistill.infer.artifact import Graphs, is_artifact, write_artifact
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.policies import read_policies, weights_digest
from cytodistill.infer.predictor import Predictor, load
from cytodistill.infer.runtimes import ENGINES, import_nncf, import_onnxruntime, import_openvino
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

MEASURED = 128
"""Validation cells on which int8 measures the ranges of activations."""


@dataclass(frozen=True)
class Exported:
    """An artifact's folder, the size of its graphs in bytes, how many segments it has, and the proof."""

    path: Path
    bytes: int
    segments: int
    parity: Parity


def export(
    run: str | Path | Run,
    out: str | Path,
    *,
    runtime: str = "onnx",
    int8: bool = False,
    difference: float = 1e-4,
    agreement: float = 0.97,
    accuracy_change: float = 0.02,
    measured: int = MEASURED,
    watcher: Watcher | None = None,
) -> Exported:
    """Export a finished run, and compare the artifact with it on all validation cells: each graph, in batches of 1, 7
    and 64.

    Args:
        run: run folder of a network of images.
        out: folder to make. It appears whole, or where the comparison fails with the report of it alone.
        runtime: "onnx" or "openvino".
        int8: quantise; else the graphs compute in float32.
        difference: float32 only: the largest difference of a probability; no label of any exit, or under any of the
            run's policies, may change.
        agreement: int8 only: least share of validation cells whose label, by all exits together and under each of the
            run's policies, stays.
        accuracy_change: int8 only: largest change of their accuracy, up or down, as a share.
        measured: int8 only: how many validation cells the ranges of activations are measured on.
        watcher: is told of progress.

    Raises:
        CytodistillError: the run cannot be used or has no validation cells, the folder is not empty, the runtime is
            not installed or does not know the network, or the artifact answers otherwise than the limits allow.

    Example:
        >>> export("runs/first", "exported", runtime="openvino", int8=True)  # doctest: +SKIP
    """
    watcher = watcher or Silent()
    out, target = Path(out), Target(runtime, int8)
    _check(out, target, measured)
    # float32 differs by rounding in the last places, so no exit may change a label.
    limits = Limits(None, agreement, accuracy_change, every_exit=False) if int8 else Limits(difference, 1.0, 0.0, True)
    run = run if isinstance(run, Run) else Run.open(run)
    predictor = _predictor(run)
    cells, labels = _validation(run, predictor, watcher)
    weights = weights_digest(run)
    graphs, parts = parts_of(run.network(), run.recipe.data, weights, SUFFIXES[runtime])
    with _appearing(out) as folder:
        chosen = calibration_rows(labels, np.arange(len(labels)), measured, run.recipe.seed)
        marks = [all_marks(part.graph, weights, run.classes) for part in parts]
        write_graphs(parts, target, folder, marks, cells[chosen], watcher)
        size = sum(file.stat().st_size for file in folder.iterdir())
        policies = {name: fitted.policy for name, fitted in read_policies(run).items()}
        found = _prove(predictor, graphs, folder, target, limits, policies, cells, labels, watcher)
        if found.beyond:
            found.write(make_folder(out))
            more = f" ({len(found.beyond) - 1} more)" if len(found.beyond) > 1 else ""
            raise CytodistillError(
                f"{out}: refused, it answers otherwise than {run.path}: {found.beyond[0]}{more}; "
                f"{out / parity.FILES[1]} has all of it"
            )
        write_run_files(run, folder)
        found.write(folder)
        write_artifact(folder, described(run, predictor, target, weights) | {"parity": found.summary()}, graphs)
    return Exported(out, size, len(graphs.segments), found)


def _check(out: Path, target: Target, measured: int) -> None:
    """Raise CytodistillError for what can be known before anything is read."""
    if target.runtime not in ENGINES:
        raise CytodistillError(f"--runtime {target.runtime}: not known; choose {' or '.join(ENGINES)}")
    if measured < 1:
        raise CytodistillError(f"--measured {measured}: int8 is measured on at least one cell")
    if is_artifact(out):
        raise CytodistillError(f"{out}: holds an artifact already; delete it, or name another folder")
    if out.exists() and not (out.is_dir() and _only_report(out)):
        raise CytodistillError(f"{out}: there already, and not an empty folder; name another one")
    import_onnx()
    {"onnx": import_onnxruntime, "openvino": import_openvino}[target.runtime]()
    if target.int8 and target.runtime == "openvino":
        import_nncf()


def _only_report(folder: Path) -> bool:
    """Whether there is nothing in a folder but the report of an export that was refused."""
    return all(file.name in parity.FILES for file in folder.iterdir())


def _predictor(run: Run) -> Predictor:
    """The run's own, of which an artifact can be made."""
    if is_artifact(run.path):
        raise CytodistillError(f"{run.path}: is an artifact; give the run that it was made from")
    predictor = load(run, "cpu")
    if not isinstance(predictor.inputs, ImageInputs):
        raise CytodistillError(
            f"{run.path}: answers by shapes that are measured outside of any network, and graphs are of networks; give "
            "a run on images"
        )
    return predictor


def _validation(run: Run, predictor: Predictor, watcher: Watcher) -> tuple[np.ndarray, np.ndarray]:
    """All validation cells, (N, S, S, 3) uint8, and their (N,) labels."""
    table = run.table()
    rows = table.indices("val")
    if not len(rows):
        raise CytodistillError(f"{run.path}: has no validation cells to compare on; fit a run with some")
    cells = predictor.inputs.of_table(table, rows, lambda done, total: watcher.step("decode", done, total))
    return np.asarray(cells[rows]), table.labels[rows]


def _prove(
    predictor: Predictor,
    graphs: Graphs,
    folder: Path,
    target: Target,
    limits: Limits,
    policies: dict[str, ExitPolicy],
    cells: np.ndarray,
    labels: np.ndarray,
    watcher: Watcher,
) -> Parity:
    """Compare the graphs in a folder with the run's own answers, and what comes of both under the run's policies."""
    engine = ENGINES[target.runtime](graphs, lambda name: (folder / name).read_bytes())
    reference = predictor.predict_cells(cells).exit_probabilities
    done, total = 0, 2 * len(BATCHES) * len(cells)

    def step(cells: int) -> None:
        nonlocal done
        done += cells
        watcher.step("compare", done, total)

    found = []
    for kind in ("whole", "segments"):
        for batch in BATCHES:
            answers = answers_of(engine, cells, kind, batch, step)
            found.append(compare(kind, batch, answers, reference, labels))
    # The last answers are those of segments in whole batches, which is how policies run.
    stopped = tuple(under_policy(name, policy, answers, reference) for name, policy in policies.items())
    accuracy = (parity.with_ensemble(reference).argmax(2) == labels[:, None]).mean(0).tolist()
    return Parity(target.runtime, target.precision, len(cells), limits, accuracy, tuple(found), stopped)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that on a clean exit is renamed to it, once it is all on the disk, and else removed."""
    made = make_folder(out.absolute().parent) / f".{out.name}.{os.getpid()}.tmp"
    _sweep(out)
    try:
        made.mkdir()
        yield made
        for path in (*made.iterdir(), made):
            _sync(path)
        if out.exists():
            for name in parity.FILES:
                (out / name).unlink(missing_ok=True)
        os.rename(made, out)
        _sync(out.absolute().parent)
    except OSError as error:
        raise CytodistillError(
            f"{out}: cannot be written ({error.strerror}); make room, or choose another place"
        ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sweep(out: Path) -> None:
    """Remove what exports to the same folder have left that were killed."""
    for left in out.absolute().parent.glob(f".{glob.escape(out.name)}.*.tmp"):
        number = left.name.removesuffix(".tmp").rpartition(".")[2]
        if left.is_dir() and number.isdecimal() and not Path("/proc", number).exists():
            shutil.rmtree(left, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import cytodistill.export.run as exporting
from cytodistill.cli import main
from cytodistill.errors import CytodistillError, Interrupted
from cytodistill.evaluation.run import evaluate
from cytodistill.export import export
from cytodistill.infer.artifact import Artifact
from cytodistill.infer.batch import predict
from cytodistill.infer.exit_policy import ExitPolicy, never
from cytodistill.infer.policies import FittedPolicy, load_policy, write_policies
from cytodistill.infer.predictor import load
from cytodistill.infer.promise import Budget
from cytodistill.models.multi_exit import build_network
from cytodistill.train.log import Silent
from cytodistill.train.run_folder import Run


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    """The tiny run, evaluated and with an exit policy."""
    copy = tmp_path_factory.mktemp("exported") / "run"
    shutil.copytree(tiny_run.path, copy)
    evaluate(copy, report=False)  # which decides how probabilities are calibrated
    run = Run.open(copy)
    policy = ExitPolicy("confidence", (0.7, 0.7, never("confidence", 3)))
    write_policies(run, {"early": FittedPolicy(policy, Budget(0.5), 9, 3, (1, 2, 3), {})})
    return run


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def artifact(run, request):
    out = run.path.parent / request.param
    out.mkdir()
    for file in ("parity.json", "parity.md"):
        (out / file).write_text("of an export that was refused")
    return export(run, out, runtime=request.param).path


@pytest.fixture(scope="module")
def every_cell(run):
    predictor = load(run)
    table = run.table()
    return np.asarray(predictor.inputs.of_table(table, table.indices("all")))


def other_network(run, folder, settings):
    """A copy of a run whose network is another one, with drawn weights."""
    shutil.copytree(run.path, folder)
    for file in ("calibration.json", "policies.json"):
        (folder / file).unlink()
    recipe = run.recipe.override(settings)
    changed = Run(folder, run.info | {"recipe": recipe.model_dump(mode="json")})
    changed.write()
    network = build_network(recipe.student, len(run.classes), recipe.data.image_size, seed=1)
    save_file(network.state_dict(), folder / "model.safetensors")
    return changed


def test_answers_as_the_network_in_any_batch_and_under_a_policy(run, artifact, every_cell):
    ours, theirs = load(run), load(artifact)
    data = run.recipe.data
    pixels = ((every_cell / 255 - data.mean) / data.std).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        logits = torch.stack(ours.network(torch.from_numpy(pixels)).logits, 1).numpy()
    for batch in (1, 7, 64):
        found = theirs.predict_cells(every_cell, batch, logits=True)
        np.testing.assert_allclose(found.logits, logits, atol=2e-4)
    policy = load_policy(artifact, "early")
    assert policy == load_policy(run, "early")
    early, expected = (one.answer(every_cell, policy) for one in (theirs, ours))
    np.testing.assert_array_equal(early.used, expected.used)
    assert len(set(early.used)) > 1
    np.testing.assert_allclose(early.probabilities, expected.probabilities, atol=1e-4)


def test_evaluates_and_predicts_as_its_run(run, artifact, cells, tmp_path):
    theirs = evaluate(artifact, out=tmp_path / "report").metrics
    ours = json.loads((run.path / "report" / "metrics.json").read_text())
    assert theirs["ensemble"]["confusion_matrix"] == ours["ensemble"]["confusion_matrix"]
    assert theirs["ensemble"]["auc"] == pytest.approx(ours["ensemble"]["auc"])
    assert theirs["trust"].keys() == ours["trust"].keys()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Computation of one cell until it has the answer of each exit" in page
    assert "gone; fit again" not in page  # class maps, which need the run's own network
    for each in (run.path, artifact):
        predict(each, cells, tmp_path / f"{each.name}.csv", policy="early")
    mine, other = (pd.read_csv(tmp_path / f"{each.name}.csv") for each in (run.path, artifact))
    columns = ["path", "predicted", "exit"]
    pd.testing.assert_frame_equal(mine[columns], other[columns])
    np.testing.assert_allclose(mine.filter(like="prob_"), other.filter(like="prob_"), atol=1e-4)
    Artifact.open(artifact)  # and it is what it was


def test_says_all_that_is_needed_to_use_it_elsewhere(run, artifact):
    info = Artifact.open(artifact).info
    assert info["classes"] == list(run.classes)
    assert info["input"]["shape"] == ["batch", 64, 64, 3]
    assert [entry["exits"] for entry in (*info["segments"], info["whole"])] == [1, 1, 1, 3]
    assert len(info["calibration"]["temperature"]) == 4
    assert info["policies"]["early"]["thresholds"][:2] == [0.7, 0.7]
    assert info["parity"]["label_changes"] == 0
    assert info["parity"]["difference"] <= 1e-4
    report = json.loads((artifact / "parity.json").read_text())
    assert [(row["graphs"], row["batch"]) for row in report["comparisons"]] == [
        (graphs, batch) for graphs in ("whole", "segments") for batch in (1, 7, 64)
    ]
    assert not list(artifact.parent.glob(".*"))


def test_files_need_no_others(run, artifact, every_cell):
    """Each ONNX file, as whoever has it alone would use it."""
    if Artifact.open(artifact).runtime != "onnx":
        return
    state, found = [every_cell[:3]], []
    for number in (1, 2, 3):
        content = (artifact / f"segment{number}.onnx").read_bytes()
        assert not any(tensor.external_data for tensor in onnx.load_from_string(content).graph.initializer)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(run.classes)
        names = [entry.name for entry in session.get_inputs()]
        logits, *state = session.run(None, dict(zip(names, state, strict=True)))
        found.append(logits)
    expected = load(artifact).predict_cells(every_cell[:3], logits=True).logits
    np.testing.assert_allclose(np.concatenate(found, axis=1), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "segments"),
    [
        ({"student.multi_exit": False}, 1),
        ({"student.backbone": "msdnet_4", "data.image_size": 32}, 4),
    ],
)
def test_networks_of_one_exit_and_msdnets(run, tmp_path, settings, segments):
    other = other_network(run, tmp_path / "run", settings)
    done = export(other, tmp_path / "artifact")
    assert done.segments == segments
    assert done.parity.beyond == []
    assert load(tmp_path / "artifact").exits == load(other).exits


@pytest.mark.parametrize(
    ("backbone", "kind"),
    [
        ("test_resnet", np.uint8),
        # A stage ends in a convolution: see `ranges_kept`.
        ("test_efficientnet", np.float32),
    ],
)
def test_int8_segments_answer_as_the_whole(run, tmp_path, every_cell, backbone, kind):
    other = other_network(run, tmp_path / "run", {"student.backbone": backbone, "student.taps": 2})
    export(other, tmp_path / "int8", runtime="openvino", int8=True, agreement=0, accuracy_change=1, measured=8)
    engine = load(tmp_path / "int8").engine
    logits, (state,) = engine.run(0, engine.start(every_cell[:8]))
    assert state.dtype == kind
    assert len(np.unique(state)) > 50
    found = np.concatenate([logits, engine.run(1, (state,))[0]], axis=1)
    whole = engine.whole(every_cell[:8])
    assert np.abs(found - whole).max() < 0.15 * np.ptp(whole)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_int8_is_smaller_and_says_what_it_changes(run, tmp_path, every_cell, runtime):
    if runtime == "openvino":  # NNCF takes seconds for every graph
        run = other_network(run, tmp_path / "run", {"student.multi_exit": False})
    done = export(run, tmp_path / "int8", runtime=runtime, int8=True, agreement=0, accuracy_change=1, measured=8)
    table = run.table()
    rows = table.indices("val")
    ours, theirs = (load(each).predict_cells(every_cell[rows]).probabilities.argmax(1) for each in (run, done.path))
    said = done.parity.comparisons[2]
    assert said.agreement[-1] == (ours == theirs).mean()
    assert said.accuracy_change[-1] == pytest.approx(
        (theirs == table.labels[rows]).mean() - (ours == table.labels[rows]).mean()
    )
    assert 1e-4 < said.difference < 0.5
    if runtime == "onnx":
        (under,) = done.parity.policies
        policy = load_policy(run, "early")
        ours, theirs = (load(each).answer(every_cell[rows], policy) for each in (run, done.path))
        assert under.exits_changed == (ours.used != theirs.used).sum()
        assert under.label_changes == (ours.probabilities.argmax(1) != theirs.probabilities.argmax(1)).sum()
        out = predict(done.path, [run.path / "manifest.csv"], tmp_path / "answers.csv", policy="early")
        assert "fitted in float32, not promised of int8" in out.applied
        graph = onnx.load(done.path / "whole.onnx").graph
        makers = {output: node for node in graph.node for output in node.output}
        convolutions = [node for node in graph.node if node.op_type == "Conv"]
        inside = [makers[node.input[1]].op_type for node in convolutions if "/heads" not in node.name]
        assert inside
        assert set(inside) == {"DequantizeLinear"}
        assert all(makers.get(node.input[1]) is None for node in graph.node if node.op_type == "Gemm")


def test_one_that_answers_otherwise_leaves_its_report_alone(run, tmp_path, monkeypatch, capsys):
    honest = exporting.parts_of

    def wrong_preprocessing(network, data, weights, suffixes):
        return honest(network, data.model_copy(update={"mean": (0.0, 0.0, 0.0)}), weights, suffixes)

    monkeypatch.setattr(exporting, "parts_of", wrong_preprocessing)
    out = tmp_path / "artifact"
    with pytest.raises(SystemExit) as ended:
        main(["export", str(run.path), "-o", str(out)])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {out}: refused, it answers otherwise than {run.path}: whole, batch 1: prob")
    assert said.count("\n") == 1
    assert sorted(file.name for file in out.iterdir()) == ["parity.json", "parity.md"]
    assert json.loads((out / "parity.json").read_text())["beyond"]
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(CytodistillError, match="not a run folder"):
        load(out)


def test_an_interrupted_one_leaves_nothing(run, tmp_path):
    class Interrupting(Silent):
        def step(self, stage, done, total, note=""):
            if done == 1:  # the first graph is written
                raise Interrupted("interrupted")

    left = tmp_path / ".artifact.999999999.tmp"  # by one that was killed
    left.mkdir()
    with pytest.raises(Interrupted):
        export(run, tmp_path / "artifact", watcher=Interrupting())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused_before_anything_is_written(run, tmp_path):
    out = tmp_path / "out"
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    for given, wanted in (
        ({"out": taken}, "taken: there already, and not an empty folder"),
        ({"out": out, "runtime": "tflite"}, "--runtime tflite: not known; choose onnx or openvino"),
        ({"out": out, "measured": 0}, "--measured 0"),
    ):
        with pytest.raises(CytodistillError, match=wanted):
            export(run, **given)
    shapes = Run(tmp_path / "shapes", run.info)
    shutil.copytree(run.path, shapes.path)
    frame = run.table().frame
    table = run.table().with_frame(frame[frame["split"] != "val"])
    table.write(shapes.path / "manifest.csv")
    Run(shapes.path, run.info | {"table": run.info["table"] | {"digest": table.digest()}}).write()
    with pytest.raises(CytodistillError, match="has no validation cells"):
        export(shapes.path, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shapes", "taken"]


def test_an_artifact_is_no_run(run, artifact, tmp_path):
    with pytest.raises(CytodistillError, match="is an artifact; give the run that it was made from"):
        export(artifact, tmp_path / "again")
    with pytest.raises(CytodistillError, match="holds an artifact already"):
        export(run, artifact)
    with pytest.raises(CytodistillError, match="give the run"):
        _ = load(artifact).network
    with pytest.raises(CytodistillError, match="computes on the CPU"):
        load(artifact, "cuda")

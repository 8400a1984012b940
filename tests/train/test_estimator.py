"""fit → evaluate → predict of estimators: run folders like any others."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from cytodistill.data.prepare import prepare_table
from cytodistill.data.sources import read_source
from cytodistill.data.sources.synthetic import synthesize
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.infer.files import collect, predict_files
from cytodistill.infer.predictor import load
from cytodistill.infer.writers import open_writer
from cytodistill.models.count import count_parameters
from cytodistill.train.fit import fit
from cytodistill.train.log import Silent
from cytodistill.train.run_folder import Run

DEEP = {"student.multi_exit": False, "estimator.features": "fc"}
SHAPE = {"student.multi_exit": False, "estimator.features": "shape"}
SMALL = {"estimator.clusters": 6, "estimator.neighbours": 2, "estimator.hidden": 32, "estimator.epochs": 200}
SYSTEMS = {
    "conv-svm": {**DEEP, "estimator.features": "conv", "estimator.head": "svm", "estimator.c": 10},
    "fc-svm": {**DEEP, "estimator.head": "svm", "estimator.kernel": "linear", "estimator.components": 12},
    "gcn": {**DEEP, **SMALL, "estimator.head": "gcn"},
    "mlp": {**SHAPE, "estimator.head": "mlp", "estimator.hidden": 32, "estimator.epochs": 400},
}


class Listening(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Synthetic cells with contours in their files."""
    return synthesize(tmp_path_factory.mktemp("drawn") / "cells", 100)


@pytest.fixture(scope="module")
def runs(drawn, tiny, tiny_run, tmp_path_factory):
    """A finished run of every system: deep features are the trained tiny run's, shapes have contours in files."""
    folder = tmp_path_factory.mktemp("estimators")
    made = {}
    for system, settings in SYSTEMS.items():
        shapes = settings["estimator.features"] == "shape"
        recipe = tiny.override(settings | {"student.pretrained": "none" if shapes else str(tiny_run.path)})
        table = prepare_table(drawn, tiny) if shapes else tiny_run.table()
        made[system] = fit(table, folder / system, recipe=recipe, device="cpu")
    return made


@pytest.fixture(scope="module")
def found(runs):
    """Every run evaluated on its test split."""
    return {system: evaluate(run, device="cpu") for system, run in runs.items()}


@pytest.mark.parametrize("system", SYSTEMS)
def test_learns_above_chance_and_leaves_a_run_folder_like_any_other(runs, found, system):
    run = runs[system]
    assert found[system].metrics["ensemble"]["balanced_accuracy"] > 1.6 / len(run.classes)
    assert {"run.json", "model.safetensors", "manifest.csv", "report"} <= {file.name for file in run.path.iterdir()}
    info = json.loads((run.path / "run.json").read_text())
    assert (info["status"], info["exits"]) == ("finished", 1)
    assert info["parameters"] == count_parameters(run.network())
    assert set(info["result"]["val"]) == {"accuracy", "balanced_accuracy", "f1"}
    assert set(load_file(run.path / "model.safetensors")) == set(run.network().state_dict())


@pytest.mark.parametrize("system", SYSTEMS)
def test_predict_evaluate_and_python_say_the_same(runs, found, system, tmp_path):
    table = runs[system].table()
    table = table.with_frame(table.frame.iloc[table.indices("test")])
    table.write(tmp_path / "cells.csv")
    predictor = load(runs[system], "cpu")
    with open_writer(tmp_path / "p.csv", predictor.classes, predictor.exits) as writer:
        assert predict_files(predictor, collect([tmp_path / "cells.csv"]), writer, batch_size=4) == []
    predicted, evaluated = pd.read_csv(tmp_path / "p.csv"), found[system].predictions
    python = predictor.predict((table.frame["root"] + "/" + table.frame["path"]).tolist())
    probabilities = [f"prob_{name}" for name in predictor.classes]
    assert len(predicted) == len(evaluated) == len(python) > 8
    np.testing.assert_allclose(predicted[probabilities], evaluated[probabilities], atol=1e-5)
    np.testing.assert_allclose(python.probabilities, evaluated[probabilities], atol=1e-5)
    np.testing.assert_allclose(evaluated[probabilities].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("system", ["conv-svm", "gcn"])
def test_the_same_settings_give_the_same_file(runs, system, tmp_path):
    run = runs[system]
    again = fit(run.table(), tmp_path / "again", recipe=run.recipe, device="cpu")
    assert (again.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()


def test_the_temperature_is_fitted_on_validation_and_is_1_without(runs, tiny, cells, tmp_path):
    assert runs["conv-svm"].info["result"]["temperature"] != 1
    table = prepare_table(cells, tiny)
    frame = table.frame.assign(split=table.frame["split"].replace("val", "train"))
    recipe = tiny.override(SYSTEMS["gcn"] | {"data.val_fraction": 0, "estimator.epochs": 3})
    run = fit(table.with_frame(frame), tmp_path / "r", recipe=recipe, device="cpu")
    assert run.info["result"]["temperature"] == 1
    assert (run.info["result"]["best_epoch"], run.info["result"]["selected_by"]) == (2, "last")
    assert "val" not in run.info["result"]


def test_it_is_said_where_contours_come_from(drawn, tiny, tmp_path):
    table = prepare_table(drawn, tiny)
    table = table.with_frame(table.frame.groupby(["label", "split"]).head(2))
    fitted = len(table.indices("train")) + len(table.indices("val"))
    row = table.frame.iloc[table.indices("train")[0]]
    (drawn / row["path"].replace(".bmp", "_nuc.dat")).rename(tmp_path / "kept.dat")
    try:
        listener = Listening()
        recipe = tiny.override({**SYSTEMS["mlp"], "estimator.epochs": 2})
        run = fit(table, tmp_path / "r", recipe=recipe, device="cpu", watcher=listener)
        assert run.info["contours"] == {"file": fitted - 1, "segmented": 1}
        assert run.info["versions"]["scikit-image"]
        assert f"contours: {fitted - 1} cells from files, 1 segmented" in listener.lines
        with pytest.raises(CytodistillError, match=rf"{row['path']}: has no contours"):
            fit(table, tmp_path / "no", recipe=recipe.override({"estimator.contours": "file"}))
        assert not (tmp_path / "no").exists()
    finally:
        (tmp_path / "kept.dat").rename(drawn / row["path"].replace(".bmp", "_nuc.dat"))
    listener = Listening()
    evaluate(run, out=tmp_path / "report", device="cpu", watcher=listener)
    assert f"contours: {len(table.indices('test'))} cells from files, 0 segmented" in listener.lines


def test_cells_without_contours_are_segmented(cells, tiny, tmp_path):
    recipe = tiny.override({**SHAPE, "estimator.head": "svm"})
    run = fit(cells, tmp_path / "r", recipe=recipe, device="cpu")
    fitted = sum(sum(run.info["table"]["counts"][split]) for split in ("train", "val"))
    assert run.info["contours"] == {"file": 0, "segmented": fitted}
    assert load(run, "cpu").predict(sorted(cells.rglob("*.png"))[0]).probabilities.shape == (1, 3)


def test_shapes_of_a_zip_and_of_pictures(runs, drawn, zipped):
    predictor = load(runs["mlp"], "cpu")
    table = read_source(zipped(drawn))
    root, path = table.frame.iloc[4][["root", "path"]]
    filed = predictor.predict(drawn / path)
    packed = predictor.predict_cells(predictor.stack([predictor.read(root, path)]))
    np.testing.assert_array_equal(packed.probabilities, filed.probabilities)
    pictures = predictor.predict([Image.open(drawn / path), np.asarray(Image.open(drawn / path).convert("RGB"))])
    np.testing.assert_allclose(pictures.probabilities[0], pictures.probabilities[1], atol=1e-6)
    assert len(predictor.predict([])) == 0
    assert predictor.predict([]).probabilities.shape == (0, 5)


def test_bad_cells_are_passed_over_in_their_place(runs, drawn, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    cell = drawn / read_source(drawn).frame.iloc[0]["path"]
    for name in ("a", "c"):
        (folder / f"{name}.bmp").write_bytes(cell.read_bytes())
    Image.new("RGB", (30, 30), (220, 210, 215)).save(folder / "b.bmp")
    predictor = load(runs["mlp"], "cpu")
    with open_writer(tmp_path / "p.csv", predictor.classes, predictor.exits) as writer:
        problems = predict_files(predictor, collect([folder]), writer)
    rows = pd.read_csv(tmp_path / "p.csv")
    assert rows["predicted"].isna().tolist() == [False, True, False]
    assert len(problems) == 1
    assert "b.bmp: no cell can be told from the slide" in problems[0]
    assert predictor.inputs.origins["segmented"] == 2


def test_finished_runs_are_returned_and_killed_ones_start_anew(runs, tiny_run, tmp_path):
    run = runs["conv-svm"]
    before = (run.path / "model.safetensors").stat().st_mtime_ns
    assert fit(run.table(), run.path, resume=True, device="cpu").finished
    assert (run.path / "model.safetensors").stat().st_mtime_ns == before
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "manifest.csv").write_bytes((run.path / "manifest.csv").read_bytes())
    (killed / "run.json").write_text(json.dumps({**run.info, "status": "training"}))
    again = fit(run.table(), killed, resume=True, device="cpu")
    assert again.finished
    assert (killed / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()


def test_a_deep_estimator_can_teach_and_a_shape_estimator_cannot(runs, tiny, cells, tiny_run, drawn, tmp_path):
    student = {"student.multi_exit": False, "method.name": "kd", "train.epochs": 1}
    run = fit(
        tiny_run.table(), tmp_path / "r", recipe=tiny.override(student), teacher=str(runs["gcn"].path), device="cpu"
    )
    assert run.finished
    with pytest.raises(CytodistillError, match="classifies shapes, not images, so it can be no teacher"):
        fit(runs["mlp"].table(), tmp_path / "n", recipe=tiny.override(student), teacher=str(runs["mlp"].path))
    with pytest.raises(CytodistillError, match="an estimator as teacher shows none"):
        fit(
            tiny_run.table(),
            tmp_path / "n",
            recipe=tiny.override({**student, "method.name": "attention_transfer"}),
            teacher=str(runs["gcn"].path),
        )


def test_an_estimators_network_is_frozen(runs, tiny_run):
    theirs, ours = tiny_run.network().state_dict(), runs["gcn"].network().state_dict()
    shared = {name: tensor for name, tensor in ours.items() if name.startswith("backbone.") and tensor.ndim > 1}
    assert len(shared) > 4
    flat = {name.replace(".", "_"): tensor for name, tensor in theirs.items()}
    assert all(torch.equal(tensor, flat[name.replace(".", "_")]) for name, tensor in shared.items())


SVM = {**DEEP, "estimator.head": "svm"}
REFUSALS = [
    ({**SVM, "student.multi_exit": True}, "estimator.head=svm: has one exit; set student.multi_exit=false"),
    ({**SVM, "teacher.source": "test_resnet"}, "estimator.head=svm: learns from no teacher; set --teacher none"),
    ({**SVM, "estimator.components": 4000}, "estimator.components=4000: 96 features of 24 .* at most 24; lower it"),
    ({**SVM, "student.backbone": "resnet99"}, "student.backbone='resnet99': timm has no such model"),
    (
        {**SMALL, **DEEP, "estimator.head": "gcn", "estimator.clusters": 90},
        "estimator.clusters=90: there are 24 training cells to cluster; lower it",
    ),
    ({**SHAPE, "estimator.head": "mlp", "estimator.contours": "file"}, "has no contours"),
]


@pytest.mark.parametrize(("settings", "says"), REFUSALS)
def test_what_does_not_fit_is_refused_before_anything_is_written(cells, tiny, tmp_path, settings, says):
    with pytest.raises(CytodistillError, match=says):
        fit(cells, tmp_path / "r", recipe=tiny.override(settings), device="cpu")
    assert not (tmp_path / "r").exists()


def test_neighbours_must_be_other_clusters(tiny):
    with pytest.raises(CytodistillError, match="neighbours=32: a cluster has 31 others; lower it, or raise clusters"):
        tiny.override({"estimator.neighbours": 32})


def test_a_class_without_training_cells_is_refused(cells, tiny, tmp_path):
    table = prepare_table(cells, tiny)
    split = table.frame["split"].mask((table.frame["label"] == "middle") & (table.frame["split"] == "train"), "test")
    with pytest.raises(CytodistillError, match="class 'middle' has no training cells"):
        fit(
            table.with_frame(table.frame.assign(split=split)),
            tmp_path / "r",
            recipe=tiny.override({**SYSTEMS["fc-svm"], "data.group": "none"}),
        )


def test_a_start_that_has_seen_the_test_cells_is_refused(cells, tiny, tiny_run, tmp_path):
    recipe = tiny.override({**SYSTEMS["fc-svm"], "student.pretrained": str(tiny_run.path), "seed": 3})
    with pytest.raises(CytodistillError, match="of the .* test cells trained that run"):
        fit(cells, tmp_path / "r", recipe=recipe, device="cpu")


def test_damaged_weights_are_named(runs, tmp_path):
    run = runs["fc-svm"]
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "run.json").write_bytes((run.path / "run.json").read_bytes())
    other = runs["gcn"].path / "model.safetensors"
    for content in (b"not weights", other.read_bytes()):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(CytodistillError, match=r"model.safetensors: damaged or of another network"):
            Run.open(folder).network()

"""A run tested on a data set of other classes, by a class map for each side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cytodistill.data.class_map import ClassMap
from cytodistill.data.sources import read_source
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.applied import apply_fitted, collapse_applied
from cytodistill.evaluation.external import evaluate_external, external_lines
from cytodistill.evaluation.run import evaluate
from cytodistill.evaluation.trust import trust_lines
from cytodistill.infer.cells import cells_to_judge
from cytodistill.infer.fitted import FILE, Fitted
from cytodistill.infer.predictor import load
from cytodistill.metrics.calibration import Calibrator
from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.conformal import ConformalSets
from cytodistill.metrics.operating_point import choose_operating_point
from cytodistill.train.fit import fit
from cytodistill.train.run_folder import Run

OWN = """
name: own
version: 3
source: folder
target: near / far
origin: this test
classes: {left: near, middle: far, right: far}
target_classes: [near, far]
abnormal: [far]
"""
OTHER = """
name: other
version: 1
source: folder
target: near / far
origin: this test
classes: {a: near, b: far, c: far, odd: null}
target_classes: [near, far]
abnormal: [far]
"""


@pytest.fixture(scope="module")
def maps(tmp_path_factory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("maps")
    (folder / "own.yaml").write_text(OWN)
    (folder / "other.yaml").write_text(OTHER)
    return folder / "own.yaml", folder / "other.yaml"


@pytest.fixture(scope="module")
def elsewhere(cells, tmp_path_factory) -> Path:
    """The cells under other class names, with other content, and a few of a class that the map leaves out."""
    folder = tmp_path_factory.mktemp("elsewhere") / "clinic"
    for ours, theirs in (("left", "a"), ("middle", "b"), ("right", "c")):
        for file in (cells / ours).rglob("*.png"):
            target = folder / theirs / file.relative_to(cells / ours)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes() + b"another file")
    shutil.copytree(folder / "c" / "right-slide0", folder / "odd" / "odd-slide0")
    return folder


@pytest.fixture(scope="module")
def found(tiny_run, elsewhere, maps, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return evaluate_external(tiny_run, elsewhere, class_map=maps[0], source_map=maps[1], out=out)


def test_figures_are_of_collapsed_probabilities_and_renamed_labels(found, tiny_run, elsewhere, cells):
    """The same pictures, answered under the run's own class names, then collapsed by hand."""
    plain = evaluate(tiny_run, split="all", out=elsewhere.parent / "plain")
    by_cell = {}
    for row in plain.predictions.to_dict("records"):
        near = row["prob_left"]
        by_cell[row["path"].split("/", 1)[1]] = near, row["label"] == "left"
    assert found.metrics["n"] == len(by_cell) == 45
    for row in found.predictions.to_dict("records"):
        near, is_near = by_cell[row["path"].split("/", 1)[1]]
        assert row["prob_near"] == pytest.approx(near, abs=1e-6)
        assert row["label"] == ("near" if is_near else "far")
        assert row["predicted"] == ("near" if near > 0.5 else "far")
        assert row["source_label"] == row["path"][0]
        assert row["run_predicted"] in tiny_run.classes
    probabilities = found.predictions[["prob_near", "prob_far"]].to_numpy()
    labels = (found.predictions["label"] == "far").to_numpy().astype(int)
    expected = classification_metrics(probabilities, labels, ["near", "far"])
    for name in ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1", "auc"):
        assert found.metrics["ensemble"][name] == pytest.approx(expected[name]), name
    assert found.metrics["ensemble"]["confusion_matrix"] == expected["confusion_matrix"]
    assert len(found.metrics["exits"]) == 3


def test_the_maps_and_what_they_leave_out_are_told(found, elsewhere):
    metrics = found.metrics
    assert metrics["external"] is True
    assert (metrics["class_map"], metrics["source_map"]) == ("own v3", "other v1")
    assert metrics["left_out"] == {"cells": 4, "by_class": {"odd": 4}, "probability": 0.0}
    assert metrics["split"] == "all"
    assert metrics["classes"] == ["near", "far"]
    assert set(metrics["intervals"]["ensemble"]) >= {"accuracy", "f1", "auc"}
    right = found.predictions["predicted"] == found.predictions["label"]
    for name, of in metrics["by_source_class"].items():
        own = found.predictions["source_label"] == name
        assert (of["n"], of["right"]) == (own.sum(), pytest.approx(right[own].mean()))
        assert of["interval"][0] <= of["right"] <= of["interval"][1]
    assert "odd" not in metrics["by_source_class"]
    assert external_lines(metrics) == ["External test: own v3 against other v1; 4 cells left out (odd 4)"]
    assert json.loads(found.files[0].read_text())["external"] is True
    assert external_lines({"n": 3}) == []


def test_what_the_validation_cells_decided_is_carried_over_and_not_chosen_anew(found, tiny_run):
    carried = found.metrics["carried_over"]
    assert "trust" not in found.metrics
    scaling = carried["calibration"]["ensemble"]["temperature"]["temperature"]
    table = tiny_run.table()
    validation = table.frame.iloc[table.indices("val")]
    assert carried["fitted_on"] == {"split": "val", "cells": len(validation), "groups": validation["group"].nunique()}
    point = next(point for point in carried["screening"]["operating_points"] if point["name"] == "youden")
    chosen = choose_operating_point(
        far_scores(tiny_run, validation, scaling), validation["label"] != "left", youden=True
    )
    assert point["threshold"] == pytest.approx(chosen.threshold, abs=1e-5)
    # What it does is told of the other cells.
    called = far_scores(tiny_run, found.table.frame, scaling) >= point["threshold"]
    abnormal = found.table.labels == 1
    assert point["sensitivity"] == pytest.approx(called[abnormal].mean())
    assert point["specificity"] == pytest.approx(1 - called[~abnormal].mean())
    assert carried["screening"]["class_map"] == "own v3"


def far_scores(run, frame: pd.DataFrame, temperature: float) -> np.ndarray:
    """1 − p(left) after scaling, by the run's own predictor."""
    files = [Path(root, path) for root, path in zip(frame["root"], frame["path"], strict=True)]
    powers = load(run).predict(files).probabilities.astype(float) ** (1 / temperature)
    return 1 - powers[:, 0] / powers.sum(1)


def test_calibrated_probabilities_are_collapsed_after_scaling_and_sets_by_their_members(found, tiny_run):
    carried = found.metrics["carried_over"]
    scaled = carried["calibration"]["ensemble"]["temperature"]
    far = far_scores(tiny_run, found.table.frame, scaled["temperature"])
    true = np.where(found.table.labels == 1, far, 1 - far)
    assert scaled["nll"] == pytest.approx(-np.log(true).mean(), rel=1e-4)
    # A promise for each of three classes says nothing of two.
    assert sorted(carried["conformal"]) == [
        *("aps-0.9", "aps-0.95", "lac-0.9", "lac-0.9-by-group", "lac-0.95", "lac-0.95-by-group"),
    ]
    assert all(kind["mean_size"] <= 2 for kind in carried["conformal"].values())
    lines = trust_lines(found.metrics)
    assert sum("NLL" in line for line in lines) == 1
    assert any("band of" in line for line in lines)


def test_sets_of_a_left_out_class_alone_are_empty_and_hold_nothing():
    class_map = ClassMap.load("cric-bethesda-3")
    classes = ("NILM", "ASC-US", "LSIL", "HSIL")
    p = np.array([[0.1, 0.8, 0.05, 0.05], [0.6, 0.1, 0.2, 0.1]])
    sets = ConformalSets("lac", 0.5, False, (0.5,) * 4, (9,) * 4)
    none = Calibrator()
    fitted = Fitted("mark", 9, 9, (none, none), (none, none), {"lac-0.5": sets}, None, ())
    whole = apply_fitted(fitted, p[:, None], p, np.array([0, 1]), classes, None)
    collapsed = collapse_applied(whole, class_map, classes)
    assert collapsed.sets["lac-0.5"].tolist() == [[False, False, False], [True, False, False]]
    np.testing.assert_allclose(collapsed.ensemble, [[0.5, 0.25, 0.25], [0.6 / 0.9, 0.2 / 0.9, 0.1 / 0.9]])


def test_the_files_lie_beside_the_runs_own_report(tiny_run, elsewhere, maps, tmp_path):
    run = shutil.copytree(tiny_run.path, tmp_path / "run")
    found = evaluate_external(run, elsewhere, class_map=maps[0], source_map=maps[1])
    assert found.files[0] == run / "external" / "clinic" / "metrics.json"
    # Points by a map of one's own are not what the run keeps.
    assert not (run / FILE).is_file() or json.loads((run / FILE).read_text())["class_map"] != "own"


def test_a_source_counts_whole_or_one_of_its_splits(tiny_run, elsewhere, maps, tmp_path):
    table = read_source(elsewhere)
    split = np.where(np.arange(len(table)) % 2, "train", "test")
    divided = table.with_frame(table.frame.assign(split=split))
    both = {"class_map": maps[0], "source_map": maps[1], "out": tmp_path}
    assert evaluate_external(tiny_run, divided, **both).metrics["n"] == 45
    tested = evaluate_external(tiny_run, divided, split="test", **both).metrics
    assert tested["n"] == int(((table.frame["label"] != "odd") & (split == "test")).sum())
    assert tested["source"] == "a table"
    with pytest.raises(CytodistillError, match="no cells in split 'val'; leave --split out"):
        evaluate_external(tiny_run, divided, split="val", **both)


def test_wrong_uses_are_one_line_and_write_nothing(tiny_run, elsewhere, cells, maps, tmp_path):
    def refused(message: str, source=elsewhere, class_map=maps[0], source_map=maps[1]):
        with pytest.raises(CytodistillError, match=message) as error:
            evaluate_external(tiny_run, source, class_map=class_map, source_map=source_map, out=tmp_path / "x")
        assert "\n" not in str(error.value)
        assert not (tmp_path / "x").exists()

    refused(
        "class maps own v3 and herlev-bethesda-3 v1: lead to near, far and NILM, LSIL, HSIL",
        source_map="herlev-bethesda-3",
    )
    refused(
        "cric-binary v1: has no entry for the class 'left' of the model",
        class_map="cric-binary",
        source_map="herlev-binary",
    )
    unnamed = tmp_path / "unnamed"
    for theirs, other in (("a", "a"), ("b", "d")):
        shutil.copytree(elsewhere / theirs, unnamed / other)
    refused("other v1: has no entry for the class 'd' of the table", source=unnamed)
    other_ill = tmp_path / "ill.yaml"
    other_ill.write_text(OTHER.replace("abnormal: [far]", "abnormal: [near]"))
    refused("own v3 and other v1: call abnormal far and near; use two maps of the same target", source_map=other_ill)
    # The run's own cells are no external test, whatever they are called.
    renamed = tmp_path / "own.yaml"
    renamed.write_text(OWN)
    refused(r"\d+ of its 45 cells trained this run", source=cells, source_map=renamed)


def test_the_command_that_joins_two_known_data_sets_is_named(tiny_run, tmp_path, plant):
    """By the names of the classes: the run's here are made to be CRIC's."""
    run = Run(tiny_run.path, {**tiny_run.info, "classes": ["NILM", "LSIL", "HSIL"]})
    herlev = plant("light_dysplastic/1-1-1-001.BMP", "normal_columnar/2-1-1-001.BMP", folder="herlev")
    with pytest.raises(CytodistillError, match=r"--map cric-binary --source-map herlev-binary`$") as error:
        cells_to_judge(run, herlev, "test")
    assert f"cytodistill evaluate {run.path} {herlev}" in str(error.value)
    with pytest.raises(CytodistillError, match="rename it, or leave its cells out"):
        cells_to_judge(run, plant("x/1.png", "y/2.png", folder="xy"), "test")


def test_a_run_of_cric_on_herlev(shared_data, tmp_path, tiny):
    """Both maps and both formats as they are; the figures of an untrained network mean nothing."""
    herlev = read_source(shared_data / "herlev")
    few = herlev.with_frame(herlev.frame.groupby("label").head(3))
    cric = read_source(shared_data / "cric")
    small = cric.with_frame(cric.frame[cric.frame["label"] != "SCC"].groupby("label").head(12))
    split = np.array(["train", "val", "test"])[pd.factorize(small.frame["group"])[0] % 3]
    table = small.with_frame(small.frame.assign(split=split))
    run = fit(table, tmp_path / "run", recipe=tiny.override({"train.epochs": 1, "data.val_fraction": 0}))
    found = evaluate_external(run, few, class_map="cric-binary", source_map="herlev-binary")
    assert found.metrics["n"] == 21
    assert found.metrics["classes"] == ["normal", "abnormal"]
    assert {name: of["counts_as"] for name, of in found.metrics["by_source_class"].items()} == {
        **dict.fromkeys(("normal_superficiel", "normal_intermediate", "normal_columnar"), "normal"),
        **dict.fromkeys(
            ("light_dysplastic", "moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"), "abnormal"
        ),
    }
    grades = evaluate_external(
        run, few, class_map="cric-bethesda-3", source_map="herlev-bethesda-3", out=tmp_path / "grades"
    )
    assert grades.metrics["left_out"]["probability"] > 0
    assert "On average" in external_lines(grades.metrics)[1]

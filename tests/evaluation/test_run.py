"""Where the figures of cells that trained or chose a run go, and what is said of them."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cytodistill.cli import main
from cytodistill.data.class_map import ClassMap
from cytodistill.evaluation.run import evaluate, seen_warning
from cytodistill.infer.batch import predict
from cytodistill.infer.fitted import FILE
from cytodistill.train.log import Silent
from cytodistill.train.run_folder import Run

MAP = """
{name: tiny, version: 1, source: folder, target: normal / abnormal, origin: the tests, abnormal: [abnormal],
classes: {left: normal, middle: abnormal, right: abnormal}, target_classes: [normal, abnormal]}
"""


@pytest.fixture
def run(tiny_run, tmp_path) -> Run:
    shutil.copytree(tiny_run.path, tmp_path / "run", ignore=shutil.ignore_patterns("report*"))
    return Run.open(tmp_path / "run")


def test_the_report_of_the_test_cells_is_left_alone(run):
    evaluate(run)
    before = {file.name: file.read_bytes() for file in (run.path / "report").iterdir()}
    assert "model_card.md" in before
    for split in ("train", "all"):
        found = evaluate(run, split=split, report=split == "train")
        assert {file.parent for file in found.files} == {run.path / f"report-{split}"}
        assert not [file for file in (run.path / f"report-{split}").iterdir() if "card" in file.name]
    assert {file.name: file.read_bytes() for file in (run.path / "report").iterdir()} == before
    page = (run.path / "report-train" / "report.html").read_text(encoding="utf-8")
    assert "These cells trained the model" in page
    assert 'id="model-card"' not in page
    assert 'id="model-card"' in before["report.html"].decode()


def test_a_line_says_that_the_figures_are_too_good(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", str(run.path), "--split", "val", "-o", str(tmp_path / "own")])
    said = capsys.readouterr().err
    assert "split val: These are the cells that chose the model" in said
    assert said.count("\n") == 1
    assert (tmp_path / "own" / "report.html").is_file()


def test_an_earlier_version_is_given_points_of_groups_and_keeps_the_rest(run, tmp_path, monkeypatch):
    (tmp_path / "map.yaml").write_text(MAP)
    marked = ClassMap.load(tmp_path / "map.yaml")
    monkeypatch.setattr("cytodistill.evaluation.run.map_for", lambda *_: marked)
    (run.path / FILE).unlink(missing_ok=True)
    evaluate(run, report=False)
    now = json.loads((run.path / FILE).read_text())
    assert now["weights"] == hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()
    earlier = {name: value for name, value in now.items() if name not in ("weights", "group_points")}
    (run.path / FILE).write_text(json.dumps(earlier))
    evaluate(run, report=False)
    # Whose answers the earlier one was fitted on is not known, and is not made up.
    assert json.loads((run.path / FILE).read_text()) == {**earlier, "group_points": now["group_points"]}
    assert now["group_points"]


def test_cells_of_another_source_are_warned_of_where_they_may_have_trained():
    assert seen_warning({"source": None, "split": "test"}) is None
    assert seen_warning({"source": "cells/", "split": "all"}) is None
    assert "training split" in str(seen_warning({"source": "cells/", "split": "train"}))
    assert seen_warning({"source": "clinic/", "split": "train", "external": True}) is None


def test_a_run_of_a_data_set_without_a_map_keeps_the_one_that_it_is_given(run, tmp_path, cells):
    folder, file = run.path, tmp_path / "own.yaml"
    (folder / FILE).unlink(missing_ok=True)
    file.write_text(MAP)
    said = []
    evaluate(run, class_map=file, report=False, watcher=Saying(said))
    assert [line for line in said if FILE in line] == [
        f"{folder / FILE}: operating points are by the class map tiny v1 from now on"
    ]
    file.unlink()
    # Without it too: the run says itself what its points are of.
    assert evaluate(folder, report=False).metrics["trust"]["screening"]["class_map"] == "tiny v1"
    predict(folder, cells, tmp_path / "out.csv", operating_point="youden")
    stored = json.loads((folder / FILE).read_text())
    assert stored["class_map"]["abnormal"] == ["abnormal"]
    (point,) = [point for point in stored["operating_points"] if point["name"] == "youden"]
    decided = pd.read_csv(tmp_path / "out.csv")
    abnormal = decided["prob_middle"] + decided["prob_right"]
    np.testing.assert_allclose(decided["abnormal_probability"], abnormal, atol=1e-6)
    assert (decided["decision"] == np.where(abnormal >= point["threshold"], "abnormal", "normal")).all()
    assert set(decided["decision"]) == {"abnormal", "normal"}


def test_a_run_of_a_data_set_with_a_map_goes_by_it_whatever_one_evaluation_asks(run, tmp_path, monkeypatch):
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "other.yaml").write_text(MAP.replace("middle: abnormal", "middle: normal"))
    marked = ClassMap.load(tmp_path / "map.yaml")
    monkeypatch.setattr("cytodistill.evaluation.run.map_for", lambda *_: marked)
    (run.path / FILE).unlink(missing_ok=True)
    evaluate(run, report=False)
    before = (run.path / FILE).read_bytes()
    asked = evaluate(run, class_map=tmp_path / "other.yaml", report=False).metrics["trust"]["screening"]
    assert asked["abnormal_classes"] == ["right"]
    assert (run.path / FILE).read_bytes() == before
    kept = evaluate(run, report=False).metrics["trust"]["screening"]
    assert kept["abnormal_classes"] == ["middle", "right"]


def test_points_are_not_given_up_for_a_map_that_none_can_be_chosen_by(run, tmp_path, cells):
    """Without its validation cells a run has the points that it has, or none."""
    (tmp_path / "map.yaml").write_text(MAP)
    (tmp_path / "other.yaml").write_text(MAP.replace("origin: the tests", "origin: the tests of this"))
    (run.path / FILE).unlink(missing_ok=True)
    evaluate(run, class_map=tmp_path / "map.yaml", report=False)
    before = (run.path / FILE).read_bytes()
    assert json.loads(before)["operating_points"]
    (run.path / "manifest.csv").unlink()
    said = []
    clinic = tmp_path / "clinic"
    for file in cells.rglob("*.png"):
        target = clinic / file.relative_to(cells)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes() + b"another file")
    evaluate(run, clinic, class_map=tmp_path / "other.yaml", report=False, watcher=Saying(said))
    assert (run.path / FILE).read_bytes() == before
    assert not [line for line in said if FILE in line]


class Saying(Silent):
    """Keeps what is said."""

    def __init__(self, lines):
        self.lines = lines

    def say(self, text):
        self.lines.append(text)

"""A row a group from the answers to its cells, against scores computed cell by cell."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cytodistill.data.class_map import ClassMap
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.infer.batch import predict
from cytodistill.infer.fitted import FILE, read_fitted
from cytodistill.infer.group_rows import Groups, group_point, write_groups
from cytodistill.metrics.group_decision import GroupPoint
from cytodistill.metrics.operating_point import OperatingPoint
from cytodistill.train.run_folder import Run

MAP = """
{name: tiny, version: 1, source: folder, target: normal / abnormal, origin: the tests, abnormal: [abnormal],
classes: {left: normal, middle: abnormal, right: abnormal}, target_classes: [normal, abnormal]}
"""
HOW = {"max": ("max", None), "top-3-mean": ("top_k_mean", 3), "noisy-or": ("noisy_or", None)}


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    """A run with points of groups by a map of its own classes."""
    folder = tmp_path_factory.mktemp("grouped") / "run"
    shutil.copytree(tiny_run.path, folder, ignore=shutil.ignore_patterns("report*"))
    (folder / FILE).unlink(missing_ok=True)
    file = folder.parent / "map.yaml"
    file.write_text(MAP)
    evaluate(folder, out=folder.parent / "report", report=False)
    opened = Run.open(folder)
    fitted = read_fitted(folder, opened.info["fingerprint"])
    points = tuple(
        GroupPoint(how, k, OperatingPoint(f"{name}-sensitivity-0.95", 0.6, "by hand", 1, 1, 6), 3)
        for name, (how, k) in HOW.items()
    )
    replace(fitted, class_map=ClassMap.load(file), group_points=points).write(folder)
    return folder


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_are_made_of_the_answers_to_their_cells(run, cells, tmp_path, name, suffix, monkeypatch):
    monkeypatch.setattr("cytodistill.infer.group_rows.ROWS_AT_ONCE", 10)
    (tmp_path / "bad" / "left" / "left-slideX").mkdir(parents=True)
    (tmp_path / "bad" / "left" / "left-slideX" / "1.png").write_bytes(b"no picture")
    shutil.copytree(cells / "middle", tmp_path / "bad" / "middle")
    given = [cells, tmp_path / "bad"]
    out = tmp_path / f"cells{suffix}"
    done = predict(run, given, out, groups=tmp_path / "g.csv", group_point=f"{name}-sensitivity-0.95", device="cpu")
    answers = pd.read_csv(out) if suffix == ".csv" else pd.read_json(out, lines=True)
    found = pd.read_csv(tmp_path / "g.csv")
    assert list(found.columns) == ["source", "group", "cells", "passed_over", "point", "score", "decision"]
    assert found["cells"].sum() == len(answers) == done.cells
    assert (done.groups.groups, done.groups.unanswered) == (len(found), 1)
    # Groups of a folder are the folders of the images, and of the same name in both inputs they are two.
    folders = answers["path"].str.split("/").str[:-1].str.join("/")
    abnormal = answers["prob_middle"] + answers["prob_right"]
    expected = {}
    for folder, scores in abnormal.groupby(folders):
        known = np.sort(scores.dropna())[::-1]
        expected[folder] = {
            "max": known[0] if len(known) else np.nan,
            "top-3-mean": known[:3].mean() if len(known) else np.nan,
            "noisy-or": 1 - np.prod(1 - known) if len(known) else np.nan,
        }[name]
    for row in found.to_dict("records"):
        folder = f"{row['source']}/{row['group']}"
        score = expected.pop(folder)
        if np.isnan(score):
            assert pd.isna(row["score"])
            assert pd.isna(row["decision"])
            assert (row["group"].split("/")[-1], row["cells"], row["passed_over"]) == ("left-slideX", 1, 1)
            continue
        assert row["score"] == pytest.approx(score, abs=1e-6)
        assert row["decision"] == ("abnormal" if score >= 0.6 else "normal")
    assert not expected
    assert done.groups.abnormal == (found["decision"] == "abnormal").sum()


def test_groups_of_a_manifest_are_its_own(run, tiny_run, tmp_path):
    table = tiny_run.table()
    table.with_frame(table.frame.assign(group=["p1", "p2", "p1"] * 15, split="")).write(tmp_path / "list.csv")
    predict(run, tmp_path / "list.csv", tmp_path / "o.csv", groups=tmp_path / "g.csv", workers=1, device="cpu")
    found = pd.read_csv(tmp_path / "g.csv")
    assert found[["group", "cells", "point"]].values.tolist() == [
        ["p1", 30, "max-sensitivity-0.95"],
        ["p2", 15, "max-sensitivity-0.95"],
    ]


def test_images_that_lie_in_no_folder_are_of_the_folder_that_is_given(run, cells, tmp_path):
    for number, file in enumerate(sorted(cells.rglob("*.png"))[:4]):
        (tmp_path / "slide7").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / "slide7" / f"{number}.png")
    predict(run, tmp_path / "slide7", tmp_path / "o.csv", groups=tmp_path / "g.csv", device="cpu")
    assert pd.read_csv(tmp_path / "g.csv")[["group", "cells"]].values.tolist() == [["slide7", 4]]


def test_what_cannot_be_decided(run, tiny_run, cells, tmp_path):
    out = tmp_path / "o.csv"
    for refused, settings in (
        (r"--group-point youden: .* has none of that name; there are max-sensitivity-0.95", {"group_point": "youden"}),
        ("--groups .*: is decided by calibrated probabilities; leave --raw out", {"raw": True}),
        ("--groups .*o.csv: give a .csv file of its own", {"groups": out}),
    ):
        with pytest.raises(CytodistillError, match=refused):
            predict(run, cells, out, **{"groups": tmp_path / "g.csv", "device": "cpu", **settings})
    with pytest.raises(CytodistillError, match="is made from the file of cells; name that with -o"):
        predict(run, cells, groups=tmp_path / "g.csv")
    with pytest.raises(CytodistillError, match="--group-point max: decides for whole groups; give their file"):
        predict(run, cells, out, group_point="max")
    assert not list(tmp_path.iterdir())
    fitted = read_fitted(run, Run.open(run).info["fingerprint"])
    with pytest.raises(CytodistillError, match="no points of groups in its calibration.json; choose some with"):
        group_point(replace(fitted, group_points=None), "max-sensitivity-0.95", run)
    with pytest.raises(CytodistillError, match="validation groups are all of one kind; leave --groups out"):
        group_point(replace(fitted, group_points=()), "max-sensitivity-0.95", run)
    point, marked = group_point(fitted, "max-sensitivity-0.95", run)
    assert isinstance(marked, ClassMap)
    out.write_text("prob_left,prob_middle,prob_right\n0.2,0.3,0.5\n")
    two = Groups(np.zeros(2, np.int32), [("x", "a")])
    with pytest.raises(CytodistillError, match="has 1 lines for 2 cells"):
        write_groups(out, two, tiny_run.classes, point, marked, tmp_path / "g.csv")


def test_calibration_of_other_weights_is_refused(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    mark = Run.open(copy).info["fingerprint"]
    assert read_fitted(copy, mark).weights is not None
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CytodistillError, match="was fitted on the answers of other weights than the run's; delete it"):
        read_fitted(copy, mark)
    # A file of an earlier version does not say whose answers it was fitted on, and has no points of groups.
    said = json.loads((copy / FILE).read_text())
    del said["weights"], said["group_points"]
    (copy / FILE).write_text(json.dumps(said))
    old = read_fitted(copy, mark)
    assert (old.weights, old.group_points) == (None, None)
    old.write(copy)
    assert json.loads((copy / FILE).read_text()) == said

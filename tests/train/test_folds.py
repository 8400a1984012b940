import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cytodistill.data.sources import read_source
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.folds import evaluate_folds
from cytodistill.train.folds import Folds, divide, fit_folds, is_folds

SMALL = {
    "student.backbone": "cifar_resnet8",
    "student.multi_exit": False,
    "method.name": "supervised",
    "data.image_size": 16,
    "train.epochs": 1,
}


@pytest.fixture(scope="module")
def small(tiny):
    return tiny.override(SMALL)


@pytest.fixture(scope="module")
def done(cells, small, tmp_path_factory):
    return fit_folds(cells, tmp_path_factory.mktemp("folds") / "three", 3, recipe=small)


def test_every_cell_is_tested_once_by_a_run_that_has_not_seen_it(done, cells):
    tested = []
    for run in done.runs:
        table = run.table()
        tested += table.frame["path"].iloc[table.indices("test")].tolist()
        groups = {split: set(table.groups[table.indices(split)]) for split in ("train", "val", "test")}
        assert not groups["train"] & groups["test"]
        assert not groups["val"] & groups["test"]
    assert sorted(tested) == sorted(read_source(cells).frame["path"])


def test_pooled_figures_are_of_every_cell(done):
    found = evaluate_folds(done)
    assert found.metrics["n"] == 45
    assert found.predictions["correct"].mean() == pytest.approx(found.metrics["ensemble"]["accuracy"])
    folds = found.metrics["folds"]
    assert sum(fold["n"] for fold in folds) == 45
    values = [fold["f1"] for fold in folds]
    assert found.metrics["over_folds"]["f1"] == {
        "mean": pytest.approx(np.mean(values)),
        "sd": pytest.approx(np.std(values, ddof=1)),
    }
    low, high = found.metrics["intervals"]["ensemble"]["accuracy"]
    assert low <= found.metrics["ensemble"]["accuracy"] <= high
    for fold, rows in found.predictions.groupby("fold"):
        assert rows["correct"].mean() == pytest.approx(folds[fold]["accuracy"])
    stored = json.loads((done.path / "report" / "metrics.json").read_text())
    assert stored["split"] == "test cells of 3 folds, grouped"


def test_a_map_is_every_folds(done, tmp_path):
    shutil.copytree(done.path, tmp_path / "cv")
    file = tmp_path / "map.yaml"
    file.write_text(
        "{name: tiny, version: 1, source: folder, target: normal / abnormal, origin: the tests, abnormal: [abnormal],\n"
        "classes: {left: normal, middle: abnormal, right: abnormal}, target_classes: [normal, abnormal]}"
    )
    for class_map in (file, None):  # and kept by each
        found = evaluate_folds(tmp_path / "cv", class_map=class_map, report=False)
        screened = found.metrics["pooled_trust"]["screening"]
        abnormal = found.predictions["label"] != "left"
        assert screened["auc"] == pytest.approx(roc_auc_score(abnormal, found.applied.screened.scores))
        assert screened["abnormal_classes"] == ["middle", "right"]
        assert len(found.applied.screened.points["youden"]) == 3


def test_a_choice_is_made_by_each_folds_validation_cells(cells, small, tmp_path):
    folds = fit_folds(cells, tmp_path / "f", 3, recipe=small, choices={"train.lr": [1e-9, 0.05]})
    for fold, run in enumerate(folds.runs):
        there = [Folds.open(folds.path).path / f"fold{fold}" / f"choice{i}" for i in (0, 1)]
        values = [json.loads((path / "run.json").read_text())["result"]["best_value"] for path in there]
        assert run.path == there[int(np.argmax(values))]
        assert run.recipe.train.lr in (1e-9, 0.05)


def test_groups_are_left_out_one_at_a_time(cells, small):
    table = read_source(cells)
    divided = divide(table, "groups", small)
    assert divided.frame["fold"].nunique() == table.frame["group"].nunique()
    assert (divided.frame.groupby("group")["fold"].nunique() == 1).all()
    few = table.with_frame(table.frame.assign(group=(np.arange(len(table)) % 2).astype(str)))
    with pytest.raises(CytodistillError, match="of 2 groups"):
        divide(few, "groups", small)


def test_it_goes_on_where_it_was_stopped_and_with_nothing_else(done, cells, small, monkeypatch):
    monkeypatch.setattr("cytodistill.train.loop.Trainer.run", lambda self: pytest.fail("trained again"))
    assert fit_folds(cells, done.path, 3, recipe=small, resume=True).info == done.info
    with pytest.raises(CytodistillError, match="--resume continues it"):
        fit_folds(cells, done.path, 3, recipe=small)
    with pytest.raises(CytodistillError, match="with the cells, folds and choices"):
        fit_folds(cells, done.path, 4, recipe=small, resume=True)


def test_an_unfinished_one_and_none(done, tmp_path):
    assert is_folds(done.path)
    with pytest.raises(CytodistillError, match="no cross-validation in it"):
        Folds.open(tmp_path)
    (tmp_path / "folds.json").write_text(json.dumps({**done.info, "chosen": ["fold0"]}))
    with pytest.raises(CytodistillError, match="1 of 3 folds are finished"):
        Folds.open(tmp_path)


def test_wrong_uses(cells, small, tmp_path):
    with pytest.raises(CytodistillError, match=r"train.lr=-1"):
        fit_folds(cells, tmp_path / "a", 3, recipe=small, choices={"train.lr": [-1, 0.1]})
    with pytest.raises(CytodistillError, match="select=last chooses nothing"):
        fit_folds(
            cells, tmp_path / "a", 3, recipe=small.override({"train.select": "last"}), choices={"train.lr": [1, 2]}
        )
    assert not (tmp_path / "a").exists()

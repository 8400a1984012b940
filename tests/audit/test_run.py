"""An audit of tiny cells with a planted leak, from the source to the files."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cytodistill.audit import audit
from cytodistill.audit.report import markdown
from cytodistill.cli import main
from cytodistill.data.prepare import prepare_table
from cytodistill.errors import CytodistillError
from cytodistill.train.loop import Trainer

SETTINGS = {"train.epochs": 1, "data.image_size": 32, "student.backbone": "cifar_resnet8", "train.select": "last"}
LEAKED = "left/left-slide0"


@pytest.fixture(scope="module", autouse=True)
def runs_without_pictures():
    """Drawing each run's own curves and matrices takes most of the time, and is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytodistill.train.fit.learning_curves", lambda *paths: None)
        patch.setattr("cytodistill.evaluation.report.confusion_figure", lambda *of: None)
        patch.setattr("cytodistill.evaluation.report.save_figure", lambda figure, path: path)
        yield


@pytest.fixture(scope="module")
def recipe(tiny):
    return tiny.override(SETTINGS)


@pytest.fixture
def sheets(monkeypatch):
    """Names of the audit's own pictures, which are not drawn."""
    names = []
    monkeypatch.setattr("cytodistill.audit.run.save_figure", lambda figure, path: names.append(path.name) or path)
    for figure in ("gap_figure", "copies_sheet", "label_sheet"):
        monkeypatch.setattr(f"cytodistill.audit.run.{figure}", lambda *of: None)
    return names


@pytest.fixture(scope="module")
def leaking(cells, tmp_path_factory):
    """The tiny cells, and those of one group a second time: under another group, one of them under another label."""
    source = tmp_path_factory.mktemp("audited") / "cells"
    shutil.copytree(cells, source)
    for number, file in enumerate(sorted((source / LEAKED).glob("*.png"))):
        label = "middle" if number == 0 else "left"
        copy = source / label / f"{label}-copied{number}" / file.name
        copy.parent.mkdir()
        if number == 1:  # saved again, so that it is near and not exact
            Image.fromarray(np.asarray(Image.open(file))).save(copy.with_suffix(".jpg"), quality=90)
        else:
            shutil.copy(file, copy)
    return source


@pytest.fixture(scope="module")
def done(leaking, recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("audit")
    return audit(leaking, out, recipe=recipe, seeds=2)


def test_both_arms_are_trained_alike_on_their_own_splits(done):
    assert done.content["status"] == "finished"
    models = done.content["models"]
    assert [(run["seed"], run["arm"]) for run in models["runs"]] == [
        (seed, arm) for seed in (0, 1) for arm in ("random", "grouped")
    ]
    recipes = {}
    for seed in (0, 1):
        for arm in ("random", "grouped"):
            run = done.path / "runs" / f"seed{seed}" / arm
            recipes[arm] = json.loads((run / "run.json").read_text())["recipe"]
            manifest = pd.read_csv(run / "manifest.csv")
            assert recipes[arm]["seed"] == seed
            # The folder below the class is the cell's real group, whatever the arm made of it.
            real = manifest["path"].str.split("/").str[1]
            split = manifest["split"]
            assert bool(set(real[split == "test"]) & set(real[split == "train"])) == (arm == "random")
        assert recipes["random"].pop("data") == recipes["grouped"].pop("data") | {"group": "none"}
        assert recipes["random"] == recipes["grouped"]


def test_figures_are_those_of_the_runs(done):
    models = done.content["models"]
    for run in models["runs"]:
        report = done.path / "runs" / f"seed{run['seed']}" / run["arm"] / "report" / "metrics.json"
        metrics = json.loads(report.read_text())
        for name, found in run["figures"].items():
            assert found["value"] == pytest.approx(metrics["ensemble"][name])
        assert run["groups"] <= run["n"] == metrics["n"]
    for name, gap in models["gap"].items():
        arms = (models["arms"][arm][name]["mean"] for arm in ("random", "grouped"))
        assert gap["mean"] == pytest.approx(next(arms) - next(arms))
        assert gap["low"] <= gap["high"]


def test_the_planted_copies_are_found(done, leaking):
    data = done.content["data"]
    copies = pd.read_csv(done.path / "copies.csv")
    planted = copies[copies["first_path"].str.contains("copied") | copies["second_path"].str.contains("copied")]
    count = len(list((leaking / LEAKED).glob("*.png")))
    assert (planted["kind"] == "exact").sum() == count - 1
    assert planted["groups_differ"].all()
    near = planted.loc[planted["kind"] == "hash", ["first_path", "second_path"]].to_numpy()
    assert [path for path in near.ravel() if path.endswith(".jpg")]
    conflict = copies[copies["labels_differ"]].iloc[0]
    assert {conflict["first_label"], conflict["second_label"]} == {"left", "middle"}
    assert data["copies"]["exact"] == {"pairs": count - 1, "across_groups": count - 1, "labels_differ": 1}


def test_a_random_split_leaks_groups_and_a_grouped_one_does_not(done):
    for leaks in done.content["data"]["splits"]:
        assert (leaks["own_group"] > 0) == (leaks["arm"] == "random")
        assert leaks["embedding"] is leaks["overlap"] is None  # random weights, and no windows


def test_files_for_people(done, capsys):
    names = {file.name for file in done.files}
    assert names >= {"audit.json", "audit.md", "audit.png", "copies.csv", "copies.png", "label_errors.csv"}
    for file in done.files:
        assert file.stat().st_size > 0
    text = (done.path / "audit.md").read_text()
    assert text == markdown(json.loads((done.path / "audit.json").read_text()))
    for heading in ("Random against grouped split", "Every run", "Likely label errors", "Copies among all cells"):
        assert f"## {heading}" in text


def test_label_errors_come_from_the_grouped_arm(done):
    labels = done.content["labels"]
    tested = set()
    for seed in (0, 1):
        tested |= set(pd.read_csv(done.path / f"runs/seed{seed}/grouped/report/predictions.csv")["path"])
    assert labels["judged"] == len(tested)
    assert set(pd.read_csv(done.path / "label_errors.csv")["path"]) <= tested


def test_a_stopped_audit_goes_on_and_ends_alike(done, leaking, recipe, tmp_path, monkeypatch, sheets):
    copy = tmp_path / "copy"
    shutil.copytree(done.path, copy)
    shutil.rmtree(copy / "runs" / "seed1" / "grouped")  # killed before the last run
    trained = []
    whole = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self: trained.append(self.job.folder) or whole(self))
    again = audit(leaking, copy, recipe=recipe, seeds=2)
    assert trained == [copy / "runs" / "seed1" / "grouped"]
    assert "audit.png" in sheets

    def timeless(content):
        runs = [{**run, "seconds": 0} for run in content["models"]["runs"]]
        return {**content, "models": {**content["models"], "runs": runs}}

    assert timeless(again.content) == timeless(done.content)
    trained.clear()
    assert audit(leaking, copy, recipe=recipe, seeds=2).content == again.content
    assert not trained


def test_data_only_trains_nothing_and_keeps_what_was_found(done, leaking, recipe, tmp_path, monkeypatch, sheets):
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("trained"))
    alone = audit(leaking, tmp_path / "new", recipe=recipe, seeds=1, data_only=True)
    assert alone.content["models"] is None
    assert "Copies among all cells" in (tmp_path / "new" / "audit.md").read_text()
    copy = tmp_path / "copy"
    shutil.copytree(done.path, copy)
    assert audit(leaking, copy, recipe=recipe, seeds=2, data_only=True).content == done.content


def test_splits_of_the_sources_own_are_judged_on_the_command_line(leaking, recipe, tmp_path, capsys, sheets):
    prepare_table(leaking, recipe).write(tmp_path / "own.csv")
    manifest, out = pd.read_csv(tmp_path / "own.csv"), tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(
            ["audit", str(tmp_path / "own.csv"), "-o", str(out), "--seeds", "1", "--pretrained", "none", "--data-only"]
        )
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "its own" in said
    assert said.splitlines()[-1] == str(out / "copies.png")
    own = json.loads((out / "audit.json").read_text())["data"]["splits"][-1]
    assert own["arm"] == "own"
    assert own["test"] == (manifest["split"] == "test").sum()
    assert own["own_group"] == 0


def test_cells_without_groups_are_refused_before_anything_is_written(plant, tmp_path, capsys):
    source = plant(*(f"{label}/{n}.png" for label in "ab" for n in range(6)))
    with pytest.raises(SystemExit) as ended:
        main(["audit", str(source), "-o", str(tmp_path / "out"), "--pretrained", "none"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "every cell is a group of its own" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_uses_are_refused(done, cells, leaking, recipe, tmp_path):
    with pytest.raises(CytodistillError, match="holds an audit of other cells"):
        audit(cells, done.path, recipe=recipe, seeds=2)
    with pytest.raises(CytodistillError, match=r"data\.group: the audit draws both splits itself"):
        audit(leaking, tmp_path / "out", recipe=recipe, settings=["data.group=none"])
    with pytest.raises(CytodistillError, match=r"another recipe, and train\.lr is 0\.5 now and was 0\.02"):
        audit(leaking, done.path, recipe=recipe, seeds=2, settings=["train.lr=0.5"])
    with pytest.raises(CytodistillError, match="--seeds 0"):
        audit(leaking, tmp_path / "out", recipe=recipe, seeds=0)
    with pytest.raises(CytodistillError, match="is not empty and holds no audit"):
        audit(leaking, leaking, recipe=recipe, seeds=1)
    assert json.loads((done.path / "audit.json").read_text()) == done.content

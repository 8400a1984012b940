"""A table run on tiny cells with tiny networks, from the choice of rows to the files."""

import json

import pytest

from cytodistill.errors import CytodistillError
from cytodistill.metrics.paired import holm
from cytodistill.reproduce import engine
from cytodistill.reproduce.run import choose, plan, reproduce

ROWS = ["teacher", "kd", "sd", "kd-sd"]


@pytest.fixture(scope="module")
def recipe(tiny):
    return tiny.override({"train.epochs": 1, "data.image_size": 32, "student.backbone": "cifar_resnet8"})


@pytest.fixture(scope="module")
def choice(recipe):
    return choose("table5", recipe, rows=ROWS, teacher="test_resnet", weights="none")


@pytest.fixture(scope="module")
def done(cells, recipe, choice, tmp_path_factory):
    out = tmp_path_factory.mktemp("table5")
    return reproduce(choice, cells, out, recipe=recipe, seeds=2), out


def test_every_chosen_row_is_run_over_every_seed(done):
    content = json.loads(done[0].read_text())
    assert [row["system"] for row in content["rows"]] == ["teacher", "kd", "sd", "kd-sd"]
    for row in content["rows"]:
        assert [run["draw"] for run in row["runs"]] == ["seed0", "seed1"]
        values = [run["ensemble"]["f1"] for run in row["runs"]]
        assert row["f1"]["mean"] == pytest.approx(sum(values) / 2)
        assert row["f1"]["sd"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
        assert row["interval"]["f1"]["low"] <= row["f1"]["mean"] <= row["interval"]["f1"]["high"]
    assert [len(row["runs"][0]["exits"]) for row in content["rows"]] == [1, 1, 3, 3]
    # All rows of a seed are tested on the same cells.
    assert len({(run["draw"], run["n"]) for row in content["rows"] for run in row["runs"]}) == 2
    assert not content["comparable"]
    assert {entry["name"] for entry in content["missing"]} >= {"FitNet", "VID"}


def test_differences_are_from_the_reference_on_the_same_cells(done):
    rows = {row["system"]: row for row in json.loads(done[0].read_text())["rows"]}
    assert rows["kd-sd"]["reference"]
    assert rows["kd-sd"]["difference"] is None
    for key in ("teacher", "kd", "sd"):
        found = rows[key]["difference"]["f1"]
        assert found["value"] == pytest.approx(rows[key]["f1"]["mean"] - rows["kd-sd"]["f1"]["mean"])
        assert found["low"] <= found["value"] <= found["high"]
        assert found["draws"] == 2
    tests = [row["difference"]["f1"] for row in rows.values() if row["difference"]]
    assert len(tests) >= 3
    assert [test["p_holm"] for test in tests] == pytest.approx(holm([test["p"] for test in tests]).tolist())


def test_a_teacher_is_trained_once_and_teaches_by_its_run(done):
    run = json.loads((done[1] / "runs" / "seed1" / "kd-from-test_resnet" / "run.json").read_text())
    assert run["recipe"]["teacher"]["source"].endswith("seed1/teacher-test_resnet")
    assert run["teacher"]["backbone"] == "test_resnet"


def test_the_pages_are_there(done):
    file, out = done
    assert "98.15" in file.with_suffix(".md").read_text()
    page = file.with_suffix(".html").read_text()
    assert "data:image/png" in page
    assert list((out / "table5").glob("*.png"))


def test_finished_runs_are_skipped_and_shared_by_other_tables(done, cells, recipe, choice, monkeypatch):
    file, out = done
    before = json.loads(file.read_text())
    monkeypatch.setattr("cytodistill.train.loop.Trainer.run", lambda self: pytest.fail("trained again"))
    assert json.loads(reproduce(choice, cells, out, recipe=recipe, seeds=2).read_text()) == before
    fourth = choose("table4", recipe, rows=["sd", "kd-sd"], teacher="test_resnet", weights="none")
    content = json.loads(reproduce(fourth, cells, out, recipe=recipe, seeds=2).read_text())
    assert [row["system"] for row in content["rows"]] == ["sd", "kd-sd"]


def test_records_do_without_the_weights(done, cells, recipe, choice, monkeypatch, tmp_path):
    file, out = done
    for record in out.rglob("record.json"):
        copy = tmp_path / record.relative_to(out)
        copy.parent.mkdir(parents=True)
        # A teacher's folder is part of its students' settings.
        copy.write_text(record.read_text())
    monkeypatch.setattr("cytodistill.train.loop.Trainer.run", lambda self: pytest.fail("trained again"))
    alone = choose("table5", recipe, rows=["teacher", "sd"], teacher="test_resnet", weights="none")
    content = json.loads(reproduce(alone, cells, tmp_path, recipe=recipe, seeds=2).read_text())
    before = {row["system"]: row for row in json.loads(file.read_text())["rows"]}
    assert [row["f1"] for row in content["rows"]] == [before[key]["f1"] for key in ("teacher", "sd")]


def test_another_recipe_is_not_taken_for_the_same_run(done, cells, recipe, choice):
    changed = recipe.override({"train.lr": 0.5})
    with pytest.raises(CytodistillError, match="train.lr is 0.5 now"):
        reproduce(choice, cells, done[1], recipe=changed, seeds=1)


def test_a_failed_row_leaves_the_others(cells, recipe, choice, tmp_path, monkeypatch):
    whole = engine.run_system

    def failing(system, *arguments):
        if system.key == "teacher":
            raise CytodistillError("no such luck")
        return whole(system, *arguments)

    monkeypatch.setattr(engine, "run_system", failing)
    with pytest.raises(CytodistillError, match="3 of 4 runs failed, the first seed0, teacher: no such luck"):
        reproduce(choice, cells, tmp_path, recipe=recipe, seeds=1)
    content = json.loads((tmp_path / "table5.json").read_text())
    assert [row["system"] for row in content["rows"]] == ["sd"]
    whys = {entry["name"]: entry["why"] for entry in content["missing"]}
    assert whys["KD"] == "needs the run of teacher, which failed"


def test_folds_test_every_cell_once(cells, recipe, tmp_path):
    alone = choose("table4", recipe, rows=["sd"], weights="none")
    content = json.loads(reproduce(alone, cells, tmp_path, recipe=recipe, folds=3).read_text())
    (row,) = content["rows"]
    assert [run["draw"] for run in row["runs"]] == ["fold0", "fold1", "fold2"]
    assert sum(run["n"] for run in row["runs"]) == 45


def test_no_seeds_are_refused(cells, recipe, choice, tmp_path):
    with pytest.raises(CytodistillError, match="--seeds 0"):
        reproduce(choice, cells, tmp_path, recipe=recipe, seeds=0)


def test_a_plan_measures_every_row_and_writes_nothing(cells, recipe, choice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = plan(choice, cells, recipe=recipe)
    assert [entry.row.system for entry in planned] == ["teacher", "kd", "sd", "kd-sd"]
    for entry in planned:
        assert entry.estimate.seconds_a_cell > 0
        assert entry.seconds == pytest.approx(entry.estimate.seconds_a_cell * 27, rel=0.2)
    made_up = plan(choice, None, recipe=recipe)
    assert all(entry.seconds is None and entry.estimate.seconds_a_cell > 0 for entry in made_up)
    assert not list(tmp_path.iterdir())

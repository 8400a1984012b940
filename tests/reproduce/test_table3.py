import json

import pytest

from cytodistill.errors import CytodistillError
from cytodistill.reproduce.table import Outcome, Row, reproduce
from cytodistill.reproduce.table3 import table3


@pytest.fixture(scope="module")
def done(cells, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("table3")
    rows = table3("none", "test_resnet", "none")
    recipe = tiny.override({"train.epochs": 1})
    return reproduce(rows, cells, out, recipe=recipe, seeds=2), rows, recipe, out


def test_every_row_is_run_over_every_seed(done):
    file, rows, *_ = done
    content = json.loads(file.read_text())
    assert [row["name"] for row in content["rows"]] == [row.name for row in rows.rows]
    assert [row["paper_accuracy"] for row in content["rows"]] == [98.15, 95.31, 96.54, 97.66, 98.52]
    for row in content["rows"]:
        assert [run["seed"] for run in row["runs"]] == [0, 1]
        values = [run["ensemble"]["f1"] for run in row["runs"]]
        assert row["f1"]["mean"] == pytest.approx(sum(values) / 2)
    assert len(content["data"]["digests"]) == 2
    assert [len(row["runs"][0]["exits"]) for row in content["rows"]] == [1, 1, 1, 1, 3]
    # All rows of a seed are tested on the same cells.
    assert len({(run["seed"], run["n"]) for row in content["rows"] for run in row["runs"]}) == 2
    assert "98.52" in file.with_suffix(".md").read_text()


def test_finished_runs_are_skipped(done, cells, monkeypatch):
    file, rows, recipe, out = done
    before = json.loads(file.read_text())
    monkeypatch.setattr("cytodistill.train.loop.Trainer.run", lambda self: pytest.fail("trained again"))
    reproduce(rows, cells, out, recipe=recipe, seeds=2)
    assert json.loads(file.read_text())["rows"] == before["rows"]


def test_students_of_a_row_have_its_run_as_teacher(done):
    run = json.loads((done[3] / "runs" / "seed1" / "resnet-18-tl-kd-sd" / "run.json").read_text())
    assert run["recipe"]["teacher"]["source"].endswith("seed1/test-resnet-tl")
    assert run["teacher"]["backbone"] == "test_resnet"


def test_mean_and_sample_deviation():
    outcome = Outcome(Row("x", {}), [{"ensemble": {"f1": value}} for value in (0.5, 0.7)])
    assert outcome.mean_sd("f1") == pytest.approx((0.6, 0.1414213))
    assert Outcome(Row("x", {}), [{"ensemble": {"f1": 0.5}}]).mean_sd("f1") == (0.5, None)


def test_no_seeds_are_refused(cells, tiny, tmp_path):
    with pytest.raises(CytodistillError, match="--seeds 0"):
        reproduce(table3(), cells, tmp_path, recipe=tiny, seeds=0)

import json

import pytest

from cytodistill.errors import CytodistillError, Interrupted
from cytodistill.reproduce import engine
from cytodistill.reproduce.engine import Task, run_tasks
from cytodistill.reproduce.run import choose, reproduce
from cytodistill.reproduce.systems import System
from cytodistill.train.log import Silent


@pytest.fixture
def tasks(tmp_path, tiny):
    """A teacher, its student, and a system that needs neither."""
    made = [System("teacher", {}), System("student", {}, teacher="teacher"), System("other", {})]
    return [Task(system, "seed0", tmp_path, tiny, None) for system in made]


def ends(tasks, **options):
    return {
        done.task.system.key: done
        for done in run_tasks(tasks, **{"workers": 1, "device": "cpu", "watcher": Silent(), **options})
    }


def test_a_failure_takes_with_it_what_needs_it(tasks, monkeypatch):
    monkeypatch.setattr(engine, "stored_record", lambda *_: None)

    def run(system, *_):
        if system.key == "teacher":
            raise CytodistillError("out of luck")
        return {"system": system.key}

    monkeypatch.setattr(engine, "run_system", run)
    found = ends(tasks)
    assert found["teacher"].problem == "out of luck"
    assert found["student"].problem == "needs the run of teacher, which failed"
    assert found["other"].record == {"system": "other"}


def test_an_interruption_is_not_a_failure(tasks, monkeypatch):
    monkeypatch.setattr(engine, "stored_record", lambda *_: None)

    def run(*_):
        raise Interrupted("interrupted")

    monkeypatch.setattr(engine, "run_system", run)
    with pytest.raises(Interrupted):
        ends(tasks)


def test_a_stored_record_is_taken_unless_its_run_is_needed_and_gone(tasks, tmp_path, monkeypatch):
    stored = {"teacher": {"system": "stored"}}
    monkeypatch.setattr(engine, "stored_record", lambda folder, system, *_: stored.get(system.key))
    ran = []

    def run(system, *_):
        ran.append(system.key)
        return {"system": "run"}

    monkeypatch.setattr(engine, "run_system", run)
    ends(tasks)
    assert ran == ["teacher", "student", "other"]
    ran.clear()
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model.safetensors").touch()
    assert ends(tasks)["teacher"].record == {"system": "stored"}
    assert ran == ["student", "other"]
    ran.clear()
    stored["student"] = {"system": "stored"}
    (tmp_path / "teacher" / "model.safetensors").unlink()
    ends(tasks)
    assert ran == ["other"]


def test_two_ray_workers_give_the_table_of_one_process(cells, tiny, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    recipe = tiny.override({"train.epochs": 1, "data.image_size": 32, "student.backbone": "cifar_resnet8"})
    choice = choose("table5", recipe, rows=["teacher", "kd", "sd"], teacher="test_resnet", weights="none")
    found = []
    for workers in (1, 2):
        file = reproduce(choice, cells, tmp_path / f"{workers}", recipe=recipe, seeds=1, workers=workers, device="cpu")
        found.append([(row["system"], row["f1"], row["difference"]) for row in json.loads(file.read_text())["rows"]])
    assert found[0] == found[1]
    assert [key for key, *_ in found[0]] == ["teacher", "kd", "sd"]


def test_ray_is_asked_for_where_it_is_wanted(tasks, monkeypatch):
    monkeypatch.setattr(engine, "stored_record", lambda *_: None)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(CytodistillError, match=r"pip install 'cytodistill\[scale\]'"):
        ends(tasks, workers=2)

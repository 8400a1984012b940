"""bench on a tiny run and its export: every setting is there, and what is measured is the answering."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

from cytodistill.bench import memory
from cytodistill.bench.contestants import contestants_of, policies_of, settings_of
from cytodistill.bench.files import files_settings
from cytodistill.bench.run import bench
from cytodistill.cli import main
from cytodistill.errors import CytodistillError
from cytodistill.export.run import export
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.policies import FittedPolicy, write_policies
from cytodistill.infer.promise import Budget
from cytodistill.train.run_folder import Run


@pytest.fixture(scope="module")
def run(tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "run"
    shutil.copytree(tiny_run.path, folder)
    first = ExitPolicy("confidence", (0.0, 0.0, 1.0))
    last = ExitPolicy("confidence", (1.0, 1.0, 1.0))
    policies = {name: FittedPolicy(p, Budget(0.5), 9, 3, (1, 2, 3), {}) for name, p in (("go", first), ("stay", last))}
    write_policies(Run.open(folder), policies)
    return folder


@pytest.fixture(scope="module")
def artifact(run):
    pytest.importorskip("onnxruntime")
    return export(run, run.parent / "onnx", runtime="onnx").path


def test_every_setting_is_measured_on_the_same_cells(run, artifact, tmp_path, monkeypatch):
    asked = []

    def peak(setting, cells, device):
        asked.append((setting.contestant.name, len(cells)))
        return {"libraries": 1 << 20, "answering": 2 << 20}

    monkeypatch.setattr("cytodistill.bench.run.peak_memory", peak)
    before = torch.get_num_threads()
    found = bench([run, artifact], batches=(1, 4), threads=[1], cells=12, rounds=1, device="cpu", out=tmp_path)
    assert torch.get_num_threads() == before
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content == found.content
    assert [file.name for file in found.files] == ["bench.json", "bench.png"]
    assert (tmp_path / "bench.png").read_bytes()[:4] == b"\x89PNG"
    names = ("torch", "onnx fp32")
    wanted = [(b, n, p) for b in (1, 4) for n in names for p in (None, "go", "stay")]
    assert [(row["batch"], row["name"], row["policy"]) for row in content["network"]] == wanted
    for row in content["network"]:
        assert row["cells"] == 12
        assert row["ms_a_cell"] * row["cells_a_second"] == pytest.approx(1000)
        assert row["exit_shares"] == ([1, 0, 0] if row["policy"] == "go" else [0, 0, 1])
        assert (row["latency_ms"] is not None) == (row["batch"] == 1)
        if row["name"] == "torch" and row["policy"] is None:
            assert row["times"] == 1
    assert [(row["name"], row["policy"], row["batch"], row["cells"]) for row in content["files"]] == [
        (name, policy, 4, 12) for name in names for policy in (None, "go", "stay")
    ]
    assert asked == [("torch", 12), ("onnx fp32", 12)]
    different = len(Run.open(run).table().indices("test"))
    assert different < 12
    assert content["cells"] == {"source": f"{run}, test", "different": different, "answered": 12}


def test_memory_is_that_of_a_process_of_its_own(run):
    (setting,) = settings_of(contestants_of([run]), ["go"], [4], [1])
    found = memory.peak_memory(setting, np.zeros((8, 64, 64, 3), np.uint8), "cpu")
    assert 50 << 20 < found["libraries"] < found["answering"] < 4 << 30


def test_a_process_that_fails_is_one_line(run, monkeypatch):
    (setting,) = settings_of(contestants_of([run]), [None], [4], [1])
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nMemoryError: 3 GiB")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(CytodistillError, match=r"its memory could not be measured \(MemoryError: 3 GiB\)"):
        memory.peak_memory(setting, np.zeros((8, 64, 64, 3), np.uint8), "cpu")


def test_files_are_answered_in_the_largest_batches_on_all_threads(run):
    settings = settings_of(contestants_of([run]), [None, "go"], [1, 8], [1, 2])
    assert [(each.policy, each.batch, each.threads) for each in files_settings(settings)] == [
        (None, 8, 2),
        ("go", 8, 2),
    ]


def test_policies_are_all_that_there_are_or_those_asked_for(run):
    found = contestants_of([run, run])
    assert [each.name for each in found] == ["torch", "torch (run)"]
    assert policies_of(found, None) == [None, "go", "stay"]
    assert policies_of(found, ["stay", "stay"]) == [None, "stay"]
    assert policies_of(found, ["none"]) == [None]


def test_wrong_uses_are_one_line(run, tmp_path, capsys):
    with pytest.raises(CytodistillError, match="--policy late: .* there are go, stay; fit one with"):
        bench([run], policies=["late"])
    with pytest.raises(CytodistillError, match="--batch 0, 4: give at least 1"):
        bench([run], batches=(0, 4))
    with pytest.raises(CytodistillError, match="--rounds 0: give at least 1"):
        bench([run], rounds=0)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    Run(other, Run.open(run).info | {"fingerprint": "another"}).write()
    with pytest.raises(CytodistillError, match="of another run than .*; compare a run with its own exports"):
        bench([run, other])
    with pytest.raises(SystemExit) as stopped:
        main(["bench", str(tmp_path / "nothing")])
    assert stopped.value.code == 2
    assert "no such folder" in capsys.readouterr().err


def test_the_command_prints_its_tables(run, monkeypatch, capsys):
    monkeypatch.setattr("cytodistill.bench.run.peak_memory", lambda *_: {"libraries": 1 << 20, "answering": 2 << 20})
    with pytest.raises(SystemExit) as stopped:
        main(f"bench {run} --policy go --batch 4 --threads 1 --cells 4 --rounds 1 --split val --device cpu".split())
    assert stopped.value.code in (None, 0)
    printed = capsys.readouterr().out
    assert "torch, go" in printed
    assert "Files to CSV" in printed
    assert str(run / "bench" / "bench.json") in printed

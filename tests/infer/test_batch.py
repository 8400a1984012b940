"""predict, from files to a file: the answers of a predictor, calibrated and decided, however often it was killed."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.cli import main
from cytodistill.data.class_map import ClassMap
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.evaluation.validation import fit_on_validation
from cytodistill.infer.batch import Pace, predict
from cytodistill.infer.batch_answer import in_order
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.fitted import read_fitted
from cytodistill.infer.policies import FittedPolicy, load_policy, write_policies
from cytodistill.infer.predictor import load
from cytodistill.infer.promise import Budget
from cytodistill.metrics.calibration import Calibrator
from cytodistill.train.run_folder import Run

MAP = """
{name: tiny, version: 1, source: folder, target: normal / abnormal, origin: the tests, abnormal: [abnormal],
classes: {left: normal, middle: abnormal, right: abnormal}, target_classes: [normal, abnormal]}
"""


@pytest.fixture(scope="module")
def run(tiny_run, cells, tmp_path_factory):
    """A run with calibrators, sets, operating points and a policy."""
    folder = tmp_path_factory.mktemp("fitted") / "run"
    shutil.copytree(tiny_run.path, folder)
    run = Run.open(folder)
    (folder.parent / "map.yaml").write_text(MAP)
    val = evaluate(run, split="val", out=folder.parent / "report")
    fitted = fit_on_validation(
        run.info["fingerprint"],
        val.answers.exit_probabilities,
        val.answers.probabilities,
        val.table.labels,
        val.table.groups,
        run.classes,
        ClassMap.load(folder.parent / "map.yaml"),
    )
    warm = tuple(Calibrator("temperature", 1.5 + exit) for exit in range(len(fitted.temperature)))
    replace(fitted, temperature=warm).write(folder)
    # Thresholds that part this network's cells, however sure its training left it.
    by_exit = load(run, "cpu").predict(sorted(cells.rglob("*.png"))).exit_probabilities
    start = ExitPolicy("confidence", (1.0, 1.0, 1.0), calibrators=warm[:3])
    halves = [float(np.quantile(start.score(by_exit[:, : exit + 1]), 0.51)) for exit in range(2)]
    policy = replace(start, thresholds=(*halves, 1.0))
    write_policies(run, {"early": FittedPolicy(policy, Budget(0.5), 9, 3, (1, 2, 3), {})})
    return folder


def rows(file):
    return pd.read_csv(file)


def probabilities(frame):
    return frame[["prob_left", "prob_middle", "prob_right"]].to_numpy()


def test_answers_are_the_predictors_calibrated(run, cells, tmp_path):
    done = predict(run, cells, tmp_path / "p.csv", batch_size=7, operating_point="youden", device="cpu")
    assert (done.cells, done.passed_over) == (45, 0)
    assert done.applied == ("calibrated", "sets lac-0.9-by-group", "decided at youden")
    frame = rows(tmp_path / "p.csv")
    fitted = read_fitted(run, Run.open(run).info["fingerprint"])
    raw = load(run, "cpu").predict(list(frame["path"]))
    # p^(1/T), made to sum to one.
    hot = raw.probabilities.astype(np.float64) ** (1 / fitted.temperature[-1].temperature)
    hot /= hot.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities(frame), hot, atol=1e-6)
    np.testing.assert_allclose(frame["confidence"], hot.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(frame["abnormal_probability"], hot[:, 1:].sum(axis=1), atol=1e-6)
    point = next(point for point in fitted.points if point.name == "youden")
    decided = np.where(frame["abnormal_probability"] >= point.threshold, "abnormal", "normal")
    assert (frame["decision"] == decided).all()
    threshold = fitted.conformal["lac-0.9-by-group"].thresholds[0]
    for said, answer in zip(frame["set"], probabilities(frame), strict=True):
        inside = [
            name for name, p in zip(("left", "middle", "right"), answer, strict=True) if 1 - p <= threshold + 1e-9
        ]
        assert said == "|".join(inside) or (not inside and "|" not in said)
    first = raw.exit_probabilities[:, 0].astype(np.float64) ** (1 / 1.5)
    np.testing.assert_allclose(frame["exit1_confidence"], (first / first.sum(1, keepdims=True)).max(1), atol=1e-6)
    assert set(frame["exit"]) == {"ensemble"}


def test_raw_is_what_the_network_says(run, cells, tmp_path):
    predict(run, cells, tmp_path / "p.csv", raw=True, device="cpu")
    frame = rows(tmp_path / "p.csv")
    assert not {"set", "decision"} & set(frame.columns)
    raw = load(run, "cpu").predict(list(frame["path"]))
    np.testing.assert_allclose(probabilities(frame), raw.probabilities, atol=1e-6)
    np.testing.assert_allclose(frame["exit2_confidence"], raw.exit_probabilities[:, 1].max(1), atol=1e-6)


def test_a_policy_leaves_deeper_exits_empty(run, cells, tmp_path):
    predict(run, cells, tmp_path / "p.jsonl", policy="early", device="cpu")
    records = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert "set" not in records[0]
    every = load(run, "cpu").predict([record["path"] for record in records]).exit_probabilities
    policy = load_policy(run, "early")
    assert [record["exit"] for record in records] == (policy.used(every) + 1).tolist()
    assert len({record["exit"] for record in records}) > 1
    answers = policy.answers(every, calibrated=True)
    np.testing.assert_allclose([record["confidence"] for record in records], answers.max(1), atol=1e-5)
    for record in records:
        assert [record[f"exit{e}_confidence"] is None for e in (1, 2, 3)] == [e > record["exit"] for e in (1, 2, 3)]


def test_bytes_do_not_depend_on_threads(run, cells, tmp_path):
    for threads in (1, 3):
        predict(run, cells, tmp_path / f"{threads}.csv", batch_size=2, threads=threads, device="cpu")
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "3.csv").read_bytes()


def test_torchs_own_setting_is_left_as_it_was(run, cells, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        predict(run, cells, tmp_path / "p.csv", device="cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(run, cells, tmp_path_factory):
    file = tmp_path_factory.mktemp("whole") / "p.csv"
    predict(run, cells, file, batch_size=2, device="cpu")
    return file.read_bytes()


class KilledError(Exception):
    pass


@settings(deadline=None, max_examples=6)
@given(kills=st.lists(st.integers(0, 23), min_size=1, max_size=3))
def test_killed_after_any_number_of_batches_the_file_is_the_same(run, cells, whole, kills):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytodistill.infer.batch_output.SECONDS", 0.0)
        file = Path(folder, "p.csv")
        for kill in kills:
            left = iter(range(kill))

            def step(*_, left=left):
                if next(left, None) is None:
                    raise KilledError

            with pytest.MonkeyPatch.context() as killing:
                killing.setattr(Pace, "step", step)
                try:
                    predict(run, cells, file, batch_size=2, resume=True, device="cpu")
                except KilledError:
                    assert not file.exists()
        predict(run, cells, file, batch_size=2, resume=True, device="cpu")
        assert file.read_bytes() == whole


KILLING = """
import os, signal, sys
from cytodistill.infer import batch, batch_output
batch_output.SECONDS = 0.0
batch.Pace.step = lambda pace, done: os.kill(os.getpid(), signal.SIGKILL) if done > 20 else None
batch.predict(*sys.argv[1:], batch_size=2, device="cpu")
"""


def test_kill_9_is_resumed_by_the_same_command(run, cells, whole, tmp_path, capsys):
    file = tmp_path / "p.csv"
    done = subprocess.run([sys.executable, "-c", KILLING, str(run), str(cells), str(file)])
    assert done.returncode == -signal.SIGKILL
    assert sorted(left.name for left in tmp_path.iterdir()) == ["p.csv.journal", "p.csv.part"]
    command = ["predict", str(run), str(cells), "-o", str(file), "--batch-size", "2", "--device", "cpu"]
    with pytest.raises(SystemExit):
        main(command)
    assert "22 cells of it are written already; --resume goes on with them" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--resume", "--raw"])
    assert "--resume: the calibration is not what it was begun with" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--resume"])
    assert file.read_bytes() == whole
    assert capsys.readouterr().out == f"{file}: 45 cells predicted, 0 passed over, calibrated, sets lac-0.9-by-group\n"


def test_a_changed_list_or_run_is_not_resumed(run, cells, tmp_path, monkeypatch):
    def stop(pace, done):
        raise KilledError

    monkeypatch.setattr("cytodistill.infer.batch_output.SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "step", stop)
        with pytest.raises(KilledError):
            predict(run, cells, tmp_path / "p.csv", batch_size=2, device="cpu")
    fewer = cells / "left"
    with pytest.raises(CytodistillError, match="--resume: the list of cells is not what it was begun with"):
        predict(run, fewer, tmp_path / "p.csv", batch_size=2, device="cpu", resume=True)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    network = (other / "model.safetensors").read_bytes()
    (other / "model.safetensors").write_bytes(network[:-1] + bytes([network[-1] ^ 1]))
    with pytest.raises(CytodistillError, match="--resume: the run is not what it was begun with"):
        predict(other, cells, tmp_path / "p.csv", batch_size=2, device="cpu", resume=True)


def test_bad_files_are_counted_and_the_first_are_named(run, cells, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = next(cells.rglob("*.png")).read_bytes()
    for number in range(30):
        (folder / f"{number:02d}.png").write_bytes(b"no picture" if number % 2 else good)
    done = predict(run, folder, tmp_path / "p.csv", batch_size=4, device="cpu")
    assert (done.cells, done.passed_over, len(done.problems)) == (30, 15, 10)
    assert "01.png: not a readable" in done.problems[0]
    frame = rows(tmp_path / "p.csv")
    assert frame["error"].notna().tolist() == [bool(number % 2) for number in range(30)]
    assert frame["predicted"].isna().tolist() == frame["error"].notna().tolist()


def test_standard_output_has_the_same_lines(run, cells, whole, capsys):
    predict(run, [cells], batch_size=2, device="cpu")
    assert capsys.readouterr().out.encode() == whole
    assert len(list(csv.reader(whole.decode().splitlines()))) == 46


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resume": True}, "--resume: what went to standard output cannot be resumed"),
        ({"out": "p.txt"}, r"p\.txt: predictions are written as \.csv or \.jsonl"),
        ({"workers": 0}, "give at least 1"),
        ({"policy": "late"}, r"policy 'late': .* there are early"),
        ({"operating_point": "best"}, r"there are sensitivity-0\.9, sensitivity-0\.95, sensitivity-0\.99, youden"),
    ],
)
def test_wrong_uses_are_one_line(run, cells, options, said, capsys):
    with pytest.raises(CytodistillError, match=said):
        predict(run, cells, **options)
    assert capsys.readouterr().out == ""


def test_pace_counts_what_this_process_did(monkeypatch):
    now = iter([100.0, 110.0, 175.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    steps, lines = [], []

    class Watcher:
        def step(self, stage, done, total, note):
            steps.append((done, total, note))

        def say(self, line):
            lines.append(line)

    pace = Pace(Watcher(), total=10_000, start=1_000)
    pace.step(2_000)
    assert (steps, lines) == ([(2_000, 10_000, "100 cells/s")], [])
    pace.step(8_500)
    assert steps[-1] == (8_500, 10_000, "100 cells/s")
    assert lines == ["8,500 of 10,000 cells, 100 cells/s, 0 minutes left"]


@given(st.lists(st.integers()), st.integers(1, 5))
def test_in_order_hands_in_no_more_than_it_may(work, ahead):
    handed, taken = [], []

    def submit(piece):
        handed.append(piece)
        assert len(handed) - len(taken) <= ahead
        return piece

    for done in in_order(work, submit, lambda handle: handle, ahead):
        taken.append(done)
    assert taken == handed == work

"""Killed with SIGKILL and resumed: the same bytes as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cytodistill.train.fit import fit
from cytodistill.train.log import RunLog

DRIVE = Path(__file__).with_name("drive.py")
STEPS = 3  # an epoch of the tiny set: 25 training cells in batches of 8, the last cell left out


def kill(cells, out, recipe, step):
    """A process that fits, and is killed by SIGKILL right after a training step."""
    file = out.with_suffix(".json")
    file.write_text(json.dumps(recipe.model_dump(mode="json")))
    command = [sys.executable, str(DRIVE), str(cells), str(out), str(file), "--kill", str(step)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def one_thread():
    """Sums are split over threads, and their bits depend on how many there are; a killed process has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("checkpoint_minutes", "settings"),
    [
        (1e-6, {"student.dropout": 0.3, "method.adapter": "linear"}),  # after every step
        (1e-6, {"train.ema": 0.8, "teacher.source": "test_resnet", "teacher.train": {"epochs": 1}}),
        (1e3, {}),  # never: the run starts again
    ],
)
def test_killed_and_resumed_ends_bit_identical(cells, tiny, tmp_path, one_thread, checkpoint_minutes, settings):
    recipe = tiny.override({**settings, "train.checkpoint_minutes": checkpoint_minutes})
    fit(cells, tmp_path / "whole", recipe=recipe, device="cpu")
    for step in random.sample(range(1, 3 * STEPS), 2):
        out = tmp_path / f"killed{step}"
        killed = kill(cells, out, recipe, step)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert json.loads((out / "run.json").read_text())["status"] == "training"
        fit(cells, out, recipe=recipe, resume=True, device="cpu")
        for name in ("model.safetensors", "last.safetensors"):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), f"{name}, killed at {step}"
        logs = [_without_times(folder / "log.jsonl") for folder in (tmp_path / "whole", out)]
        assert logs[0] == logs[1]


def _without_times(log):
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return [{key: value for key, value in event.items() if key != "seconds"} for event in events]


def test_log_drops_what_will_be_written_again_and_a_torn_line(tmp_path):
    log = RunLog(tmp_path)
    for epoch in range(4):
        log.write({"epoch": epoch})
    with open(log.path, "a") as file:
        file.write('{"epoch": 1, "lo')
    log.rewind(2)
    assert [json.loads(line)["epoch"] for line in log.path.read_text().splitlines()] == [0, 1]

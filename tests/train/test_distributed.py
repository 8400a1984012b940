"""Two ranks on the CPU do what one process does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cytodistill.evaluation.run import evaluate

DRIVE = Path(__file__).with_name("drive.py")
TWO_RANKS = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run_with_gradients(cells, out, recipe, *launcher):
    file = out.with_suffix(".json")
    file.write_text(json.dumps(recipe.model_dump(mode="json")))
    saved = out.with_suffix(".pt")
    command = [sys.executable, *launcher, str(DRIVE), str(cells), str(out), str(file), "--gradients", str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return torch.load(saved, weights_only=True)


@pytest.fixture(scope="module")
def both(cells, tiny, tmp_path_factory):
    # 25 training cells in batches of 11: the last one has 3, two for one rank and one for the other.
    folder = tmp_path_factory.mktemp("ranks")
    recipe = tiny.override(
        {
            "train.epochs": 1,
            "train.lr": 1e-4,
            "train.batch_size": 11,
            "train.imbalance": "inverse",
            "teacher.source": "test_resnet",
            "teacher.train": {"epochs": 1},
            "method.adapter": "linear",
        }
    )
    return {
        ranks: (run_with_gradients(cells, folder / f"r{ranks}", recipe, *launcher), folder / f"r{ranks}")
        for ranks, launcher in ((1, []), (2, TWO_RANKS))
    }


def test_first_epochs_gradients_equal_the_single_processs(both):
    one, two = both[1][0], both[2][0]
    assert len(one) == len(two) > 4  # steps of the teacher's epoch and of the student's
    largest = 0.0
    for step, (alone, together) in enumerate(zip(one, two, strict=True)):
        scale = max(gradient.abs().max() for gradient in alone)
        for a, b in zip(alone, together, strict=True):
            largest = max(largest, ((a - b).abs().max() / scale).item())
        assert largest < 1e-4, f"step {step}"


def test_metrics_are_exact_and_one_rank_writes(both):
    events = [json.loads((both[ranks][1] / "log.jsonl").read_text()) for ranks in (1, 2)]
    assert events[0]["val"]["exits"] == events[1]["val"]["exits"]
    assert events[0]["loss"] == pytest.approx(events[1]["loss"], rel=1e-4)
    assert events[0]["train_accuracy"] == pytest.approx(events[1]["train_accuracy"])
    assert json.loads((both[2][1] / "run.json").read_text())["ranks"] == 2
    metrics = [evaluate(both[ranks][1], split="all").metrics["ensemble"]["accuracy"] for ranks in (1, 2)]
    assert metrics[0] == pytest.approx(metrics[1], abs=0.05)

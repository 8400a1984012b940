"""Two ranks on the CPU do what one process does, or, where each normalises by itself, the mean of two."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cytodistill.data.cache import DeviceCells, cached_cells
from cytodistill.distill import Batch
from cytodistill.evaluation.run import evaluate
from cytodistill.train.distributed import Ranks
from cytodistill.train.job import Job
from cytodistill.train.log import Silent
from cytodistill.train.loop import Trainer
from cytodistill.train.plan import make_plan
from cytodistill.train.run_folder import Run

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


def test_ranks_that_normalise_by_themselves_average_gradients_and_moving_statistics(cells, tiny, tmp_path):
    """One step of one epoch by hand: torch's own batch norm over each rank's share, weighted by its cells."""
    recipe = tiny.override({"train.epochs": 1, "train.batch_size": 25, "train.batch_norm": "rank"})
    (gradients,) = run_with_gradients(cells, tmp_path / "run", recipe, *TWO_RANKS)
    run = Run.open(tmp_path / "run")
    trainer = trainer_by_hand(run, tmp_path)
    visits = trainer._visits()
    cells_of_step = len(visits.cells)
    before = copy.deepcopy(trainer.student.state_dict())
    by_rank, moments = [], []
    for rank in (0, 1):
        trainer.student.load_state_dict(before)
        trainer.student.train().zero_grad()
        mine = visits[rank::2]
        rows = trainer.train_rows[mine.cells]
        images = trainer.views(trainer.job.cells[rows], mine.draws)
        parts, _ = trainer.student(Batch(images, trainer.labels[rows], rows, None))
        (parts["loss"] * len(rows) / cells_of_step).backward()
        by_rank.append([p.grad.clone() for p in trainer.optimiser.param_groups[0]["params"]])
        moments.append({key: value.clone() for key, value in trainer.network.state_dict().items() if "running" in key})
    expected = [a + b for a, b in zip(*by_rank, strict=True)]
    scale = max(gradient.abs().max() for gradient in expected)
    for a, b in zip(expected, gradients, strict=True):
        assert ((a - b).abs().max() / scale).item() < 1e-5
    kept = load_file(run.path / "last.safetensors")
    assert len(moments[0]) > 20
    for key, value in moments[0].items():
        assert not torch.equal(value, moments[1][key])
        torch.testing.assert_close(kept[key], (value + moments[1][key]) / 2)


def trainer_by_hand(run, folder):
    """A trainer of one rank at the run's beginning."""
    plan = make_plan(run.recipe, run.table())
    table, data, cpu = plan.table, run.recipe.data, torch.device("cpu")
    return Trainer(
        Job(
            recipe=run.recipe,
            classes=table.classes,
            network=plan.network,
            method=plan.method,
            teacher=None,
            cells=DeviceCells(cached_cells(table, data.image_size, data.resize), cpu),
            labels=table.labels,
            train_rows=table.indices("train"),
            val_rows=table.indices("val"),
            folder=folder,
            fingerprint="",
            ranks=Ranks(0, 1, cpu),
            watcher=Silent(),
        )
    )


def test_a_rank_that_normalises_by_itself_has_two_cells(cells, tiny, tmp_path):
    recipe = tiny.override({"train.batch_size": 3, "train.batch_norm": "rank"})
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.model_dump(mode="json")))
    command = [sys.executable, *TWO_RANKS, str(DRIVE), str(cells), str(tmp_path / "run"), str(tmp_path / "recipe.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode
    assert "train.batch_size=3: a batch of 3 cells leaves some of the 2 ranks with fewer than 2;" in done.stderr

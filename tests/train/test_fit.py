import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cytodistill.data.prepare import prepare_table
from cytodistill.evaluation.run import evaluate
from cytodistill.infer.predictor import load
from cytodistill.models.count import count_parameters
from cytodistill.train import step
from cytodistill.train.fit import fit
from cytodistill.train.run_folder import Run
from cytodistill.train.teacher import FrozenTeacher, teacher_recipe


def same_files(first, second, names=("model.safetensors", "last.safetensors")):
    return all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.fixture(scope="module")
def taught(cells, tiny, tmp_path_factory):
    """A whole run with a teacher that is fine-tuned first."""
    out = tmp_path_factory.mktemp("runs") / "taught"
    return fit(
        cells, out, recipe=tiny.override({"train.epochs": 20, "teacher.train": {"epochs": 4}}), teacher="test_resnet"
    )


def test_learns_above_chance_through_every_exit(taught):
    metrics = evaluate(taught, split="all").metrics
    assert metrics["ensemble"]["accuracy"] > 0.6
    assert all(exit["accuracy"] > 0.4 for exit in metrics["exits"])


def test_run_folder_holds_what_the_design_says(taught):
    names = {file.name for file in taught.path.iterdir()}
    assert {"run.json", "model.safetensors", "last.safetensors", "manifest.csv", "log.jsonl", "report"} <= names
    assert "checkpoint.pt" not in names
    assert not [name for name in names if name.endswith(".tmp")]
    events = [json.loads(line) for line in (taught.path / "log.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events] == list(range(20))
    for event in events:
        parts = {name: value for name, value in event["loss"].items() if name != "loss"}
        assert sum(parts.values()) == pytest.approx(event["loss"]["loss"], rel=1e-4)
    info = json.loads((taught.path / "run.json").read_text())
    assert info["status"] == "finished"
    assert info["parameters"] == count_parameters(taught.network())


def test_the_kept_epoch_is_the_best_on_validation(taught):
    events = [json.loads(line) for line in (taught.path / "log.jsonl").read_text().splitlines()]
    figures = [event["val"]["ensemble"]["f1"] for event in events]
    result = taught.info["result"]
    assert result["best_value"] == pytest.approx(max(figures))
    assert figures[result["best_epoch"]] == pytest.approx(max(figures))


def test_saved_model_holds_the_student_alone(cells, tiny, tmp_path):
    run = fit(cells, tmp_path / "r", recipe=tiny.override({"method.adapter": "linear", "train.epochs": 1}))
    saved = load_file(run.path / "model.safetensors")
    assert set(saved) == set(run.network().state_dict())
    assert not [name for name in saved if "adapter" in name]


def test_teacher_is_frozen_and_unchanged(cells, tiny, taught, tmp_path, monkeypatch):
    teacher_file = taught.path / "teacher" / "model.safetensors"
    before = teacher_file.read_bytes()
    seen = []
    whole = FrozenTeacher.__call__

    def watched(self, images):
        answer = whole(self, images)
        assert not self.network.training
        assert not any(p.requires_grad or p.grad is not None for p in self.network.parameters())
        assert not answer.logits[0].requires_grad
        seen.append({k: v.clone() for k, v in self.network.state_dict().items()})
        return answer

    monkeypatch.setattr(FrozenTeacher, "__call__", watched)
    fit(
        cells,
        tmp_path / "r",
        recipe=tiny.override({"student.multi_exit": False, "method.name": "kd", "train.epochs": 1}),
        teacher=str(taught.path / "teacher"),
    )
    assert len(seen) > 1
    assert all(torch.equal(seen[0][name], seen[-1][name]) for name in seen[0])  # weights and batch statistics
    assert teacher_file.read_bytes() == before


def test_teacher_recipe_is_plain_training_of_the_teachers_backbone(tiny):
    recipe = teacher_recipe(tiny.override({"teacher.source": "resnet26", "teacher.train": {"lr": 0.5}}))
    assert (recipe.student.backbone, recipe.student.multi_exit) == ("resnet26", False)
    assert (recipe.method.name, recipe.teacher.source) == ("supervised", "none")
    assert (recipe.train.lr, recipe.train.batch_size) == (0.5, tiny.train.batch_size)


def test_two_runs_with_one_seed_are_identical_and_another_seed_is_not(cells, tiny, tmp_path):
    table = prepare_table(cells, tiny)
    first, second = (fit(table, tmp_path / name, recipe=tiny) for name in "ab")
    other = fit(table, tmp_path / "c", recipe=tiny.override({"seed": 1}))
    assert same_files(first.path, second.path)
    assert not same_files(first.path, other.path)


def test_finished_run_is_returned_by_resume_as_it_is(cells, tiny, taught):
    before = (taught.path / "model.safetensors").stat().st_mtime_ns
    again = fit(cells, taught.path, resume=True)
    assert again.finished
    assert (taught.path / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "settings",
    [
        {"train.imbalance": "inverse", "train.label_smoothing": 0.1},
        {"train.imbalance": "resample", "train.optimizer": "adamw", "train.lr": 0.001, "train.clip_norm": 1.0},
        {"train.ema": 0.9, "train.schedule": "onecycle"},
        {"train.precision": "bf16", "student.context_fusion": "mul", "student.context": "all"},
        {"train.select": "last", "data.ratio": "4:1:1", "augment.stain": 0.2, "augment.cutout": 0.3},
        {"student.branch": "bottleneck", "student.attention": "conv", "student.dropout": 0.2},
    ],
)
def test_every_option_trains(cells, tiny, tmp_path, settings):
    run = fit(cells, tmp_path / "r", recipe=tiny.override({**settings, "train.epochs": 2}))
    predictions = load(run).predict(sorted(cells.rglob("*.png"))[:3])
    assert np.isfinite(predictions.probabilities).all()
    kept = "last.safetensors" if settings.get("train.select") == "last" else "model.safetensors"
    assert (run.path / kept).is_file()


def test_last_epoch_is_kept_where_nothing_validates(cells, tiny, tmp_path):
    table = prepare_table(cells, tiny)
    frame = table.frame.assign(split=table.frame["split"].replace("val", "train"))
    run = fit(
        table.with_frame(frame), tmp_path / "r", recipe=tiny.override({"data.val_fraction": 0, "train.epochs": 2})
    )
    assert run.info["table"]["counts"]["val"] == [0, 0, 0]
    assert same_files(run.path, run.path, ("model.safetensors",))
    assert (run.path / "model.safetensors").read_bytes() == (run.path / "last.safetensors").read_bytes()


def test_transfer_from_a_run_of_ours(cells, tiny, taught, tmp_path):
    run = fit(cells, tmp_path / "r", recipe=tiny.override({"train.epochs": 1}), pretrained=str(taught.path))
    assert run.info["transfer"]["tensors_fresh"] == 0
    assert Run.open(run.path).classes == taught.classes


def test_a_compiled_student_learns_the_same_and_is_kept_under_the_same_names(cells, tiny, tmp_path, monkeypatch):
    # aot_eager traces forward and backward as every backend does, and compiles nothing, which would take a minute.
    monkeypatch.setitem(step.COMPILING, "cpu", {"backend": "aot_eager"})
    recipe = tiny.override({"train.epochs": 1, "train.ema": 0.5})
    plain = fit(cells, tmp_path / "plain", recipe=recipe)
    traced = fit(cells, tmp_path / "traced", recipe=recipe.override({"train.compile": True}))
    first, second = (load_file(run.path / "last.safetensors") for run in (plain, traced))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=1e-5)

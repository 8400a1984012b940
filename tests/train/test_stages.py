"""What the loop serves to methods that ask for more than a batch: a stage before, turned images, snapshots, cells."""

import dataclasses

import pytest
import torch

from cytodistill.distill import Method, Pretraining, method, register
from cytodistill.errors import CytodistillError
from cytodistill.train.fit import PRETRAINING, fit
from cytodistill.train.loop import Trainer

SINGLE = {"student.multi_exit": False, "train.epochs": 2}


@pytest.fixture
def registered(monkeypatch):
    """``registered(kind)`` makes a method known as "asking" for one test."""
    monkeypatch.setattr(method, "_REGISTRY", dict(method._REGISTRY))

    def add(kind):
        register("asking")(kind)
        return kind

    return add


@dataclasses.dataclass(frozen=True)
class NoSettings:
    pass


class Asking(Method):
    Settings = NoSettings

    def forward(self, outputs, batch):
        ce = self.cross_entropy(outputs.logits[-1][: len(batch.labels)], batch.labels)
        return {"loss": ce, "ce": ce}


def test_turned_images_are_the_cells_in_four_turns(cells, tiny, tmp_path, registered):
    shapes = []

    class Turned(Asking):
        needs = frozenset({"rotations"})

        def forward(self, outputs, batch):
            shapes.append((len(batch.images), len(batch.labels), len(outputs.logits[-1])))
            quarters = batch.images.chunk(4)
            for quarter, turned in enumerate(quarters):
                assert torch.equal(turned, torch.rot90(quarters[0], quarter, (2, 3)))
            return super().forward(outputs, batch)

    registered(Turned)
    fit(cells, tmp_path / "r", recipe=tiny.override({**SINGLE, "method.name": "asking"}))
    assert (32, 8, 32) in shapes
    assert all(images == 4 * labels == answers for images, labels, answers in shapes)


def test_training_cells_are_shown_once_before_the_first_step(cells, tiny, tmp_path, registered):
    shown = []

    class Seeing(Asking):
        needs = frozenset({"cells"})

        def see_cells(self, rows, labels):
            shown.append((rows, labels))

        def forward(self, outputs, batch):
            place = (shown[0][0][None] == batch.index[:, None]).nonzero()[:, 1]
            assert torch.equal(shown[0][1][place], batch.labels)
            return super().forward(outputs, batch)

    registered(Seeing)
    run = fit(cells, tmp_path / "r", recipe=tiny.override({**SINGLE, "method.name": "asking"}))
    assert len(shown) == 1
    assert shown[0][0].tolist() == run.table().indices("train").tolist()


# ---------------------------------------------------------------- snapshots


class FromSnapshot(Asking):
    needs = frozenset({"snapshot"})

    def forward(self, outputs, batch):
        type(self).seen.append(None if batch.teacher is None else batch.teacher.logits[-1])
        assert batch.teacher is None or not batch.teacher.logits[-1].requires_grad
        return super().forward(outputs, batch)


def test_a_snapshot_teaches_from_the_second_cycle_on(cells, tiny, tmp_path, registered, monkeypatch):
    registered(FromSnapshot)
    monkeypatch.setattr(FromSnapshot, "seen", [], raising=False)
    ends = []
    epoch = Trainer._train_epoch

    def noted(self):
        epoch(self)
        teacher = None if self.snapshot is None else self.snapshot.network.state_dict()
        ends.append(({k: v.clone() for k, v in self.network.state_dict().items()}, teacher))

    monkeypatch.setattr(Trainer, "_train_epoch", noted)
    recipe = tiny.override({**SINGLE, "method.name": "asking", "train.epochs": 6, "train.cycles": 3})
    fit(cells, tmp_path / "r", recipe=recipe)
    steps = len(FromSnapshot.seen) // 6
    assert [taught is not None for taught in FromSnapshot.seen] == [False] * 2 * steps + [True] * 4 * steps
    for end, (_, teacher) in enumerate(ends):
        taught_by = ends[end // 2 * 2 - 1][0] if end >= 2 else None
        if taught_by is None:
            assert teacher is None
        else:
            assert all(torch.equal(teacher[name], taught_by[name]) for name in taught_by)


def test_snapshots_want_cycles(cells, tiny, tmp_path, registered):
    registered(FromSnapshot)
    with pytest.raises(CytodistillError, match="train.cycles=1; set train.cycles=2"):
        fit(cells, tmp_path / "r", recipe=tiny.override({**SINGLE, "method.name": "asking"}))
    assert not (tmp_path / "r").exists()


# ---------------------------------------------------------------- a stage before the training


class Before(Asking):
    """Two parameters: one learns before the training, one in it."""

    epochs, student = 2, True

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.first = torch.nn.Parameter(torch.ones(3))
        self.second = torch.nn.Parameter(torch.ones(3))

    def pretraining(self):
        return Pretraining(self.epochs, {"lr": 0.3}, student=self.student)

    def begin(self, stage):
        self.first.requires_grad_(stage == "pretrain")
        self.second.requires_grad_(stage == "train")

    def pretrain(self, outputs, batch):
        assert (outputs is not None) == self.student
        loss = self.first.square().sum()
        if outputs is not None:
            loss = loss + outputs.features[-1].square().mean()
        return {"loss": loss}

    def forward(self, outputs, batch):
        parts = super().forward(outputs, batch)
        pull = self.second.square().sum()
        return {"loss": parts["loss"] + pull, "ce": parts["ce"], "pull": pull}


class Aside(Before):
    student = False


def fit_noting_stages(monkeypatch, cells, out, recipe, stop_at=None):
    """Fit; the state at each stage's start and end, and the training stopped after so many steps."""
    noted, steps = [], 0
    run, step = Trainer.run, Trainer._train_step

    def state(trainer):
        return {name: value.detach().clone() for name, value in trainer.student.state_dict().items()}

    def noting(self):
        before = state(self)
        result = run(self)
        noted.append((self, before, state(self)))
        return result

    def counting(self, *arguments):
        nonlocal steps
        steps += 1
        result = step(self, *arguments)
        if steps == stop_at:
            raise RuntimeError("stopped")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", noting)
        patch.setattr(Trainer, "_train_step", counting)
        fit(cells, out, recipe=recipe, resume=True)
    return noted


@pytest.mark.parametrize("kind", [Before, Aside])
def test_each_stage_trains_what_it_should(cells, tiny, tmp_path, registered, monkeypatch, kind):
    registered(kind)
    recipe = tiny.override({**SINGLE, "method.name": "asking"})
    (first, *states), (second, *later) = fit_noting_stages(monkeypatch, cells, tmp_path / "r", recipe)
    assert (first.settings.epochs, first.settings.lr, second.settings.epochs) == (2, 0.3, 2)

    def moved(before, after, name):
        return not torch.equal(before[name], after[name])

    assert moved(*states, "method.first")
    assert not moved(*states, "method.second")
    assert moved(*states, "network.backbone.conv1.0.weight") == kind.student
    # The training begins with what the stage ended with.
    assert all(torch.equal(states[1][name], later[0][name]) for name in states[1])
    assert moved(*later, "method.second")
    assert not moved(*later, "method.first")
    assert moved(*later, "network.backbone.conv1.0.weight")
    log = (tmp_path / "r" / PRETRAINING / "log.jsonl").read_text().splitlines()
    assert len(log) == 2
    assert not list((tmp_path / "r").rglob("checkpoint.pt"))


@pytest.mark.parametrize("stop_at", [2, 6, 8])  # 3 steps an epoch: in the stage, at its very end, after it
def test_a_killed_stage_goes_on_to_the_same_end(cells, tiny, tmp_path, registered, monkeypatch, stop_at):
    registered(Before)
    recipe = tiny.override({**SINGLE, "method.name": "asking", "train.checkpoint_minutes": 1e-6})
    fit_noting_stages(monkeypatch, cells, tmp_path / "whole", recipe)
    with pytest.raises(RuntimeError, match="stopped"):
        fit_noting_stages(monkeypatch, cells, tmp_path / "killed", recipe, stop_at)
    fit_noting_stages(monkeypatch, cells, tmp_path / "killed", recipe)
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

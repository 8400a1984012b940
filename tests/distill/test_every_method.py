"""What holds for all registered methods, whatever their formulas."""

import copy
import dataclasses
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cytodistill.distill import Method, method, method_class, method_names, method_settings, register
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.infer.predictor import load
from cytodistill.models.outputs import ExitOutputs, OutputShapes
from cytodistill.train.fit import fit
from cytodistill.train.loop import Trainer
from cytodistill.train.run_folder import Run

ON_RANKS = Path(__file__).parents[1] / "train" / "methods_on_ranks.py"
NAMES = method_names()
TAUGHT = [name for name in NAMES if "teacher" in method_class(name).needs]
MULTI_EXIT = ["deep_supervision", "scan", "self_distillation"]
THREE_EXITS = OutputShapes((11, 11, 11), ((4, 9, 9), (6, 5, 6), (8, 3, 3)))
TINIEST = OutputShapes((11,), ((4, 2, 2), (8, 1, 1))), OutputShapes((13,), ((5, 1, 1),))
# The parts of those that ask for the teacher's own answers, up to what they cannot see.
ZERO_FOR_THE_TEACHER_ITSELF = {
    "attention_transfer": ["attention"],
    "dist": ["inter", "intra"],
    "dkd": ["tckd", "nckd"],
    "kd": ["kd"],
    "logit_standardisation": ["kd"],
    "pkt": ["neighbours"],
    "rkd": ["distance", "angle"],
    "similarity": ["similarity"],
}


def parts_of(outputs: ExitOutputs) -> list[list[torch.Tensor]]:
    return [outputs.logits, outputs.features, outputs.maps, outputs.preactivations]


def gradients(outputs: ExitOutputs) -> list[torch.Tensor | None]:
    return [tensor.grad for part in parts_of(outputs) for tensor in part]


def is_finite(lesson) -> bool:
    """Whether loss and gradients of a lesson are."""
    loss = lesson.parts()["loss"]
    loss.backward()
    found = [g for g in gradients(lesson.outputs) if g is not None]
    found += [p.grad for p in lesson.method.parameters() if p.grad is not None]
    return bool(torch.isfinite(loss)) and all(torch.isfinite(g).all() for g in found)


# ---------------------------------------------------------------- settings


def every_setting():
    return [(name, field.name) for name in NAMES for field in dataclasses.fields(method_class(name).Settings)]


@pytest.mark.parametrize(("name", "setting"), every_setting())
def test_a_wrong_value_is_named(name, setting):
    for value in ("hot", float("nan"), float("inf"), -1.0):
        with pytest.raises(CytodistillError, match=f"method.{setting}="):
            method_settings(name, {setting: value})


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_is_named_and_the_defaults_are_settings(name):
    with pytest.raises(CytodistillError, match="method.wieght: "):
        method_settings(name, {"wieght": 1})
    defaults = dataclasses.asdict(method_settings(name, {}))
    assert method_settings(name, defaults) == method_settings(name, {})


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("student", [None, THREE_EXITS], ids=["one exit", "three exits"])
@pytest.mark.parametrize("name", TAUGHT)
def test_gradients_reach_the_student_and_the_methods_own_and_no_teacher(lesson, name, student):
    taught = lesson(name, **({"student": student} if student else {}))
    parts = taught.parts()
    assert parts["loss"].item() == pytest.approx(sum(v.item() for k, v in parts.items() if k != "loss"), rel=1e-5)
    if name == "ab":  # learns from its teacher before the training alone
        taught.method.begin("pretrain")
        taught.method.pretrain(taught.outputs, taught.batch)["loss"].backward()
    else:
        (parts["loss"] - parts["ce"]).backward()
    assert any(g is not None and g.any() for g in gradients(taught.outputs))
    learning = [p for p in taught.method.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.any() for p in learning)
    assert all(p.grad is None for p in taught.method.parameters() if not p.requires_grad)
    assert all(g is None for g in gradients(taught.teacher))
    # The deepest exit alone is compared.
    assert all(t.grad is None for t in (*taught.outputs.logits[:-1], *taught.outputs.features[:-1]))
    if "maps" in method_class(name).needs:
        shown = taught.outputs.preactivations if name == "ab" else taught.outputs.maps
        assert any(maps.grad is not None for maps in shown)


@pytest.mark.parametrize("name", TAUGHT)
@pytest.mark.parametrize("cells", [1, 2])
def test_a_batch_of_one_or_two_cells_is_finite(lesson, name, cells):
    assert is_finite(lesson(name, cells=cells))
    hint = {"hint_stage": 1} if name == "fitnet" else {}
    assert is_finite(lesson(name, *TINIEST, cells=cells, **hint))


@pytest.mark.parametrize("name", TAUGHT)
@pytest.mark.parametrize("silent", [True, False], ids=["all zero", "all alike"])
def test_answers_without_differences_are_finite(lesson, name, silent):
    taught = lesson(name)
    for outputs in (taught.outputs, taught.teacher):
        for part in parts_of(outputs):
            for tensor in part:
                tensor.data = torch.zeros_like(tensor) if silent else tensor.data[:1].expand_as(tensor).clone()
    assert is_finite(taught)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("name", sorted(ZERO_FOR_THE_TEACHER_ITSELF))
def test_a_student_that_is_its_teacher_has_nothing_to_learn(lesson, name):
    shapes = OutputShapes((11,), ((4, 9, 9), (8, 3, 3)))
    taught = lesson(name, shapes, shapes)
    different = taught.values()
    taught.batch.teacher = taught.outputs
    same = taught.values()
    for part in ZERO_FOR_THE_TEACHER_ITSELF[name]:
        assert abs(same[part]) < 1e-4 * different[part]


@pytest.mark.parametrize("name", TAUGHT)
def test_half_precision_answers_are_compared_in_single(lesson, name):
    taught = lesson(name)
    for outputs in (taught.outputs, taught.teacher):
        for part in parts_of(outputs):
            part[:] = [tensor.detach().bfloat16() for tensor in part]
    # A method may keep something of each batch, and draw at random.
    state = copy.deepcopy(taught.method.state_dict())
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        half = taught.parts()
    taught.method.load_state_dict(state)
    torch.manual_seed(1)
    for outputs in (taught.outputs, taught.teacher):
        for part in parts_of(outputs):
            part[:] = [tensor.float() for tensor in part]
    for part, value in taught.parts().items():
        assert half[part].dtype == torch.float32
        assert half[part].item() == pytest.approx(value.item(), rel=1e-4)


# ---------------------------------------------------------------- training


# A small network on small images, at a rate at which a handful of steps show.
QUICK = {
    "student.backbone": "cifar_resnet8",
    "data.image_size": 32,
    "train.optimizer": "adamw",
    "train.lr": 0.003,
    "train.epochs": 8,
    "train.select": "last",
}


@pytest.fixture(scope="module")
def teacher(cells, tiny, tmp_path_factory) -> str:
    """A finished run of another family than the student's."""
    settings = {**QUICK, "student.backbone": "test_efficientnet", "student.multi_exit": False, "train.epochs": 24}
    recipe = tiny.override({**settings, "method.name": "supervised"})
    return str(fit(cells, tmp_path_factory.mktemp("runs") / "teacher", recipe=recipe).path)


def recipe_for(name, recipe):
    """A few epochs with this method, its stage before cut to one."""
    settings = {**QUICK, "method.name": name, "student.multi_exit": name in MULTI_EXIT}
    # Some weights are for long trainings, and leave little to the labels in a short one.
    short = {"pkt": {"weight": 1.0}, "similarity": {"weight": 1.0}, "rkd": {"weight": 0.1}, "dkd": {"nckd_weight": 1.0}}
    short["sskd"] = {"ce_weight": 1.0, "ss_weight": 1.0}
    settings |= {f"method.{key}": value for key, value in short.get(name, {}).items()}
    if "snapshot" in method_class(name).needs:
        settings["train.cycles"] = 2
    if "pretrain_epochs" in {field.name for field in dataclasses.fields(method_class(name).Settings)}:
        settings["method.pretrain_epochs"] = 1
    return recipe.override(settings)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_fits_above_chance_and_survives_a_kill(cells, tiny, teacher, tmp_path, monkeypatch, name):
    # 25 training cells in batches of 8: three batches, and a last cell alone.
    recipe = recipe_for(name, tiny).override({"train.checkpoint_minutes": 1e-6})
    taught_by = teacher if name in TAUGHT else None
    run = fit(cells, tmp_path / "whole", recipe=recipe, teacher=taught_by)
    assert not [tensor for tensor in run.network().state_dict() if tensor.startswith("method")]
    seen = evaluate(run, split="train", out=tmp_path / "report").metrics["ensemble"]["accuracy"]
    assert seen > 0.5  # a third by chance

    steps = iter(range(random.randint(1, 23)))
    step = Trainer._train_step

    def dying(self, *arguments):
        if next(steps, None) is None:
            raise Killed
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", dying)
        with pytest.raises(Killed):
            fit(cells, tmp_path / "killed", recipe=recipe, teacher=taught_by)
    resumed = fit(cells, tmp_path / "killed", recipe=recipe, teacher=taught_by, resume=True)
    assert (resumed.path / "model.safetensors").read_bytes() == (run.path / "model.safetensors").read_bytes()


def test_two_ranks_train_every_method(cells, tiny, teacher, tmp_path):
    # 25 cells in batches of 13, the last one of 12: a rank has 7 and 6 of the first.
    recipes = {}
    for name in NAMES:
        recipe = recipe_for(name, tiny)
        recipe = recipe.override({"train.batch_size": 13, "train.epochs": recipe.train.cycles})
        recipes[name] = recipe.override({"teacher.source": teacher} if name in TAUGHT else {}).model_dump(mode="json")
    (tmp_path / "recipes.json").write_text(json.dumps(recipes))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = [str(ON_RANKS), str(cells), str(tmp_path / "runs"), str(tmp_path / "recipes.json")]
    done = subprocess.run([*launcher, *given], capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    for name in NAMES:
        run = Run.open(tmp_path / "runs" / name)
        assert run.finished
        assert run.info["ranks"] == 2
        events = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
        assert [event["epoch"] for event in events] == list(range(run.recipe.train.epochs))


def test_fits_with_a_teacher_of_several_exits_and_half_precision(cells, tiny, tiny_run, tmp_path):
    recipe = tiny.override({"method.name": "fitnet", "method.kd_weight": 0.5, "train.precision": "bf16"})
    recipe = recipe.override({"student.multi_exit": False, "train.epochs": 1})
    run = fit(cells, tmp_path / "r", recipe=recipe, teacher=str(tiny_run.path))
    assert '"hint"' in (run.path / "log.jsonl").read_text()


@dataclasses.dataclass(frozen=True)
class OutsideSettings:
    pull: float = 2.0


class Outside(Method):
    """A method as a user would write it."""

    Settings = OutsideSettings
    needs = frozenset({"teacher"})

    def forward(self, outputs, batch):
        ce = self.cross_entropy(outputs.logits[-1], batch.labels)
        pull = self.settings.pull * (outputs.logits[-1] - batch.teacher.logits[-1]).square().mean()
        return {"loss": ce + pull, "ce": ce, "pull": pull}


def test_a_method_of_ones_own_is_fitted_with_by_name(cells, tiny, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "_REGISTRY", dict(method._REGISTRY))
    register("outside")(Outside)
    recipe = tiny.override({**QUICK, "student.multi_exit": False, "method.name": "outside", "method.pull": 0.5})
    run = fit(cells, tmp_path / "r", recipe=recipe.override({"train.epochs": 1}), teacher=teacher)
    assert run.recipe.method.settings == {"pull": 0.5}
    assert '"pull"' in (run.path / "log.jsonl").read_text()
    picture = next(cells.rglob("*.png"))
    assert load(run).predict([picture]).probabilities.shape == (1, 3)

"""What holds for all registered methods, whatever their formulas."""

import dataclasses

import pytest
import torch

from cytodistill.distill import Method, method, method_class, method_names, method_settings, register
from cytodistill.errors import CytodistillError
from cytodistill.infer.predictor import load
from cytodistill.models.outputs import ExitOutputs, OutputShapes
from cytodistill.train.fit import fit

NAMES = method_names()
TAUGHT = [name for name in NAMES if "teacher" in method_class(name).needs]
MULTI_EXIT = ["deep_supervision", "self_distillation"]
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


def gradients(outputs: ExitOutputs) -> list[torch.Tensor | None]:
    return [tensor.grad for part in (outputs.logits, outputs.features, outputs.maps) for tensor in part]


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
    (parts["loss"] - parts["ce"]).backward()
    assert any(g is not None and g.any() for g in gradients(taught.outputs))
    assert all(p.grad is not None and p.grad.any() for p in taught.method.parameters())
    assert all(g is None for g in gradients(taught.teacher))
    # The deepest exit alone is compared.
    assert all(t.grad is None for t in (*taught.outputs.logits[:-1], *taught.outputs.features[:-1]))
    if "maps" in method_class(name).needs:
        assert any(maps.grad is not None for maps in taught.outputs.maps)


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
        for part in (outputs.logits, outputs.features, outputs.maps):
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
        for part in (outputs.logits, outputs.features, outputs.maps):
            part[:] = [tensor.detach().bfloat16() for tensor in part]
    with torch.autocast("cpu", torch.bfloat16):
        half = taught.parts()
    for outputs in (taught.outputs, taught.teacher):
        for part in (outputs.logits, outputs.features, outputs.maps):
            part[:] = [tensor.float() for tensor in part]
    for part, value in taught.parts().items():
        assert half[part].dtype == torch.float32
        assert half[part].item() == pytest.approx(value.item(), rel=1e-4)


# ---------------------------------------------------------------- training


@pytest.fixture(scope="module")
def teacher(cells, tiny, tmp_path_factory) -> str:
    """A finished run of another family than the student's."""
    settings = {"student.backbone": "test_efficientnet", "student.multi_exit": False, "train.epochs": 1}
    settings["method.name"] = "supervised"
    return str(fit(cells, tmp_path_factory.mktemp("runs") / "teacher", recipe=tiny.override(settings)).path)


@pytest.mark.parametrize("name", NAMES)
def test_fits(cells, tiny, teacher, tmp_path, name):
    settings = {"method.name": name, "student.multi_exit": name in MULTI_EXIT, "train.epochs": 1}
    recipe = tiny.override(settings)
    run = fit(cells, tmp_path / "r", recipe=recipe, teacher=teacher if name in TAUGHT else None)
    assert run.finished
    assert not [tensor for tensor in run.network().state_dict() if tensor.startswith("method")]


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
    recipe = tiny.override({"student.multi_exit": False, "method.name": "outside", "method.pull": 0.5})
    run = fit(cells, tmp_path / "r", recipe=recipe.override({"train.epochs": 1}), teacher=teacher)
    assert run.recipe.method.settings == {"pull": 0.5}
    assert '"pull"' in (run.path / "log.jsonl").read_text()
    picture = next(cells.rglob("*.png"))
    assert load(run).predict([picture]).probabilities.shape == (1, 3)

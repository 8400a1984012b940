import numpy as np
import pytest
import torch

from cytodistill.distill.method import method_settings
from cytodistill.distill.sskd import trusted
from cytodistill.errors import CytodistillError
from cytodistill.recipe import Recipe


@pytest.fixture
def turned(lesson):
    """A lesson of ``cells`` cells, each unturned and in three turns."""

    def give(cells=5, **settings):
        return lesson("sskd", cells=cells, **settings)

    return give


def softmax(x):
    powers = np.exp(x - x.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def rows_kl(student, teacher, temperature):
    s, t = softmax(student / temperature), softmax(teacher / temperature)
    return temperature**2 * (t * np.log(t / s)).sum(1)


def cosines(head, features, cells, numbers):
    """(3B, B) of turned and unturned images, one pair at a time."""
    first, _, second = head
    hidden = np.maximum(features @ numbers(first.weight).T + numbers(first.bias), 0)
    vectors = hidden @ numbers(second.weight).T + numbers(second.bias)
    return np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in vectors[:cells]] for a in vectors[cells:]])


def kept_rows(answers, right, keep):
    """Rows that are kept: the right ones, then the wrong ones by error level and lag, as many as the share says."""
    levels = [int((row > row[r]).sum()) for row, r in zip(answers, right, strict=True)]
    lags = [row.max() - row[r] for row, r in zip(answers, right, strict=True)]
    wrong = sorted((n for n, level in enumerate(levels) if level), key=lambda n: (levels[n], lags[n]))
    return [n for n, level in enumerate(levels) if not level] + wrong[: int(keep * len(wrong))]


# ---------------------------------------------------------------- the training


@pytest.mark.parametrize("cells", [5, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tf_keep": 0.3, "ss_keep": 0.5, "tf_temperature": 2.5, "ss_temperature": 0.1, "temperature": 3.0},
        {"ce_weight": 1.0, "kd_weight": 0.5, "tf_weight": 1.5, "ss_weight": 2.0, "tf_keep": 0.0, "ss_keep": 0.0},
    ],
)
def test_parts(turned, numbers, settings, cells):
    taught = turned(cells, **settings)
    s = taught.method.settings
    labels = taught.batch.labels.numpy()
    ours, theirs = numbers(taught.outputs.logits[-1]), numbers(taught.teacher.logits[-1])
    expected = {
        "ce": -s.ce_weight * np.log(softmax(ours[:cells])[range(cells), labels]).mean(),
        "kd": s.kd_weight * rows_kl(ours[:cells], theirs[:cells], s.temperature).mean(),
    }
    kept = kept_rows(theirs[cells:], np.tile(labels, 3), s.tf_keep)
    assert (len(kept) < 3 * cells) == (s.tf_keep < 1)  # some are wrong, so that the choice counts
    rows = rows_kl(ours[cells:], theirs[cells:], s.tf_temperature)[kept]
    expected["tf"] = s.tf_weight * rows.mean() if kept else 0.0
    ours = cosines(taught.method.student_head, numbers(taught.outputs.features[-1]), cells, numbers)
    theirs = cosines(taught.method.teacher_head, numbers(taught.teacher.features[-1]), cells, numbers)
    kept = kept_rows(theirs, np.tile(np.arange(cells), 3), s.ss_keep)
    assert len(kept) < 3 * cells
    expected["ss"] = s.ss_weight * rows_kl(ours, theirs, s.ss_temperature)[kept].mean() if kept else 0.0
    values = taught.values()
    assert values.pop("loss") == pytest.approx(sum(expected.values()), rel=1e-4)
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_the_papers_figures_are_the_defaults():
    s = method_settings("sskd", {})
    assert (s.ce_weight, s.kd_weight, s.tf_weight, s.ss_weight) == (0.1, 0.9, 2.7, 10.0)
    assert (s.temperature, s.tf_temperature, s.ss_temperature) == (4.0, 4.0, 0.5)
    assert (s.tf_keep, s.ss_keep, s.pretrain_epochs) == (1.0, 0.75, 60)


def test_which_answers_are_kept():
    answers = torch.tensor(
        [
            [5.0, 1.0, 0.0],  # right
            [0.0, 4.0, 3.0],  # level 2
            [2.0, 9.0, 1.0],  # level 1, by 7
            [2.0, 3.0, 1.0],  # level 1, by 1
            [1.0, 1.0, 1.0],  # nothing is put before the right one
        ]
    )
    right = torch.zeros(5, dtype=torch.long)
    for keep, kept in {0.0: "10001", 0.3: "10001", 0.34: "10011", 0.7: "10111", 1.0: "11111"}.items():
        assert "".join(str(int(k)) for k in trusted(answers, right, keep)) == kept


@pytest.mark.parametrize("keep", [0.0, 0.29, 0.5, 0.75, 1.0])
def test_how_many_are_kept_whatever_their_number(keep):
    for wrong in range(0, 101, 10):
        answers = torch.randn(110, 6)
        right = answers.argmax(1)
        right[:wrong] = answers[:wrong].argmin(1)
        assert trusted(answers, right, keep).sum() == 110 - wrong + int(keep * wrong)


def test_a_teacher_that_is_wrong_throughout_may_say_nothing_of_turned_images(turned):
    taught = turned(tf_keep=0.0)
    taught.teacher.logits[-1] = torch.eye(7)[(taught.batch.labels.repeat(4) + 1) % 7]
    parts = taught.parts()
    assert parts["tf"] == 0
    parts["loss"].backward()
    logits = taught.outputs.logits[-1].grad
    assert torch.isfinite(logits).all()
    assert logits[:5].any()
    assert not logits[5:].any()


def test_gradients_in_the_training(turned):
    taught = turned()
    taught.method.begin("train")
    assert not any(p.requires_grad for p in taught.method.teacher_head.parameters())
    taught.parts()["loss"].backward()
    assert all(p.grad.any() for p in taught.method.student_head.parameters())
    assert all(p.grad is None for p in taught.method.teacher_head.parameters())
    assert taught.outputs.logits[-1].grad.any(1).all()
    assert taught.outputs.features[-1].grad.any(1)[:5].all()
    assert all(t.grad is None for t in (*taught.teacher.logits, *taught.teacher.features))


def test_only_unturned_images_have_labels(turned):
    taught = turned()
    taught.parts()["ce"].backward()
    grads = taught.outputs.logits[-1].grad
    assert grads[:5].any(1).all()
    assert not grads[5:].any()


# ---------------------------------------------------------------- the stage before


@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_contrast(turned, numbers, temperature):
    taught = turned(pretrain_temperature=temperature)
    parts = taught.method.pretrain(None, taught.batch)
    alike = cosines(taught.method.teacher_head, numbers(taught.teacher.features[-1]), 5, numbers)
    expected = -np.log(softmax(alike / temperature)[range(15), np.tile(np.arange(5), 3)]).mean()
    assert parts["contrast"].item() == pytest.approx(expected, rel=1e-5)
    assert set(parts) == {"loss", "contrast"}
    assert parts["loss"] is parts["contrast"]


def test_gradients_in_the_stage_before(turned):
    taught = turned()
    taught.method.begin("pretrain")
    assert not any(p.requires_grad for p in taught.method.student_head.parameters())
    taught.method.pretrain(None, taught.batch)["loss"].backward()
    assert all(p.grad.any() for p in taught.method.teacher_head.parameters())
    assert all(p.grad is None for p in taught.method.student_head.parameters())
    assert all(t.grad is None for t in (*taught.teacher.logits, *taught.teacher.features))


def test_the_teachers_head_learns_to_tell_cells_apart(turned):
    taught = turned(pretrain_temperature=0.1)
    taught.method.begin("pretrain")
    optimiser = torch.optim.Adam([p for p in taught.method.parameters() if p.requires_grad], lr=0.01)
    before = taught.method.pretrain(None, taught.batch)["loss"].item()
    for _ in range(100):
        optimiser.zero_grad()
        taught.method.pretrain(None, taught.batch)["loss"].backward()
        optimiser.step()
    assert taught.method.pretrain(None, taught.batch)["loss"].item() < before / 4


@pytest.mark.parametrize(("epochs", "milestones"), [(60, [30, 45]), (7, [3, 5]), (3, [1, 2]), (2, [1]), (1, [])])
def test_rates_of_the_stage_before_are_a_recipes(turned, epochs, milestones):
    stage = turned(pretrain_epochs=epochs).method.pretraining()
    assert (stage.epochs, stage.student, stage.train) == (epochs, False, {"milestones": milestones})
    stage = turned(pretrain_epochs=epochs, pretrain_lr=0.05).method.pretraining()
    settings = {"train.epochs": stage.epochs, "train.schedule": "multistep"}
    train = Recipe().override(settings | {f"train.{key}": value for key, value in stage.train.items()}).train
    assert (train.lr, list(train.milestones)) == (0.05, milestones)


@pytest.mark.parametrize("rate", [0.0, -1.0, "fast"])
def test_a_wrong_rate_is_named(rate):
    with pytest.raises(CytodistillError, match="method.pretrain_lr="):
        method_settings("sskd", {"pretrain_lr": rate})


# ---------------------------------------------------------------- odd batches


def test_a_cell_alone_is_told_from_nobody(turned):
    taught = turned(1)
    assert taught.method.pretrain(None, taught.batch)["contrast"] == 0
    parts = taught.parts()
    assert parts["ss"] == 0
    assert parts["tf"] > 0
    parts["loss"].backward()
    grads = [taught.outputs.logits[-1].grad, taught.outputs.features[-1].grad]
    grads += [p.grad for p in taught.method.student_head.parameters()]
    assert all(torch.isfinite(g).all() for g in grads)


@pytest.mark.parametrize("silent", [True, False], ids=["all zero", "all alike"])
def test_answers_without_differences_are_finite(turned, silent):
    taught = turned(2)
    for outputs in (taught.outputs, taught.teacher):
        for tensor in (*outputs.logits, *outputs.features):
            tensor.data = torch.zeros_like(tensor) if silent else tensor.data[:1].expand_as(tensor).clone()
    with torch.no_grad():  # and heads that answer nothing to nothing
        for p in taught.method.parameters():
            if p.ndim == 1:
                p.zero_()
    for stage in ("pretrain", "train"):
        taught.method.begin(stage)
        parts = taught.parts() if stage == "train" else taught.method.pretrain(None, taught.batch)
        parts["loss"].backward()
        assert torch.isfinite(parts["loss"])
    grads = [taught.outputs.logits[-1].grad, taught.outputs.features[-1].grad]
    assert all(torch.isfinite(g).all() for g in (*grads, *(p.grad for p in taught.method.parameters())))


def test_half_precision_is_compared_in_single(turned):
    taught = turned()

    def both():
        with torch.no_grad():
            return {**taught.parts(), **taught.method.pretrain(None, taught.batch)}

    for outputs in (taught.outputs, taught.teacher):
        for part in (outputs.logits, outputs.features):
            part[:] = [tensor.detach().bfloat16() for tensor in part]
    with torch.autocast("cpu", torch.bfloat16):
        half = both()
    for outputs in (taught.outputs, taught.teacher):
        for part in (outputs.logits, outputs.features):
            part[:] = [tensor.float() for tensor in part]
    for part, value in both().items():
        assert half[part].dtype == torch.float32
        assert half[part].item() == pytest.approx(value.item(), rel=1e-4)

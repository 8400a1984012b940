import copy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from cytodistill.distill import Batch, CrossEntropy, build_method
from cytodistill.distill.crd import Bank
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import ExitOutputs, OutputShapes

N, K, WIDTH = 23, 9, 6
# Classes of 1, 0, 9, 4, 2, 6 and 1 cells, mixed, in rows of the cell table with gaps between them.
LABELS = torch.tensor([2, 5, 2, 3, 0, 5, 2, 4, 2, 3, 5, 2, 6, 2, 3, 5, 2, 4, 2, 5, 3, 2, 5])
ROWS = (torch.arange(N) * 10) % N * 3 + 2


@pytest.fixture
def taught(lesson):
    """A lesson of CRD that knows N cells, whose batch is the cells at ``positions`` of them."""

    def give(positions=(7, 4, 19, 20, 0), labels=LABELS, rows=ROWS, **settings):
        given = lesson("crd", cells=len(positions), **{"negatives": K, "width": WIDTH, **settings})
        given.method.see_cells(rows, labels)
        given.batch.index, given.batch.labels = rows[list(positions)], labels[list(positions)]
        return given

    return give


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def embed(layer, features, numbers):
    return unit(numbers(features) @ numbers(layer.weight).T + numbers(layer.bias))


def np_contrast(anchors, bank, cells, negatives, tau, z):
    """The formula as it is written, cell by cell; (value, Z)."""
    n, k = len(bank), negatives.shape[1]
    if z is None:
        pairs = [(a, v) for a, c, row in zip(anchors, cells, negatives, strict=True) for v in (c, *row)]
        z = n * np.mean([np.exp(a @ bank[v] / tau) for a, v in pairs])

    def h(a, v):
        p = np.exp(a @ bank[v] / tau) / z
        return p / (p + k / n)

    losses = [
        -np.log(h(a, c)) - sum(np.log(1 - h(a, v)) for v in row)
        for a, c, row in zip(anchors, cells, negatives, strict=True)
    ]
    return np.mean(losses), z


# ---------------------------------------------------------------- values


def test_contrasts_banks_and_normalisers_of_two_batches(taught, numbers):
    given = taught(weight=0.5, contrast_temperature=0.3, momentum=0.7)
    method = given.method
    banks = {whose: numbers(getattr(method, f"{whose}_bank").vectors) for whose in ("student", "teacher")}
    z = {"student": None, "teacher": None}
    for positions in ([7, 4, 19, 20, 0], [4, 12, 19, 3, 8]):
        given.batch.index, given.batch.labels = ROWS[positions], LABELS[positions]
        drawn = method.draw_negatives(torch.tensor(positions))
        method.draw_negatives = lambda cells, drawn=drawn: drawn
        ours = embed(method.student_embedding, given.outputs.features[-1], numbers)
        theirs = embed(method.teacher_embedding, given.teacher.features[-1], numbers)
        student, z["teacher"] = np_contrast(ours, banks["teacher"], positions, drawn.numpy(), 0.3, z["teacher"])
        teacher, z["student"] = np_contrast(theirs, banks["student"], positions, drawn.numpy(), 0.3, z["student"])
        parts = given.values()
        assert parts["student_contrast"] == pytest.approx(0.5 * student, rel=1e-4)
        assert parts["teacher_contrast"] == pytest.approx(0.5 * teacher, rel=1e-4)
        assert parts["loss"] == pytest.approx(parts["ce"] + 0.5 * (student + teacher), rel=1e-4)
        for whose, seen in (("student", ours), ("teacher", theirs)):
            banks[whose][positions] = unit(0.7 * banks[whose][positions] + 0.3 * seen)
            bank = getattr(method, f"{whose}_bank")
            np.testing.assert_allclose(numbers(bank.vectors), banks[whose], atol=1e-5)
            assert bank.log_normaliser.item() == pytest.approx(np.log(z[whose]), abs=1e-5)
        del method.draw_negatives


def test_defaults_are_the_papers_and_the_shared_parts_stand_beside(taught):
    given = taught(negatives=16384, width=128, kd_weight=0.5)
    s = given.method.settings
    assert (s.weight, s.ce_weight, s.contrast_temperature, s.momentum) == (0.8, 1.0, 0.07, 0.5)
    assert given.method.student_embedding.weight.shape == (128, 11)
    parts = given.values()
    assert set(parts) == {"loss", "ce", "kd", "student_contrast", "teacher_contrast"}
    assert all(np.isfinite(list(parts.values())))


def test_a_very_low_temperature_is_finite(taught):
    given = taught(contrast_temperature=1e-3)  # exp(1000) is no number
    given.parts()["loss"].backward()
    assert torch.isfinite(given.outputs.features[-1].grad).all()


def test_learning_brings_a_cells_embeddings_together(taught):
    given = taught(momentum=0.0)
    learning = [*given.method.parameters(), given.outputs.features[-1]]
    first = sum(v for k, v in given.values().items() if "contrast" in k)
    for _ in range(60):
        for tensor, gradient in zip(learning, torch.autograd.grad(given.parts()["loss"], learning), strict=True):
            tensor.data -= 0.05 * gradient
    assert sum(v for k, v in given.values().items() if "contrast" in k) < first - 1


# ---------------------------------------------------------------- negatives


def test_negatives_are_all_cells_of_other_classes_equally_often(taught):
    method = taught(negatives=20_000).method
    cells = torch.arange(N)
    torch.manual_seed(1)
    drawn = method.draw_negatives(cells)
    assert drawn.shape == (N, 20_000)
    for cell, others in enumerate(drawn):
        counts = torch.bincount(others, minlength=N)
        other_class = LABELS[cell] != LABELS
        assert not counts[~other_class].any()
        even = 20_000 / other_class.sum().item()
        assert (counts[other_class] - even).abs().max() < 6 * even**0.5  # six standard deviations
    torch.manual_seed(1)
    assert torch.equal(method.draw_negatives(cells), drawn)
    assert not torch.equal(method.draw_negatives(cells), drawn)


def test_one_cell_of_another_class_is_every_negative(taught):
    given = taught([0, 3], labels=torch.tensor([1, 1, 1, 2]), rows=torch.tensor([9, 4, 6, 2]))
    assert given.method.draw_negatives(torch.tensor([0, 3]))[0].tolist() == [3] * K
    assert set(given.method.draw_negatives(torch.tensor([3]))[0].tolist()) <= {0, 1, 2}
    given.parts()["loss"].backward()
    assert torch.isfinite(given.outputs.features[-1].grad).all()


def test_cells_of_one_class_alone_are_refused(lesson):
    with pytest.raises(CytodistillError, match="method.name=crd: .* all of one"):
        lesson("crd").method.see_cells(torch.arange(4), torch.full((4,), 3))


@pytest.mark.parametrize("row", [3, 10_000])
def test_a_row_that_is_no_training_cells_is_an_error(taught, row):
    given = taught()
    assert row not in ROWS
    given.batch.index = torch.tensor([2, 5, row, 8, 11])
    with pytest.raises((IndexError, RuntimeError)):
        given.parts()


# ---------------------------------------------------------------- gradients and banks


@pytest.mark.parametrize("positions", [(4,), (4, 12), (7, 4, 19, 20, 0)])
def test_gradients_reach_the_student_and_both_embeddings_and_nothing_else(taught, positions):
    given = taught(positions)
    parts = given.parts()
    (parts["loss"] - parts["ce"]).backward()
    assert given.outputs.features[-1].grad.abs().sum() > 0
    assert {name for name, p in given.method.named_parameters() if p.grad is not None and p.grad.any()} == {
        f"{whose}_embedding.{part}" for whose in ("student", "teacher") for part in ("weight", "bias")
    }
    assert all(torch.isfinite(p.grad).all() for p in given.method.parameters())
    assert given.outputs.logits[-1].grad is None or not given.outputs.logits[-1].grad.any()
    assert all(t.grad is None for part in (given.teacher.features, given.teacher.logits) for t in part)
    assert not any(buffer.requires_grad for buffer in given.method.buffers())


def test_a_cell_that_is_there_twice_enters_the_bank_as_its_mean(numbers):
    bank = Bank(7, WIDTH)
    before = numbers(bank.vectors)
    cells, seen = torch.tensor([5, 2, 5, 0, 5]), torch.nn.functional.normalize(torch.randn(5, WIDTH), dim=1)
    shuffled = copy.deepcopy(bank)
    bank.move(cells, seen, 0.25)
    expected = before.copy()
    for cell in (5, 2, 0):
        expected[cell] = unit(0.25 * before[cell] + 0.75 * numbers(seen)[cells.numpy() == cell].mean(0))
    np.testing.assert_allclose(numbers(bank.vectors), expected, atol=1e-6)
    order = torch.tensor([4, 3, 0, 1, 2])
    shuffled.move(cells[order], seen[order], 0.25)
    torch.testing.assert_close(shuffled.vectors, bank.vectors)


def test_a_checkpoint_keeps_banks_and_normalisers(taught):
    given = taught()
    given.parts()
    resumed = taught()
    for bank in (resumed.method.student_bank, resumed.method.teacher_bank):
        bank.vectors.normal_()
    resumed.method.load_state_dict(given.method.state_dict())
    losses = []
    for one in (given, resumed):
        torch.manual_seed(5)
        losses.append([one.values(), one.values()])
    assert losses[0] == losses[1]
    # What follows from the cells is not stored.
    assert {name.split(".")[-1] for name in given.method.state_dict()} == {
        "weight",
        "bias",
        "vectors",
        "log_normaliser",
    }


def test_half_precision_features_are_contrasted_in_single(taught):
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        given = taught()
        for outputs in (given.outputs, given.teacher):
            outputs.features[:] = [f.detach().bfloat16().to(dtype) for f in outputs.features]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            parts = given.parts()
        assert {parts[name].dtype for name in ("student_contrast", "teacher_contrast")} == {torch.float32}
        assert given.method.student_bank.vectors.dtype == torch.float32
        found.append([parts[name].item() for name in ("student_contrast", "teacher_contrast")])
    assert found[0] == found[1]


# ---------------------------------------------------------------- ranks


def two_steps(share: slice) -> dict[str, torch.Tensor]:
    """What a rank with this share of two batches of five cells, one of them in both shares, ends with."""
    torch.manual_seed(3)
    settings = {"negatives": K, "width": WIDTH, "ce_weight": 0.0}
    method = build_method("crd", settings, CrossEntropy(), OutputShapes((11,)), OutputShapes((13,)))
    method.see_cells(ROWS, LABELS)
    method.draw_negatives = lambda cells: (cells[:, None] * 7 + torch.arange(K) * 3 + 1) % N  # alike on all ranks
    kept = {}
    for step, positions in enumerate(([7, 4, 19, 20, 7], [19, 4, 4, 8, 1])):
        logits, ours, theirs = torch.randn(5, 7), torch.randn(5, 11), torch.randn(5, 13)
        mine = torch.tensor(positions)[share]
        batch = Batch(torch.zeros(len(mine), 3, 8, 8), LABELS[mine], ROWS[mine])
        batch.teacher = ExitOutputs([logits[share]], [theirs[share]])
        method.zero_grad()
        (method(ExitOutputs([logits[share]], [ours[share]]), batch)["loss"] * len(mine) / 5).backward()
        kept |= {f"{name} at {step}": p.grad for name, p in method.named_parameters()}
    return kept | {name: buffer for name, buffer in method.named_buffers() if "bank" in name}


def as_rank(rank: int, folder: Path) -> dict[str, torch.Tensor]:
    store, patience = f"file://{folder / 'store'}", timedelta(seconds=120)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2, timeout=patience)
    try:
        return two_steps(slice(rank, None, 2))
    finally:
        dist.destroy_process_group()


def test_two_ranks_keep_the_banks_of_one_process(tmp_path):
    alone = two_steps(slice(None))
    other = subprocess.Popen([sys.executable, __file__, str(tmp_path)])
    try:
        first = as_rank(0, tmp_path)
        assert other.wait(timeout=60) == 0
    finally:
        other.kill()
    second = torch.load(tmp_path / "second.pt", weights_only=True)
    assert sorted(alone) == sorted(first) == sorted(second)
    for name, value in alone.items():
        if "bank" in name:  # vectors and Z
            assert torch.equal(first[name], second[name]), name
            torch.testing.assert_close(first[name], value)
        else:  # each rank's gradient is of its own three or two cells, so that the ranks' together are the whole's
            assert not torch.allclose(first[name], value, rtol=1e-2), name
            torch.testing.assert_close(first[name] + second[name], value, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":  # the second rank
    torch.set_num_threads(1)
    torch.save(as_rank(1, Path(sys.argv[1])), Path(sys.argv[1]) / "second.pt")

"""The teacher's answers stored and replayed."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from cytodistill.errors import CytodistillError
from cytodistill.train import stored_answers
from cytodistill.train.distributed import Ranks
from cytodistill.train.fit import fit
from cytodistill.train.log import Silent
from cytodistill.train.loop import Trainer
from cytodistill.train.stored_answers import FOLDER, AnswerFiles, store_answers
from cytodistill.train.teacher import FrozenTeacher

VIEWS = 3
ALONE = Ranks(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module", autouse=True)
def without_pictures():
    """Learning curves take longer to draw than a tiny network to train."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytodistill.train.fit.learning_curves", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def replaying(tiny, tiny_run):
    """A recipe that replays a finished run's answers to strongly augmented views."""
    return tiny.override(
        {
            "teacher.source": str(tiny_run.path),
            "teacher.views": VIEWS,
            "augment.rotation": 180,
            "augment.stain": 0.2,
            "augment.cutout": 0.3,
            "train.epochs": 4,
        }
    )


@pytest.fixture(scope="module")
def count(tiny_run):
    """How many of the tiny cells train."""
    return len(tiny_run.table().indices("train"))


class Watched:
    """What teachers and students of fits were shown, while it is patched in."""

    def __init__(self, monkeypatch):
        self.seen, self.said, self.steps = [], [], []
        teach, step, taught = FrozenTeacher.__call__, Trainer._train_step, Trainer._taught

        def teaching(teacher, images):
            answer = teach(teacher, images)
            self.seen.append(images.clone())
            self.said.append(answer.logits[-1])
            return answer

        def stepping(trainer, visits, *arguments):
            self.steps.append({"visits": visits})
            return step(trainer, visits, *arguments)

        def being_taught(trainer, visits, cells, images):
            answer = taught(trainer, visits, cells, images)
            self.steps[-1] |= {"images": images.clone(), "answer": answer}
            return answer

        monkeypatch.setattr(FrozenTeacher, "__call__", teaching)
        monkeypatch.setattr(Trainer, "_train_step", stepping)
        monkeypatch.setattr(Trainer, "_taught", being_taught)


def test_the_student_sees_the_very_views_that_were_answered(cells, count, replaying, tiny_run, tmp_path, monkeypatch):
    watched = Watched(monkeypatch)
    run = fit(cells, tmp_path / "r", recipe=replaying)
    seen, said = torch.cat(watched.seen), torch.cat(watched.said)
    assert len(seen) == count * VIEWS  # each once, and none while the student trains
    teacher = FrozenTeacher(tiny_run.network(), torch.device("cpu"))
    shown = set()
    for step in watched.steps:
        at = step["visits"].cells * VIEWS + step["visits"].views
        shown |= set(at.tolist())
        torch.testing.assert_close(step["images"], seen[at], atol=1e-5, rtol=0)
        replayed = step["answer"].logits[-1]
        assert torch.equal(replayed, said[at].half().float())
        online = teacher(step["images"]).logits[-1]
        torch.testing.assert_close(replayed, online, atol=1e-4, rtol=2**-11)
    # A cell may be left out of an epoch, not out of all.
    assert len(shown) > 0.9 * count * VIEWS
    assert not (run.path / FOLDER).exists()


def test_smaller_views_are_of_the_answers_full_ones(cells, replaying, tmp_path, monkeypatch):
    watched = Watched(monkeypatch)
    recipe = replaying.override({"train.sizes": [[0.5, 0.5]], "augment.cutout": 0, "train.epochs": 2})
    fit(cells, tmp_path / "r", recipe=recipe)
    seen = torch.cat(watched.seen)
    assert seen.shape[-1] == 64
    half = [step for step in watched.steps if step["images"].shape[-1] == 32]
    assert 0 < len(half) == len(watched.steps) // 2
    for step in half:
        full = seen[step["visits"].cells * VIEWS + step["visits"].views]
        # A place of the coarse grid lies between four of the fine one.
        pooled = torch.nn.functional.avg_pool2d(full, 2)
        assert torch.corrcoef(torch.stack([step["images"].flatten(), pooled.flatten()]))[0, 1] > 0.98


class Killed(Exception):
    pass


@pytest.fixture
def small_batches(monkeypatch):
    """Answers in batches of 16, each of them safe from a kill."""
    monkeypatch.setattr(stored_answers, "BATCH", 16)
    monkeypatch.setattr(stored_answers, "SECONDS_AT_RISK", 0.0)


@pytest.mark.parametrize(("what", "at"), [("answer", 3), ("step", 5)])
def test_killed_and_resumed_ends_bit_identical(cells, count, replaying, tmp_path, monkeypatch, small_batches, what, at):
    recipe = replaying.override({"train.checkpoint_minutes": 1e-6, "train.epochs": 2})
    whole = fit(cells, tmp_path / "whole", recipe=recipe)
    owner, name = (FrozenTeacher, "__call__") if what == "answer" else (Trainer, "_train_step")
    original, calls = getattr(owner, name), 0

    def dying(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == at:
            raise Killed
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(Killed):
            fit(cells, tmp_path / "killed", recipe=recipe)
    said = json.loads((tmp_path / "killed" / FOLDER / "answers.json").read_text())
    assert said["answered"] == (16 * (at - 1) if what == "answer" else count * VIEWS)
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(FrozenTeacher, "__call__", lambda self, images: asked.append(len(images)) or teach(self, images))
        teach = original if what == "answer" else FrozenTeacher.__call__
        fit(cells, tmp_path / "killed", recipe=recipe, resume=True)
    assert sum(asked) == count * VIEWS - said["answered"]
    for file in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "killed" / file).read_bytes() == (whole.path / file).read_bytes()


@pytest.mark.parametrize(("method", "parts"), [("kd", {"logits"}), ("rkd", {"logits", "features"})])
def test_only_what_the_method_reads_is_stored(cells, count, replaying, tmp_path, monkeypatch, method, parts):
    kept = []
    train = Trainer._train_epoch

    def looking(self):
        kept.append({file.stem: np.load(file) for file in (tmp_path / "r" / FOLDER).glob("*.npy")})
        train(self)

    monkeypatch.setattr(Trainer, "_train_epoch", looking)
    recipe = replaying.override({"student.multi_exit": False, "method.name": method, "train.epochs": 1})
    fit(cells, tmp_path / "r", recipe=recipe)
    assert kept[0].keys() == parts
    for array in kept[0].values():
        assert (array.dtype, array.shape[:2]) == (np.float16, (count, VIEWS))
        assert np.unique(array.reshape(count * VIEWS, -1), axis=0).shape[0] == count * VIEWS  # no two views alike


@pytest.mark.parametrize(("method", "names"), [("fitnet", "stage maps"), ("sskd", "turned images"), ("ab", "preact")])
def test_a_method_that_learns_from_more_is_refused(cells, replaying, tmp_path, method, names):
    recipe = replaying.override({"student.multi_exit": False, "method.name": method})
    with pytest.raises(CytodistillError, match=rf"teacher.views=3: method.name={method}.*{names}.*set teacher.views=0"):
        fit(cells, tmp_path / "r", recipe=recipe)


def test_resampled_cells_train(cells, replaying, tmp_path):
    run = fit(cells, tmp_path / "r", recipe=replaying.override({"train.imbalance": "resample", "train.epochs": 1}))
    assert run.finished


# ---------------------------------------------------------------- the files


def answering(cells, views):
    """An answer that says which view it is of."""
    return {"logits": torch.stack([cells, views], dim=1).float()}


def stored(folder, key="key", answer=answering, cells=50, views=4):
    return store_answers(folder, key, answer, cells, views, ALONE, Silent())


def test_answers_are_looked_up_by_cell_and_view(tmp_path):
    answers = stored(tmp_path / "a")
    cells, views = torch.tensor([49, 0, 7]), torch.tensor([3, 1, 0])
    assert answers(cells, views).logits[0].tolist() == [[49, 3], [0, 1], [7, 0]]
    assert answers(cells, views).features == []


def test_answers_of_the_same_key_are_kept_and_others_replaced(tmp_path):
    def never(cells, views):
        pytest.fail("asked again")

    stored(tmp_path / "a")
    stored(tmp_path / "a", answer=never)
    for other in ({"key": "another"}, {"views": 2}, {"cells": 40}):
        asked = []

        def answer(cells, views, asked=asked):
            asked.append(cells)
            return answering(cells, views)

        stored(tmp_path / "a", answer=answer, **other)
        assert sum(map(len, asked)) == other.get("cells", 50) * other.get("views", 4)
        stored(tmp_path / "a")


@pytest.mark.parametrize("damage", ["cut", "gone", "not JSON"])
def test_damaged_files_are_made_anew(tmp_path, damage):
    stored(tmp_path / "a")
    array, said = tmp_path / "a" / "logits.npy", tmp_path / "a" / "answers.json"
    if damage == "cut":
        array.write_bytes(array.read_bytes()[:-10])
    elif damage == "gone":
        array.unlink()
    else:
        said.write_text("{")
    assert AnswerFiles(tmp_path / "a", "key", 50, 4).answered() == 0
    assert stored(tmp_path / "a")(torch.tensor([49]), torch.tensor([3])).logits[0].tolist() == [[49, 3]]


@pytest.mark.parametrize("value", [7e4, float("nan")])
def test_what_float16_cannot_hold_is_refused(tmp_path, value):
    with pytest.raises(CytodistillError, match=r"teacher.views=4: the teacher's logits.*set teacher.views=0"):
        stored(tmp_path / "a", answer=lambda cells, views: {"logits": torch.full((len(cells), 2), value)})


class Together(Ranks):
    """One of two ranks that are threads of this process."""

    sums: list
    gate: threading.Barrier

    def sum(self, values):
        self.sums[self.rank] = values
        self.gate.wait()
        total = self.sums[0] + self.sums[1]
        self.gate.wait()
        return total

    def barrier(self):
        self.gate.wait()


def test_two_ranks_answer_a_share_each(tmp_path, small_batches):
    Together.sums, Together.gate = [None, None], threading.Barrier(2, timeout=20)
    asked = [0, 0]

    def on(rank):
        def answer(cells, views):
            asked[rank] += len(cells)
            return answering(cells, views)

        ranks = Together(rank, 2, torch.device("cpu"))
        return store_answers(tmp_path / "two", "key", answer, 27, 3, ranks, Silent())  # 81: the last batch is one view

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(on, range(2)))
    stored(tmp_path / "one", cells=27, views=3)
    assert (tmp_path / "two" / "logits.npy").read_bytes() == (tmp_path / "one" / "logits.npy").read_bytes()
    assert asked == [41, 41]  # the second answers the last view for nothing
    assert torch.equal(*(answers(torch.tensor([26]), torch.tensor([2])).logits[0] for answers in both))

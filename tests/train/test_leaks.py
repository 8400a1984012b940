import shutil

import pytest

from cytodistill.data.prepare import prepare_table
from cytodistill.data.sources import read_source
from cytodistill.data.split import split_table
from cytodistill.errors import CytodistillError
from cytodistill.evaluation.run import evaluate
from cytodistill.train.fit import fit
from cytodistill.train.leaks import cells_seen


def test_counts_the_training_and_validation_cells(tiny_run, cells):
    table = read_source(cells)
    own = tiny_run.table()
    assert cells_seen(tiny_run, table, table.indices("all")) == 45 - len(own.indices("test"))
    assert cells_seen(tiny_run, own, own.indices("test")) == 0


def test_a_copy_elsewhere_is_the_same_cell_and_another_content_is_not(tiny_run, cells, tmp_path):
    copy = shutil.copytree(cells, tmp_path / "copy")
    table = read_source(copy)
    rows = table.indices("all")
    seen = cells_seen(tiny_run, table, rows)
    assert seen == cells_seen(tiny_run, read_source(cells), rows)
    for file in copy.rglob("*.png"):
        file.write_bytes(file.read_bytes() + b"another")
    assert cells_seen(tiny_run, table, rows) == 0


def test_a_run_is_not_evaluated_on_what_trained_it(tiny_run, cells, tmp_path):
    with pytest.raises(CytodistillError, match=r"36 of its 45 cells trained this run|\d+ of its 45 cells trained"):
        evaluate(tiny_run, cells, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    own = tiny_run.table()
    unseen = own.with_frame(own.frame.iloc[own.indices("test")].assign(split=""))
    found = evaluate(tiny_run, unseen, out=tmp_path / "y")
    assert found.metrics["split"] == "all"
    assert found.metrics["n"] == len(unseen)


@pytest.mark.parametrize("role", ["teacher", "pretrained"])
def test_teacher_and_start_must_not_have_seen_the_test_cells(tiny_run, cells, tiny, tmp_path, role):
    table = prepare_table(cells, tiny)
    swapped = table.frame["split"].map({"train": "test", "test": "train", "val": "val"})
    other = table.with_frame(table.frame.assign(split=swapped))
    with pytest.raises(CytodistillError, match="test cells trained that"):
        fit(other, tmp_path / "r", recipe=tiny, **{role: str(tiny_run.path)})
    assert not (tmp_path / "r").exists()


def test_resume_wants_the_same_cells(tiny_run, cells, tiny, tmp_path):
    folder = shutil.copytree(tiny_run.path, tmp_path / "run")
    another = split_table(read_source(cells), ratio="2:1:1", seed=9)
    with pytest.raises(CytodistillError, match="goes on with the cells and splits"):
        fit(another, folder, resume=True)


def test_methods_that_train_the_deepest_exit_alone_want_a_single_one(cells, tiny, tmp_path):
    with pytest.raises(CytodistillError, match="set student.multi_exit=false"):
        fit(cells, tmp_path / "r", recipe=tiny.override({"method.name": "supervised"}))


def test_folds_are_not_passed_over(cells, tiny):
    folded = split_table(read_source(cells), folds=3)
    with pytest.raises(CytodistillError, match="--set data.fold=0"):
        prepare_table(folded, tiny)
    prepared = prepare_table(folded, tiny.override({"data.fold": 1}))
    assert set(prepared.frame.loc[prepared.frame["fold"] == 1, "split"]) == {"test"}

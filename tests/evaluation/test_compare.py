"""Runs compared on the same cells, against figures that others compute."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

import cytodistill
from cytodistill.cli import main
from cytodistill.data.sources import read_source
from cytodistill.errors import CytodistillError
from cytodistill.evaluation import differences
from cytodistill.evaluation.compare import compare
from cytodistill.evaluation.compare_view import comparison_markdown, p_value, rows, signed
from cytodistill.evaluation.differences import Answered, auc_difference, fold_differences, group_differences
from cytodistill.evaluation.run import evaluate
from cytodistill.metrics.intervals import paired_group_bootstrap
from cytodistill.metrics.paired import holm
from cytodistill.train.fit import fit
from cytodistill.train.folds import Folds, fit_folds
from cytodistill.train.run_folder import Run

SMALL = {
    "student.backbone": "cifar_resnet8",
    "student.multi_exit": False,
    "method.name": "supervised",
    "data.image_size": 16,
    "train.epochs": 2,
}


def answered(seed: int, better: float, n: int = 150) -> Answered:
    """Three classes in 15 fields of unlike sizes; the same cells for every seed of the answers."""
    cells = np.random.default_rng(7)
    labels, groups = cells.integers(0, 3, n), cells.integers(0, 15, n).astype(str)
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) + better * np.eye(3)[labels]
    return Answered(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), labels, groups, 600)


@pytest.fixture(scope="module")
def others(cells, tiny, tiny_run, tmp_path_factory) -> list[Run]:
    """Two more runs on the cells and splits of the tiny run."""
    folder = tmp_path_factory.mktemp("others")
    manifest = tiny_run.path / "manifest.csv"
    return [
        fit(manifest, folder / name, recipe=tiny.override({**SMALL, "train.lr": lr}))
        for name, lr in (("weak", 1e-3), ("strong", 0.05))
    ]


@pytest.fixture(scope="module")
def found(tiny_run, others, tmp_path_factory):
    return compare([tiny_run, *others], out=tmp_path_factory.mktemp("compared"))


def test_differences_are_of_figures_that_others_compute():
    one, other = answered(1, 2.0), answered(2, 1.0)
    less = group_differences(one, other)
    figures = {
        "accuracy": lambda of: accuracy_score(of.labels, of.probabilities.argmax(1)),
        "f1": lambda of: f1_score(of.labels, of.probabilities.argmax(1), average="macro"),
        "auc": lambda of: roc_auc_score(of.labels, of.probabilities, multi_class="ovr", average="macro"),
        "nll": lambda of: log_loss(of.labels, of.probabilities),
    }
    for name, figure in figures.items():
        assert less[name].value == pytest.approx(figure(one) - figure(other))
        assert less[name].low < less[name].value < less[name].high
    assert less["accuracy"].p < 0.05
    assert less["nll"].high < 0
    back = group_differences(other, one)
    for name, of in less.items():
        assert back[name].value == pytest.approx(-of.value)
        assert (back[name].low, back[name].high) == pytest.approx((-of.high, -of.low))


def test_the_auc_of_many_resamples_at_once_is_that_of_each_by_itself(monkeypatch):
    monkeypatch.setattr(differences, "AUC_RESAMPLES", 150)
    one, other = answered(1, 1.5, 90), answered(2, 1.0, 90)

    def area(of: Answered):
        return lambda taken: roc_auc_score(of.labels[taken], of.probabilities[taken], multi_class="ovr")

    slow = paired_group_bootstrap(area(one), area(other), one.groups, resamples=150)
    fast = auc_difference(one, other)
    assert (fast.value, fast.low, fast.high, fast.p) == pytest.approx((slow.value, slow.low, slow.high, slow.p))


def test_equal_answers_differ_in_nothing():
    one = answered(1, 1.0)
    assert {(less.value, less.low, less.high, less.p) for less in group_differences(one, one).values()} == {
        (0, 0, 0, 1)
    }
    # As another runtime would answer: all a little less sure.
    other = Answered(one.probabilities * (1 - 3e-7) + 1e-7, one.labels, one.groups, 600)
    assert group_differences(one, other)["nll"].p == 1


def test_folds_are_tested_by_the_corrected_t():
    folds = [[answered(10 * seed + better, float(better), 60) for seed in range(1, 5)] for better in (2, 1)]
    less = fold_differences(*folds)["accuracy"]
    each = [
        accuracy_score(one.labels, one.probabilities.argmax(1))
        - accuracy_score(two.labels, two.probabilities.argmax(1))
        for one, two in zip(*folds, strict=True)
    ]
    t = np.mean(each) / np.sqrt((1 / 4 + 60 / 600) * np.var(each, ddof=1))
    assert (less.t, less.p) == pytest.approx((t, 2 * stats.t.sf(abs(t), 3)))
    # Without spread over the folds there is no test.
    assert "accuracy" not in fold_differences([folds[0][0]] * 3, [folds[1][0]] * 3)


def test_a_comparison_is_of_what_evaluate_says_of_each(found, tiny_run, others, tmp_path):
    said = [evaluate(run, out=tmp_path / str(n), report=False) for n, run in enumerate([tiny_run, *others])]
    content = found.content
    for run, evaluation in zip(content["runs"], said, strict=True):
        assert run["figures"]["accuracy"] == evaluation.metrics["ensemble"]["accuracy"]
        assert run["figures"]["auc"] == pytest.approx(evaluation.metrics["ensemble"]["auc"])
    by_cell = [evaluation.predictions.set_index("path").sort_index() for evaluation in said]
    for entry, other in zip(content["comparisons"], by_cell[1:], strict=True):
        right, reference = (frame["correct"].astype(bool) for frame in (other, by_cell[0]))
        assert entry["differences"]["accuracy"]["value"] == pytest.approx(right.mean() - reference.mean())
        assert entry["mcnemar"]["only_this"] == (right & ~reference).sum()
        # Every choice of signs of the groups, one by one.
        each = (right.astype(int) - reference.astype(int)).groupby(other["group"]).sum().to_numpy()
        sums = [abs(np.dot(signs, each)) for signs in itertools.product((-1, 1), repeat=len(each))]
        assert entry["mcnemar"]["p"] == pytest.approx(np.mean(np.array(sums) >= abs(each.sum())))
    tests = [entry["mcnemar"] for entry in content["comparisons"]]
    assert [test["p_holm"] for test in tests] == pytest.approx(holm([test["p"] for test in tests]).tolist())
    assert json.loads(found.files[0].read_text()) == content
    assert found.files[2].read_bytes()[:4] == b"\x89PNG"


def test_the_files_are_the_same_bytes_again(found, tiny_run, others, tmp_path):
    again = cytodistill.compare([tiny_run.path, *(run.path for run in others)], out=tmp_path)
    for before, after in zip(found.files[:2], again.files[:2], strict=True):
        assert before.read_bytes() == after.read_bytes()


def test_the_page_is_a_table_a_comparison(found):
    text = found.files[1].read_text()
    assert text.count("| Accuracy |") == 2
    assert "## weak less tiny" in text
    assert "Holm" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {8}
    assert "Another training of the same recipe would differ" in text
    odd = json.loads(json.dumps(found.content))
    odd["comparisons"][0]["differences"].pop("auc")
    assert ["AUC", *rows(odd, odd["comparisons"][0])[6][1:3], *"––––"] == rows(odd, odd["comparisons"][0])[6]
    assert "–" in comparison_markdown(odd)
    assert [p_value(p) for p in (0.0004, 0.04567, 0.456)] == ["<0.001", "0.046", "0.46"]
    assert [signed(value, 2) for value in (-0.001, 1.5, -2.0)] == ["0.00", "+1.50", "−2.00"]


def test_the_command(tiny_run, others, tmp_path, capsys):
    main_ends(["compare", str(tiny_run.path), str(others[0].path), "-o", str(tmp_path / "out")])
    out = capsys.readouterr().out
    assert "weak less tiny" in out
    assert "McNemar over groups p" in out
    assert "Holm" not in out
    assert str(tmp_path / "out" / "comparison.json") in out


def test_other_cells_must_be_new_to_every_run(tiny_run, others, cells, tmp_path):
    with pytest.raises(CytodistillError, match="of its 45 cells trained this run"):
        compare([tiny_run, others[0]], cells, out=tmp_path / "out")
    table = tiny_run.table()
    held = table.with_frame(table.frame.iloc[table.indices("test")])
    held.write(tmp_path / "held.csv")
    given = compare([tiny_run, others[0]], tmp_path / "held.csv", out=tmp_path / "given").content
    own = compare([tiny_run, others[0]], out=tmp_path / "own").content
    assert given["comparisons"] == own["comparisons"]
    assert given["source"] == str(tmp_path / "held.csv")
    main_ends(
        ["compare", str(tiny_run.path), str(others[0].path), str(tmp_path / "held.csv"), "-o", str(tmp_path / "c")]
    )
    assert json.loads((tmp_path / "c" / "comparison.json").read_text())["comparisons"] == own["comparisons"]


def test_what_cannot_be_compared(tiny_run, others, cells, tiny, tmp_path):
    small = tiny.override({**SMALL, "train.epochs": 1})
    elsewhere = fit(cells, tmp_path / "elsewhere", recipe=small.override({"seed": 5}))
    with pytest.raises(CytodistillError, match=r"its test cells are not those of .* compare runs of one manifest"):
        compare([tiny_run, elsewhere], out=tmp_path / "out")
    two = read_source(cells)
    few = two.frame[two.frame["label"] != "right"]
    fewer = fit(type(two)(few.reset_index(drop=True), ("left", "middle"), "folder"), tmp_path / "two", recipe=small)
    with pytest.raises(CytodistillError, match="other classes than .*'right' is of one alone"):
        compare([tiny_run, fewer], out=tmp_path / "out")
    table = tiny_run.table()
    rows_of = table.frame.iloc[table.indices("test")]
    alone = table.with_frame(rows_of[rows_of["group"] == rows_of["group"].iloc[0]])
    with pytest.raises(CytodistillError, match="all of the group .*, and a comparison needs two groups"):
        compare([tiny_run, others[0]], alone, out=tmp_path / "out")
    with pytest.raises(CytodistillError, match="1 run is given; give two or more"):
        compare([tiny_run])
    assert not (tmp_path / "out").exists()


def test_cross_validations_over_the_same_folds(cells, tiny, tiny_run, tmp_path):
    small = tiny.override({**SMALL, "train.epochs": 1})
    runs = [fit_folds(cells, tmp_path / f"cv{lr}", 3, recipe=small, settings={"train.lr": lr}) for lr in (1e-3, 0.1)]
    content = compare(runs).content
    assert (content["kind"], content["cells"], content["folds"]) == ("folds", 45, 3)
    assert (runs[0].path / "compare" / "cv0.1" / "comparison.md").is_file()
    each = []
    for one, other in zip(*(of.runs for of in runs), strict=True):
        accuracies = [evaluate(run, out=tmp_path / "e", report=False, one_group=True).metrics for run in (other, one)]
        each.append(accuracies[0]["ensemble"]["accuracy"] - accuracies[1]["ensemble"]["accuracy"])
    less = content["comparisons"][0]["differences"]
    if "accuracy" in less:
        assert less["accuracy"]["value"] == pytest.approx(np.mean(each))
        assert less["accuracy"]["degrees"] == 2
    assert less["nll"]["low"] < less["nll"]["value"] < less["nll"]["high"]
    with pytest.raises(CytodistillError, match="compare like with like"):
        compare([runs[0], tiny_run])
    with pytest.raises(CytodistillError, match="compared on their own folds; leave SOURCE out"):
        compare(runs, cells)
    again = Folds(runs[1].path, {**runs[1].info, "chosen": runs[1].info["chosen"][::-1]})
    with pytest.raises(CytodistillError, match="the test cells of fold 0 are not those of"):
        compare([runs[0], again])


def main_ends(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert not end.value.code

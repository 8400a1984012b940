"""Reports of a cross-validation, and of a test on another data set."""

from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from cytodistill.evaluation.folds import evaluate_folds
from cytodistill.report import write_report
from cytodistill.report.exits import exits_section
from cytodistill.report.judged import judged
from cytodistill.train.folds import Folds


def test_a_cross_validation_has_one_report_of_all_folds(
    evaluated, answers, evaluation, tiny_run, tmp_path, monkeypatch
):
    table = evaluation.table
    halves = [
        table.with_frame(part.reset_index(drop=True))
        for _, part in table.frame.groupby(table.frame["group"].str.endswith(("0", "2")))
    ]
    parts = iter([evaluated(half, answers(seed, half.labels, 3)) for seed, half in enumerate(halves)])
    asked = []

    def evaluate_fold(run, **said):
        asked.append(said)
        return next(parts)

    monkeypatch.setattr("cytodistill.evaluation.folds.evaluate", evaluate_fold)
    info = {"folds": 2, "kind": "grouped", "digest": "mark", "chosen": [str(tiny_run.path)] * 2}
    folds = Folds(tmp_path, info)
    found = evaluate_folds(folds, out=tmp_path / "out")
    assert [said["report"] for said in asked] == [False, False]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("Fold 1") == 1
    rows = exits_section(judged(found, folds)).tables[1].rows
    assert [row.name for row in rows] == ["Fold 1", "Fold 2", "Mean ± SD"]
    accuracies = [float(row.entries[1].text) for row in rows[:2]]
    mean, _, _ = rows[2].entries[1].text.split()
    assert float(mean) == pytest.approx(np.mean(accuracies), abs=0.11)
    assert "settings of the first fold" in page


@pytest.fixture
def elsewhere(evaluated, answers, evaluation):
    """Answers in two classes to cells that the run's three were brought to."""
    frame = evaluation.table.frame
    labels = frame["label"].map({"left": "near", "middle": "far", "right": "far"})
    table = replace(evaluation.table, frame=frame.assign(label=labels), classes=("near", "far"))
    found = evaluated(table, answers(5, table.labels, 2), class_map=None)
    metrics = {key: value for key, value in found.metrics.items() if key != "trust"}
    metrics |= {
        "carried_over": found.metrics["trust"],
        "source": "clinic",
        "split": "all",
        "external": True,
        "class_map": "own v1",
        "source_map": "other v1",
        "left_out": {"cells": 4, "by_class": {"odd": 4, "rare": 0}, "probability": 0.125},
        "by_source_class": {"a": {"counts_as": "near", "n": 15, "right": 0.6, "interval": [0.3, 0.8]}},
    }
    return replace(found, metrics=metrics)


def test_an_external_test_says_how_classes_were_brought_together(elsewhere, tiny_run, tmp_path):
    page, _, card = (unescape(file.read_text(encoding="utf-8")) for file in write_report(elsewhere, tiny_run, tmp_path))
    assert "4 cells left out: odd 4." in page
    assert "12.5\u202f% of the model's probability" in page
    assert "30.0–80.0" in page
    assert "Cells of the model's own source by class and split" in page
    assert "class maps own v1 and other v1" in card
    assert "Tested on the source that it was trained on" not in page

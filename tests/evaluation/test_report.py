"""metrics_report, predictions_frame and the folder that write_evaluation leaves."""

from __future__ import annotations

import json
import struct

import numpy as np
import pandas as pd
import pytest

from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError
from cytodistill.evaluation import metrics_report, predictions_frame, write_evaluation
from cytodistill.metrics import classification_metrics

CLASSES = ("Superficial-Intermediate", "carcinoma_in_situ", "Parabasal")


def table_of(labels: list[str], **columns: list) -> CellTable:
    rows = [
        {"root": "/cells", "path": f"{i}.bmp", "label": label, "group": f"field {i // 2}", "split": "test"}
        for i, label in enumerate(labels)
    ]
    for name, values in columns.items():
        rows = [{**row, name: value} for row, value in zip(rows, values, strict=True)]
    return CellTable.from_rows(rows, CLASSES, "folder")


def probabilities(cells: int, exits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    exit_probabilities = np.random.default_rng(seed).dirichlet(np.ones(3), (cells, exits)).astype(np.float32)
    return exit_probabilities, exit_probabilities.mean(axis=1)


def png_size(path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.fixture
def evaluation():
    table = table_of([CLASSES[i % 3] for i in range(12)])
    exits, ensemble = probabilities(12, 4)
    metrics = metrics_report(exits, ensemble, table.labels, table.groups, CLASSES)
    return table, exits, ensemble, metrics


def test_report_has_every_exit_and_the_ensemble(evaluation):
    table, exits, ensemble, metrics = evaluation
    assert list(metrics) == ["classes", "n", "groups", "exits", "ensemble", "intervals"]
    assert metrics["classes"] == list(CLASSES)
    assert (metrics["n"], metrics["groups"]) == (12, 6)
    assert metrics["ensemble"] == classification_metrics(ensemble, table.labels, CLASSES)
    expected = [classification_metrics(exits[:, e], table.labels, CLASSES) for e in range(4)]
    assert metrics["exits"] == expected


def test_every_class_of_every_exit_has_its_intervals(evaluation):
    *_, metrics = evaluation
    for figures, within in zip(metrics["exits"], metrics["intervals"]["exits"], strict=True):
        for name in CLASSES:
            for key, ends in within["per_class"][name].items():
                assert ends is None or ends[0] <= figures["per_class"][name][key] <= ends[1]


def test_single_group():
    exits, ensemble = probabilities(3, 1)
    assert metrics_report(exits, ensemble, [0, 1, 2], ["a"] * 3, CLASSES)["groups"] == 1


@pytest.mark.parametrize("shape", [(3, 3), (3, 0, 3), (2, 1, 3)])
def test_shapes_that_disagree(shape):
    with pytest.raises(CytodistillError, match="do not fit labels"):
        metrics_report(np.full(shape, 1 / 3), np.full((3, 3), 1 / 3), [0, 1, 2], ["a"] * 3, CLASSES)
    with pytest.raises(CytodistillError, match="groups of shape"):
        metrics_report(np.full((3, 1, 3), 1 / 3), np.full((3, 3), 1 / 3), [0, 1, 2], ["a"], CLASSES)


def test_predictions_by_hand():
    table = table_of(["Parabasal", "", "carcinoma_in_situ"])
    exits = np.array([[[0.5, 0.2, 0.3], [0.1, 0.2, 0.7]], [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1]]])
    frame = predictions_frame(table, np.array([2, 1]), exits, exits.mean(axis=1))
    assert list(frame.columns) == [
        *("path", "group", "split", "label", "predicted", "correct"),
        *("prob_Superficial-Intermediate", "prob_carcinoma_in_situ", "prob_Parabasal"),
        *("exit1_predicted", "exit1_confidence", "exit2_predicted", "exit2_confidence"),
    ]
    assert frame["path"].tolist() == ["2.bmp", "1.bmp"]
    assert frame["predicted"].tolist() == ["Parabasal", "Superficial-Intermediate"]
    assert frame["correct"].tolist() == [False, pd.NA]
    assert frame["prob_Parabasal"].tolist() == pytest.approx([0.5, 0.1])
    assert frame["exit1_predicted"].tolist() == ["Superficial-Intermediate"] * 2
    assert frame["exit2_confidence"].tolist() == [0.7, 0.6]


def test_cells_cut_out_of_a_field_are_told_apart_by_their_boxes():
    table = table_of(["Parabasal"] * 2, path=["f.png"] * 2, x=[0, 50], y=[0, 9], width=[8, 8], height=[8, 8])
    exits, ensemble = probabilities(2, 1)
    frame = predictions_frame(table, np.arange(2), exits, ensemble)
    assert list(frame.columns[:6]) == ["path", "x", "y", "width", "height", "group"]
    assert frame["x"].tolist() == [0, 50]


def test_written_folder(tmp_path, evaluation):
    table, exits, ensemble, metrics = evaluation
    frame = predictions_frame(table, np.arange(12), exits, ensemble)
    written = write_evaluation(tmp_path / "out", metrics, frame, "runs/a [fold 1]: test")
    pictures = ["confusion.png", *(f"confusion_exit{e}.png" for e in range(1, 5)), "confusion_ensemble.png"]
    assert [path.name for path in written] == ["metrics.json", "predictions.csv", *pictures]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert json.loads(written[0].read_text()) == metrics
    for picture in written[2:]:
        width, height = png_size(picture)
        assert 400 < width < 3000
        assert 400 < height < 3000
    assert png_size(written[2])[0] > png_size(written[3])[0]


def test_predictions_csv_gives_the_same_metrics_back(tmp_path, evaluation):
    table, exits, ensemble, metrics = evaluation
    written = write_evaluation(tmp_path, metrics, predictions_frame(table, np.arange(12), exits, ensemble), "a run")
    read = pd.read_csv(written[1])
    read_probabilities = read[[f"prob_{name}" for name in CLASSES]].to_numpy(np.float32)
    assert np.array_equal(read_probabilities, ensemble)
    assert read["correct"].mean() == pytest.approx(metrics["ensemble"]["accuracy"])
    for e in range(4):
        assert (read[f"exit{e + 1}_predicted"] == read["label"]).mean() == metrics["exits"][e]["accuracy"]


def test_single_exit_is_drawn_once(tmp_path):
    table = table_of(list(CLASSES))
    exits, ensemble = probabilities(3, 1)
    metrics = metrics_report(exits, ensemble, table.labels, table.groups, CLASSES)
    written = write_evaluation(tmp_path, metrics, predictions_frame(table, np.arange(3), exits, ensemble), "a run")
    assert [path.name for path in written[2:]] == ["confusion.png", "confusion_exit1.png"]

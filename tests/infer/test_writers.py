"""Prediction writers: columns, both formats, standard output, and nothing half-written."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cytodistill.errors import CytodistillError
from cytodistill.infer.writers import error_record, open_writer, prediction_columns, prediction_records

CLASSES = ["normal, superficial", "abnormal"]
COLUMNS = [
    *("path", "predicted", "confidence", "prob_normal, superficial", "prob_abnormal", "exit"),
    *("exit1_predicted", "exit1_confidence", "exit2_predicted", "exit2_confidence", "error"),
]
EARLY, WHOLE = prediction_records(
    ["a.png", "b.png"],
    np.float32([[0.3, 0.7], [0.75, 0.25]]),
    [1, "ensemble"],
    np.float32([[[0.3, 0.7], [np.nan, np.nan]], [[0.5, 0.5], [1.0, 0.0]]]),
    CLASSES,
)
BROKEN = error_record("c.png", "not an\nimage")


def write(path, records=(EARLY, WHOLE, BROKEN)) -> None:
    with open_writer(path, CLASSES, 2) as writer:
        for record in records:
            writer.write(record)


def check_csv(text: str) -> None:
    header, early, whole, broken = csv.reader(io.StringIO(text))
    assert header == COLUMNS
    assert early[:2] == ["a.png", "abnormal"]
    assert np.float32(early[2]) == np.float32(0.7)
    assert early[5:7] == ["1", "abnormal"]
    assert early[8:] == ["", "", ""]
    assert whole == [
        *("b.png", "normal, superficial", "0.75", "0.75", "0.25", "ensemble"),
        *("normal, superficial", "0.5", "normal, superficial", "1.0", ""),
    ]
    assert broken == ["c.png", *[""] * 9, "not an image"]


def test_columns():
    assert prediction_columns(CLASSES, 2) == COLUMNS


def test_added_columns_stand_before_the_exits(tmp_path):
    answer = np.float32([[0.3, 0.7]])
    added = {"set": ["abnormal"], "decision": ["normal"]}
    records = prediction_records(["a.png"], answer, [1], answer[:, None], CLASSES, added)
    with open_writer(tmp_path / "out.csv", CLASSES, 1, tuple(added)) as writer:
        writer.write(records[0])
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert list(row)[4:9] == ["prob_abnormal", "set", "decision", "exit", "exit1_predicted"]
    assert (row["set"], row["decision"]) == ("abnormal", "normal")


def test_csv(tmp_path):
    write(tmp_path / "sub" / "out.CSV")
    check_csv((tmp_path / "sub" / "out.CSV").read_text())


def test_standard_output(capsys):
    write(None)
    check_csv(capsys.readouterr().out)


def test_jsonl(tmp_path):
    write(tmp_path / "out.jsonl")
    early, whole, broken = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert list(early) == list(whole) == list(broken) == COLUMNS
    assert early["exit"] == 1
    assert early["exit2_predicted"] is None
    assert early["prob_abnormal"] == pytest.approx(0.7)
    assert whole["exit"] == "ensemble"
    assert whole["exit2_confidence"] == 1.0
    assert broken == {**dict.fromkeys(COLUMNS), "path": "c.png", "error": "not an image"}


@pytest.mark.parametrize("name", ["out.txt", "out", "out.csv.gz"])
def test_unknown_extension_names_the_known_ones(tmp_path, name):
    with pytest.raises(CytodistillError, match=r"\.csv or \.jsonl"):
        write(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_failed_run_leaves_the_older_file(tmp_path, name):
    (tmp_path / name).write_text("older")

    def fail():
        with open_writer(tmp_path / name, CLASSES, 2) as writer:
            writer.write(EARLY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / name).read_text() == "older"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_unknown_column_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="scores"):
        write(tmp_path / "out.csv", [{"path": "a.png", "scores": 1}])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), p=st.floats(0, 1, width=32))
def test_any_path_and_probability_come_back(tmp_path, path, p):
    answer = np.float32([[p, 1 - p]])
    (record,) = prediction_records([path], answer, [1], answer[:, None], CLASSES)
    for name in ("out.csv", "out.jsonl"):
        write(tmp_path / name, [record])
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    line = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8").removesuffix("\n"))
    for read in (row, line):
        assert read["path"] == path
        assert np.float32(read["prob_normal, superficial"]) == np.float32(p)


def test_a_file_name_that_is_not_utf_8_is_written_escaped(tmp_path):
    write(tmp_path / "out.jsonl", [error_record("cell\udce9.png", "unreadable")])
    assert json.loads((tmp_path / "out.jsonl").read_text())["path"] == "cell\\udce9.png"

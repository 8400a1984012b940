"""Learning curves from whole, sparse and broken logs."""

from __future__ import annotations

import json

import pytest
from matplotlib.figure import Figure

from cytodistill.errors import CytodistillError
from cytodistill.train import curves
from cytodistill.train.curves import learning_curves


def epoch(number: int, **parts) -> dict:
    return {
        "event": "epoch",
        "epoch": number - 1,
        "lr": 0.1,
        "loss": {"loss": 2.0 / number, "ce": 1.5 / number, "feature": 0.01 / number},
        "train_accuracy": [0.5, 0.6],
        "val": {"exits": [{"accuracy": 0.4, "f1": 0.4}, {"accuracy": 0.5, "f1": 0.4}], "ensemble": {"accuracy": 0.55}},
        **parts,
    }


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Write a log, draw it, and return the lines drawn as {label: (epochs, values)}, loss and accuracy."""
    drawn: list[Figure] = []
    save = curves.save_figure
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path))[1])

    def from_log(text: str) -> list[dict[str, tuple[list, list]]]:
        log, png = tmp_path / "log.jsonl", tmp_path / "report" / "curves.png"
        log.write_text(text)
        assert learning_curves(log, png) == png
        assert png.read_bytes().startswith(b"\x89PNG")
        return [
            {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
            for axes in drawn[-1].axes
        ]

    return from_log


def lines(*records: dict) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_whole_log(draw):
    loss, accuracy = draw(lines({"event": "start"}, epoch(1), epoch(2)))
    assert loss["ce"] == ([1, 2], [1.5, 0.75])
    assert list(loss) == ["loss", "ce", "feature"]
    assert accuracy["exit 2, training"] == ([1, 2], [60, 60])
    assert accuracy["exit 1, validation"] == ([1, 2], [40, 40])
    assert accuracy["ensemble, validation"][1] == pytest.approx([55, 55])
    assert len(accuracy) == 5


def test_validation_may_be_missing_throughout(draw):
    sparse = epoch(1)
    del sparse["val"]
    _, accuracy = draw(lines(sparse, epoch(2, val=None)))
    assert list(accuracy) == ["exit 1, training", "exit 2, training"]


def test_parts_may_be_missing_in_some_epochs(draw):
    loss, accuracy = draw(
        lines(epoch(1, val=None), epoch(2, loss={"loss": None, "kd": 1.0}), epoch(3, train_accuracy=[]))
    )
    assert loss["kd"][1] == pytest.approx([float("nan"), 1, float("nan")], nan_ok=True)
    assert accuracy["ensemble, validation"][1] == pytest.approx([float("nan"), 55, 55], nan_ok=True)


def test_nothing_but_epochs(draw):
    assert draw(lines({"event": "epoch", "epoch": 0, "loss": None})) == [{}, {}]


def test_an_epoch_run_again_counts_as_its_last(draw):
    loss, _ = draw(lines(epoch(1), epoch(2), epoch(2, loss={"loss": 9.0})))
    assert loss["loss"] == ([1, 2], [2.0, 9.0])


def test_a_cut_off_last_line_is_left_out(draw):
    loss, _ = draw(lines(epoch(1)) + '{"event": "epo')
    assert loss["loss"] == ([1], [2.0])


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no epochs"), ('{"event": "start"}\n', "no epochs"), ('broken\n{"event": "start"}\n', "line 1 is not JSON")],
)
def test_logs_that_cannot_be_drawn(draw, text, message):
    with pytest.raises(CytodistillError, match=message):
        draw(text)


def test_missing_log(tmp_path):
    with pytest.raises(CytodistillError, match=r"log\.jsonl: cannot be read"):
        learning_curves(tmp_path / "log.jsonl", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()

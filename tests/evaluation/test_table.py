"""The table of metrics as it is printed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cytodistill.evaluation import metrics_report, metrics_table

A, B = [0.9, 0.1], [0.2, 0.8]


def printed(metrics: dict, title: str | None = None, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, no_color=True).print(metrics_table(metrics, title))
    return stream.getvalue()


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if name in line]
    return line.split(name)[1].split()


@pytest.fixture
def two_exits() -> dict:
    exits = [[A, A], [B, A], [A, B], [B, B]]
    return metrics_report(exits, [A, A, B, B], [0, 0, 1, 1], ["f", "f", "g", "h"], ["a", "b"])


def test_rows_in_percent_with_the_best_marked(two_exits):
    text = printed(two_exits, "runs/[1]: test")
    assert row(text, "Exit 1") == ["50.00"] * 7
    assert row(text, "Exit 2") == row(text, "Ensemble") == ["100.00*"] * 7
    assert "runs/[1]: test" in text
    assert "4 cells, 3 groups, 2 classes" in text


def test_every_row_has_its_intervals(two_exits):
    text = printed(two_exits)
    lines = text.splitlines()
    for name, place in (("Exit 1", 0), ("Exit 2", 1)):
        below = lines[next(k for k, line in enumerate(lines) if name in line) + 1].split("%")[1].split()
        stored = two_exits["intervals"]["exits"][place]
        assert below[0] == "{:.0f}–{:.0f}".format(*(100 * end for end in stored["accuracy"]))
    assert text.count("95 %") == 3


def test_eighty_columns_hold_every_heading_and_figure(two_exits):
    text = printed(two_exits, width=80)
    assert row(text, "Ensemble") == ["100.00*"] * 7
    assert "…" not in text


def test_a_single_exit_is_one_row_without_a_mark():
    text = printed(metrics_report([[A], [B]], [A, B], [0, 1], ["f", "g"], ["a", "b"]))
    assert row(text, "Exit 1") == ["100.00"] * 7
    assert "Ensemble" not in text


def test_undefined_figures_are_dashes_and_never_the_best():
    text = printed(metrics_report([[A, B], [A, A]], [A, A], [0, 0], ["f", "g"], ["a", "b"]))
    accuracy, *_, auc = row(text, "Ensemble")
    assert (accuracy, auc) == ("100.00*", "–")

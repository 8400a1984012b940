"""What the confusion matrices say, read back from the figure."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from cytodistill.evaluation import confusion_figure

CLASSES = ["Superficial-Intermediate", "carcinoma_in_situ", "Koilocytotic"]
MATRIX = [[8, 2, 0], [31, 467, 5], [0, 0, 0]]


def metrics_of(matrix: list[list[int]]) -> dict:
    counts = np.array(matrix)
    return {"confusion_matrix": matrix, "accuracy": float(np.trace(counts) / counts.sum())}


def draw(panels: int, matrix: list[list[int]] = MATRIX, classes: list[str] = CLASSES) -> Figure:
    figure = confusion_figure({f"Exit {e + 1}": metrics_of(matrix) for e in range(panels)}, classes, "a run")
    figure.draw_without_rendering()
    return figure


def ticks(axes, which: str) -> list[str]:
    return [label.get_text() for label in getattr(axes, f"get_{which}ticklabels")() if label.get_text()]


def test_a_panel_holds_its_counts_and_shades_by_row():
    axes = draw(1).axes[0]
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts == {(c, r): str(MATRIX[r][c]) for r in range(3) for c in range(3)}
    shares = np.asarray(axes.images[0].get_array())
    assert shares[0] == pytest.approx([0.8, 0.2, 0])
    assert shares[1] == pytest.approx([31 / 503, 467 / 503, 5 / 503])
    assert shares[2] == pytest.approx([0, 0, 0])
    assert axes.get_title() == "Exit 1: accuracy 92.59 %"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert ticks(axes, "x") == ticks(axes, "y") == CLASSES


def test_counts_are_light_on_dark_and_dark_on_light():
    colours = {text.get_text(): text.get_color() for text in draw(1).axes[0].texts}
    assert (colours["467"], colours["2"]) == ("white", "black")


def test_five_panels_stand_in_two_rows_with_names_left_and_below():
    figure = draw(5)
    assert figure.get_suptitle() == "a run"
    panels = figure.axes[:5]
    assert [bool(ticks(axes, "y")) for axes in panels] == [True, False, True, False, False]
    assert [bool(ticks(axes, "x")) for axes in panels] == [False, False, True, True, True]
    tops = [round(axes.get_position().y1, 2) for axes in panels]
    assert tops[0] == tops[1] > tops[2] == tops[3] == tops[4]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8])
def test_any_number_of_panels(count):
    assert len([axes for axes in draw(count).axes if axes.get_title()]) == count


@pytest.mark.parametrize("panels", [1, 3])
def test_headings_do_not_overlap(panels):
    figure = draw(panels, [[15, 2], [3, 20]], ["normal_superficiel", "normal_intermediate"])
    heading = figure._suptitle.get_window_extent()
    assert all(not heading.overlaps(axes.title.get_window_extent()) for axes in figure.axes[:panels])


def test_dollar_signs_are_no_formula():
    names = ["$\\frac$", "a$b$", "c"]
    assert ticks(draw(1, classes=names).axes[0], "x") == names


def test_a_hundred_classes_have_few_ticks_and_no_counts():
    axes = draw(1, np.eye(100, dtype=int).tolist(), [f"class {c}" for c in range(100)]).axes[0]
    assert not axes.texts
    assert ticks(axes, "x") == [f"class {c}" for c in range(0, 100, 10)]

"""What a table shows, read back from its Markdown, its page and its pictures."""

from __future__ import annotations

import base64
import copy
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure

from cytodistill.errors import CytodistillError
from cytodistill.reproduce.picture import captions, exits_figure, rows_figure
from cytodistill.reproduce.render import markdown, page, pictures
from cytodistill.reproduce.sheet import sheet

FIGURES = ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1", "auc")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8) + (300).to_bytes(4, "big")


def run(seed: int, *accuracies: float) -> dict:
    """A run of 100 cells of two classes, whose exits and, where there are several, ensemble have these accuracies."""
    figures = [
        {**{name: accuracy - 0.01 * k for k, name in enumerate(FIGURES)}, "auc": accuracy} for accuracy in accuracies
    ]
    matrices = [[[round(100 * a) - 40, 40], [100 - round(100 * a), 0]] for a in accuracies]
    several = len(accuracies) > 1
    return {
        "draw": f"seed{seed}",
        "n": 100 + seed,
        "groups": 20,
        "exits": figures[:-1] if several else figures,
        "ensemble": figures[-1],
        "confusion": {"exits": matrices[:-1] if several else matrices, "ensemble": matrices[-1]},
        "seconds": 1000 + 100 * seed,
        "parameters": 12_334_567,
    }


def row(name: str, runs: list[dict], **more) -> dict:
    values = {figure: [one["ensemble"][figure] for one in runs] for figure in FIGURES}
    sd = {figure: float(np.std(found, ddof=1)) if len(runs) > 1 else None for figure, found in values.items()}
    return {
        "name": name,
        "group": None,
        "settings": {"method.name": "kd"},
        "note": None,
        "paper": {},
        "reference": False,
        **{figure: {"mean": float(np.mean(found)), "sd": sd[figure]} for figure, found in values.items()},
        "interval": {},
        "difference": None,
        "parameters": 12_334_567,
        "macs": 582_000_000,
        "runs": runs,
        **more,
    }


def content(*rows: dict, **more) -> dict:
    return {
        "table": "table5",
        "title": "Table 5: methods",
        "data": {"name": "herlev", "digests": ["0123456789abcdef"] * 2, "cells": 917, "classes": ["normal", "not"]},
        "comparable": False,
        "recipe": {
            "name": "quick",
            "data": {"group": "auto", "ratio": "3:1:1", "image_size": 96},
            "train": {"epochs": 24, "batch_size": 32},
        },
        "draws": ["seed0", "seed1"],
        "seeds": 2,
        "versions": {"cytodistill": "0.1.0", "torch": "2.15.0"},
        "hardware": {"machine": "x86_64", "cores": 2, "threads": 1, "processor": "EPYC", "device": "cpu"},
        "rows": list(rows),
        "missing": [],
        **more,
    }


PLAIN = row("KD", [run(0, 0.9), run(1, 0.8)], paper={"accuracy": 96.54}, note="a note")
OURS = row(
    "Ours",
    [run(0, 0.7, 0.8, 0.9), run(1, 0.72, 0.82, 0.94)],
    paper={"accuracy": 98.15, "exits": [95.65, 96.91, 97.16], "ensemble": 98.15},
    interval={"accuracy": {"low": 0.85, "high": 0.97}, "f1": {"low": 0.8, "high": 0.95}},
    difference={
        "accuracy": {"value": 0.07, "low": -0.0123, "high": 0.15, "p": 0.0421},
        "f1": {"value": -0.00001, "low": -0.1, "high": 0.00004, "p": 0.0005},
    },
)
REFERENCE = row(
    "Ours, taught", [run(0, 0.5, 0.6, 0.7), run(1, 0.5, 0.6, 0.7)], group="Beyond the paper", reference=True
)


def whole() -> dict:
    return copy.deepcopy(content(PLAIN, OURS, REFERENCE))


def tables(text: str) -> list[dict[str, dict[str, str]]]:
    """Every Markdown table as {name of a line: {heading: cell}}; cells are told apart as a Markdown reader does."""
    found: list[dict[str, dict[str, str]]] = []
    heads: list[str] = []
    for line in text.replace("\u00a0", " ").splitlines():
        if not line.startswith("|"):
            heads = []
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not heads:
            heads = cells
            found.append({})
        elif set(line) - set("|-: "):
            assert len(cells) == len(heads)
            found[-1][cells[0]] = dict(zip(heads[1:], cells[1:], strict=True))
    return found


def test_figures_are_means_and_deviations_in_percent():
    figures, *_ = tables(markdown(whole()))
    assert figures["KD"]["Accuracy"] == "85.00 ± 7.07"
    assert figures["KD"]["Sensitivity"] == "83.00 ± 7.07"
    assert figures["KD"]["F-measure"] == "81.00 ± 7.07"
    assert figures["KD"]["Paper's accuracy"] == "96.54"
    assert figures["Ours, taught"]["Paper's accuracy"] == "–"
    assert figures["KD"]["Parameters"] == "12.33 M"
    assert figures["KD"]["MACs"] == "582 M"
    assert figures["KD"]["Seconds"] == "1,050"
    difference = {name: cells["Δ F-measure to the reference [95 %]"] for name, cells in figures.items()}
    assert difference == {
        "KD": "–",
        "Ours": "0.00 [−10.00, 0.00]",
        "**Beyond the paper**": "",
        "Ours, taught": "reference",
    }


def test_a_figure_that_a_run_lacks_and_a_single_seed():
    one = row("KD", [run(0, 0.9)])
    one["auc"] = {"mean": None, "sd": None}
    figures, *more = tables(markdown(content(one, row("AT", [run(0, 0.8)]), seeds=1, draws=["seed0"])))
    assert (figures["KD"]["AUC"], figures["AT"]["AUC"]) == ("–", "80.00")
    assert figures["KD"]["Accuracy"] == "90.00"
    # Nothing was compared and the paper has nothing, so nothing is said of either.
    assert not more
    assert [heading for heading in figures["KD"] if "Δ" in heading or "Paper" in heading] == []


def test_exits_stand_above_the_papers():
    exits = tables(markdown(whole()))[1]
    assert exits["Ours"] == {
        "Exit 1": "71.00 ± 1.41",
        "Exit 2": "81.00 ± 1.41",
        "Exit 3": "–",
        "Ensemble": "92.00 ± 2.83",
    }
    assert exits["*in the paper*"] == {"Exit 1": "95.65", "Exit 2": "96.91", "Exit 3": "97.16", "Ensemble": "98.15"}
    assert "KD" not in exits
    assert list(exits).index("*in the paper*") == list(exits).index("Ours") + 1


def test_intervals_and_differences_in_points():
    intervals = tables(markdown(whole()))[2]
    assert intervals["Ours"] == {
        "Accuracy [95 %]": "92.00 [85.00, 97.00]",
        "F-measure [95 %]": "88.00 [80.00, 95.00]",
        "Δ Accuracy [95 %]": "+7.00 [−1.23, +15.00]",
        "p of Δ Accuracy": "0.042",
        "Δ F-measure [95 %]": "0.00 [−10.00, 0.00]",
        "p of Δ F-measure": "< 0.001",
    }
    assert set(intervals["KD"].values()) == {"–"}
    corrected = whole()
    corrected["rows"][1]["difference"]["accuracy"]["p_holm"] = 0.0842
    assert tables(markdown(corrected))[2]["Ours"]["Holm's p of Δ Accuracy"] == "0.084"


def test_the_papers_other_figures_have_a_table():
    four = row(
        "Ours", [run(0, 0.9)], paper={"accuracy": 98.52, "sensitivity": 98.53, "specificity": 98.68, "f1": 98.59}
    )
    less = row("MLP", [run(0, 0.8)], paper={"accuracy": 88.54, "f1": None})
    papers = tables(markdown(content(four, less, row("New", [run(0, 0.7)]), seeds=1)))[-1]
    assert papers == {
        "Ours": {"Accuracy": "98.52", "Sensitivity": "98.53", "Specificity": "98.68", "F-measure": "98.59"},
        "MLP": {"Accuracy": "88.54", "Sensitivity": "–", "Specificity": "–", "F-measure": "–"},
    }


def test_the_lead_says_what_was_run():
    lead = sheet(whole()).lead
    for part in (
        "herlev: 917 cells, of which 100 to 101 from 20 groups",
        "2 seeds, each with its own split (by group, 3:1:1, where the data bring none)",
        "96 px, 24 epochs, batch 32, recipe quick",
        "over 2 seeds",
        "“Ours, taught”",
    ):
        assert part in lead
    assert "2 folds, split by group" in sheet({**whole(), "draws": ["fold0", "fold1"]}).lead
    own = whole()
    own["data"]["split"] = "the benchmark's own test split"
    assert "2 seeds; the benchmark's own test split." in sheet(own).lead
    alone = whole()
    alone["recipe"]["data"]["group"] = "none"
    single = sheet({**alone, "seeds": 1}).lead
    assert "1 seed, with its own split (cell by cell, 3:1:1" in single
    assert "deviation" not in single


def test_whether_the_papers_figures_compare():
    assert "not comparable" in markdown(whole())
    assert "not comparable" not in markdown({**whole(), "comparable": True})


def test_notes_say_what_is_not_alike():
    table = whole()
    table["rows"][0]["settings"]["train.epochs"] = 48
    table["rows"][0]["runs"].pop()
    table["rows"][1]["difference"]["f1"]["draws"] = 1
    table["missing"] = [{"name": "Ours", "group": "Beyond the paper", "why": "not asked for"}]
    words = sheet(table)
    assert words.notes == (
        ("KD", "a note; with settings of its own: train.epochs=48; 1 of 2 seeds"),
        ("Ours", "compared with the reference over the 1 that both have"),
    )
    # Two rows are called Ours now, so the group is said with the name.
    assert words.missing == (("Beyond the paper: Ours", "not asked for"),)
    assert "## Not run\n\n- Beyond the paper: Ours: not asked for" in markdown(table)


def test_rows_of_a_group_stand_together_under_its_heading():
    names = [("b", "G"), ("a", None), ("c", "H"), ("d", "G")]
    table = content(*(row(name, [run(0, 0.5)], group=group) for name, group in names), seeds=1)
    assert list(tables(markdown(table))[0]) == ["a", "**G**", "b", "d", "**H**", "c"]


def test_rows_without_runs_are_left_out_and_none_at_all_is_refused():
    table = content(row("KD", [run(0, 0.5)]), seeds=1)
    empty = {**copy.deepcopy(table["rows"][0]), "name": "AT", "runs": []}
    table["rows"].append(empty)
    assert list(tables(markdown(table))[0]) == ["KD"]
    table["rows"] = [empty]
    for shown in (markdown, lambda c: page(c, {}), captions):
        with pytest.raises(CytodistillError, match="table5: no row has been run"):
            shown(table)


NASTY = "<script>alert('x')</script> a|b *c* `d` _e_ [f](g) & \"h\""


def nasty() -> dict:
    """A table in which every text that comes from outside is nasty."""
    table = content(row(NASTY, [run(0, 0.4, 0.5, 0.6)], group=NASTY, note=NASTY, reference=True), seeds=1, title=NASTY)
    table["rows"][0]["settings"] = {"student.pretrained": NASTY, "train.x": NASTY}
    table["data"]["name"] = table["recipe"]["name"] = NASTY
    table["versions"] = {NASTY: NASTY}
    table["missing"] = [{"name": NASTY, "group": None, "why": NASTY}]
    return table


def test_markdown_escapes_what_it_is_given():
    text = markdown(nasty())
    assert len(tables(text)) == 2
    for sign in ("<script", "</script", "*c*", "_e_", "](g)", "`"):
        assert not re.search(rf"(?<!\\){re.escape(sign)}", text)
    assert "resnext101_32x8d" in markdown(content(row("resnext101_32x8d", [run(0, 0.5)]), seeds=1))


class Reader(HTMLParser):
    """Elements of a page with their attributes, the text of each table's rows, and whether every tag is closed."""

    VOID = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict]] = []
        self.rows: list[list[tuple[dict, str]]] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append((dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            attributes, before = self.rows[-1].pop()
            self.rows[-1].append((attributes, before + data))
        elif "style" not in self.open:
            self.text += data


def test_the_page_has_the_same_tables_with_headings_for_a_screen_reader():
    read = Reader(page(whole(), {}))
    rows = [[text for _, text in cells] for cells in read.rows]
    words = sheet(whole())
    expected = []
    for grid in words.grids:
        expected.append(["Method", *grid.columns])
        expected += [[line.name, *line.cells] for line in grid.lines]
    assert rows == expected
    for cells in read.rows:
        scopes = [attributes.get("scope") for attributes, _ in cells]
        assert scopes in (["col"] * len(cells), ["row"] + [None] * (len(cells) - 1), ["rowgroup"])
    width = len(words.grids[0].columns) + 1
    group = next(attributes for (attributes, text), *_ in read.rows if text == "Beyond the paper")
    assert group["colspan"] == str(width)
    # Every table and every frame is named by a heading that is there.
    names = {attributes["id"] for tag, attributes in read.found if tag == "h2" and "id" in attributes}
    assert {attributes["aria-labelledby"] for tag, attributes in read.found if tag == "table"} == names
    assert words.lead in read.text
    assert words.comparable in read.text


def test_the_page_holds_its_pictures_and_fetches_nothing():
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'></svg>"
    read = Reader(page(whole(), {"table5.png": PNG, "other.svg": svg}))
    images = [attributes for tag, attributes in read.found if tag == "img"]
    assert [base64.b64decode(image["src"].split(",")[1]) for image in images] == [PNG, svg]
    assert [image["src"].split(";")[0] for image in images] == ["data:image/png", "data:image/svg+xml"]
    assert [image["alt"] for image in images] == [captions(whole())["table5.png"], "other.svg"]
    assert [image.get("width") for image in images] == ["192", None]
    assert {tag for tag, _ in read.found}.isdisjoint({"script", "link", "iframe", "a"})
    bare = Reader(page(whole(), {}))
    assert not any("src" in attributes or "href" in attributes for _, attributes in bare.found)
    assert not re.search(r"url\(|@import|https?:", page(whole(), {}))


def test_the_page_escapes_what_it_is_given():
    read = Reader(page(nasty(), {NASTY: PNG}))
    assert {tag for tag, _ in read.found}.isdisjoint({"script"})
    # It is there as text: title, lead, group and name of two tables, and more.
    assert read.text.count(NASTY) > 5
    assert [attributes["alt"] for tag, attributes in read.found if tag == "img"] == [NASTY]


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(CytodistillError, match=r"x\.jpg: is neither PNG nor SVG"):
        page(whole(), {"x.jpg": b"\xff\xd8\xff"})


def drawn(axes, marker: str, x: bool = True) -> list[list[float]]:
    return [list(line.get_xdata() if x else line.get_ydata()) for line in axes.lines if line.get_marker() == marker]


def test_the_picture_of_rows_has_means_seeds_intervals_and_the_papers():
    figure = rows_figure(whole())
    accuracy, f1 = figure.axes
    assert [text.get_text() for text in accuracy.get_yticklabels()] == [
        "KD",
        "Ours",
        "Beyond the paper",
        "Ours, taught",
    ]
    assert np.ravel(drawn(accuracy, "o")) == pytest.approx([85, 92, 70])
    assert np.ravel(drawn(accuracy, "o", x=False)) == pytest.approx([0, 1, 3])
    assert np.ravel(drawn(accuracy, "|")) == pytest.approx([90, 80, 90, 94, 70, 70])
    assert np.ravel(drawn(accuracy, "D")) == pytest.approx([96.54, 98.15])
    assert not drawn(f1, "D")
    assert [85, 97] in [pytest.approx(line.get_xdata()) for line in accuracy.lines]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [
        "mean over 2 seeds",
        "each of them",
        "95 % interval",
        "mean of the reference",
        "the paper, on other data",
    ]


def test_the_picture_of_exits_has_a_panel_a_row():
    ours, taught = exits_figure(whole()).axes
    assert ours.get_title() == "Ours"
    line, ensemble = drawn(ours, "o", x=False)
    assert line == pytest.approx([71, 81])
    assert ensemble == pytest.approx([92])
    papers, papers_ensemble = drawn(ours, "D", x=False)
    assert papers == pytest.approx([95.65, 96.91, 97.16])
    # The paper has three exits here, so the ensembles of both stand after the third.
    assert drawn(ours, "o")[1] == drawn(ours, "D")[1] == [3]
    assert papers_ensemble == [98.15]
    assert not drawn(taught, "D")


def test_pictures_are_written_and_named_by_row(tmp_path, monkeypatch):
    shown = {}

    def confusion(panels, classes, title):
        shown[title] = panels, classes
        return Figure(figsize=(1, 1))

    monkeypatch.setattr("cytodistill.reproduce.picture.confusion_figure", confusion)
    paths = pictures(whole(), tmp_path / "new")
    assert [path.name for path in paths] == [
        "table5.png",
        "table5-exits.png",
        "table5-confusion-ours.png",
        "table5-confusion-ours-taught.png",
    ]
    assert list(captions(whole())) == [path.name for path in paths]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    # Counts of both seeds together.
    panels, classes = shown["Ours, herlev, 2 seeds"]
    assert classes == ["normal", "not"]
    assert panels["Exit 1"]["confusion_matrix"] == [[30 + 32, 80], [30 + 28, 0]]
    assert list(panels) == ["Exit 1", "Exit 2", "Ensemble"]
    assert panels["Ensemble"]["accuracy"] == pytest.approx((50 + 54) / 200)


def test_rows_whose_names_read_alike_have_files_of_their_own():
    two = [row(name, [run(0, 0.4, 0.5, 0.6)]) for name in ("A+B", "A B", "A-B")]
    assert list(captions(content(*two, seeds=1)))[2:] == [
        "table5-confusion-a-b.png",
        "table5-confusion-a-b-2.png",
        "table5-confusion-a-b-3.png",
    ]


def test_a_real_confusion_matrix_is_drawn(tmp_path):
    table = content(row("Ours", [run(0, 0.6, 0.7, 0.8)]), seeds=1)
    del table["data"]["classes"]
    assert pictures(table, tmp_path)[-1].name == "table5-confusion-ours.png"


def test_a_file_in_the_way_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CytodistillError, match="cannot be made a folder"):
        pictures(whole(), tmp_path / "file")

"""The page and the card as files: whole, alone, the same every time, and safe whatever names the cells have."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt

from cytodistill.evaluation.run import evaluate
from cytodistill.report import write_report
from cytodistill.report.chart import Axis, Chart, Series, marker
from cytodistill.report.tables import Table
from cytodistill.report.text import breakable, plain_markdown

HOSTILE = "<img src=x onerror=alert(1)>|*a*\u202e\x07"
LOADS = {"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"}


class Tags(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def every(self, attribute: str) -> list[str]:
        return [of[attribute] or "" for _, of in self.tags if attribute in of]


@pytest.fixture(scope="module")
def written(evaluation, tiny_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(evaluation, tiny_run, folder)
    return folder


@pytest.fixture(scope="module")
def page(written) -> str:
    return (written / "report.html").read_text(encoding="utf-8")


def test_a_run_s_evaluation_has_its_report_beside_it(tiny_run, tmp_path):
    found = evaluate(tiny_run, out=tmp_path)
    assert {"report.html", "model_card.json", "model_card.md"} <= {file.name for file in found.files}
    assert all(file.is_file() for file in found.files)
    page = Tags((tmp_path / "report.html").read_text(encoding="utf-8"))
    accuracy = json.loads((tmp_path / "metrics.json").read_text())["ensemble"]["accuracy"]
    assert f"{100 * accuracy:.1f}\u202f%" in page.text


def test_every_section_is_there_and_named_in_the_contents(page):
    tags = Tags(page)
    linked = [of["href"] for tag, of in tags.tags if tag == "a"]
    sections = [of["id"] for tag, of in tags.tags if tag == "section"]
    assert linked == ["#summary", *(f"#{key}" for key in sections)]
    assert sections == [
        *("summary", "exits", "classes", "confusion", "screening", "calibration", "sets", "doubt", "early-exit"),
        *("gallery", "groups", "data", "model-card", "settings"),
    ]


def test_the_page_needs_nothing_else(page):
    tags = Tags(page)
    assert not {"script", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in tags.tags}
    loaded = [of for attribute in LOADS for of in tags.every(attribute)]
    assert loaded
    assert all(address.startswith("data:image/webp;base64,") for address in loaded)
    assert all(address.startswith(("#", "data:")) for address in tags.every("href"))
    assert not re.search(r"url\(|@import|https?://", page)


def test_it_is_the_same_every_time(evaluation, tiny_run, written, tmp_path):
    for file in write_report(evaluation, tiny_run, tmp_path):
        assert file.read_bytes() == (written / file.name).read_bytes()


def test_charts_and_pictures_have_words(page):
    tags = Tags(page)
    keys = tags.every("id")
    assert len(keys) == len(set(keys))
    for names in (*tags.every("aria-labelledby"), *tags.every("aria-describedby")):
        assert set(names.split()) <= set(keys)
    drawings = [of for tag, of in tags.tags if tag == "svg" and of.get("role") == "img"]
    assert len(drawings) == 6  # exits, ROC, precision-recall, reliability, risk, early exit
    assert all("aria-labelledby" in of for of in drawings)
    assert all(of.get("alt") for tag, of in tags.tags if tag == "img")


def test_wrong_cells_have_a_picture_and_a_map_of_each_exit(page, evaluation):
    wrong = int((~evaluation.predictions["correct"].astype(bool)).sum())
    shown = min(wrong, 24)
    assert sum(tag == "img" for tag, _ in Tags(page).tags) == shown * (1 + 3)
    assert f"{wrong} cells of 45 are answered wrong" in page


def test_names_from_outside_are_text(evaluation, tiny_run, tmp_path):
    """Groups and class maps are named by files, which may be called anything."""
    frame = evaluation.table.frame.assign(group=[f"{HOSTILE}{g}" for g in evaluation.table.frame["group"]])
    hostile = replace(evaluation, table=evaluation.table.with_frame(frame))
    hostile.metrics["source"] = HOSTILE
    try:
        page, _, card = write_report(hostile, tiny_run, tmp_path)
    finally:
        hostile.metrics["source"] = None
    html = page.read_text(encoding="utf-8")
    assert "onerror" in html
    assert not any("onerror" in of for _, of in Tags(html).tags)
    assert not re.search("[\x07\u202e]", html + card.read_text(encoding="utf-8"))
    rendered = MarkdownIt("gfm-like", {"linkify": False}).render(card.read_text(encoding="utf-8"))
    assert not any("onerror" in of for _, of in Tags(rendered).tags)
    assert "<em>" not in rendered


def test_the_card_is_markdown_with_the_figures(written, found):
    rendered = Tags(
        MarkdownIt("commonmark", {"html": False}).enable("table").render((written / "model_card.md").read_text())
    )
    assert sum(tag == "table" for tag, _ in rendered.tags) == 4  # data, counts, exits, classes
    ensemble, within = found.metrics["ensemble"], found.metrics["intervals"]["ensemble"]
    low, high = (100 * end for end in within["accuracy"])
    assert f"{100 * ensemble['accuracy']:.1f} ({low:.1f}–{high:.1f})" in rendered.text
    for heading in ("Intended use", "Uses out of scope", "Data", "Protocol", "Figures", "Limits"):
        assert heading in rendered.text
    assert "For research use only." in rendered.text


def test_the_card_is_json_with_the_figures(written, found):
    card = json.loads((written / "model_card.json").read_text(encoding="utf-8"))
    for name, of in zip(("Exit 1", "Exit 2", "Exit 3"), found.metrics["exits"], strict=True):
        assert card["figures"]["by_exit"][name]["f1"]["value"] == of["f1"]
    for name, of in found.metrics["ensemble"]["per_class"].items():
        within = found.metrics["intervals"]["ensemble"]["per_class"][name]
        assert card["figures"]["by_class"][name]["f1"] == {"value": of["f1"], "interval": within["f1"]}
    scaled = found.trust["calibration"]["ensemble"]["temperature"]
    after = card["calibration"]["after"]
    assert after["nll"] == {"value": scaled["nll"], "interval": scaled["intervals"]["nll"]}
    assert after["ece"] == {"value": scaled["ece"], "if_calibrated": scaled["if_calibrated"]["ece"]}
    assert card["data"]["evaluated_on"] == {
        "source": None,
        "split": "test",
        "format": "folder",
        "cells": 45,
        "groups": 12,
        "digest": found.table.digest(),
    }
    assert card["model"]["fingerprint"] == found.run.info["fingerprint"]


def test_all_right_answers_of_one_group_leave_little_to_say(evaluated, evaluation, tiny_run, tmp_path):
    table = evaluation.table.with_frame(evaluation.table.frame.assign(group="one"))
    sure = np.repeat(0.98 * np.eye(3)[table.labels][:, None] + 0.02 / 3, 3, axis=1)
    page = write_report(evaluated(table, sure, class_map=None), tiny_run, tmp_path)[0].read_text(encoding="utf-8")
    assert "Every cell is answered right." in page
    assert "Every answer is right" in page
    assert 'class="interval"' not in page


def test_a_class_without_cells_is_said(evaluated, answers, evaluation, tiny_run, tmp_path):
    frame = evaluation.table.frame
    table = evaluation.table.with_frame(frame[frame["label"] != "middle"].reset_index(drop=True))
    found = evaluated(table, answers(1, table.labels, 3), class_map=None)
    page = write_report(found, tiny_run, tmp_path)[0].read_text(encoding="utf-8")
    assert "No cell is of class middle" in page


def test_a_chart_places_points_where_they_belong():
    empty = Table("t", "", "", [], [])
    chart = Chart("c", "", "", Axis("x"), Axis("y", 0.5, 1.0), [Series("s", [(0, 0.5), (1, 1)], 1)], empty)
    assert chart.drawn[0].line == "M42.0 226.0L348.0 30.0"
    assert [text for _, text in chart.y.ticks] == ["50", "60", "70", "80", "90", "100"]
    assert len({marker(style, 0, 0, 3) for style in range(1, 5)}) == 4


def test_text_is_escaped():
    assert breakable("a_b/<c>") == "a_<wbr>b/&lt;c&gt;"
    assert plain_markdown("a\nb | [x](y)") == "a b \\| \\[x\\](y)"

"""Conformal sets: classes that hold the true one as often as was asked for, and whether they did."""

from __future__ import annotations

from typing import Any

from cytodistill.report.judged import Judged
from cytodistill.report.numbers import NARROW, NOTHING, count, decimal_entry, percent_entry, percents
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

SCORES = {"lac": "smallest sets (LAC)", "aps": "adaptive sets (APS)"}
UNITS = {"group": "by group", "class": "by class"}
VERDICTS = {"within": "within the band", "below": "below the band", "above": "above the band", None: NOTHING}
OF_CLASSES = {"within": "every class within", "below": "some class below", "above": "some class above"}
ASKED = "0.9"
"""Coverage that is told class by class."""


def sets_section(judged: Judged) -> Section | None:
    """Coverage of every kind of set, and by class; None where no validation cells fitted any."""
    if judged.trust is None or judged.applied is None or not judged.trust["conformal"]:
        return None
    found = judged.trust["conformal"]
    cells, groups = judged.fitted_on
    text = [
        "In place of one answer, a set of classes that is to hold the true one for 90 % or 95 % of the cells. Sets of "
        "one class are answers; large ones say that the model cannot tell.",
        f"Thresholds are from {count(cells)} validation cells of {count(groups)} groups. Cells of one group are alike, "
        "so the promise of the plain sets does not hold for them cell by cell; sets by group count each group once. "
        "The band is where coverage would lie, 95 times of 100, if cells (by group: groups) were exchangeable; "
        "adaptive sets cover more by their making, and their band has a lower end only.",
    ]
    always = {name: kind["always_included"] for name, kind in found.items() if kind.get("always_included")}
    if always:
        said = "; ".join(f"{called(name)} have {', '.join(classes)} in every set" for name, classes in always.items())
        text.append(f"Too few validation cells for a threshold: {said}.")
    tables = [_kinds(found), _by_class(judged, found)]
    return Section("sets", "Conformal sets", text, tables=tables)


def called(name: str) -> str:
    """A kind of set in words.

    Example:
        >>> called("lac-0.9-by-group")
        'smallest sets (LAC) by group, 90\\u202f%'
    """
    score, coverage, *by = name.split("-")
    unit = f" {UNITS.get(by[-1], ' '.join(by))}" if by else ""
    return f"{SCORES.get(score, score)}{unit}, {100 * float(coverage):g}{NARROW}%"


def _band(kind: dict[str, Any]) -> str:
    """The band, of adaptive sets its lower end alone."""
    if kind["band"] and kind.get("one_sided"):
        return f"≥ {100 * kind['band'][0]:.1f}"
    return percents(kind["band"]) or NOTHING


def _kinds(found: dict[str, dict[str, Any]]) -> Table:
    rows = []
    for name, kind in found.items():
        within = kind["intervals"]
        verdict = OF_CLASSES[kind["verdict"]] if "class_bands" in kind else VERDICTS[kind["verdict"]]
        rows.append(
            Row(
                _capital(called(name)),
                [
                    percent_entry(kind["coverage"], within["coverage"]),
                    percent_entry(kind.get("group_coverage"), within["group_coverage"]),
                    Entry(_band(kind)),
                    Entry(verdict),
                    decimal_entry(kind["mean_size"], within["mean_size"], digits=2),
                    percent_entry(kind["singletons"], within["singletons"]),
                ],
            )
        )
    columns = ["Coverage, %", "Mean of groups, %", "Band, %", "Verdict", "Classes in a set", "Sets of one class, %"]
    caption = "Sets of every kind, with 95 % intervals"
    return Table("sets-table", caption, "Sets, coverage asked for", columns, rows, (3,))


def _by_class(judged: Judged, found: dict[str, dict[str, Any]]) -> Table:
    shown = [name for name in found if name.split("-")[1] == ASKED]
    rows = []
    for code, name in enumerate(judged.classes):
        own = judged.labels == code
        entries = [Entry(count(int(own.sum())))]
        for kind in shown:
            value, within = found[kind]["per_class"][code], found[kind]["class_intervals"][code]
            entries.append(percent_entry(value["coverage"], within["coverage"]))
        rows.append(Row(name, entries))
    columns = ["Cells", *(_capital(called(name).rpartition(",")[0]) for name in shown)]
    caption = "Coverage by class where 90 % is asked for, in %, with 95 % intervals"
    return Table("coverage-table", caption, "Class", columns, rows)


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"

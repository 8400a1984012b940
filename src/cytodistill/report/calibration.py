"""Whether a probability of 0.8 is right eight times of ten, before and after scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.trust import reliability_report
from cytodistill.metrics.calibration import BINS, COLDEST, HOTTEST, ece
from cytodistill.report.chart import REFERENCE, Axis, Chart, Series
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import (
    NOTHING,
    count,
    decimal,
    decimal_entry,
    error_entry,
    percent,
    percent_entry,
    percents,
)
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

COLUMNS = ("NLL", "Brier score", "ECE, %", "Class-wise ECE, %", "Too sure by, %")
EXPLAINED = "with 95 % intervals; below a calibration error (ECE), what chance alone makes of it 95 times of 100"
AFTER = {"raw": "as the network gives it", "temperature": "after temperature scaling"}
NAMES = {"raw": "As the network gives them", "temperature": "Temperature scaling", "vector": "Vector scaling"}


def calibration_section(judged: Judged) -> Section:
    """Reliability before and after scaling, and what scaling does to the proper scores."""
    text = [
        f"Cells are binned by the probability of their answer, into {BINS} bins of equal width; a larger mark stands "
        "for more cells. On the diagonal, probabilities are what they say; below it the model is too sure of itself."
    ]
    charts = [reliability_chart(judged)]
    if judged.trust is None:
        return Section("calibration", "Calibration", text, charts)
    cells, groups = judged.fitted_on
    statement = judged.trust["statements"]["calibration"]
    text.append(
        f"Scaling was fitted on {count(cells)} validation cells of {count(groups)} groups and is measured here on "
        f"others: {statement}."
    )
    text.append(
        "A calibration error is a mean of gaps without their signs: chance alone makes it larger than 0, and no "
        "interval of it holds the truth as often as it says. Above what chance makes of it, probabilities are off; "
        "below, that is not shown. “Too sure by” is the mean probability of the answers less the share of right ones, "
        "where gaps of either sign cancel."
    )
    return Section("calibration", "Calibration", text, charts, [scaling_table(judged)], [_voices(judged)])


def reliability_chart(judged: Judged) -> Chart:
    """The reliability diagram of the ensemble, with its figures."""
    kinds = {"raw": judged.raw} | ({} if judged.applied is None else {"temperature": judged.applied.ensemble})
    found = {kind: _reliability(judged, kind, probabilities) for kind, probabilities in kinds.items()}
    series = [Series("What probabilities should be", [(0, 0), (1, 1)], REFERENCE)]
    for style, (kind, bins) in enumerate(found.items(), start=1):
        filled = [k for k, cells in enumerate(bins["count"]) if cells]
        points = [(bins["confidence"][k], bins["accuracy"][k]) for k in filled]
        largest = max(bins["count"])
        series.append(Series(NAMES[kind], points, style, sizes=[bins["count"][k] / largest for k in filled]))
    gaps = " and ".join(f"{percent(ece(p, judged.labels))} {AFTER[kind]}" for kind, p in kinds.items())
    return Chart(
        "reliability",
        f"Reliability of {judged.speaker}",
        f"The share of right answers lies {gaps} from their probability (ECE, the mean over cells of the bins' gaps).",
        Axis("probability of the answer, mean of the bin, %"),
        Axis("right answers, %"),
        series,
        _bins(found),
    )


def _reliability(judged: Judged, kind: str, probabilities: np.ndarray) -> dict[str, Any]:
    """As metrics.json has it; of a run without validation cells as it would."""
    if judged.trust is not None:
        return judged.trust["reliability"][kind]
    return reliability_report(judged.resampling, probabilities, judged.labels)


def _bins(found: dict[str, dict[str, Any]]) -> Table:
    rows = []
    edges = next(iter(found.values()))["edges"]
    for k in range(len(edges) - 1):
        if not any(bins["count"][k] for bins in found.values()):
            continue
        entries = []
        for bins in found.values():
            entries.append(Entry(count(bins["count"][k])))
            entries += [
                percent_entry(bins["confidence"][k]),
                percent_entry(bins["accuracy"][k], bins["accuracy_intervals"][k]),
            ]
        rows.append(Row(percents((edges[k], edges[k + 1])) or "", entries))
    headings = [f"{what}, {AFTER[kind]}" for kind in found for what in ("Cells", "Probability", "Right")]
    return Table("reliability-table", "Figures of the chart, in %, with 95 % intervals", "Bin", headings, rows)


def scaling_table(judged: Judged) -> Table:
    """The probabilities of the ensemble before and after each kind of scaling."""
    assert judged.trust is not None
    rows = [
        Row(_named(kind, figures), [*_scores(figures), _percents(figures, "accuracy")])
        for kind, figures in judged.trust["calibration"]["ensemble"].items()
    ]
    caption = f"Probabilities of {judged.speaker}, {EXPLAINED}; the lower the better, but for accuracy"
    return Table("scaling-table", caption, "", [*COLUMNS, "Accuracy, %"], rows)


def _voices(judged: Judged) -> Table:
    """The same of every exit, and what scaling adds to its NLL."""
    assert judged.trust is not None
    rows = []
    for voice, kinds in judged.trust["calibration"].items():
        for kind, figures in kinds.items():
            change = figures.get("nll_change")
            entry = decimal_entry(change["value"], change["interval"]) if change else Entry(NOTHING)
            rows.append(Row(f"{voice.capitalize()}, {_named(kind, figures)}", [*_scores(figures), entry]))
    caption = f"Scaling of every exit, {EXPLAINED}"
    return Table("voices-table", caption, "", [*COLUMNS, "Change of NLL"], rows)


def _named(kind: str, figures: dict[str, Any]) -> str:
    if kind != "temperature":
        return NAMES[kind]
    temperature = figures["temperature"]
    if isinstance(temperature, list):
        return f"{NAMES[kind]}, {min(temperature):.2f} to {max(temperature):.2f} by fold"
    bound = " (its bound)" if temperature in (COLDEST, HOTTEST) else ""
    return f"{NAMES[kind]}, {decimal(temperature, 2)}{bound}"


def _scores(figures: dict[str, Any]) -> list[Entry]:
    within, chance = figures["intervals"], figures["if_calibrated"]
    return [
        *(decimal_entry(figures[key], within[key]) for key in ("nll", "brier")),
        *(error_entry(figures[key], chance[key]) for key in ("ece", "classwise_ece")),
        _percents(figures, "overconfidence"),
    ]


def _percents(figures: dict[str, Any], key: str) -> Entry:
    ends = figures["intervals"][key]
    of = None if ends is None else [100 * end for end in ends]
    return decimal_entry(100 * figures[key], of, 1)

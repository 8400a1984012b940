"""Whether a probability of 0.8 is right eight times of ten, before and after scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.applied import Applied
from cytodistill.metrics.calibration import BINS, clipped_log, ece, reliability
from cytodistill.metrics.intervals import Interval
from cytodistill.report.chart import REFERENCE, Axis, Chart, Series
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, decimal, decimal_entry, percent, percent_entry, percents
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

AFTER = {"raw": "as the network gives it", "temperature": "after temperature scaling"}
NAMES = {"raw": "As the network gives them", "temperature": "Temperature scaling", "vector": "Vector scaling"}


def calibration_section(judged: Judged) -> Section:
    """Reliability before and after scaling, and what scaling does to the proper scores."""
    text = [
        f"Cells are binned by the probability of their answer, into {BINS} bins of equal width; a larger mark stands "
        "for more cells. On the diagonal, probabilities are what they say; below it the model is too sure of itself."
    ]
    charts = [reliability_chart(judged)]
    if judged.trust is None or judged.applied is None:
        return Section("calibration", "Calibration", text, charts)
    cells, groups = judged.fitted_on
    statement = judged.trust["statements"]["calibration"]
    text.append(
        f"Scaling was fitted on {count(cells)} validation cells of {count(groups)} groups and is measured here on "
        f"others: {statement}."
    )
    tables = [scaling_table(judged, judged.applied)]
    return Section("calibration", "Calibration", text, charts, tables, [_voices(judged, judged.applied)])


def reliability_chart(judged: Judged) -> Chart:
    """The reliability diagram of the ensemble, with its figures."""
    kinds = {"raw": judged.raw} | ({} if judged.applied is None else {"temperature": judged.applied.ensemble})
    found = {kind: reliability(probabilities, judged.labels) for kind, probabilities in kinds.items()}
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


def _bins(found: dict[str, dict[str, Any]]) -> Table:
    rows = []
    edges = next(iter(found.values()))["edges"]
    for k in range(len(edges) - 1):
        if not any(bins["count"][k] for bins in found.values()):
            continue
        entries = []
        for bins in found.values():
            entries.append(Entry(count(bins["count"][k])))
            entries += [percent_entry(bins[what][k]) for what in ("confidence", "accuracy")]
        rows.append(Row(percents((edges[k], edges[k + 1])) or "", entries))
    headings = [f"{what}, {AFTER[kind]}" for kind in found for what in ("Cells", "Probability", "Right")]
    return Table("reliability-table", "Figures of the chart, in %", "Bin", headings, rows)


def scaling_table(judged: Judged, applied: Applied) -> Table:
    """The ensemble's probabilities before and after each kind of scaling."""
    assert judged.trust is not None
    rows = []
    for kind, figures in judged.trust["calibration"]["ensemble"].items():
        ends = _intervals(judged, applied.calibrated["ensemble"][kind])
        name = NAMES[kind] + (f", {_temperature(figures['temperature'])}" if kind == "temperature" else "")
        entries = [decimal_entry(figures[key], ends[key]) for key in ("nll", "brier")]
        rows.append(Row(name, [*entries, *(percent_entry(figures[key], ends[key]) for key in ("ece", "accuracy"))]))
    columns = ["NLL", "Brier score", "ECE, %", "Accuracy, %"]
    caption = f"Probabilities of {judged.speaker}, with 95 % intervals: the lower the better, but for accuracy"
    return Table("scaling-table", caption, "", columns, rows)


def _temperature(value: float | list[float]) -> str:
    """One, or of folds from the lowest to the highest."""
    return f"{min(value):.2f} to {max(value):.2f}" if isinstance(value, list) else decimal(value, 2)


def _intervals(judged: Judged, probabilities: np.ndarray) -> dict[str, Interval | None]:
    draws, labels = judged.resampling, judged.labels
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    distance = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    cells = draws.sums_by(np.zeros(len(labels), int), 1)[:, 0]
    # The gap of a bin, weighted by its cells, is a sum over them.
    gaps = np.abs(draws.sums_by(bins, BINS, right - confidence)).sum(axis=1) / cells
    return {
        "nll": draws.mean(_loss(probabilities, labels), scale="plain"),
        "brier": draws.mean(distance, scale="plain"),
        "accuracy": draws.mean(right),
        "ece": draws.interval(ece(probabilities, labels), gaps),
    }


def _loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) −ln p of the true class, whose mean is the NLL."""
    return -clipped_log(probabilities[np.arange(len(labels)), labels])


def _voices(judged: Judged, applied: Applied) -> Table:
    """What the temperature of each exit does."""
    assert judged.trust is not None
    rows = []
    for voice, measured in judged.trust["calibration"].items():
        before, after = (_loss(applied.calibrated[voice][kind], judged.labels) for kind in ("raw", "temperature"))
        raw, scaled = measured["raw"], measured["temperature"]
        rows.append(
            Row(
                voice.capitalize(),
                [
                    Entry(_temperature(scaled["temperature"])),
                    decimal_entry(raw["nll"]),
                    decimal_entry(scaled["nll"]),
                    decimal_entry(scaled["nll"] - raw["nll"], judged.resampling.mean(after - before, scale="plain")),
                    percent_entry(raw["ece"]),
                    percent_entry(scaled["ece"]),
                ],
            )
        )
    columns = ["Temperature", "NLL before", "NLL after", "Change", "ECE before, %", "ECE after, %"]
    caption = "Temperature scaling of every exit, the change with its 95 % interval"
    return Table("voices-table", caption, "", columns, rows)

"""What is saved where sure cells leave the network early, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import f1_score

from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.policies import read_policies
from cytodistill.metrics.class_intervals import f1_interval
from cytodistill.models.exit_costs import macs_until_exits
from cytodistill.report.chart import REFERENCE, Axis, Chart, Series
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, decimal, percent, percent_entry
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

THRESHOLDS = 25


def early_exit_section(judged: Judged) -> Section | None:
    """Accuracy and F-measure against the computation spent, for thresholds of confidence. None of a single exit."""
    if judged.exits.shape[1] < 2:
        return None
    text = [
        "A cell leaves at the first exit after which the mean of the exits so far is surer than a threshold, the same "
        "at every exit. The threshold is swept over these very cells: the curve shows what can be had, not what a "
        "threshold chosen beforehand will give."
    ]
    costs = macs_until_exits(judged.run.fresh_network(), judged.run.recipe.data.image_size)
    if costs[0] == costs[-1]:
        text.append(
            "This network cannot be cut behind its exits, so leaving early saves nothing, and no curve is drawn."
        )
        return Section("early-exit", "Early exit", text)
    policies = _policies(judged, costs)
    if policies is not None:
        text.append("Policies are fitted beforehand, on validation cells, and keep what they promise there.")
    tables = [] if policies is None else [policies]
    return Section("early-exit", "Early exit", text, [_chart(judged, costs)], tables, [_costs(costs)])


@dataclass(frozen=True)
class Swept:
    """What a threshold does: the mean ``share`` of the MACs, and the (N,) exits ``used`` and classes ``predicted``."""

    threshold: float
    share: float
    used: np.ndarray
    predicted: np.ndarray
    accuracy: float
    f1: float


def sweep(exits: np.ndarray, labels: np.ndarray, costs: Sequence[int]) -> list[Swept]:
    """Thresholds from all cells at the first exit to all at the last, those that do the same once.

    Args:
        exits: (N, E, C) probabilities.
        labels: (N,) codes.
        costs: E, from ``macs_until_exits``.
    """
    shares = np.array(costs) / costs[-1]
    so_far = np.cumsum(exits, axis=1) / np.arange(1, exits.shape[1] + 1)[:, None]
    sure = so_far[:, :-1].max(axis=2)
    thresholds = np.unique(np.quantile(sure, np.linspace(0, 1, THRESHOLDS - 2)).clip(0, 1))
    found: dict[tuple[float, float, float], Swept] = {}
    for threshold in [0.0, *thresholds, 1.0]:
        policy = ExitPolicy("confidence", (float(threshold),) * exits.shape[1])
        used = policy.used(exits)
        predicted = so_far[np.arange(len(labels)), used].argmax(axis=1)
        f1 = f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
        point = Swept(
            float(threshold),
            float(shares[used].mean()),
            used,
            predicted,
            float((predicted == labels).mean()),
            float(f1),
        )
        found.setdefault((point.share, point.accuracy, point.f1), point)
    return sorted(found.values(), key=lambda point: point.share)


def _chart(judged: Judged, costs: Sequence[int]) -> Chart:
    points = sweep(judged.exits, judged.labels, costs)
    whole = points[-1]
    enough = next(point for point in points if point.accuracy >= whole.accuracy - 0.005)
    rows = [_swept_row(judged, point, np.array(costs) / costs[-1]) for point in points]
    return Chart(
        "early-exit-chart",
        "Accuracy and F-measure against computation",
        f"All exits together are right for {percent(whole.accuracy)}. Within half a point of that, "
        f"{percent(enough.share)} of the computation is spent, at the threshold {decimal(enough.threshold)}.",
        Axis("mean share of the multiply-accumulates, %", 0.0, 1.0),
        Axis.round_values("%", [value for point in points for value in (point.accuracy, point.f1)]),
        [
            Series("accuracy of all exits", [(0, whole.accuracy), (1, whole.accuracy)], REFERENCE),
            Series("accuracy", [(point.share, point.accuracy) for point in points], 1),
            Series("F-measure, mean of the classes", [(point.share, point.f1) for point in points], 2),
        ],
        Table(
            "early-exit-table",
            "Figures of the chart, in %, with 95 % intervals",
            "Threshold",
            ["Share of MACs", "Accuracy", "F-measure"],
            rows,
        ),
    )


def _swept_row(judged: Judged, point: Swept, shares: np.ndarray) -> Row:
    draws, labels = judged.resampling, judged.labels
    f1 = f1_interval(draws, labels, point.predicted, len(judged.classes))
    return Row(
        decimal(point.threshold),
        [
            percent_entry(point.share, draws.mean(shares[point.used])),
            percent_entry(point.accuracy, draws.mean(point.predicted == labels)),
            percent_entry(point.f1, f1),
        ],
    )


def _policies(judged: Judged, costs: Sequence[int]) -> Table | None:
    """What the run's policies do on these cells; None where it has none, or where they are of other classes."""
    stored = read_policies(judged.run) if len(judged.parts) == 1 and not judged.external else {}
    if not stored:
        return None
    draws, rows = judged.resampling, []
    for name, fitted in stored.items():
        shares = np.array(fitted.macs)[fitted.policy.used(judged.exits)] / costs[-1]
        predicted, whole = fitted.policy.answers(judged.exits).argmax(axis=1), judged.exits.mean(axis=1).argmax(axis=1)
        measured = (shares, predicted == judged.labels, predicted != whole)
        promise = Entry(f"{fitted.policy.kind}: {fitted.promise}")
        rows.append(Row(name, [promise, *(percent_entry(float(of.mean()), draws.mean(of)) for of in measured)]))
    columns = ["Promise", "Share of MACs, %", "Accuracy, %", "Differs from all exits, %"]
    caption = "Fitted policies, what they do on these cells, with 95 % intervals"
    return Table("policies-table", caption, "Policy", columns, rows, (0,))


def _costs(costs: Sequence[int]) -> Table:
    rows = [
        Row(f"Exit {exit}", [Entry(count(round(macs / 1e6))), percent_entry(macs / costs[-1])])
        for exit, macs in enumerate(costs, start=1)
    ]
    caption = "Computation of one cell until it has the answer of each exit"
    return Table("costs-table", caption, "", ["Million MACs", "Share, %"], rows)

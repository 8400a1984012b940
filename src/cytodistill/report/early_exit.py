"""What is saved where sure cells leave the network early, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import f1_score

from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.policies import read_policies
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
    costs = macs_until_exits(judged.run.network(), judged.run.recipe.data.image_size)
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


def sweep(exits: np.ndarray, labels: np.ndarray, costs: Sequence[int]) -> list[tuple[float, float, float, float]]:
    """(threshold, mean share of the MACs, accuracy, macro F) from all cells at the first exit to all at the last.

    Args:
        exits: (N, E, C) probabilities.
        labels: (N,) codes.
        costs: E, from ``macs_until_exits``.
    """
    shares = np.array(costs) / costs[-1]
    so_far = np.cumsum(exits, axis=1) / np.arange(1, exits.shape[1] + 1)[:, None]
    sure = so_far[:, :-1].max(axis=2)
    thresholds = np.unique(np.quantile(sure, np.linspace(0, 1, THRESHOLDS - 2)).clip(0, 1))
    found = []
    for threshold in [0.0, *thresholds, 1.0]:
        policy = ExitPolicy("confidence", (float(threshold),) * exits.shape[1])
        used = policy.used(exits)
        predicted = so_far[np.arange(len(labels)), used].argmax(axis=1)
        f1 = f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
        found.append((float(threshold), float(shares[used].mean()), float((predicted == labels).mean()), float(f1)))
    return sorted(set(found), key=lambda point: point[1])


def _chart(judged: Judged, costs: Sequence[int]) -> Chart:
    points = sweep(judged.exits, judged.labels, costs)
    whole = points[-1]
    enough = next(point for point in points if point[2] >= whole[2] - 0.005)
    rows = [
        Row(decimal(threshold), [percent_entry(share), percent_entry(accuracy), percent_entry(f1)])
        for threshold, share, accuracy, f1 in points
    ]
    return Chart(
        "early-exit-chart",
        "Accuracy and F-measure against computation",
        f"All exits together are right for {percent(whole[2])}. Within half a point of that, {percent(enough[1])} of "
        f"the computation is spent, at the threshold {decimal(enough[0])}.",
        Axis("mean share of the multiply-accumulates, %", 0.0, 1.0),
        Axis.round_values("%", [value for *_, accuracy, f1 in points for value in (accuracy, f1)]),
        [
            Series("accuracy of all exits", [(0, whole[2]), (1, whole[2])], REFERENCE),
            Series("accuracy", [(share, accuracy) for _, share, accuracy, _ in points], 1),
            Series("F-measure, mean of the classes", [(share, f1) for _, share, _, f1 in points], 2),
        ],
        Table(
            "early-exit-table",
            "Figures of the chart, in %",
            "Threshold",
            ["Share of MACs", "Accuracy", "F-measure"],
            rows,
        ),
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

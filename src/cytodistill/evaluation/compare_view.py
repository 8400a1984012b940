"""A comparison as people read it: tables on the terminal and in Markdown, a sentence each, and a forest plot."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cytodistill.evaluation.differences import FIGURES, SHARES
from cytodistill.report.text import plain_markdown

HEADINGS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision",
    "f1": "F-measure",
    "auc": "AUC",
    "nll": "NLL",
}
# Okabe and Ito's, apart to every eye, and a marker each, so that none is told by colour alone.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
MARKERS = "osD^v"
SIGNIFICANT = 0.05
FEW_GROUPS = 20

Entry = dict[str, Any]


def comparison_tables(content: Entry) -> list[Table]:
    """A table for each run that is compared with the reference, shares in % and their differences in points."""
    tables = []
    for entry in content["comparisons"]:
        table = Table(
            title=escape(f"{entry['name']} less {content['reference']}"),
            title_justify="left",
            caption=caption(content),
            caption_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            show_edge=False,
        )
        table.add_column("", no_wrap=True)
        for heading in columns(content, entry):
            table.add_column(escape(heading), justify="right")
        for name, *cells in rows(content, entry):
            table.add_row(name, *cells)
        tables.append(table)
    return tables


def comparison_markdown(content: Entry) -> str:
    """comparison.md: what was compared and how, a table each, and what it comes to."""
    reference = plain_markdown(content["reference"])
    lines = [
        f"# {', '.join(plain_markdown(entry['name']) for entry in content['comparisons'])} against {reference}",
        "",
    ]
    lines += [f"{plain_markdown(tested(content))}. {caption(content)}", ""]
    for entry, said in zip(content["comparisons"], content["statements"], strict=True):
        headings = ["", *(plain_markdown(heading) for heading in columns(content, entry))]
        lines += [f"## {plain_markdown(entry['name'])} less {reference}", "", f"{plain_markdown(said)}.", ""]
        lines += [f"| {' | '.join(headings)} |", "|".join(["", " --- ", *[" ---: "] * (len(headings) - 1), ""])]
        lines += [f"| {' | '.join(row)} |" for row in rows(content, entry)]
        lines.append("")
    lines += ["![differences](comparison.png)", "", how(content)]
    return "\n".join(lines) + "\n"


def statement(content: Entry, entry: Entry) -> str:
    """What a comparison comes to, in a sentence."""
    test, several = entry["mcnemar"], len(content["comparisons"]) > 1
    p = test["p_holm"] if several else test["p"]
    said = (
        f"{entry['name']} has {test['only_this']} cells right that {content['reference']} has wrong, and the reverse "
        f"{test['only_reference']}; McNemar over groups p {p_value(p)}"
    )
    said += f" (Holm, {len(content['comparisons'])} comparisons)" if several else ""
    accuracy = entry["differences"].get("accuracy")
    if accuracy is not None:
        said += (
            f"; accuracy {signed(100 * accuracy['value'], 1)} points, {100 * content['level']:.0f} % interval "
            f"{signed(100 * accuracy['low'], 1)} to {signed(100 * accuracy['high'], 1)}"
        )
    return said + (": they differ" if p < SIGNIFICANT else ": no difference is shown")


def tested(content: Entry) -> str:
    """The cells in words."""
    where = content["source"] or ("the test cells of all folds" if content["folds"] else "the runs' own test split")
    folds = f" in {content['folds']} folds" if content["folds"] else ""
    few = "; so few groups make intervals wide, and rough themselves" if content["groups"] < FEW_GROUPS else ""
    return f"{content['cells']:,} cells of {content['groups']:,} groups{folds}, {where}{few}"


def caption(content: Entry) -> str:
    """What the columns are."""
    several = len(content["comparisons"]) > 1
    return "Macro averages in %, differences in points (NLL in nats)" + (
        f"; Holm: p corrected for {len(content['comparisons'])} comparisons" if several else ""
    )


def how(content: Entry) -> str:
    """What intervals and p-values are, and what they do not hold."""
    folded = content["kind"] == "folds"
    by = (
        "are from Nadeau and Bengio's corrected t over the folds, of which the figures are means"
        if folded
        else "are from a bootstrap that draws the same groups of cells for both runs"
    )
    said = (
        f"Intervals and p of the figures {by}. McNemar's test flips whole groups"
        f"{', over the cells of all folds' if folded else ''}. Each figure is tested by itself: that one of many is "
        f"below {SIGNIFICANT} is little."
    )
    return (
        said if folded else f"{said} Another training of the same recipe would differ too, which one run does not show."
    )


def columns(content: Entry, entry: Entry) -> list[str]:
    """Headings of `rows`, without the first."""
    several = len(content["comparisons"]) > 1
    return [content["reference"], entry["name"], "Difference", "95 % interval", "p", *(["Holm"] if several else [])]


def rows(content: Entry, entry: Entry) -> list[list[str]]:
    """A row a figure, and one of McNemar's test; a dash for what these cells do not define."""
    figures = {run["name"]: run["figures"] for run in content["runs"]}
    several, found = len(content["comparisons"]) > 1, []
    for name in FIGURES:
        scale, digits = (100, 2) if name in SHARES else (1, 3)
        values = [figures[run][name] for run in (content["reference"], entry["name"])]
        row = [HEADINGS[name], *("–" if value is None else f"{scale * value:.{digits}f}" for value in values)]
        less = entry["differences"].get(name)
        if less is None:
            found.append([*row, *["–"] * (4 if several else 3)])
            continue
        ends = f"{signed(scale * less['low'], digits)} to {signed(scale * less['high'], digits)}"
        row += [signed(scale * less["value"], digits), ends, p_value(less["p"])]
        found.append([*row, p_value(less["p_holm"])] if several else row)
    test = entry["mcnemar"]
    counts = [str(test["only_reference"]), str(test["only_this"]), f"{test['only_this'] - test['only_reference']:+d}"]
    row = ["Right alone (McNemar)", *counts, f"{test['differing']} groups differ", p_value(test["p"])]
    found.append([*row, p_value(test["p_holm"])] if several else row)
    return found


def p_value(p: float) -> str:
    """A p-value to two digits, not below 0.001."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def signed(value: float, digits: int) -> str:
    """A number with its sign; what rounds to nothing has none."""
    text = f"{value:+.{digits}f}"
    return (text[1:] if not float(text) else text).replace("-", "−")


def comparison_figure(content: Entry) -> Figure:
    """Forest plot: the difference of each figure with its interval, shares on the left and the NLL on the right."""
    entries = content["comparisons"]
    known = [name for name in FIGURES if any(name in entry["differences"] for entry in entries)]
    shares = [name for name in known if name in SHARES]
    height = 1.6 + 0.22 * max(len(shares), 1) * (len(entries) + 0.6)
    figure = Figure(figsize=(9, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
    _forest(left, entries, shares, 100, "difference, points")
    _forest(right, entries, [name for name in known if name not in SHARES], 1, "difference, nats (less is better)")
    figure.suptitle(f"Difference from {content['reference']}, 95 % interval".replace("$", r"\$"), fontsize=10)
    left.legend(loc="upper left", bbox_to_anchor=(0, -0.16), fontsize=8, frameon=False)
    return figure


def _forest(axes: Axes, entries: list[Entry], names: list[str], scale: float, label: str) -> None:
    step = 0.6 / len(entries)
    axes.axvline(0, color="0.5", linewidth=1)
    for number, entry in enumerate(entries):
        own = [name for name in names if name in entry["differences"]]
        found = [entry["differences"][name] for name in own]
        value, low, high = (scale * np.array([less[end] for less in found]) for end in ("value", "low", "high"))
        at = np.array([names.index(name) for name in own]) + (number - (len(entries) - 1) / 2) * step
        axes.errorbar(
            value,
            at,
            xerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)],
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            capsize=3,
            label=entry["name"].replace("$", r"\$"),
        )
    axes.set_yticks(range(len(names)), [HEADINGS[name] for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)

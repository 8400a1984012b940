"""An external test: cells of another data set, in the classes that two maps have in common."""

from __future__ import annotations

from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, counted, percent, percent_entry
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table


def external_section(judged: Judged) -> Section | None:
    """The maps, what they left out, and each class of the source by itself; None of any other test."""
    if not judged.external:
        return None
    metrics = judged.metrics
    left = metrics["left_out"]
    dropped = ", ".join(f"{name} {count(cells)}" for name, cells in left["by_class"].items() if cells)
    text = [
        f"The cells are of another data set. The model's classes are brought together by the class map "
        f"{metrics['class_map']}, the labels by {metrics['source_map']}. "
        + (f"{counted(left['cells'], 'cell')} left out: {dropped}." if dropped else "No cell was left out."),
        "What the model's own validation cells decided (temperatures, sets, operating points) is carried over as "
        "it is.",
    ]
    if left["probability"] > 0:
        text.append(
            f"On average {percent(left['probability'])} of the model's probability is in classes that its map leaves "
            "out."
        )
    rows = [
        Row(name, [Entry(str(of["counts_as"])), Entry(count(of["n"])), percent_entry(of["right"], of["interval"])])
        for name, of in metrics["by_source_class"].items()
    ]
    columns = ["Counts as", "Cells", "Answered right, %"]
    caption = "Every class of the source, with 95 % intervals"
    return Section(
        "external", "External test", text, tables=[Table("source-table", caption, "Class", columns, rows, (0,))]
    )

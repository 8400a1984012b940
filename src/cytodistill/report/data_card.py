"""Where the cells come from, and how many there are of each class and split."""

from __future__ import annotations

import numpy as np

from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count
from cytodistill.report.section import Section
from cytodistill.report.tables import Entry, Row, Table

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}


def data_section(judged: Judged) -> Section:
    """Facts about the run's cells and the evaluated ones, and the counts of classes."""
    text = (
        "Groups (fields, slides, acquisitions) are what is never split between training and test. The hash is of what "
        "the table says: paths, windows, labels, groups and splits."
    )
    return Section("data", "Data card", [text], tables=[facts_table(judged), *counts_tables(judged)])


def facts_table(judged: Judged) -> Table:
    """Source, format, cells, groups and hash of the run's cells and the evaluated ones."""
    own = judged.run.info["table"]
    rows = [
        Row(
            "Trained on",
            [Entry(_name(own["source"])), *_facts(own["format"], own["cells"], own["groups"], own["digest"])],
        ),
        Row(
            "Evaluated on",
            [
                Entry(judged.metrics["source"] or f"the same, split {judged.metrics['split']}"),
                *_facts(judged.table.format, len(judged.table), judged.metrics["groups"], judged.table.digest()),
            ],
        ),
    ]
    return Table("data-table", "Cells", "", ["Source", "Format", "Cells", "Groups", "Hash"], rows, (0, 1, 4))


def _facts(format: str, cells: int, groups: int, digest: str) -> list[Entry]:
    return [Entry(format), Entry(count(cells)), Entry(count(groups)), Entry(digest)]


def _name(source: str | None) -> str:
    return "–" if source is None else str(source)


def counts_tables(judged: Judged) -> list[Table]:
    """Cells of each class in the run's splits and among the evaluated cells; apart where these have other classes."""
    run = "" if len(judged.parts) == 1 else "; splits are those of the first fold"
    counts = judged.run.info["table"]["counts"]
    columns = {name: np.array(counts[split]) for split, name in SPLITS.items() if split in counts}
    evaluated = {"Evaluated": np.bincount(judged.labels, minlength=len(judged.classes))}
    if judged.classes == judged.run.classes:
        return [_counts("counts-table", f"Cells by class and split{run}", judged.classes, columns | evaluated)]
    return [
        _counts("counts-table", "Cells of the model's own source by class and split", judged.run.classes, columns),
        _counts("evaluated-table", "Evaluated cells by class", judged.classes, evaluated),
    ]


def _counts(key: str, caption: str, classes: tuple[str, ...], columns: dict[str, np.ndarray]) -> Table:
    rows = [Row(name, [Entry(count(int(of[code]))) for of in columns.values()]) for code, name in enumerate(classes)]
    rows.append(Row("All", [Entry(count(int(of.sum()))) for of in columns.values()], strong=True))
    return Table(key, caption, "Class", list(columns), rows)

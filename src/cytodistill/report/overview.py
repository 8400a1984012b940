"""The head of the page: what was evaluated, the figures that matter most, and what to beware of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cytodistill.evaluation.trust import trust_lines
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import count, counted, ends, percent, percents

RESEARCH_ONLY = "Not a medical device: it has not been validated for diagnosis, triage or any other clinical decision."
TILES = {
    "accuracy": ("Accuracy", "cells answered right"),
    "sensitivity": ("Sensitivity", "cells of a class that are found, mean of the classes"),
    "specificity": ("Specificity", "cells of other classes left alone, mean of the classes"),
    "f1": ("F-measure", "mean of the classes"),
    "auc": ("AUC", "one class against the rest, mean of the classes"),
}
SEEN = {
    "train": "These cells trained the model: the figures say how well it learned them, not how good it is.",
    "val": "These are the cells that chose the model: the figures are too good by an unknown amount.",
    "all": "Training and validation cells are among these: the figures are too good by an unknown amount.",
}
NOTES = ("no_intervals", "shared_groups", "no_trust")
FEW_GROUPS = 20


@dataclass(frozen=True)
class Tile:
    """A figure in large type: its ``value`` and ``meaning``, and the ``ends`` of its interval at the ``level``, drawn
    on a scale from 0 to 100 %."""

    name: str
    value: str
    meaning: str
    ends: tuple[float, float] | None
    level: str = ""

    @property
    def interval(self) -> str:
        return percents(self.ends) or ""

    @property
    def left(self) -> float:
        """Where the interval begins, in per cent."""
        return round(100 * self.ends[0], 1) if self.ends else 0.0

    @property
    def width(self) -> float:
        """How long it is; never too short to be seen."""
        return round(max(1.0, 100 * (self.ends[1] - self.ends[0])), 1) if self.ends else 0.0


@dataclass(frozen=True)
class Overview:
    """``lead`` in a sentence, ``tiles``, ``warnings`` to be read before them, and ``lines`` of what else was found."""

    title: str
    lead: str
    tiles: Sequence[Tile]
    warnings: Sequence[str]
    lines: Sequence[str]


def overview(judged: Judged) -> Overview:
    """The head of the page."""
    metrics = judged.metrics
    figures, intervals = metrics["ensemble"], metrics["intervals"] or {"ensemble": {}, "level": 0}
    level = f"{100 * intervals['level']:.0f}"
    tiles = [
        Tile(name, percent(figures[key]), meaning, ends(intervals["ensemble"].get(key)), level)
        for key, (name, meaning) in TILES.items()
    ]
    exits = len(metrics["exits"])
    what = judged.speaker + (f" of its {exits} exits" if exits > 1 else "")
    lead = f"{evaluated(metrics)}. The figures are of {what}."
    if metrics["intervals"]:
        lead += (
            f" Intervals are of {level} %, from {count(metrics['intervals']['resamples'])} resamples of whole groups: "
            "they say how much hangs on which groups were tested, not what another training would give."
        )
    notes = [metrics[note] for note in NOTES if note in metrics]  # which stand among the warnings
    lines = [f"{line}." for line in trust_lines(metrics) if line not in notes]
    return Overview(judged.name, lead, tiles, warnings(judged), lines)


def evaluated(metrics: dict[str, Any]) -> str:
    """The cells of an evaluation in words."""
    source, split = metrics["source"], metrics["split"]
    cells = counted(metrics["n"], "cell")
    groups, classes = counted(metrics["groups"], "group"), counted(len(metrics["classes"]), "class", "classes")
    where = f"{split} split of the run's own cells" if metrics["source"] is None else f"{source}, split {split}"
    where = split if "folds" in metrics else where
    return f"{where[0].upper()}{where[1:]}: {cells} in {groups}, {classes}"


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def warnings(judged: Judged) -> list[str]:
    """What makes the figures weaker than they look."""
    metrics, found = judged.metrics, []
    if metrics["source"] is None and metrics["split"] in SEEN:
        found.append(SEEN[metrics["split"]])
    found += [_sentence(metrics[note]) for note in NOTES if metrics.get(note)]
    if metrics["intervals"] and metrics["groups"] < FEW_GROUPS:
        found.append(f"The cells are of {metrics['groups']} groups only, so intervals are wide, and rough themselves.")
    absent = [name for name, of_class in metrics["ensemble"]["per_class"].items() if not of_class["n"]]
    if absent:
        found.append(
            f"No cell is of class {', '.join(absent)}: the means leave {'it' if len(absent) == 1 else 'them'} out."
        )
    if judged.trust is None and "no_trust" not in metrics and metrics["split"] not in SEEN:
        found.append("The run has no validation cells: its probabilities are not calibrated, and there are no sets.")
    return found

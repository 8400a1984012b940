"""How often intervals of 95 % hold the truth, where cells of a field are alike: simulated, against a huge population.

    python benchmarks/interval_coverage.py [--replications 2000] [--resamples 300] [-o FILE]

A replication is a test split: fields of uneven sizes (1 and more cells, 12 on average, a negative binomial), each with
its own mix of three classes (Dirichlet) and its own chance that a cell is answered right (beta, so that right answers
are beta-binomial). A second model is right on much the same cells. The truth is the figure of 300,000 such fields.
Counted is the share of replications whose interval holds it:

- "groups": `figure_intervals` and, of the two models' difference, `figure_differences`, as every report has them;
- "percentiles": the 2.5 % and 97.5 % points of the same resamples, in every fourth replication;
- "cells": `figure_intervals` with each cell as a group of its own, which is the naive bootstrap, in every tenth: it is
  slow, and far enough from 95 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cytodistill.metrics.intervals import (
    figure_differences,
    figure_intervals,
    group_tallies,
    interval_ends,
    resampled_figures,
)

FIGURES = ("accuracy", "balanced_accuracy", "f1")
CLASSES = 3
POPULATION = 300_000
PERCENTILES_EVERY, NAIVE_EVERY = 4, 10


@dataclass(frozen=True)
class Design:
    """Fields of a test split, and how good the first model is on them."""

    fields: int
    accuracy: float
    likeness: float = 6.0
    """Sum of the beta's parameters: the smaller, the more alike cells of one field are answered."""
    cells: float = 12.0
    """Mean number of a field."""


DESIGNS = (Design(60, 0.80), Design(60, 0.93), Design(30, 0.80), Design(20, 0.80))


@dataclass(frozen=True)
class Cells:
    """(N,) codes of the classes, what two models said, and the field of each cell."""

    labels: np.ndarray
    first: np.ndarray
    second: np.ndarray
    fields: np.ndarray

    def tallies(self, model: str, groups: np.ndarray | None = None) -> np.ndarray:
        """Of one model, by field or by other groups."""
        return group_tallies(self.labels, getattr(self, model), self.fields if groups is None else groups, CLASSES)


def simulate(random: np.random.Generator, design: Design, fields: int | None = None) -> Cells:
    """Cells of some fields, by default as many as the design has."""
    count = design.fields if fields is None else fields
    sizes = 1 + random.negative_binomial(1.5, 1.5 / (0.5 + design.cells), count)
    of = np.repeat(np.arange(count), sizes)
    mix = random.dirichlet([1.5, 1.0, 0.5], count).cumsum(axis=1)
    labels = (random.random(len(of))[:, None] > mix[of, :-1]).sum(axis=1)
    ease = random.beta(design.accuracy * design.likeness, (1 - design.accuracy) * design.likeness, count)
    luck = random.random(len(of))
    # The second model is a little worse, more so in some fields, and has luck of its own on every fifth cell.
    worse = ease * random.beta(30, 1, count)
    own_luck = np.where(random.random(len(of)) < 0.2, random.random(len(of)), luck)
    miss = (labels[:, None] + random.integers(1, CLASSES, (len(of), 2))) % CLASSES
    first = np.where(luck < ease[of], labels, miss[:, 0])
    second = np.where(own_luck < worse[of], labels, miss[:, 1])
    return Cells(labels, first, second, of)


def coverage(design: Design, replications: int, resamples: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """{kind of interval: {figure: share of the replications whose interval holds the truth}}."""
    random = np.random.default_rng([seed, design.fields])
    truth, truth_of_difference = population(random, design)
    held: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))

    def count(kind: str, figure: str, low: float, high: float, true: float) -> None:
        held[kind][figure].append(low <= true <= high)

    for replication in range(replications):
        cells = simulate(random, design)
        first, second = [cells.tallies("first")], [cells.tallies("second")]
        found = figure_intervals(first, resamples=resamples)
        differences = figure_differences(first, second, resamples=resamples)
        for figure in FIGURES:
            count("groups", figure, found[figure].low, found[figure].high, truth[figure])
            difference = differences[figure]
            count("difference", figure, difference.low, difference.high, truth_of_difference[figure])
        if replication % PERCENTILES_EVERY == 0:
            _, drawn = resampled_figures([first], resamples)
            for figure in FIGURES:
                count("percentiles", figure, *interval_ends(drawn[figure][0], 0.95), truth[figure])
        if replication % NAIVE_EVERY == 0:
            naive = figure_intervals([cells.tallies("first", np.arange(len(cells.labels)))], resamples=resamples)
            for figure in FIGURES:
                count("cells", figure, naive[figure].low, naive[figure].high, truth[figure])
    return {kind: {name: float(np.mean(each)) for name, each in of.items()} for kind, of in held.items()}


def population(random: np.random.Generator, design: Design) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of the first model, and first less second, of a number of fields that leaves no chance in them."""
    cells = simulate(random, design, POPULATION)
    halves = cells.fields % 2  # figures need two groups and no resample of them
    tallies = [[cells.tallies(model, halves)] for model in ("first", "second")]
    values, _ = resampled_figures(tallies, resamples=1)
    return (
        {name: float(values[name][0]) for name in FIGURES},
        {name: float(values[name][0] - values[name][1]) for name in FIGURES},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=300)
    parser.add_argument("-o", "--out", type=Path, help="also write the figures here, as JSON")
    options = parser.parse_args()
    print("share of intervals of 95 % that hold the truth, in %: accuracy, balanced accuracy, macro F-measure")
    print("fields  accuracy  groups              difference          percentiles         cells")
    rows = []
    for design in DESIGNS:
        started = time.process_time()
        found = coverage(design, options.replications, options.resamples)
        seconds = round(time.process_time() - started, 1)
        rows.append({**asdict(design), "coverage": found, "seconds": seconds})
        shown = ["  ".join(f"{100 * found[kind][name]:4.1f}" for name in FIGURES) for kind in KINDS]
        print(f"{design.fields:6}  {design.accuracy:8}  " + "    ".join(shown) + f"    {seconds} s", flush=True)
    if options.out:
        content = {"replications": options.replications, "resamples": options.resamples, "designs": rows}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


KINDS = ("groups", "difference", "percentiles", "cells")

if __name__ == "__main__":
    main()

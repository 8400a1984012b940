"""How often intervals of 95 % hold the truth, where cells of a field are alike: simulated, against a huge population.

    python benchmarks/interval_coverage.py [--replications 2000] [--score-replications 1000] [--resamples 300] [-o FILE]

A replication is a test split: fields of uneven sizes (1 and more cells, 12 on average, a negative binomial), each with
its own mix of three classes (Dirichlet) and its own chance that a cell is answered right (beta, so that right answers
are beta-binomial). A second model is right on much the same cells. The truth is the figure of 300,000 such fields.
Counted is the share of replications whose interval holds it:

- "groups": `figure_intervals` and, of the two models' difference, `figure_differences`, as every report has them;
- "percentiles": the 2.5 % and 97.5 % points of the same resamples, in every fourth replication;
- "cells": `figure_intervals` with each cell as a group of its own, which is the naive bootstrap, in every tenth: it is
  slow, and far enough from 95 %.

The same is done for what is made of probabilities (NLL, Brier score, areas, doubt, screening), of a model whose
probabilities are right and of one that is too sure, and for a class that few fields hold. There the cells of a field
are alike twice over: some fields are harder, and in some the answers are luckier than their probabilities say (a normal
variable a field in the Gaussian copula of right answers), which leaves probabilities right on the whole.

A calibration error has no interval (`GroupResampling.error_if_calibrated`). Counted for the ECE are

- "share" and "debiased": the interval like that of a share that it once had, and value less bias ± t · s, cut at 0;
- "chance": how often the ECE of right probabilities stays below what is told of chance, 95 times of 100;
- "chance by cells": the same with labels drawn from the probabilities cell by cell, as is usual.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from cytodistill.metrics.auc_interval import auc_interval
from cytodistill.metrics.calibration import BINS, bin_codes, brier, classwise_ece, ece, nll, overconfidence
from cytodistill.metrics.calibration_intervals import calibration_intervals, errors_if_calibrated
from cytodistill.metrics.class_intervals import class_intervals
from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.group_resampling import GroupResampling
from cytodistill.metrics.intervals import (
    Interval,
    figure_differences,
    figure_intervals,
    group_tallies,
    interval_ends,
    resampled_figures,
)
from cytodistill.metrics.screening import sensitivity_at
from cytodistill.metrics.screening_intervals import average_precision_interval, sensitivity_interval
from cytodistill.metrics.selective import aurc, coverage_at, doubt, e_aurc, failure_auroc
from cytodistill.metrics.selective_intervals import failure_intervals
from cytodistill.metrics.standard_error import plain_ends

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


@dataclass(frozen=True)
class ScoreDesign:
    """Fields of a test split, and the probabilities of the model."""

    fields: int
    sharpness: float = 1.0
    """Power that right probabilities are raised to: above 1 the model is too sure."""
    rare: float = 0.0
    """Share of the fields that hold the last class; 0 where all do."""
    luck: float = 0.3
    """Share of the copula's variance that the cells of a field have in common."""


SCORE_DESIGNS = (
    *(ScoreDesign(fields, sharpness) for sharpness in (1.0, 1.7) for fields in (60, 30, 20)),
    ScoreDesign(120, 1.7, rare=0.1),
    ScoreDesign(60, 1.7, rare=0.1),
)
SPECIFICITY, RISK = 0.9, 0.05
SCORE_POPULATION = 100_000


def simulate_scores(
    random: np.random.Generator, design: ScoreDesign, fields: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 3) probabilities, (N,) labels and (N,) fields of some fields, by default as many as the design has."""
    count = design.fields if fields is None else fields
    sizes = 1 + random.negative_binomial(1.5, 1.5 / 12.5, count)
    of = np.repeat(np.arange(count), sizes)
    hint = random.integers(0, CLASSES, len(of))
    skill = 2 + random.normal(size=count)
    logits = random.normal(size=(len(of), CLASSES)) + skill[of, None] * np.eye(CLASSES)[hint]
    if design.rare:
        logits[:, -1] -= 8 * (random.random(count) >= design.rare)[of]
    right = softmax(logits, axis=1)
    order = np.argsort(-right, axis=1)
    shared, own = random.normal(size=count)[of], random.normal(size=len(of))
    place = norm.cdf(np.sqrt(design.luck) * shared + np.sqrt(1 - design.luck) * own)
    reached = np.take_along_axis(right, order, axis=1).cumsum(axis=1)[:, :-1]
    labels = order[np.arange(len(of)), (place[:, None] > reached).sum(axis=1)]
    said = right**design.sharpness
    return said / said.sum(axis=1, keepdims=True), labels, of


def score_truth(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The figures themselves, of a population."""
    doubts, right = doubt(probabilities), probabilities.argmax(axis=1) == labels
    last, own = probabilities[:, -1], labels == CLASSES - 1
    figures = classification_metrics(probabilities, labels, [str(code) for code in range(CLASSES)])
    return {
        "nll": nll(probabilities, labels),
        "brier": brier(probabilities, labels),
        "overconfidence": overconfidence(probabilities, labels),
        "failure_auroc": failure_auroc(doubts, right) or 0.0,
        "aurc": aurc(doubts, right),
        "e_aurc": e_aurc(doubts, right),
        "coverage_at_5": coverage_at(doubts, right, RISK),
        "average_precision": float(average_precision_score(own, last)),
        "sensitivity_at_90": sensitivity_at(last, own, SPECIFICITY),
        **{name: figures[name] for name in ("auc", "accuracy", "balanced_accuracy", "f1")},
        **{f"last_{name}": figures["per_class"]["2"][name] for name in ("sensitivity", "precision", "f1")},
        "last_auc": float(roc_auc_score(own, last)),
    }


def score_intervals(
    probabilities: np.ndarray, labels: np.ndarray, fields: np.ndarray, resamples: int
) -> dict[str, Interval | None]:
    """The intervals of the same figures, as reports have them."""
    draws = GroupResampling(fields, resamples)
    predicted = probabilities.argmax(axis=1)
    last, own = probabilities[:, -1], labels == CLASSES - 1
    failures = failure_intervals(draws, doubt(probabilities), predicted == labels, RISK)
    counted = figure_intervals([group_tallies(labels, predicted, fields, CLASSES)], resamples=resamples)
    of_last = class_intervals(draws, labels, predicted, CLASSES)[-1]
    known = own.any()
    return {
        **calibration_intervals(draws, probabilities, labels),
        "failure_auroc": failures["auroc"],
        "aurc": failures["aurc"],
        "e_aurc": failures["e_aurc"],
        "coverage_at_5": failures["coverage"],
        "average_precision": average_precision_interval(draws, last, own) if known else None,
        "sensitivity_at_90": sensitivity_interval(draws, last, own, SPECIFICITY) if known else None,
        "auc": auc_interval(probabilities, labels, fields, resamples=resamples),
        **{name: counted[name] for name in ("balanced_accuracy", "f1")},
        **{f"last_{name}": of_last[name] for name in ("sensitivity", "precision", "f1")},
    }


def ece_ends(
    probabilities: np.ndarray, labels: np.ndarray, fields: np.ndarray, resamples: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends of the ECE from resamples as of a share, and with the resamples' bias taken off: neither holds."""
    draws, value = GroupResampling(fields, resamples), ece(probabilities, labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    gaps = draws.sums_by(bin_codes(confidence)[1], BINS, right - confidence)
    drawn = np.abs(gaps).sum(axis=1) / draws.sums(np.ones((len(labels), 1)))[:, 0]
    share = draws.interval(value, drawn)
    groups = len(np.unique(fields))
    low, high = plain_ends(value, drawn, groups)
    bias = float(drawn.mean()) - value
    assert share is not None
    return (share.low, share.high), (max(0.0, low - bias), max(0.0, high - bias))


def score_coverage(
    design: ScoreDesign, replications: int, resamples: int, seed: int = 0
) -> tuple[dict[str, float], dict[str, float], float]:
    """Shares of the replications whose interval holds the truth: of figures, and of the ECE by kind; and the truth of
    the ECE. Replications whose cells have no interval of a figure are left out of its share."""
    random = np.random.default_rng([seed, design.fields, 1])
    population = simulate_scores(random, design, SCORE_POPULATION)
    truth = score_truth(*population[:2])
    error = 0.0 if design.sharpness == 1 else ece(*population[:2])
    held: dict[str, list[bool]] = defaultdict(list)
    errors: dict[str, list[bool]] = defaultdict(list)
    for _ in range(replications):
        probabilities, labels, fields = simulate_scores(random, design)
        found = score_intervals(probabilities, labels, fields, resamples)
        for name, true in truth.items():
            within = found.get(name)
            if within is not None:
                held[name].append(within.low <= true <= within.high)
        value = ece(probabilities, labels)
        for kind, (low, high) in zip(
            ("share", "debiased"), ece_ends(probabilities, labels, fields, resamples), strict=True
        ):
            errors[kind].append(low <= error <= high)
        chance = errors_if_calibrated(GroupResampling(fields, resamples), probabilities, labels)
        errors["chance"].append(value <= (chance["ece"] or 0))
        errors["chance, class-wise"].append(classwise_ece(probabilities, labels) <= (chance["classwise_ece"] or 0))
        errors["chance by cells"].append(value <= chance_by_cells(random, probabilities, resamples))
    return (
        {name: float(np.mean(of)) for name, of in held.items()},
        {kind: float(np.mean(of)) for kind, of in errors.items()},
        error,
    )


def chance_by_cells(random: np.random.Generator, probabilities: np.ndarray, draws: int) -> float:
    """The ECE that labels drawn from the probabilities one by one stay below 95 times of 100."""
    confidence = probabilities.max(axis=1)
    of = bin_codes(confidence)[1]
    right = random.random((draws, len(confidence))) < confidence
    gaps = np.stack([(right - confidence)[:, of == k].sum(axis=1) for k in range(BINS)], axis=1)
    return float(np.quantile(np.abs(gaps).sum(axis=1) / len(confidence), 0.95))


def report_scores(replications: int, resamples: int) -> list[dict]:
    """Coverage of what is made of probabilities, design by design, printed and returned."""
    rows = []
    for design in SCORE_DESIGNS:
        started = time.process_time()
        found, errors, error = score_coverage(design, replications, resamples)
        seconds = round(time.process_time() - started, 1)
        rows.append({**asdict(design), "coverage": found, "ece": error, "ece_coverage": errors, "seconds": seconds})
        print(f"{asdict(design)}, {seconds} s")
        for of in (found, errors):
            print("   " + ", ".join(f"{name} {100 * share:.1f}" for name, share in of.items()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replications", type=int, default=2000)
    parser.add_argument("--score-replications", type=int, default=1000)
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
    scores = report_scores(options.score_replications, options.resamples)
    if options.out:
        content = {
            "replications": options.replications,
            "score_replications": options.score_replications,
            "resamples": options.resamples,
            "designs": rows,
            "scores": scores,
        }
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


KINDS = ("groups", "difference", "percentiles", "cells")

if __name__ == "__main__":
    main()

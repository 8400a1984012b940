"""Parity: whether an artifact answers as the run that it was made from, cell by cell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytodistill.files import atomic_write
from cytodistill.infer.engine import Engine, all_exits
from cytodistill.infer.exit_policy import ExitPolicy

BATCHES = (1, 7, 64)
FILES = ("parity.json", "parity.md")


@dataclass(frozen=True)
class Limits:
    """What an artifact may differ in from its run.

    ``difference`` is the largest of the probabilities of any exit and the ensemble, ``agreement`` the least share of
    cells with the same label, ``accuracy_change`` the largest, up or down, as a share; None where it is not limited.
    ``every_exit``: labels and accuracy of each exit are held to the limits too, and not the ensemble's alone.
    """

    difference: float | None
    agreement: float
    accuracy_change: float
    every_exit: bool


@dataclass(frozen=True)
class Comparison:
    """An artifact against its run over N cells, computed in one way: whole or in segments, in batches of one size.
    Lists have E + 1 entries, the exits shallow → deep and the ensemble."""

    graphs: str
    batch: int
    difference: float
    worst: int
    label_changes: list[int]
    agreement: list[float]
    accuracy: list[float]
    accuracy_change: list[float]

    def beyond(self, limits: Limits) -> list[str]:
        """What is beyond the limits, in words."""
        found = []
        if limits.difference is not None and not self.difference <= limits.difference:
            found.append(f"probabilities differ by {self.difference:.2g}, and {limits.difference:g} is the limit")
        voices = range(len(self.agreement)) if limits.every_exit else [len(self.agreement) - 1]
        for voice in voices:
            name = "the ensemble" if voice == len(self.agreement) - 1 else f"exit {voice + 1}"
            if self.agreement[voice] < limits.agreement:
                found.append(
                    f"{name} changes the label of {self.label_changes[voice]} cells ({self.agreement[voice]:.2%} "
                    f"agree), and {limits.agreement:.2%} is the limit"
                )
            if abs(self.accuracy_change[voice]) > limits.accuracy_change:
                found.append(
                    f"{name}'s accuracy changes by {100 * self.accuracy_change[voice]:+.2f} points, and "
                    f"{100 * limits.accuracy_change:g} is the limit"
                )
        return found


@dataclass(frozen=True)
class UnderPolicy:
    """An artifact against its run over N cells, both under one exit policy.

    ``exits_changed`` cells leave at another exit, ``label_changes`` get another label than the run gives under the same
    policy. ``differs`` is the share of cells whose label is another than that of all the *run's* exits together, which
    is what a risk is promised of, and ``differed`` the run's own share.
    """

    name: str
    exits_changed: int
    label_changes: int
    agreement: float
    differs: float
    differed: float

    def beyond(self, limits: Limits) -> list[str]:
        """What is beyond the limits, in words."""
        if self.agreement >= limits.agreement:
            return []
        return [
            f"under policy {self.name} the label of {self.label_changes} cells changes ({self.agreement:.2%} agree), "
            f"and {limits.agreement:.2%} is the limit"
        ]


@dataclass(frozen=True)
class Parity:
    """All comparisons of one artifact, with the limits that they were held to."""

    runtime: str
    precision: str
    cells: int
    limits: Limits
    accuracy: list[float]
    comparisons: tuple[Comparison, ...]
    policies: tuple[UnderPolicy, ...] = ()

    @property
    def beyond(self) -> list[str]:
        """What is beyond the limits, in words; empty where the artifact is proven."""
        found = [
            f"{comparison.graphs}, batch {comparison.batch}: {said}"
            for comparison in self.comparisons
            for said in comparison.beyond(self.limits)
        ]
        return found + [said for policy in self.policies for said in policy.beyond(self.limits)]

    def summary(self) -> dict[str, Any]:
        """The worst of the comparisons, as JSON."""
        return {
            "cells": self.cells,
            "batches": list(BATCHES),
            "limits": asdict(self.limits),
            "difference": max(comparison.difference for comparison in self.comparisons),
            "label_changes": max(max(comparison.label_changes) for comparison in self.comparisons),
            "agreement": min(comparison.agreement[-1] for comparison in self.comparisons),
            "accuracy": self.accuracy[-1],
            "accuracy_change": max((c.accuracy_change[-1] for c in self.comparisons), key=abs),
        }

    @property
    def words(self) -> str:
        """The worst of the comparisons, for people."""
        worst = self.summary()
        voices = len(self.accuracy)
        most = [max(comparison.label_changes[voice] for comparison in self.comparisons) for voice in range(voices)]
        changes = f"{most[-1]} of {self.cells} labels changed"
        if voices > 2:
            changes += f" by all exits together, {max(most[:-1])} by one of them"
        return (
            f"{self.precision} against the run on its {self.cells} validation cells, at worst: {changes}; accuracy "
            f"{100 * worst['accuracy_change']:+.2f} points; probabilities differ by {worst['difference']:.2g}"
        )

    def write(self, folder: Path) -> None:
        """Write parity.json and parity.md."""
        content = {
            "runtime": self.runtime,
            "precision": self.precision,
            "cells": self.cells,
            "limits": asdict(self.limits),
            "run": {"accuracy": self.accuracy},
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "policies": [asdict(policy) for policy in self.policies],
            "beyond": self.beyond,
        }
        atomic_write(folder / "parity.json", (json.dumps(content, indent=1) + "\n").encode())
        atomic_write(folder / "parity.md", self._markdown().encode())

    def _markdown(self) -> str:
        exits = len(self.accuracy) - 1
        lines = [
            f"# {self.runtime}, {self.precision}, against its run",
            "",
            f"{self.cells} validation cells; {'**refused**' if self.beyond else 'within its limits'}. Lists are of "
            f"exits 1 to {exits} and last of the ensemble. Accuracy of the run: {_percents(self.accuracy)} %.",
            "",
            "| graphs | batch | largest difference of probabilities | labels changed | accuracy, % | change, points |",
            "|---|---:|---:|---|---|---|",
        ]
        for row in self.comparisons:
            changes = " ".join(f"{100 * change:+.2f}" for change in row.accuracy_change)
            lines.append(
                f"| {row.graphs} | {row.batch} | {row.difference:.2g} | {' '.join(map(str, row.label_changes))} | "
                f"{_percents(row.accuracy)} | {changes} |"
            )
        if self.policies:
            lines += [
                "",
                "Under each exit policy: cells that leave at another exit, cells with another label than the run's "
                "under the same policy, and the share with another label than the run's exits have together, in the "
                "artifact and in the run.",
                "",
                "| policy | other exit | labels changed | differs from all exits, % | in the run, % |",
                "|---|---:|---:|---:|---:|",
            ]
            lines += [
                f"| {row.name} | {row.exits_changed} | {row.label_changes} | {100 * row.differs:.2f} | "
                f"{100 * row.differed:.2f} |"
                for row in self.policies
            ]
        lines += ["", *(f"- {said}" for said in self.beyond)]
        return "\n".join(lines).rstrip() + "\n"


def _percents(shares: list[float]) -> str:
    return " ".join(f"{100 * share:.2f}" for share in shares)


def answers_of(
    engine: Engine, cells: np.ndarray, graphs: str, batch: int, step: Callable[[int], None] | None = None
) -> np.ndarray:
    """(N, E, C) probabilities of N cells.

    Args:
        engine: an artifact's.
        cells: (N, S, S, 3) uint8.
        graphs: "whole" or "segments".
        batch: cells at once.
        step: told of how many cells each batch was.
    """
    compute = engine.whole if graphs == "whole" else lambda some: all_exits(engine, some)
    found = []
    for start in range(0, len(cells), batch):
        found.append(_softmax(compute(cells[start : start + batch])))
        if step:
            step(len(found[-1]))
    return np.concatenate(found)


def compare(graphs: str, batch: int, answers: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> Comparison:
    """(N, E, C) probabilities of an artifact against those of its run.

    Args:
        graphs: "whole" or "segments".
        batch: cells at once.
        answers: the artifact's.
        reference: the run's.
        labels: (N,) codes of the true classes.
    """
    found, expected = with_ensemble(answers), with_ensemble(reference)
    differences = np.abs(found - expected).max(axis=(1, 2))
    said, meant = found.argmax(2), expected.argmax(2)
    accuracy = (said == labels[:, None]).mean(0)
    return Comparison(
        graphs,
        batch,
        # A graph that answers NaN differs by NaN, which no limit allows.
        float(differences.max()),
        int(differences.argmax()),
        (said != meant).sum(0).tolist(),
        (said == meant).mean(0).tolist(),
        accuracy.tolist(),
        (accuracy - (meant == labels[:, None]).mean(0)).tolist(),
    )


def under_policy(name: str, policy: ExitPolicy, answers: np.ndarray, reference: np.ndarray) -> UnderPolicy:
    """(N, E, C) probabilities of an artifact's exits against those of its run, both stopped by a policy."""
    said, meant = (policy.answers(each).argmax(1) for each in (answers, reference))
    together = reference.mean(1).argmax(1)
    return UnderPolicy(
        name,
        int((policy.used(answers) != policy.used(reference)).sum()),
        int((said != meant).sum()),
        float((said == meant).mean()),
        float((said != together).mean()),
        float((meant != together).mean()),
    )


def with_ensemble(probabilities: np.ndarray) -> np.ndarray:
    """(N, E, C) probabilities of exits and, after them, of their mean: (N, E + 1, C)."""
    return np.concatenate([probabilities, probabilities.mean(1, keepdims=True)], axis=1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).softmax(-1).numpy()

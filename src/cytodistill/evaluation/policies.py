"""policy: a run and a promise in; a policy fitted on its validation cells and judged on its test cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cytodistill.errors import CytodistillError
from cytodistill.evaluation.compare_view import signed
from cytodistill.infer.exit_policy import Answering, ExitPolicy, Kind
from cytodistill.infer.policies import FittedPolicy, read_policies, write_policies
from cytodistill.infer.policy_fit import PolicyCells, fit_policy
from cytodistill.infer.predictor import Predictor, load
from cytodistill.infer.promise import Promise, Risk
from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.intervals import Difference, figure_differences, group_tallies
from cytodistill.models.exit_costs import macs_until_exits
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run


@dataclass(frozen=True)
class ExitCells:
    """Cells of one split with the answers of all exits: ``cells`` as the network takes them, and how policies see
    them."""

    cells: np.ndarray
    seen: PolicyCells


@dataclass(frozen=True)
class PolicyReport:
    """The policy under its name, as it was stored in ``file``, and its figures on the test cells (see
    `policy_figures`) with what it loses there (`policy_differences`); None where the run has no test cells."""

    name: str
    fitted: FittedPolicy
    file: Path
    test: dict[str, Any] | None
    lost: dict[str, Difference] | None


def fit_run_policy(
    run: str | Path | Run,
    promise: Promise,
    *,
    kind: Kind = "confidence",
    answer: Answering = "ensemble",
    name: str | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> PolicyReport:
    """Fit a policy on a run's validation cells, store it in the run, and judge it on the test cells.

    Args:
        run: run folder of a network with several exits.
        promise: what the policy is to meet. A risk by groups is one by cells where every group is a single cell.
        kind: of the policy.
        answer: "ensemble", the mean of the exits so far, or "exit".
        name: in the run; that of the promise by default. An older policy of that name is replaced.
        device: "auto", "cpu" or "cuda".
        watcher: is told of progress.

    Raises:
        CytodistillError: the run cannot be used, has one exit or no validation cells, or cannot meet the promise.
    """
    watcher = watcher or Silent()
    run = run if isinstance(run, Run) else Run.open(run)
    predictor = load(run, device)
    macs = exit_macs(run, predictor)
    policies = read_policies(run)
    cells = exit_cells(run, predictor, "val", watcher)
    if cells is None:
        raise CytodistillError(f"{run.path}: has no validation cells, on which a policy is fitted; fit a run with some")
    groups = len(np.unique(cells.seen.groups))
    if isinstance(promise, Risk) and groups == len(cells.cells):
        promise = replace(promise, unit="cells")
    policy = fit_policy(kind, cells.seen, promise, macs, answer)
    figures = policy_figures(policy, cells.seen, macs, run.classes)
    fitted = FittedPolicy(policy, promise, len(cells.cells), groups, macs, figures)
    name = name or promise.name
    file = write_policies(run, {**policies, name: fitted})
    test = exit_cells(run, predictor, "test", watcher)
    if test is None:
        return PolicyReport(name, fitted, file, None, None)
    figures = policy_figures(policy, test.seen, macs, run.classes)
    return PolicyReport(name, fitted, file, figures, policy_differences(policy, test.seen))


def exit_macs(run: Run, predictor: Predictor) -> tuple[int, ...]:
    """Multiply-accumulates of a cell until each exit has answered.

    Raises:
        CytodistillError: the network has one exit, or cannot be cut behind its exits.
    """
    if predictor.exits == 1:
        raise CytodistillError(
            f"{run.path}: has one exit, and none to leave early by; fit with student.multi_exit=true"
        )
    if predictor.engine.segments == 1:
        raise CytodistillError(
            f"{run.path}: {run.recipe.student.backbone} cannot be cut behind its exits, so that leaving early saves "
            "nothing; docs/networks.md says which can"
        )
    return macs_until_exits(predictor.network, predictor.size)


def exit_cells(run: Run, predictor: Predictor, split: str, watcher: Watcher) -> ExitCells | None:
    """The run's own cells of a split, all exits computed; None where it has none."""
    table = run.table()
    rows = table.indices(split)
    if not len(rows):
        return None
    cells = np.asarray(predictor.inputs.of_table(table, rows, lambda done, total: watcher.step("decode", done, total)))
    answers = predictor.predict_cells(
        cells, rows=rows, progress=lambda done, total: watcher.step("evaluate", done, total)
    )
    return ExitCells(cells[rows], PolicyCells(answers.exit_probabilities, table.labels[rows], table.groups[rows]))


def policy_figures(
    policy: ExitPolicy, seen: PolicyCells, macs: Sequence[int], classes: tuple[str, ...]
) -> dict[str, Any]:
    """{"cells", "groups", "exit_shares" (E), "macs_share", "differs", "differs_by_group", "lost", "lost_by_group",
    "accuracy", "f1", "accuracy_of_all", "f1_of_all"}, shares in [0, 1], JSON-able.

    "differs" is the share of cells whose class is another one than that of all exits together, "lost" that of cells
    where they are right and the policy is wrong; "by_group" the mean of each group's share.
    """
    answers, of_all = policy.answers(seen.probabilities), seen.probabilities.mean(axis=1)
    used, predicted, full = policy.used(seen.probabilities), answers.argmax(1), of_all.argmax(1)
    own, all_exits = (classification_metrics(each, seen.labels, classes) for each in (answers, of_all))
    groups = np.unique(seen.groups, return_inverse=True)[1]
    figures: dict[str, Any] = {
        "cells": len(used),
        "groups": int(groups.max()) + 1,
        "exit_shares": (np.bincount(used, minlength=policy.exits) / len(used)).tolist(),
        "macs_share": float(np.asarray(macs)[used].mean() / macs[-1]),
    }
    for name, losses in (
        ("differs", predicted != full),
        ("lost", (full == seen.labels) & (predicted != seen.labels)),
    ):
        figures[name] = float(losses.mean())
        figures[f"{name}_by_group"] = float((np.bincount(groups, losses) / np.bincount(groups)).mean())
    figures |= {"accuracy": own["accuracy"], "f1": own["f1"]}
    return figures | {"accuracy_of_all": all_exits["accuracy"], "f1_of_all": all_exits["f1"]}


def policy_differences(policy: ExitPolicy, seen: PolicyCells) -> dict[str, Difference]:
    """The policy − all exits together, on the same cells: "accuracy" and "f1" as shares, with intervals over groups;
    none where there is one group, or a figure is undefined in most draws of them."""
    if len(np.unique(seen.groups)) < 2:
        return {}
    classes = seen.probabilities.shape[2]
    ours, theirs = (
        group_tallies(seen.labels, answers.argmax(1), seen.groups, classes)
        for answers in (policy.answers(seen.probabilities), seen.probabilities.mean(axis=1))
    )
    found = figure_differences([ours], [theirs])
    return {name: found[name] for name in ("accuracy", "f1") if name in found}


def policy_table(report: PolicyReport) -> Table:
    """What the policy did on the validation cells, and what it does on the test cells, in %."""
    table = Table(
        title=f"Policy {report.name}: {report.fitted.policy.kind}", caption="in %", box=SIMPLE_HEAD, show_edge=False
    )
    columns = {"Validation": report.fitted.validation} | ({"Test": report.test} if report.test else {})
    for heading in ("", *columns):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    figures = list(columns.values())
    table.add_row("cells (groups)", *(f"{each['cells']:,} ({each['groups']:,})" for each in figures))
    table.add_section()
    for exit, threshold in enumerate(report.fitted.policy.thresholds):
        last = exit == report.fitted.policy.exits - 1
        row = f"stop at exit {exit + 1}" + ("" if last else f" (above {threshold:.4g})")
        table.add_row(row, *(f"{100 * each['exit_shares'][exit]:.1f}" for each in figures))
    table.add_section()
    table.add_row("MACs of all exits", *(f"{100 * each['macs_share']:.1f}" for each in figures), style="bold")
    for name, key in (("differs from all exits", "differs"), ("  mean over groups", "differs_by_group")):
        table.add_row(name, *(f"{100 * each[key]:.2f}" for each in figures))
    for name, key in (("accuracy", "accuracy"), ("F-measure", "f1")):
        table.add_row(name, *(f"{100 * each[key]:.2f}" for each in figures))
        table.add_row("  of all exits", *(f"{100 * each[f'{key}_of_all']:.2f}" for each in figures))
        if report.lost and (lost := report.lost.get(key)):
            ends = f"{signed(100 * lost.low, 2)} to {signed(100 * lost.high, 2)}"
            table.add_row("  difference, 95 %", "", ends, style="dim")
    return table

"""policy: when a cell may leave the network early."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, RunFolder
from cytodistill.errors import CytodistillError


class PolicyKind(StrEnum):
    confidence = "confidence"
    entropy = "entropy"
    margin = "margin"
    patience = "patience"
    agreement = "agreement"


class Answer(StrEnum):
    ensemble = "ensemble"
    exit = "exit"


class Against(StrEnum):
    ensemble = "ensemble"
    labels = "labels"


class Unit(StrEnum):
    groups = "groups"
    cells = "cells"


def policy(
    run: RunFolder,
    budget: Annotated[float | None, typer.Option(help="Mean share of all exits' MACs to stay within, 0.4 say.")] = None,
    risk: Annotated[float | None, typer.Option(help="Share of cells that may be answered otherwise, 0.01 say.")] = None,
    confidence: Annotated[float, typer.Option(help="With --risk: how sure to be of it.")] = 0.95,
    by: Annotated[Unit, typer.Option(help="With --risk: what counts as one observation.")] = Unit.groups,
    against: Annotated[Against, typer.Option(help="Whose answers to keep to: all exits' or the labels.")] = (
        Against.ensemble
    ),
    kind: Annotated[PolicyKind, typer.Option(help="What an exit is judged by.")] = PolicyKind.confidence,
    answer: Annotated[Answer, typer.Option(help="Mean of the exits so far, or the exit alone.")] = Answer.ensemble,
    name: Annotated[str | None, typer.Option(help="What to call it; budget-0.4 or risk-0.01 by default.")] = None,
    curve: Annotated[bool, typer.Option("--curve", help="Draw F-measure against MACs and measured time.")] = False,
    device: DeviceOption = Device.auto,
) -> None:
    """Fit an early-exit policy on the validation cells, keep it in the run, and judge it on the test cells."""
    if (budget is None) == (risk is None) and (budget is not None or not curve):
        raise CytodistillError(
            "policy: give --budget or --risk, one of the two (or --curve alone, to see what is there)"
        )
    from cytodistill.evaluation.exit_curve import draw_exit_curve
    from cytodistill.evaluation.policies import fit_run_policy, policy_table
    from cytodistill.infer.promise import Budget, Promise, Risk
    from cytodistill.terminal import Terminal

    promise: Promise | None = None
    if budget is not None:
        promise = Budget(budget, against.value)
    elif risk is not None:
        promise = Risk(risk, confidence, by.value, against.value)
    with Terminal() as terminal:
        if promise is not None:
            report = fit_run_policy(
                run, promise, kind=kind.value, answer=answer.value, name=name, device=device.value, watcher=terminal
            )
            terminal.out.print(policy_table(report))
            terminal.result(f"promised: {report.fitted.promise}")
            terminal.result(f"{report.file}: use it with `cytodistill predict {run} … --policy {report.name}`")
        if curve:
            for file in draw_exit_curve(run, answer=answer.value, device=device.value, watcher=terminal):
                terminal.result(str(file))

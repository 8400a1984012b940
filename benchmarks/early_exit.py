"""What early exit keeps of what it promises: time against multiply-accumulates, and a risk on groups held out.

    python benchmarks/early_exit.py RUN [--threads 1] [--json FILE]

**Time.** Policies are fitted on the run's validation cells for several budgets. They and the network with all exits
answer the same test cells (repeated up to ``--cells``) in batches of 64, in turn, round by round; the share of time
that a policy saves is the median over rounds. All exits are computed in both ways that there are, the network as a
whole and segment by segment under a policy that stops nobody; the faster one is what a policy is measured against. It
is to save at least 85 % of the share of MACs that it saves. Time is that of the network alone, with its input in
memory, and "computed" time is what the process's threads spent, which neighbours on the machine disturb less.

**Risk.** Validation and test cells, neither of which trained the network, are pooled, and their groups parted at
random 100 times. Each time a policy is fitted on one half for "differs from all exits on at most ``--risk`` of the
cells of new groups, with ``--confidence``", and the other half says whether it does: the mean of its groups' shares
is at most the risk. That is harder than what was promised, which is of all groups that there are and not of a few
dozen more: the other half's own luck comes on top, and what one half has of hard groups the other lacks. So the whole
pool is judged too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cytodistill.evaluation.policies import ExitCells, exit_cells, exit_macs
from cytodistill.infer.exit_policy import KINDS, ExitPolicy, never
from cytodistill.infer.policy_fit import PolicyCells, fit_policy
from cytodistill.infer.predictor import Predictor, load
from cytodistill.infer.promise import Budget, Risk
from cytodistill.train.log import Silent
from cytodistill.train.run_folder import Run

BATCH = 64
WHOLE, SEGMENTS = 1.0, 1.1
"""All exits, in the two ways that they can be computed, beside budgets below 1."""
SPENT = (0.15, 0.3, 0.5, 0.7)
"""Budgets, as shares between the first exit's cost and the whole network's."""


def timed(answer: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that passed, and seconds that the process's threads computed."""
    passed, computed = time.perf_counter(), time.process_time()
    answer()
    return time.perf_counter() - passed, time.process_time() - computed


def time_saved(
    predictor: Predictor, val: ExitCells, test: ExitCells, macs: tuple[int, ...], cells: int, rounds: int
) -> list[dict[str, Any]]:
    """Of each budget: the shares of MACs and of time saved, and their ratio."""
    repeated = np.resize(np.arange(len(test.cells)), max(cells, len(test.cells)))
    images = test.cells[repeated]
    first = macs[0] / macs[-1]
    policies = {}
    for share in SPENT:
        budget = round(first + share * (1 - first), 3)
        policies[budget] = fit_policy("confidence", val.seen, Budget(budget), macs)
    nobody = ExitPolicy("confidence", (never("confidence", len(macs)),) * len(macs))
    variants: dict[float, Callable[[], Any]] = {
        WHOLE: lambda: predictor.predict_cells(images, BATCH),
        SEGMENTS: lambda: predictor.predict_cells(images, BATCH, policy=nobody),
    }
    for budget, policy in policies.items():
        variants[budget] = lambda policy=policy: predictor.predict_cells(images, BATCH, policy=policy)
    times: dict[float, list[tuple[float, float]]] = {budget: [] for budget in variants}
    for turn in range(rounds + 1):
        for budget, answer in variants.items():
            took = timed(answer)
            if turn:
                times[budget].append(took)
    median = {budget: statistics.median(own[0] for own in each) for budget, each in times.items()}
    base = min((WHOLE, SEGMENTS), key=median.__getitem__)
    found = []
    for budget, policy in policies.items():
        used = policy.used(test.seen.probabilities)[repeated]
        saved = 1 - float(np.asarray(macs)[used].mean()) / macs[-1]
        row = {"budget": budget, "macs_saved": saved, "exits": (np.bincount(used, minlength=len(macs))).tolist()}
        for place, name in enumerate(("time", "computed")):
            shares = [1 - own[place] / whole[place] for own, whole in zip(times[budget], times[base], strict=True)]
            row[f"{name}_saved"] = statistics.median(shares)
            row[f"{name}_ratio"] = statistics.median(shares) / saved
        for name, variant in (("", budget), ("_whole", WHOLE), ("_segments", SEGMENTS)):
            row[f"ms_a_cell{name}"] = 1000 * median[variant] / len(images)
        found.append(row)
    return found


def pooled(parts: list[PolicyCells]) -> PolicyCells:
    return PolicyCells(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def chosen(cells: PolicyCells, groups: np.ndarray) -> PolicyCells:
    rows = np.isin(cells.groups, groups)
    return PolicyCells(*(getattr(cells, name)[rows] for name in vars(cells)))


def group_risk(differs: np.ndarray, groups: np.ndarray) -> float:
    """The mean over groups of the share of cells that differ."""
    of = np.unique(groups, return_inverse=True)[1]
    return float((np.bincount(of, differs) / np.bincount(of)).mean())


def promises_kept(pool: PolicyCells, macs: tuple[int, ...], kind: str, promise: Risk, draws: int) -> dict[str, Any]:
    """In how many of the draws the promise held on the half that was held out, and in the whole pool."""
    rng = np.random.default_rng(0)
    names = np.unique(pool.groups)
    wanted = pool.probabilities.mean(axis=1).argmax(1)
    held, whole, saved = [], [], []
    for _ in range(draws):
        mixed = rng.permutation(names)
        policy = fit_policy(kind, chosen(pool, mixed[: len(names) // 2]), promise, macs)
        rest = np.isin(pool.groups, mixed[len(names) // 2 :])
        differs = policy.answers(pool.probabilities).argmax(1) != wanted
        held.append(group_risk(differs[rest], pool.groups[rest]))
        whole.append(group_risk(differs, pool.groups))
        saved.append(1 - float(np.asarray(macs)[policy.used(pool.probabilities[rest])].mean()) / macs[-1])
    return {
        "kind": kind,
        "risk": promise.risk,
        "confidence": promise.confidence,
        "draws": draws,
        "kept_on_held_out": sum(risk <= promise.risk for risk in held),
        "kept_on_all": sum(risk <= promise.risk for risk in whole),
        "held_out_risk_median": statistics.median(held),
        "held_out_risk_worst": max(held),
        "macs_saved_median": statistics.median(saved),
    }


def print_risks(pool: PolicyCells, promise: Risk, risks: list[dict[str, Any]]) -> None:
    print(f"{len(pool.labels)} cells of {len(np.unique(pool.groups))} groups in halves; {promise}")
    print(f"{'':12} {'kept':>9} {'in all':>7} {'median':>7} {'worst':>7} {'MACs saved':>11}")
    for row in risks:
        print(
            f"{row['kind']:12} {row['kept_on_held_out']:5}/{row['draws']} {row['kept_on_all']:7} "
            f"{row['held_out_risk_median']:7.3f} {row['held_out_risk_worst']:7.3f} {row['macs_saved_median']:11.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of a network with several exits")
    parser.add_argument("--cells", type=int, default=1024, help="cells answered in a round, at least")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds, after one that is not")
    parser.add_argument("--threads", type=int, help="torch's own setting by default")
    parser.add_argument("--risk", type=float, default=0.1)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--draws", type=int, default=100, help="resamplings; none where 0")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    run = Run.open(options.run)
    predictor = load(run)
    macs = exit_macs(run, predictor)
    val, test = (exit_cells(run, predictor, split, Silent()) for split in ("val", "test"))
    if val is None or test is None:
        raise SystemExit(f"{options.run}: has no validation or no test cells")
    times = time_saved(predictor, val, test, macs, options.cells, options.rounds)
    print(f"{'budget':>8} {'MACs saved':>11} {'time saved':>11} {'ratio':>7} {'computed':>9}", end="")
    print(f" {'ms a cell':>10} {'whole':>7} {'segments':>9}")
    for row in times:
        print(
            f"{row['budget']:8.3f} {row['macs_saved']:11.3f} {row['time_saved']:11.3f} {row['time_ratio']:7.3f} "
            f"{row['computed_ratio']:9.3f} {row['ms_a_cell']:10.3f} {row['ms_a_cell_whole']:7.3f} "
            f"{row['ms_a_cell_segments']:9.3f}"
        )
    pool = pooled([val.seen, test.seen])
    promise = Risk(options.risk, options.confidence)
    risks = [promises_kept(pool, macs, kind, promise, options.draws) for kind in KINDS if options.draws]
    if risks:
        print_risks(pool, promise, risks)
    figures = {
        "run": options.run.name,
        "device": str(predictor.device),
        "threads": torch.get_num_threads(),
        "batch": BATCH,
        "image_size": predictor.size,
        "macs": macs,
        "time": times,
        "risk": risks,
    }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""The gap between the arms, and an interval of it that holds what the arms share and what another training would give.

A resample draws as many groups as the source has, with replacement, and every run of both arms counts a test cell as
often as its group was drawn (the cluster bootstrap of Davison & Hinkley, 1997, section 3.8, of the whole audit); and it
draws as many seeds as there are, over which an arm's figure is averaged. The gap is the difference of the arms' means.

The arms test different cells, so this is no paired comparison of cells, but a group that is hard is so in every run
that tests it: hence one draw for all of them. Groups alone would hold for these very networks and no others: in the
simulation of docs/audit.md such an interval misses the gap of the method twice as often as it says, or worse. The
interval of these networks (``groups_low``, ``groups_high``) is kept beside the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytodistill.audit.arms import ARMS, Tested
from cytodistill.metrics.auc_interval import resampled_areas
from cytodistill.metrics.classification import classification_metrics
from cytodistill.metrics.intervals import _figures, check_groups, draw_groups, group_tallies, interval_ends

FIGURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "f1": "F-measure",
    "auc": "AUC",
}
"""Figures that are compared, macro averages but the first, with their names for people."""
RESAMPLES = 2000
LEVEL = 0.95

Drawn = dict[str, NDArray[np.float64]]


def run_figures(tested: Tested) -> dict[str, float | None]:
    """The figures of one run's test cells, by name."""
    table = tested.draw.table
    found = classification_metrics(tested.probabilities, table.labels[tested.rows], table.classes)
    return {name: found[name] for name in FIGURES}


def compare(runs: Sequence[Tested], groups: NDArray, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Both arms over their seeds, the gap, and every run, as JSON takes it.

    {"level", "resamples", "seeds", "arms": {arm: {figure: {"mean", "sd", "low", "high", "groups_low", "groups_high"}}},
    "gap": {figure: the same}, "runs": [{"arm", "seed", "n", "groups", "figures": {figure: {"value", "low", "high"}},
    …}]}. The gap is random less grouped; its ``sd`` is that of the seeds' gaps. low and high come from drawing seeds
    and groups, groups_low and groups_high, and those of the runs, from groups alone. A figure that cannot be had is
    None.

    Args:
        runs: both arms of every seed.
        groups: (N,) the source's group of each row of its table.
        resamples: how many.
        seed: of the draw of groups.

    Raises:
        CytodistillError: the source has fewer than two groups.
    """
    names, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    check_groups(len(names))
    weights = draw_groups(len(names), resamples, seed)
    values = {_key(run): run_figures(run) for run in runs}
    drawn = {_key(run): resampled_figures(run, codes, weights) for run in runs}
    seeds = sorted({run.draw.seed for run in runs})
    often = draw_groups(len(seeds), resamples, seed, stratum=1)
    arms = {
        arm: {
            name: _over_seeds([values[arm, s][name] for s in seeds], [drawn[arm, s][name] for s in seeds], often)
            for name in FIGURES
        }
        for arm in ARMS
    }
    one, other = ARMS
    gaps = {
        name: _over_seeds(
            [_less(values[one, s][name], values[other, s][name]) for s in seeds],
            [drawn[one, s][name] - drawn[other, s][name] for s in seeds],
            often,
        )
        for name in FIGURES
    }
    listed = [_listed(run, codes, values[_key(run)], drawn[_key(run)]) for run in runs]
    return {"level": LEVEL, "resamples": resamples, "seeds": seeds, "arms": arms, "gap": gaps, "runs": listed}


def resampled_figures(tested: Tested, codes: NDArray[np.int64], weights: NDArray[np.int64]) -> Drawn:
    """(R,) of each figure of a run's test cells, where a cell counts as often as its group was drawn; NaN where a
    resample leaves a figure undefined.

    Args:
        tested: the run.
        codes: (N,) group of each row of the source's table, in 0..G-1.
        weights: (R, G) how often each resample draws each group.
    """
    table = tested.draw.table
    y, of, p = table.labels[tested.rows], codes[tested.rows], tested.probabilities
    tallies = group_tallies(y, p.argmax(1), of, len(table.classes))
    counted = weights[:, np.unique(of)].astype(float) @ tallies.reshape(len(tallies), -1)
    with np.errstate(invalid="ignore"):  # a resample may draw no group of this test split
        found = _figures(counted.reshape(-1, *tallies.shape[1:]))
        return {**{name: found[name] for name in FIGURES if name in found}, "auc": _areas_of(p, y, of, weights)}


def _areas_of(p: NDArray, y: NDArray[np.int64], of: NDArray[np.int64], weights: NDArray[np.int64]) -> NDArray:
    """(R,) macro AUC over the classes that a resample holds."""
    found = np.stack([resampled_areas(p[:, code], y == code, of, weights) for code in np.unique(y)])
    known = np.isfinite(found)
    return np.where(known, found, 0).sum(axis=0) / known.sum(axis=0)


def _key(run: Tested) -> tuple[str, int]:
    return run.draw.arm, run.draw.seed


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _over_seeds(
    values: Sequence[float | None], drawn: Sequence[NDArray[np.float64]], often: NDArray[np.int64]
) -> dict[str, float | None]:
    """Mean, deviation and ends of S seeds' values, from their (R,) resamples and (R, S) counts of the seeds drawn."""
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return dict.fromkeys(("mean", "sd", "low", "high", "groups_low", "groups_high"))
    resampled = np.stack(drawn, axis=1)
    both = np.where(often > 0, often * resampled, 0).sum(axis=1) / len(values)
    low, high = _ends(both)
    groups_low, groups_high = _ends(resampled.mean(axis=1))
    return {
        "mean": float(np.mean(there)),
        "sd": float(np.std(there, ddof=1)) if len(there) > 1 else None,
        "low": low,
        "high": high,
        "groups_low": groups_low,
        "groups_high": groups_high,
    }


def _ends(drawn: NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """None where most resamples leave the figure undefined."""
    return interval_ends(drawn, LEVEL) if np.isfinite(drawn).mean() >= 0.5 else (None, None)


def _listed(run: Tested, codes: NDArray[np.int64], values: dict[str, float | None], drawn: Drawn) -> dict[str, Any]:
    ends = {name: _ends(drawn[name]) for name in FIGURES}
    return {
        "arm": run.draw.arm,
        "seed": run.draw.seed,
        "n": len(run.rows),
        "groups": len(np.unique(codes[run.rows])),
        "figures": {name: {"value": values[name], "low": ends[name][0], "high": ends[name][1]} for name in FIGURES},
        "seconds": run.info["result"]["seconds"],
        "best_epoch": run.info["result"]["best_epoch"],
    }

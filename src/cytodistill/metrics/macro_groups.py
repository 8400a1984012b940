"""How many groups stand behind a macro average: few, where most of its chance comes from a class of few groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cytodistill.metrics.standard_error import effective_groups

Counts = NDArray[np.float64]


def macro_groups(models: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """By figure of `figure_intervals`, the number of groups whose degrees of freedom its interval has.

    A class that six of sixty fields hold counts as much in a macro average as any other, and its chance is known from
    six fields: a t of 59 degrees is too short for it (``benchmarks/interval_coverage.py``). The degrees are those of
    Satterthwaite (Biometrics Bulletin 2, 1946) for the sum of the classes' variances v_c, each with those of the
    effective number of groups of its cells, (Σ v_c)² / Σ (v_c² / (G_c − 1)), at most those of all groups. The variances
    are the linearised ones: Σ over groups of (numerator − figure · denominator)², over the whole denominator squared.

    Args:
        models: (G, 3, C) of `group_tallies`: of one model, or of two whose difference is asked for.

    Returns:
        Degrees of freedom and 1, from 2 up to the effective number of all groups.
    """
    tallies = [of.astype(np.float64) for of in models]
    own = tallies[0][:, 1]
    groups = effective_groups(own.sum(axis=1))
    present = own.sum(axis=0) > 0
    parts = [{name: (above[:, present], below[:, present]) for name, (above, below) in _parts(of)} for of in tallies]
    found = {"accuracy": groups}
    for name in parts[0]:
        influence = _influence(*parts[0][name]) - (_influence(*parts[1][name]) if len(parts) > 1 else 0)
        variance = (influence**2).sum(axis=0)
        if not variance.any():
            found[name] = groups
            continue
        counted = np.sum([of[name][1] for of in parts], axis=0)
        behind = np.array([effective_groups(of_class) if of_class.any() else 2.0 for of_class in counted.T])
        degrees = variance.sum() ** 2 / (variance**2 / (behind - 1)).sum()
        found[name] = float(min(groups, max(2.0, degrees + 1)))
    return found


def _parts(tallies: Counts) -> list[tuple[str, tuple[Counts, Counts]]]:
    """(G, C) numerators and denominators of each figure."""
    hits, own, said = tallies[:, 0], tallies[:, 1], tallies[:, 2]
    rest = own.sum(axis=1, keepdims=True) - own
    return [
        ("balanced_accuracy", (hits, own)),
        ("sensitivity", (hits, own)),
        ("specificity", (rest - (said - hits), rest)),
        ("precision", (hits, said)),
        ("f1", (2 * hits, own + said)),
    ]


def _influence(above: Counts, below: Counts) -> Counts:
    """(G, C) what each group adds to the deviation of each class's figure."""
    total = np.maximum(below.sum(axis=0), 1)
    return (above - above.sum(axis=0) / total * below) / total

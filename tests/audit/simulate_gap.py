"""How often the gap's intervals hold the true gap, by simulation: the table of docs/audit.md. Run by hand, minutes.

A cell is right with probability sigmoid(1 + u + c + e), u of its group, c of its own, e of the training; in the random
arm with sigmoid(1.5 + u/2 + c + e), since a network that has seen the group finds its cells easier and more alike.
Each seed tests a fifth of the cells, or of the groups, as the audit does.
"""

from __future__ import annotations

import numpy as np

TRIALS, RESAMPLES = 500, 400


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def trial(groups, size, seeds, training, random):
    """The ends of the intervals of one audit: from groups alone, and from seeds and groups."""
    group = np.repeat(np.arange(groups), size)
    hard, own = random.normal(0, 1, groups), random.normal(0, 1, len(group))
    weights = random.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    gaps = []
    for _ in range(seeds):
        some = random.permutation(len(group))[: len(group) // 5]
        whole = np.flatnonzero(np.isin(group, random.permutation(groups)[: groups // 5]))
        drawn = []
        for rows, easier, share in ((some, 0.5, 0.5), (whole, 0.0, 1.0)):
            chance = sigmoid(1 + easier + share * hard[group[rows]] + own[rows] + random.normal(0, training))
            right = random.random(len(rows)) < chance
            counted = weights @ np.bincount(group[rows], right, groups)
            drawn.append(counted / (weights @ np.bincount(group[rows], minlength=groups)))
        gaps.append(drawn[0] - drawn[1])
    often = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES).T
    figures = np.mean(gaps, axis=0), (np.array(gaps) * often).sum(axis=0) / seeds
    return [np.quantile(drawn, [0.025, 0.975]) for drawn in figures]


def true_gap(training, random):
    hard, own, run = (random.normal(0, deviation, 2_000_000) for deviation in (1, 1, training))
    return sigmoid(1.5 + hard / 2 + own + run).mean() - sigmoid(1 + hard + own + run).mean()


def main() -> None:
    random = np.random.default_rng(0)
    print("| groups × cells | seeds | training sd | groups alone | seeds and groups |")
    print("| --- | --- | --- | --- | --- |")
    for groups, size, seeds in ((227, 3, 3), (160, 25, 3), (160, 25, 5)):
        for training in (0.0, 0.1, 0.2):
            truth = true_gap(training, random)
            ends = np.array([trial(groups, size, seeds, training, random) for _ in range(TRIALS)])
            held = ((ends[..., 0] <= truth) & (truth <= ends[..., 1])).mean(axis=0)
            width = 100 * (ends[..., 1] - ends[..., 0]).mean(axis=0)
            shown = " | ".join(f"{share:.1%}, {points:.0f} points" for share, points in zip(held, width, strict=True))
            print(f"| {groups} × {size} | {seeds} | {training:g} | {shown} |", flush=True)


if __name__ == "__main__":
    main()

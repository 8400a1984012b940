"""The gap and its intervals against a few lines of NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from cytodistill.audit.gap import LEVEL, compare, resampled_figures
from cytodistill.errors import CytodistillError
from cytodistill.metrics.intervals import draw_groups

GROUPS, CELLS, CLASSES, SEEDS, RESAMPLES = 12, 144, 3, (4, 5), 200


def made_up(arm, seed):
    """A run that answers at random, somewhat better in the random arm, on a third of the cells."""
    random = np.random.default_rng([seed, len(arm)])
    table = SimpleNamespace(labels=np.arange(CELLS) % CLASSES, classes=("a", "b", "c"))
    rows = np.sort(random.permutation(CELLS)[: CELLS // 3])
    scores = random.random((len(rows), CLASSES))
    scores[np.arange(len(rows)), table.labels[rows]] += 1.0 if arm == "random" else 0.4
    return SimpleNamespace(
        draw=SimpleNamespace(arm=arm, seed=seed, table=table),
        rows=rows,
        probabilities=scores / scores.sum(axis=1, keepdims=True),
        info={"result": {"seconds": 1.0, "best_epoch": 0}},
    )


@pytest.fixture(scope="module")
def runs():
    return [made_up(arm, seed) for seed in SEEDS for arm in ("random", "grouped")]


@pytest.fixture(scope="module")
def groups():
    return np.array([f"field{n % GROUPS:02}" for n in range(CELLS)])


def test_a_resample_counts_a_cell_as_often_as_its_group(runs, groups):
    run, codes = runs[0], np.unique(groups, return_inverse=True)[1]
    weights = draw_groups(GROUPS, RESAMPLES, 0)
    found = resampled_figures(run, codes, weights)
    for resample in (0, 17, 199):
        chosen = np.repeat(np.arange(len(run.rows)), weights[resample][codes[run.rows]])
        y, p = run.draw.table.labels[run.rows][chosen], run.probabilities[chosen]
        assert found["accuracy"][resample] == pytest.approx((p.argmax(1) == y).mean())
        assert found["f1"][resample] == pytest.approx(f1_score(y, p.argmax(1), average="macro"))
        assert found["auc"][resample] == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"))


def test_gap_and_intervals_equal_numpys(runs, groups):
    found = compare(runs, groups, resamples=RESAMPLES)
    right = {
        (run.draw.arm, run.draw.seed): (run.probabilities.argmax(1) == run.draw.table.labels[run.rows]) for run in runs
    }
    field = np.arange(CELLS) % GROUPS
    weights = draw_groups(GROUPS, RESAMPLES, 0)
    often = draw_groups(len(SEEDS), RESAMPLES, 0, stratum=1)
    drawn = {}
    for run in runs:
        count = weights[:, field[run.rows]]
        key = run.draw.arm, run.draw.seed
        drawn[key] = (count * right[key]).sum(1) / count.sum(1)
    gaps = np.stack([drawn["random", seed] - drawn["grouped", seed] for seed in SEEDS], axis=1)
    values = [right["random", seed].mean() - right["grouped", seed].mean() for seed in SEEDS]
    gap = found["gap"]["accuracy"]
    assert gap["mean"] == pytest.approx(np.mean(values))
    assert gap["sd"] == pytest.approx(np.std(values, ddof=1))
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    assert [gap["groups_low"], gap["groups_high"]] == pytest.approx(np.quantile(gaps.mean(axis=1), tails))
    assert [gap["low"], gap["high"]] == pytest.approx(np.quantile((gaps * often).sum(axis=1) / len(SEEDS), tails))
    arm = found["arms"]["random"]["accuracy"]
    assert arm["mean"] == pytest.approx(np.mean([right["random", seed].mean() for seed in SEEDS]))
    assert [(run["arm"], run["seed"]) for run in found["runs"]] == [(r.draw.arm, r.draw.seed) for r in runs]


def test_one_seed_has_no_deviation_and_the_interval_of_its_groups(runs, groups):
    gap = compare(runs[:2], groups, resamples=RESAMPLES)["gap"]["f1"]
    assert gap["sd"] is None
    assert (gap["low"], gap["high"]) == pytest.approx((gap["groups_low"], gap["groups_high"]))


def test_one_group_is_refused(runs):
    with pytest.raises(CytodistillError, match="at least two"):
        compare(runs, np.full(CELLS, "alone"), resamples=RESAMPLES)

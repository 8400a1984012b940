"""Label errors against the paper's definitions written out in loops, and against the authors' library where there is
one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytodistill.data.label_errors import find_label_errors
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError

RULES = ("confident_joint", "class", "noise_rate", "both")


def noisy(seed: int, cells: int = 200, classes: int = 4, wrong: float = 0.1, sure: float = 3.0):
    """Probabilities of a fair model, labels of which some were made another class, and which these are. Classes are
    of unequal size."""
    rng = np.random.default_rng(seed)
    true = rng.choice(classes, cells, p=rng.dirichlet(np.full(classes, 4.0)))
    logits = rng.normal(size=(cells, classes)) + sure * np.eye(classes)[true]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = true.copy()
    flipped = rng.choice(cells, int(wrong * cells), replace=False)
    labels[flipped] = (labels[flipped] + rng.integers(1, classes, len(flipped))) % classes
    return p, labels, set(flipped.tolist())


def literal(p: np.ndarray, labels: np.ndarray):
    """Confident joint, calibrated joint, and the cells that each rule takes: loops over cells and classes."""
    n, classes = p.shape
    threshold = [
        np.mean([p[x, j] for x in range(n) if labels[x] == j]) if j in labels else np.inf for j in range(classes)
    ]
    counted = np.zeros((classes, classes), int)
    taken: dict[str, set[int]] = {"confident_joint": set(), "class": set(), "noise_rate": set()}
    for x in range(n):
        candidates = [j for j in range(classes) if p[x, j] >= threshold[j] - 1e-12]
        if candidates:
            true = max(candidates, key=lambda j: p[x, j])
            counted[labels[x], true] += 1
            if true != labels[x]:
                taken["confident_joint"].add(x)
    joint = np.zeros((classes, classes))
    for i in range(classes):
        for j in range(classes):
            if counted[i].sum():
                joint[i, j] = counted[i, j] / counted[i].sum() * sum(label == i for label in labels)
    joint = joint / joint.sum()
    for i in range(classes):
        mine = [x for x in range(n) if labels[x] == i]
        number = int(np.floor(n * sum(joint[i, j] for j in range(classes) if j != i) + 0.5 + 1e-9))
        taken["class"] |= set(sorted(mine, key=lambda x: p[x, i])[:number])
        for j in range(classes):
            if j != i:
                number = int(np.floor(n * joint[i, j] + 0.5 + 1e-9))
                taken["noise_rate"] |= set(sorted(mine, key=lambda x: p[x, i] - p[x, j])[:number])
    taken["both"] = taken["class"] & taken["noise_rate"]
    agree = {x for x in range(n) if p[x, labels[x]] == p[x].max()}
    return counted, joint, {rule: cells - agree for rule, cells in taken.items()}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(20, 80), st.integers(2, 5), st.floats(0, 0.4), st.floats(0, 4))
def test_every_rule_is_the_paper_s(seed: int, cells: int, classes: int, wrong: float, sure: float):
    p, labels, _ = noisy(seed, cells, classes, wrong, sure)
    counted, joint, taken = literal(p, labels)
    for rule in RULES:
        result = find_label_errors(p, labels, rule=rule)
        np.testing.assert_array_equal(result.confident_joint, counted)
        np.testing.assert_allclose(result.joint, joint, atol=1e-12)
        assert set(result.rows.tolist()) == taken[rule]
        assert len(set(result.rows.tolist())) == len(result.rows)
        assert result.noise == pytest.approx(1 - np.trace(joint))
        np.testing.assert_array_equal(result.suggested, p[result.rows].argmax(axis=1))
        assert (result.suggested != labels[result.rows]).all()


def test_a_small_case_by_hand():
    """Class 0 is asked for .7 (mean of .9, .8, .4), class 1 for .6: cell 2, labelled 0, is confidently 1."""
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5], [0.3, 0.7]])
    result = find_label_errors(p, np.array([0, 0, 0, 1, 1]), rule="confident_joint")
    np.testing.assert_allclose(result.thresholds, [0.7, 0.6])
    assert result.confident_joint.tolist() == [[2, 1], [0, 1]]
    np.testing.assert_allclose(result.joint, [[0.4, 0.2], [0, 0.4]])
    assert result.noise == pytest.approx(0.2)
    assert (result.rows.tolist(), result.suggested.tolist(), result.score.tolist()) == ([2], [1], [0.4])


@pytest.mark.parametrize("rule", RULES)
def test_planted_errors_are_found(rule: str):
    p, labels, flipped = noisy(seed=5, cells=400, sure=5.0)
    rows = set(find_label_errors(p, labels, rule=rule).rows.tolist())
    assert len(rows & flipped) > 0.8 * len(flipped)
    assert len(rows - flipped) < 0.25 * len(flipped)


def test_ranking_is_worst_first():
    p, labels, _ = noisy(seed=2)
    for rank in ("self_confidence", "margin"):
        result = find_label_errors(p, labels, rank=rank)
        own = [p[x, labels[x]] for x in result.rows]
        other = [max(np.delete(p[x], labels[x])) for x in result.rows]
        score = own if rank == "self_confidence" else [a - b for a, b in zip(own, other, strict=True)]
        np.testing.assert_allclose(result.score, score)
        assert list(result.score) == sorted(result.score)
        assert len(result.rows) > 5


def test_cells_without_a_label_play_no_part():
    p, labels, _ = noisy(seed=3)
    hidden = labels.copy()
    hidden[::3] = -1
    rest = np.flatnonzero(hidden >= 0)
    whole, part = find_label_errors(p, hidden), find_label_errors(p[rest], labels[rest])
    np.testing.assert_array_equal(whole.rows, rest[part.rows])
    np.testing.assert_array_equal(whole.confident_joint, part.confident_joint)
    np.testing.assert_allclose(whole.thresholds, part.thresholds)


def test_a_class_that_no_cell_is_labelled_is_suggested_by_no_count():
    p, labels, _ = noisy(seed=4)
    result = find_label_errors(p, np.where(labels == 3, 0, labels))
    assert np.isnan(result.thresholds[3])
    assert result.confident_joint[:, 3].sum() == result.confident_joint[3].sum() == 0
    assert np.isfinite(result.joint).all()


def test_equal_probabilities_and_a_perfect_model_find_nothing():
    for p in (np.full((30, 3), 1 / 3), np.eye(3)[np.arange(30) % 3]):
        result = find_label_errors(p, np.arange(30) % 3)
        assert len(result.rows) == 0
        assert result.joint.sum() == pytest.approx(1)


def test_findings_as_a_table():
    rows = [{"root": "/r", "path": f"{n}.png", "label": "ab"[n in (4, 5)], "group": f"g{n}"} for n in range(6)]
    table = CellTable.from_rows(rows, ("a", "b"), "folder")
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    indices = np.array([0, 1, 3, 4, 5])
    result = find_label_errors(p, table.labels[indices], rule="confident_joint")
    frame = result.to_frame(table, indices)
    assert list(frame.columns) == ["path", "group", "split", "label", "suggested", "score"]
    assert frame[["path", "label", "suggested", "score"]].to_numpy().tolist() == [["3.png", "a", "b", 0.1]]


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_authors_library(seed: int):
    count = pytest.importorskip("cleanlab.count", reason="needs cleanlab, which the extra dev brings")
    from cleanlab.filter import find_label_issues

    p, labels, _ = noisy(seed, cells=300)
    result = find_label_errors(p, labels, rule="confident_joint")
    theirs, off_diagonal = count.compute_confident_joint(
        labels, p, calibrate=False, return_indices_of_off_diagonals=True
    )
    np.testing.assert_array_equal(result.confident_joint, theirs)
    chosen = {x for x in off_diagonal if p[x].argmax() != labels[x]}
    assert set(result.rows.tolist()) == chosen
    ranked = find_label_issues(
        labels, p, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    np.testing.assert_array_equal(result.rows, ranked)
    # Theirs rounds the joint's counts so that rows keep their sums, ours each to the nearest: one cell here or there.
    for rule, theirs_rule in (("noise_rate", "prune_by_noise_rate"), ("class", "prune_by_class"), ("both", "both")):
        ours = set(find_label_errors(p, labels, rule=rule).rows.tolist())
        mask = find_label_issues(labels, p, filter_by=theirs_rule, n_jobs=1)
        assert len(ours ^ set(np.flatnonzero(mask).tolist())) <= 4


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        (np.full((3, 2), 0.5), np.zeros(2, int), "shape .3, 2. for labels of shape .2,."),
        (np.ones((3, 1)), np.zeros(3, int), "2 classes or more"),
        (np.full((3, 2), 0.7), np.zeros(3, int), "no probabilities"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "no probabilities"),
        (np.full((3, 2), 0.5), np.array([0, 1, 2]), "codes from 0 to 1"),
        (np.full((3, 2), 0.5), np.array([0, 1, -2]), "codes from 0 to 1"),
        (np.full((3, 2), 0.5), np.array([0.0, 1, 1]), "codes from 0 to 1"),
        (np.full((3, 2), 0.5), np.full(3, -1), "no cell has a label"),
    ],
)
def test_bad_input_is_one_line(p: np.ndarray, labels: np.ndarray, message: str):
    with pytest.raises(CytodistillError, match=message):
        find_label_errors(p, labels)


def test_unknown_rules_are_named():
    with pytest.raises(CytodistillError, match="rule='cl': not known; there are confident_joint"):
        find_label_errors(np.eye(2), np.arange(2), rule="cl")  # type: ignore[arg-type]
    with pytest.raises(CytodistillError, match="rank='x': not known; there are self_confidence"):
        find_label_errors(np.eye(2), np.arange(2), rank="x")  # type: ignore[arg-type]

"""Splits: no group in two of them, every class in each, near the ratio, and the same for a seed everywhere."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from cytodistill.data.sources import read_source
from cytodistill.data.split import parse_ratio, split_table, split_validation
from cytodistill.data.table import CellTable
from cytodistill.errors import CytodistillError


def table_of(groups: dict[str, str]) -> CellTable:
    """Table from {group: its cells' labels, one letter each}."""
    rows = [
        {"root": "/r", "path": f"{group}/{n}.png", "label": label, "group": group}
        for group, labels in groups.items()
        for n, label in enumerate(labels)
    ]
    return CellTable.from_rows(rows, tuple(sorted({row["label"] for row in rows})), "folder")


def placed(table: CellTable, column: str = "split") -> dict:
    return dict(zip(table.frame["path"], table.frame[column], strict=True))


def worst_share(table: CellTable, column: str, shares: dict) -> float:
    """Largest distance of any class's share in any bin from what it should be."""
    counts = pd.crosstab(table.frame["label"], table.frame[column], normalize="index")
    return float((counts - pd.Series(shares)).abs().to_numpy().max())


PINNED = {
    "g1": "train",
    "g2": "val",
    "g3": "test",
    "g4": "test",
    "g5": "train",
    "g6": "train",
    "g7": "val",
    "ü": "train",
}
PINNED_FOLDS = {"g1": 2, "g2": 1, "g3": 2, "g4": 0, "g5": 0, "g6": 0, "g7": 1, "ü": 1}
PINNED_DIGEST = "b586ed7f2c5a1fef3d95b30de3f2450a"
TINY = {"g1": "aaab", "g2": "ab", "g3": "bb", "g4": "a", "g5": "aab", "g6": "bbb", "g7": "ab", "ü": "ba"}


def drawn_table() -> CellTable:
    return table_of({f"g{n}": "abc"[n % 3] * (n % 4) + "ab"[n % 2] * (1 + n % 5) for n in range(40)})


def test_the_split_of_a_seed_is_this_one_on_every_machine():
    """Pinned: a change here means that everybody's splits have changed."""
    split = placed(split_table(table_of(TINY)))
    assert {path.split("/")[0]: name for path, name in split.items()} == PINNED
    folds = placed(split_table(table_of(TINY), folds=3), "fold")
    assert {path.split("/")[0]: fold for path, fold in folds.items()} == PINNED_FOLDS
    assert split_table(drawn_table(), seed=7).digest() == PINNED_DIGEST


def test_no_other_assignment_of_a_tiny_table_is_nearer_to_the_ratio():
    counts = np.array([[labels.count("a"), labels.count("b"), len(labels)] for labels in TINY.values()])
    shares = np.array([0.6, 0.2, 0.2])
    bins = np.array(list(itertools.product(range(3), repeat=len(TINY))))
    held = (bins[:, :, None] == np.arange(3)).transpose(0, 2, 1) @ counts  # (assignments, bins, classes and all)
    cost = ((held / counts.sum(axis=0) - shares[:, None]) ** 2 / shares[:, None]).sum(axis=(1, 2))
    cost[(held == 0).any(axis=(1, 2))] = np.inf
    split = placed(split_table(table_of(TINY)))
    ours = [("train", "val", "test").index(split[f"{group}/0.png"]) for group in TINY]
    assert cost[(bins == ours).all(axis=1)].item() == pytest.approx(cost.min())


GROUPS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=5),
    st.text("abc", min_size=1, max_size=12),
    min_size=3,
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(groups=GROUPS, seed=st.integers(-5, 2**40), folds=st.none() | st.integers(3, 6), shuffle=st.randoms())
def test_invariants(groups: dict[str, str], seed: int, folds: int | None, shuffle):
    table = table_of(groups)
    having = Counter(label for labels in groups.values() for label in set(labels))
    assume(min(having.values()) >= 3)
    column = "split" if folds is None else "fold"
    try:
        result = split_table(table, folds=folds, seed=seed)
    except CytodistillError as refusal:  # groups that mix classes can leave a rare one nowhere to go
        assume("could not be given to every split" not in str(refusal))
        raise
    frame = result.frame
    assert (frame.groupby("group")[column].nunique() == 1).all()
    assert frame["path"].tolist() == table.frame["path"].tolist()
    bins = frame.groupby("label")[column].nunique()
    assert all(bins[label] >= min(folds or 3, count) for label, count in having.items())
    order = list(range(len(table)))
    shuffle.shuffle(order)
    again = split_table(table.with_frame(table.frame.iloc[order]), folds=folds, seed=seed)
    assert placed(again, column) == placed(result, column)


@settings(deadline=None, max_examples=30)
@given(cells=st.lists(st.sampled_from("ab"), min_size=60, max_size=200), seed=st.integers(0, 9))
def test_single_cells_meet_the_ratio_to_within_one_cell(cells: list[str], seed: int):
    assume(min(Counter(cells).get(label, 0) for label in "ab") >= 10)
    counts = split_table(table_of({f"g{n}": label for n, label in enumerate(cells)}), seed=seed).counts()
    for label, row in counts.iterrows():
        expected = cells.count(str(label)) * np.array([3, 1, 1]) / 5
        assert np.abs(row[["train", "val", "test"]].to_numpy(float) - expected).max() <= 1.5


def test_seeds_differ():
    table = table_of({f"g{n}": "ab"[n % 2] * (1 + n % 7) for n in range(80)})
    splits = [np.array(list(placed(split_table(table, seed=seed)).values())) for seed in range(6)]
    agreement = [np.mean(one == other) for n, one in enumerate(splits) for other in splits[:n]]
    assert np.mean(agreement) < 0.6  # independent ones agree on .6² + .2² + .2² = .44


def test_group_none_splits_the_cells_and_makes_them_their_own_groups():
    table = split_table(table_of({"g1": "a" * 20, "g2": "b" * 20}), group="none")
    assert table.counts().to_dict("index") == {
        "a": {"train": 12, "val": 4, "test": 4},
        "b": {"train": 12, "val": 4, "test": 4},
    }
    assert table.frame["group"].nunique() == 40
    table.check_groups()


def test_a_window_listed_twice_stays_in_one_split():
    rows = [
        {
            "root": "/r",
            "path": "f.png",
            "label": "ab"[n % 2],
            "x": n // 2,
            "y": 0,
            "width": 9,
            "height": 9,
            "group": "f",
        }
        for n in range(40)
    ] * 2
    table = split_table(CellTable.from_rows(rows, ("a", "b"), "cric"), group="none")
    assert (table.frame.groupby(["x", "label"])["split"].nunique() == 1).all()


@pytest.mark.parametrize(
    ("ratio", "weights"),
    [
        ("3:1:1", (3, 1, 1)),
        ("70:15:15", (70, 15, 15)),
        ("0.8:0.1:0.1", (8, 1, 1)),
        ((3, 1, 1), (3, 1, 1)),
        ((0.6, 0.2, 0.2), (3, 1, 1)),
    ],
)
def test_ratios(ratio, weights: tuple[int, ...]):
    assert parse_ratio(ratio, 3) == weights


@pytest.mark.parametrize(
    "ratio",
    ["3:1", "3:1:1:1", "", "a:b:c", "-3:1:1", "3:0:1", "3::1", "nan:1:1", "inf:1:1", "1e9:1:1", "1/2:1:1", (3, 1)],
)
def test_bad_ratios_are_named(ratio):
    with pytest.raises(CytodistillError, match=r"^--ratio .*train:val:test.*like 3:1:1"):
        split_table(table_of(TINY), ratio)


@pytest.mark.parametrize(
    ("groups", "options", "says"),
    [
        (TINY, {"folds": 2}, r"--folds 2: needs at least 3"),
        (TINY, {"group": "patient"}, r"--group patient: not known; use auto"),
        (TINY | {"g9": "ccccc"}, {}, r"class 'c' has 5 cells in 1 group\(s\).* or pass --group none"),
        (TINY | {"g9": "ccccc"}, {"folds": 5}, r"class 'c' has 5 cells in 1 group\(s\)"),
        (TINY | {"g9": "c"}, {}, r"class 'c' has 1 cells in 1 group\(s\).* or leave the class out$"),
        (TINY | {"g9": "cc"}, {"group": "none"}, r"class 'c' has 2 cells in 2 cell\(s\).* or leave the class out$"),
    ],
)
def test_what_cannot_be_split_is_named(groups: dict[str, str], options: dict, says: str):
    with pytest.raises(CytodistillError, match=says):
        split_table(table_of(groups), **options)


def test_cells_without_a_label_are_refused():
    table = table_of(TINY)
    frame = table.frame.assign(label=["", *table.frame["label"][1:]])
    with pytest.raises(CytodistillError, match="1 cells have no label"):
        split_table(table.with_frame(frame))


def test_an_earlier_assignment_is_replaced():
    table = split_table(split_table(table_of(TINY), folds=3))
    assert set(table.frame["split"]) == {"train", "val", "test"}
    assert set(table.frame["fold"]) == {-1}
    table = split_table(table, folds=3)
    assert set(table.frame["split"]) == {""}
    assert set(table.frame["fold"]) == {0, 1, 2}


def test_validation_is_taken_from_training_and_the_test_split_kept():
    table = table_of({f"g{n:02}": "ab"[n % 2] * 2 for n in range(60)})
    table = table.with_frame(table.frame.assign(split=["train"] * 80 + ["test"] * 40))
    result = split_validation(table, "9:1", seed=3)
    assert result.counts().to_dict("index") == {label: {"train": 36, "val": 4, "test": 20} for label in "ab"}
    assert (result.frame["split"][80:] == "test").all()
    result.check_groups()
    with pytest.raises(CytodistillError, match="no training cells"):
        split_validation(table_of(TINY))


def test_validation_is_taken_cell_by_cell_where_groups_do_not_count():
    table = table_of({"g1": "a" * 10, "g2": "b" * 10})
    table = table.with_frame(table.frame.assign(split="train"))
    with pytest.raises(CytodistillError, match="--group none"):
        split_validation(table)
    result = split_validation(table, group="none")
    assert result.counts().to_dict("index") == {label: {"train": 9, "val": 1} for label in "ab"}
    assert set(result.groups) == {"g1", "g2"}


@pytest.mark.parametrize(("source", "within"), [("herlev", 0.02), ("cric", 0.08)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_real_sets_by_group_keep_the_ratio_in_every_class(shared_data: Path, source: str, within: float, seed: int):
    table = split_table(read_source(shared_data / source), seed=seed)
    table.check_groups()
    assert worst_share(table, "split", {"train": 0.6, "val": 0.2, "test": 0.2}) < within


@pytest.mark.parametrize("source", ["herlev", "cric"])
def test_folds_are_as_even_as_scikit_learns(shared_data: Path, source: str):
    table = read_source(shared_data / source)
    shares = dict.fromkeys(range(5), 0.2)
    ours = worst_share(split_table(table, folds=5), "fold", shares)
    theirs = []
    for seed in range(3):
        folds = np.zeros(len(table), int)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for fold, (_, test) in enumerate(splitter.split(np.zeros(len(table)), table.labels, table.groups)):
            folds[test] = fold
        theirs.append(worst_share(table.with_frame(table.frame.assign(fold=folds)), "fold", shares))
    assert ours <= max(theirs) + 0.01

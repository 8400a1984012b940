"""Splits of a table by group, balanced over the classes, the same for a seed on any machine."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from math import isnan, lcm
from typing import Literal

from cytodistill.data.table import BOX, SPLITS, CellTable
from cytodistill.errors import CytodistillError

Grouping = Literal["auto", "none"]
Group = tuple[str, Counter[str]]

_UNIT = 1 << 60
_ALL = "\0all"


def split_table(
    table: CellTable,
    ratio: str | Sequence[float] = "3:1:1",
    folds: int | None = None,
    group: Grouping = "auto",
    seed: int = 0,
) -> CellTable:
    """The table with every cell assigned to train, val or test as ``ratio`` says, or to one of ``folds`` folds.

    Whole groups are assigned, so that no group has cells in two splits, and each class is spread as near to the
    ratio as its groups allow. ``group="none"`` assigns cell by cell, makes every cell its own group and thereby
    accepts the leak. The result depends on the seed, the groups and their class counts alone: not on the order of the
    rows, the machine or any library's version. Seeds differ as far as the balance allows: of a dozen groups there may
    be one best split. An earlier split or fold column is replaced.

    Raises CytodistillError for a bad ratio, fewer than 3 folds, cells without a label, and a class with too few
    groups to stand in every split (in 3 folds: training, validation and test).
    """
    if group not in ("auto", "none"):
        raise CytodistillError(f"--group {group}: not known; use auto (keep groups whole) or none (cell by cell)")
    if folds is not None and folds < 3:
        raise CytodistillError(f"--folds {folds}: needs at least 3, for training, validation and test")
    weights = parse_ratio(ratio, parts=3) if folds is None else (1,) * folds
    if group == "none":
        table = table.with_frame(table.frame.assign(group=_cell_names(table)))
    bins = _assign(table, weights, seed, group)
    named = table.frame["group"].map(bins)
    if folds is None:
        frame = table.frame.assign(split=named.map(dict(enumerate(SPLITS))), fold=-1)
    else:
        frame = table.frame.assign(split="", fold=named)
    result = table.with_frame(frame)
    result.check_groups()
    return result


def split_validation(
    table: CellTable, ratio: str | Sequence[float] = "9:1", seed: int = 0, group: Grouping = "auto"
) -> CellTable:
    """The table with a part of its training cells made validation cells (``ratio`` train:val), by group and class, or
    cell by cell with ``group="none"``.

    For sources that bring their own test split but nothing to choose models on. Raises like ``split_table``.
    """
    named = table if group == "auto" else table.with_frame(table.frame.assign(group=_cell_names(table)))
    train = named.with_frame(named.frame[named.frame["split"] == "train"])
    if not len(train):
        raise CytodistillError("split: the table has no training cells to take validation cells from; split it first")
    bins = _assign(train, parse_ratio(ratio, parts=2), seed, group)
    held_out = (table.frame["split"] == "train") & (named.frame["group"].map(bins) == 1)
    return table.with_frame(table.frame.assign(split=table.frame["split"].mask(held_out, "val")))


def parse_ratio(ratio: str | Sequence[float], parts: int) -> tuple[int, ...]:
    """Whole-number weights of a ratio such as "3:1:1", "70:15:15", "0.8:0.1:0.1" or (3, 1, 1)."""
    texts = ratio.split(":") if isinstance(ratio, str) else [str(part) for part in ratio]
    shown = ":".join(texts)
    names = ":".join(SPLITS[:parts])
    if len(texts) != parts:
        raise CytodistillError(f"--ratio {shown}: {len(texts)} parts; give {parts}, {names}, like 3:1:1"[:200])
    if not all(re.fullmatch(r"\s*\d{1,9}(\.\d{1,9})?\s*", text, re.ASCII) and Fraction(text) > 0 for text in texts):
        raise CytodistillError(f"--ratio {shown}: each part of {names} must be a positive number, like 3:1:1")
    values = [Fraction(text) for text in texts]
    whole = lcm(*(value.denominator for value in values))
    return tuple(int(value * whole) for value in values)


def _cell_names(table: CellTable) -> list[str]:
    """One name a cell; a window listed twice is one cell."""
    boxes = table.frame[list(BOX)].to_numpy(float).tolist()
    paths = table.frame["path"].astype(str)
    return [path if isnan(box[0]) else f"{path}#{box}" for path, box in zip(paths, boxes, strict=True)]


def _assign(table: CellTable, weights: tuple[int, ...], seed: int, grouping: Grouping) -> dict[str, int]:
    """Bin of every group: the best of several greedy assignments, each refined by moving single groups."""
    groups = _groups(table)
    _check_enough(groups, table.classes, len(weights), grouping)
    # Coarse groups trap a single attempt: one field of CRIC holds 40 % of the cells of a class. Single cells do not.
    attempts = [_attempt(groups, weights, f"{seed}.{n}") for n in range(max(1, min(16, 20_000 // len(groups))))]
    _, bins = min(attempts, key=lambda attempt: attempt[0])
    for label in table.classes:
        holding = [bins[name] for name, counts in groups if label in counts]
        if len(set(holding)) < min(len(weights), len(holding)):
            raise CytodistillError(
                f"split: class {label!r} could not be given to every split, its groups hold too much of the other "
                "classes; try another --seed, a more even --ratio, or --group none"
            )
    return bins


def _attempt(groups: list[Group], weights: tuple[int, ...], key: str) -> tuple[int, dict[str, int]]:
    """Cost and bins of one greedy assignment, in an order that the key's hash draws among groups of like size."""
    # By powers of two only: ordered by size alone, the large groups would fall alike for every seed.
    groups = sorted(groups, key=lambda group: (-group[1][_ALL].bit_length(), _hash(key, group[0])))
    balance = _Balance(groups, weights)
    bins: dict[str, int] = {}
    for name, counts in groups:
        choices = [(balance.cost_of_adding(counts, b), _hash(key, f"{name}\n{b}"), b) for b in range(len(weights))]
        bins[name] = min(choices)[2]
        balance.add(counts, bins[name])
    balance.filled = True
    _refine(groups, bins, balance)
    return balance.cost(), bins


def _refine(groups: list[Group], bins: dict[str, int], balance: _Balance) -> None:
    """Move single groups while that lowers the cost; the cost is a whole number, so this ends."""
    moved = True
    while moved:
        moved = False
        for name, counts in groups:
            here = bins[name]
            balance.add(counts, here, -1)
            best = min(range(len(balance.weights)), key=lambda b: (balance.cost_of_adding(counts, b), b != here, b))
            balance.add(counts, best)
            moved |= best != here
            bins[name] = best


class _Balance:
    """Cells of each class in each bin, and how far they are from the bins' shares, in whole numbers throughout.

    With n cells of a class, of which bin b should have the share w_b / W, the cost is Σ (W·count − w_b·n)² / (n² w_b)
    over the bins and classes, all cells together counting as one more class. Once the bins are ``filled``, a class
    absent from one costs more than any imbalance; charged from the start, that would spread the first, largest groups
    over all bins whatever their shares.
    """

    def __init__(self, groups: list[Group], weights: tuple[int, ...]) -> None:
        self.weights = weights
        self.whole = sum(weights)
        self.total: Counter[str] = Counter()
        for _, counts in groups:
            self.total.update(counts)
        self.counts = [Counter[str]() for _ in weights]
        self.filled = False
        self._absent = _UNIT * self.whole * self.whole * len(weights)

    def add(self, counts: Counter[str], bin: int, sign: int = 1) -> None:
        held = self.counts[bin]
        for label, count in counts.items():
            held[label] += sign * count

    def cost(self) -> int:
        return sum(self._term(label, held[label], b) for b, held in enumerate(self.counts) for label in self.total)

    def cost_of_adding(self, counts: Counter[str], bin: int) -> int:
        """Change of the cost when a group with these counts joins the bin."""
        held = self.counts[bin]
        return sum(
            self._term(label, held[label] + count, bin) - self._term(label, held[label], bin)
            for label, count in counts.items()
        )

    def _term(self, label: str, held: int, bin: int) -> int:
        if not held and self.filled:
            return self._absent
        share, total = self.weights[bin], self.total[label]
        # Each term is rounded down by itself, so that the cost of a state does not depend on the way to it.
        return (self.whole * held - share * total) ** 2 * _UNIT // (total * total * share)


def _groups(table: CellTable) -> list[Group]:
    labels, groups = table.frame["label"], table.frame["group"]
    if (unlabelled := int((labels == "").sum())) or not len(table):
        raise CytodistillError(
            f"split: {unlabelled or 'all'} cells have no label; give every cell one, or leave it out"
        )
    counts: dict[str, Counter[str]] = {}
    for name, label in zip(groups, labels, strict=True):
        count = counts.setdefault(name, Counter())
        count[label] += 1
        count[_ALL] += 1
    return list(counts.items())


def _check_enough(groups: list[Group], classes: Sequence[str], bins: int, grouping: Grouping) -> None:
    needed = min(bins, 3)
    having = Counter(label for _, counts in groups for label in counts)
    for label in classes:
        if 0 < having[label] < needed:
            unit = "cell" if grouping == "none" else "group"
            cells = sum(counts[label] for _, counts in groups)
            mend = f"add cells of {needed} or more different {unit}s, or leave the class out"
            if grouping == "auto" and cells >= needed:
                mend += ", or pass --group none to split its cells and accept the leak"
            raise CytodistillError(
                f"split: class {label!r} has {cells} cells in {having[label]} {unit}(s), and {needed} splits need at "
                f"least one {unit} each; {mend}"
            )


def _hash(key: str, text: str) -> bytes:
    return hashlib.blake2b(f"{key}\n{text}".encode(), digest_size=8).digest()

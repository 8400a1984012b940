"""Fair timing on a machine that drifts: what is compared takes its turns round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from statistics import median
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)


def take_turns(
    work: Mapping[Key, Callable[[], Any]], rounds: int, progress: Callable[[int, int], None] | None = None
) -> dict[Key, list[float]]:
    """Seconds of each piece of work in each round, after one round that is not counted.

    Every round runs all pieces, and every other round backwards, so that a drift that favours the first does not
    always favour the same.

    Args:
        work: by name.
        rounds: that count.
        progress: told how many of how many turns are taken.
    """
    seconds: dict[Key, list[float]] = {key: [] for key in work}
    for turn in range(rounds + 1):
        for place, key in enumerate(work if turn % 2 == 0 else reversed(list(work)), start=1):
            started = time.perf_counter()
            work[key]()
            passed = time.perf_counter() - started
            if turn:
                seconds[key].append(passed)
            if progress:
                progress(turn * len(work) + place, (rounds + 1) * len(work))
    return seconds


def ratio(of: list[float], to: list[float]) -> float:
    """How many times as fast ``of`` is as ``to``: the median over rounds of the quotient within a round."""
    return median(other / own for own, other in zip(of, to, strict=True))

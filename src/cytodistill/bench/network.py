"""Latency and throughput of networks, with their input in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from cytodistill.bench.contestants import Contestant, Setting
from cytodistill.bench.rounds import ratio, take_turns
from cytodistill.infer.exit_policy import ExitPolicy
from cytodistill.infer.policies import load_policy
from cytodistill.infer.predictor import Predictor, load

SINGLE = 32
"""Cells a round that are asked for one by one."""


@dataclass(frozen=True)
class Figures:
    """Of one setting: ``ms_a_cell`` and ``cells_a_second`` (medians over rounds), ``times`` as fast as the first
    contestant without a policy at the same batch and threads, and where cells come one by one the ``latency_ms`` of
    half of them and of 95 %. ``exit_shares`` (E,) of the cells stop at each exit."""

    setting: Setting
    cells: int
    ms_a_cell: float
    cells_a_second: float
    times: float
    latency_ms: dict[str, float] | None
    exit_shares: list[float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**described(self.setting), **{k: v for k, v in asdict(self).items() if k != "setting"}}


def described(setting: Setting) -> dict[str, Any]:
    """A setting as JSON."""
    contestant = setting.contestant
    return {
        "name": contestant.name,
        "runtime": contestant.runtime,
        "path": str(contestant.path),
        "policy": setting.policy,
        "batch": setting.batch,
        "threads": setting.threads,
    }


def time_networks(
    settings: Sequence[Setting],
    cells: np.ndarray,
    rounds: int,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[Figures]:
    """Figures of every setting, in their order; all of them answer the same cells, turn by turn.

    Args:
        settings: from `settings_of`; the first of each batch and threads is what the others are compared with.
        cells: (N, S, S, 3) uint8, as the network takes them.
        rounds: that count.
        device: of run folders.
        progress: told how many of how many turns are taken.
    """
    before = torch.get_num_threads()
    predictors: dict[tuple[Contestant, int], Predictor] = {}
    try:
        timed = {setting: _Timed(setting, _predictor(setting, predictors, device), cells) for setting in settings}
        seconds = take_turns(timed, rounds, progress)
    finally:
        torch.set_num_threads(before)
    found = []
    for setting in settings:
        own, first = timed[setting], _first_like(setting, settings)
        each = [passed / own.answered for passed in seconds[setting]]
        found.append(
            Figures(
                setting,
                own.answered,
                1000 * median(each),
                1 / median(each),
                ratio(seconds[setting], seconds[first]),
                own.latency(),
                own.exit_shares(),
            )
        )
    return found


class _Timed:
    """Answers the same cells each time it is called: one after another where the batch is one, else as a stream."""

    def __init__(self, setting: Setting, predictor: Predictor, cells: np.ndarray) -> None:
        self.setting, self.predictor = setting, predictor
        self.cells = cells[:SINGLE] if setting.batch == 1 else cells
        self.policy: ExitPolicy | None = None
        if setting.policy is not None:
            self.policy = load_policy(setting.contestant.path, setting.policy)
        self.answered = len(self.cells)
        self._each: list[float] = []
        self._used = np.zeros(0, np.int64)

    def __call__(self) -> None:
        # One number for the whole process; another contestant may have set it since.
        torch.set_num_threads(self.setting.threads)
        if self.setting.batch > 1:
            self._used = self._answer(self.cells)
            return
        used = []
        for place in range(len(self.cells)):
            started = time.perf_counter()
            used.append(self._answer(self.cells[place : place + 1]))
            self._each.append(time.perf_counter() - started)
        self._used = np.concatenate(used)

    def latency(self) -> dict[str, float] | None:
        """Of the rounds that count."""
        if not self._each:
            return None
        counted = 1000 * np.array(self._each[self.answered :])
        return {"median": float(np.median(counted)), "p95": float(np.quantile(counted, 0.95))}

    def exit_shares(self) -> list[float]:
        return (np.bincount(self._used, minlength=self.predictor.exits) / len(self._used)).tolist()

    def _answer(self, cells: np.ndarray) -> np.ndarray:
        return self.predictor.answer(cells, self.policy, calibrated=False, batch_size=self.setting.batch).used


def _predictor(setting: Setting, known: dict[tuple[Contestant, int], Predictor], device: str) -> Predictor:
    """A contestant is loaded once, or for each number of threads where its runtime keeps to the one it began with."""
    key = (setting.contestant, setting.threads if setting.contestant.runtime != "torch" else 0)
    if key not in known:
        where = device if setting.contestant.runtime == "torch" else "cpu"
        known[key] = load(setting.contestant.path, where, setting.threads)
    return known[key]


def _first_like(setting: Setting, settings: Sequence[Setting]) -> Setting:
    return next(each for each in settings if (each.batch, each.threads) == (setting.batch, setting.threads))

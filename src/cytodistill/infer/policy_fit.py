"""Thresholds of an exit policy, chosen on validation cells to meet a budget or a risk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cytodistill.errors import CytodistillError
from cytodistill.infer.exit_policy import Answering, ExitPolicy, Kind, never
from cytodistill.infer.promise import Against, Budget, Promise, Risk
from cytodistill.metrics.calibration import Calibrator, clipped_log, fit_temperature
from cytodistill.metrics.risk_control import fixed_sequence, least_observations, risk_p_value

STEPS = 400
"""Thresholds of the path from cautious to bold."""
Thresholds = tuple[float, ...]
Value = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What is wanted of the shares of right answers and the mean costs of several thresholds; larger is better."""
SWEEPS = 20
HALVINGS = 25
ROUNDING = 1e-9


@dataclass(frozen=True)
class PolicyCells:
    """Cells as policies see them: ``probabilities`` (N, E, C) of all exits, ``labels`` (N,) codes, ``groups`` (N,)."""

    probabilities: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    @property
    def exits(self) -> int:
        """E."""
        return self.probabilities.shape[1]


def fit_calibrators(cells: PolicyCells, answer: Answering) -> tuple[Calibrator, ...]:
    """Temperatures of the answers after each exit, E of them, as `ExitPolicy` takes them."""
    policy = ExitPolicy("confidence", (1.0,) * cells.exits, answer)
    answers = [policy.answer_after(cells.probabilities[:, : exit + 1]) for exit in range(cells.exits)]
    return tuple(fit_temperature(clipped_log(each), cells.labels) for each in answers)


def fit_policy(
    kind: Kind, cells: PolicyCells, promise: Promise, macs: Sequence[int], answer: Answering = "ensemble"
) -> ExitPolicy:
    """Policy whose thresholds meet a promise; `fit_budget` and `fit_risk` say how.

    Args:
        kind: of the policy.
        cells: validation cells.
        promise: a budget or a risk.
        macs: E costs until each exit has answered, those of the shallower exits included.
        answer: of the policy.

    Raises:
        CytodistillError: the budget is below the cost of the first exit, or there are too few cells or groups to show
            so small a risk.
    """
    if isinstance(promise, Budget):
        return fit_budget(kind, cells, promise, macs, answer)
    return fit_risk(kind, cells, promise, answer)


def fit_budget(
    kind: Kind, cells: PolicyCells, promise: Budget, macs: Sequence[int], answer: Answering = "ensemble"
) -> ExitPolicy:
    """The policy that agrees most often with all exits together, or with the labels, within the budget.

    Each exit has a threshold of its own (patience: all have one). They are searched one at a time, each set to the best
    of all its values while the others stand, until none moves: for agreement − μ · cost, at prices μ that close in on
    the budget, and from there for agreement within the budget. Scores are calibrated. Arguments as for `fit_policy`.
    """
    costs = np.asarray(macs, np.float64) / macs[-1]
    if promise.budget < costs[0]:
        raise CytodistillError(
            f"budget {promise.budget:g}: the first exit alone takes {100 * costs[0]:.1f} % of the MACs; give a share "
            f"from {np.ceil(1000 * costs[0]) / 1000:g} to 1"
        )
    policy = ExitPolicy(kind, (never(kind, cells.exits),) * cells.exits, answer, fit_calibrators(cells, answer))
    outcomes = _Outcomes(policy, cells)
    search = _Search(outcomes, costs, outcomes.right(promise.against))
    candidates = _path(kind, cells.exits) if kind == "patience" else search.candidates(promise.budget)
    return replace(policy, thresholds=search.best(candidates, promise.budget))


def fit_risk(kind: Kind, cells: PolicyCells, promise: Risk, answer: Answering = "ensemble") -> ExitPolicy:
    """The boldest policy of a path whose risk is shown to be as small as promised (`metrics.risk_control`).

    The path has one threshold for all exits, from that at which no cell stops early, whose risk is 0, to that at which
    all stop at the first exit. The promise asks for a path that these cells did not shape. So scores are not calibrated
    here, for the temperatures are fitted on the same cells; those of the policy's answers are, which moves no
    threshold. Arguments as for `fit_policy`.
    """
    groups = cells.groups if promise.unit == "groups" else None
    count = len(cells.labels) if groups is None else len(np.unique(groups))
    least = least_observations(promise.risk, promise.confidence)
    if count < least:
        smallest = 1 - (1 - promise.confidence) ** (1 / count)
        raise CytodistillError(
            f"risk {promise.risk:g}: at {100 * promise.confidence:g} % confidence it takes {least} validation "
            f"{promise.unit} to show it, and there are {count}; ask for a risk of {np.ceil(1000 * smallest) / 1000:g} "
            "or more, or for less confidence"
        )
    calibrators = fit_calibrators(cells, answer)
    start = ExitPolicy(kind, (never(kind, cells.exits),) * cells.exits, answer, calibrators, calibrated_scores=False)
    outcomes = _Outcomes(start, cells)
    path = list(_path(kind, cells.exits))
    p_values = (risk_p_value(outcomes.losses(step, promise.against), promise.risk, groups) for step in path)
    shown = fixed_sequence(p_values, promise.confidence)
    return replace(start, thresholds=path[shown - 1]) if shown else start


def _path(kind: Kind, exits: int) -> Iterator[Thresholds]:
    """Thresholds from cautious to bold, the same at all exits: no cell's scores have a part in them."""
    if kind == "patience":
        steps: Sequence[float] = range(exits, -1, -1)
    else:
        # Even steps of the log-odds: networks are so sure that most of what matters lies close to 1.
        steps = [1.0, *(1 / (1 + np.exp(-np.linspace(14, -6, STEPS)))), 0.0]
    for threshold in steps:
        yield (*(float(threshold),) * (exits - 1), never(kind, exits))


class _Outcomes:
    """Scores and answers of all cells at all exits, so that thresholds can be tried without computing them again."""

    def __init__(self, policy: ExitPolicy, cells: PolicyCells) -> None:
        so_far = [cells.probabilities[:, : exit + 1] for exit in range(cells.exits)]
        self.scores = np.stack([policy.score(seen) for seen in so_far], axis=1)[:, :-1]
        self.classes = np.stack([policy.answer_after(seen).argmax(1) for seen in so_far], axis=1)
        self.labels = cells.labels

    def used(self, thresholds: Sequence[float]) -> np.ndarray:
        exceeds = self.scores > np.asarray(thresholds[:-1], self.scores.dtype)
        return np.where(exceeds.any(axis=1), exceeds.argmax(axis=1), self.scores.shape[1])

    def right(self, against: Against) -> np.ndarray:
        """(N, E) whether the answer after each exit is the wanted one."""
        return self.classes == (self.labels if against == "labels" else self.classes[:, -1])[:, None]

    def losses(self, thresholds: Sequence[float], against: Against) -> np.ndarray:
        right = self.right(against)
        return right[:, -1] & ~right[np.arange(len(right)), self.used(thresholds)]


def _at_price(price: float) -> Value:
    return lambda right, cost: right - price * cost


class _Search:
    """Search for the thresholds at which most cells are ``right`` (N, E), for ``costs`` (E,) up to each exit."""

    def __init__(self, outcomes: _Outcomes, costs: np.ndarray, right: np.ndarray) -> None:
        self.outcomes, self.costs, self.right = outcomes, costs, right
        self.rows = np.arange(len(right))

    def best(self, candidates: Iterable[Thresholds], budget: float) -> Thresholds:
        """The candidate that is right most often within the budget; of equals the one that spends most of it."""

        def rank(thresholds: Thresholds) -> tuple[bool, float, float]:
            used = self.outcomes.used(thresholds)
            cost = float(self.costs[used].mean())
            return cost <= budget + ROUNDING, float(self.right[self.rows, used].mean()), cost

        return max(candidates, key=rank)

    def candidates(self, budget: float) -> Iterator[Thresholds]:
        """Thresholds that no single move makes better: at a price of cost, for prices that close in on the budget, and
        then with what these leave of the budget spent. The first ones let no cell go beyond the first exit."""
        cheapest, dearest = (*(0.0,) * (len(self.costs) - 1), 1.0), (1.0,) * len(self.costs)
        yield cheapest

        def within(right: np.ndarray, cost: np.ndarray) -> np.ndarray:
            return np.where(cost <= budget + ROUNDING, right, -cost)

        low, high = 0.0, 2 / float(np.diff(self.costs).min(initial=1.0))
        for _ in range(HALVINGS):
            price = (low + high) / 2
            for start in (cheapest, dearest):
                found = self._settled(start, _at_price(price))
                yield self._settled(found, within)
            over = float(self.costs[self.outcomes.used(found)].mean()) > budget
            low, high = (price, high) if over else (low, price)

    def _settled(self, thresholds: Thresholds, value: Value) -> Thresholds:
        """The thresholds, each in turn moved to its best value, until none moves."""
        for _ in range(SWEEPS):
            before = thresholds
            for exit in reversed(range(len(thresholds) - 1)):
                moved = self._best_at(exit, thresholds, value)
                thresholds = (*thresholds[:exit], moved, *thresholds[exit + 1 :])
            if thresholds == before:
                break
        return thresholds

    def _best_at(self, exit: int, thresholds: Thresholds, value: Value) -> float:
        """The threshold of one exit that is best while the others stand: of the cells that reach the exit, the surest
        stop."""
        used = self.outcomes.used((*thresholds[:exit], 1.0, *thresholds[exit + 1 :]))
        reach = np.flatnonzero(used > exit)
        scores = self.outcomes.scores[reach, exit]
        surest = reach[np.argsort(-scores, kind="stable")]

        def means(figures: np.ndarray) -> np.ndarray:
            """Over all cells, when none, the surest, the two surest … stop."""
            going = figures[self.rows, used]
            change = figures[surest, exit] - going[surest]
            return (going.sum() + np.concatenate([[0.0], change.cumsum()])) / len(used)

        values = value(means(self.right.astype(np.float64)), means(np.broadcast_to(self.costs, self.right.shape)))
        ends = np.concatenate([self.outcomes.scores[surest, exit], [0.0]])
        values[1:][ends[:-1] <= ends[1:]] = -np.inf  # between equal scores there is no threshold
        stop = int(values.argmax())
        return float((ends[stop - 1] + ends[stop]) / 2) if stop else 1.0

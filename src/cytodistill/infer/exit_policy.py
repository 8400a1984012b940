"""Exit policy: after which exit a cell has its answer, and what that answer is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import entr

from cytodistill.errors import CytodistillError
from cytodistill.metrics.calibration import Calibrator, clipped_log

Kind = Literal["confidence", "entropy", "margin", "patience", "agreement"]
Answering = Literal["ensemble", "exit"]

KINDS: tuple[Kind, ...] = get_args(Kind)
SCAN_THRESHOLDS = (0.98, 0.97, 0.98, 0.95)
"""SCAN's own, of four exits, shallow → deep."""


def never(kind: Kind, exits: int) -> float:
    """The threshold that no score exceeds."""
    return float(exits) if kind == "patience" else 1.0


@dataclass(frozen=True)
class ExitPolicy:
    """A cell stops at the first exit whose score *exceeds* that exit's threshold, and at the last exit at the latest.

    With p the answer after exit k (below) and c its class, the score is, by kind:

    - ``"confidence"``: max p (Teerapittayanon et al., BranchyNet's idea with SCAN's score; Zhang et al. 2019).
    - ``"entropy"``: 1 − H(p) / ln C, 1 where one class has it all (BranchyNet, ICPR 2016, who threshold H itself).
    - ``"margin"``: the largest p less the second.
    - ``"patience"``: how many exits in a row, k the last of them, predict the class that exit k predicts. A threshold
      t stops with t + 1 in a row: PABEE's patience t (Zhou et al., BERT Loses Patience, NeurIPS 2020).
    - ``"agreement"``: the least probability that any of the exits so far gives to c. Above ½ all of them predict c.

    The answer after exit k < E is the mean of the exits so far, or with ``answer="exit"`` exit k alone. After the last
    exit it is the mean of all, the paper's eq. 7, so that a cell that goes all the way is answered as without a policy;
    with ``answer="exit"`` the last exit answers alone where its score exceeds the last threshold, as SCAN's does.

    Args:
        kind: the score.
        thresholds: E of them, shallow → deep, from 0 to 1 (patience: to E). A score of 1 (E) is the highest there is,
            so at that threshold no cell stops. The last one has a meaning only for ``answer="exit"``.
        answer: "ensemble" or "exit".
        calibrators: E of kind "temperature" or "none", or none at all: of the answer after each exit, the last of the
            mean of all. A temperature changes no class.
        calibrated_scores: whether confidence, entropy and margin are those of calibrated probabilities.

    Raises:
        CytodistillError: a field is out of bounds, or the fields do not fit one another.

    Example:
        >>> policy = ExitPolicy("confidence", (0.7, 1.0))
        >>> cells = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.3, 0.7]]])
        >>> policy.used(cells).tolist(), policy.answers(cells)[1].round(2).tolist()
        ([0, 1], [0.45, 0.55])
    """

    kind: Kind
    thresholds: tuple[float, ...]
    answer: Answering = "ensemble"
    calibrators: tuple[Calibrator, ...] = ()
    calibrated_scores: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise CytodistillError(f"policy: kind {self.kind!r} is unknown; give one of {', '.join(KINDS)}")
        if self.answer not in get_args(Answering):
            raise CytodistillError(f"policy: answer {self.answer!r} is unknown; give ensemble or exit")
        if not self.thresholds:
            raise CytodistillError("policy: there are no thresholds; give one for each exit")
        most = never(self.kind, self.exits)
        for threshold in self.thresholds:
            if not 0 <= threshold <= most:
                raise CytodistillError(f"policy: threshold {threshold} of {self.kind}; give 0 to {most:g}")
        if len(self.calibrators) not in (0, self.exits):
            raise CytodistillError(
                f"policy: {len(self.calibrators)} calibrators do not fit {self.exits} exits; fit the policy anew"
            )
        if any(calibrator.kind == "vector" for calibrator in self.calibrators):
            raise CytodistillError("policy: vector scaling may change an answer's class; calibrate by temperatures")
        if self.calibrators and self.answer == "exit" and self.thresholds[-1] < most:
            raise CytodistillError(
                f"policy: the last calibrator is of the mean of all exits; give {most:g} as the last threshold"
            )

    @property
    def exits(self) -> int:
        """Number of exits E."""
        return len(self.thresholds)

    def score(self, seen: np.ndarray) -> np.ndarray:
        """(N,) score at exit k; larger is surer.

        Args:
            seen: (N, k, C) probabilities of the exits so far, 1 ≤ k ≤ E.
        """
        if self.kind == "patience":
            return _in_a_row(seen.argmax(axis=2))
        answer = seen[:, -1] if self.answer == "exit" else seen.mean(axis=1)
        if self.kind == "agreement":
            return np.take_along_axis(seen, answer.argmax(axis=1)[:, None, None], axis=2)[:, :, 0].min(axis=1)
        return SCORES[self.kind](self._calibrated(answer, seen.shape[1]) if self.calibrated_scores else answer)

    def stops(self, seen: np.ndarray) -> np.ndarray:
        """(N,) bool: whether cells that have come as far as exit k stop there; ``seen`` as for ``score``."""
        if seen.shape[1] == self.exits:
            return np.ones(len(seen), bool)
        return self._exceeds(seen)

    def answer_after(self, seen: np.ndarray, calibrated: bool = False) -> np.ndarray:
        """(N, C) answer to cells that stop at exit k, in the type of ``seen``, as for ``score``; ``calibrated`` by
        the calibrator of exit k, where the policy has calibrators."""
        raw = self._raw_answer(seen)
        return self._calibrated(raw, seen.shape[1]).astype(seen.dtype) if calibrated else raw

    def used(self, probabilities: np.ndarray) -> np.ndarray:
        """(N,) the exit that each cell stops at, from 0, of (N, E, C) probabilities of all exits."""
        found = np.full(len(probabilities), self.exits - 1)
        for exit in reversed(range(self.exits - 1)):
            found[self.stops(probabilities[:, : exit + 1])] = exit
        return found

    def answers(self, probabilities: np.ndarray, calibrated: bool = False) -> np.ndarray:
        """(N, C) answers, of (N, E, C) probabilities of all exits."""
        used, found = self.used(probabilities), np.empty_like(probabilities[:, 0])
        for exit in np.unique(used):
            found[used == exit] = self.answer_after(probabilities[used == exit, : exit + 1], calibrated)
        return found

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary of the fields; `from_dict` gives an equal policy."""
        return {
            "kind": self.kind,
            "thresholds": list(self.thresholds),
            "answer": self.answer,
            "calibrators": [calibrator.to_dict() for calibrator in self.calibrators],
            "calibrated_scores": self.calibrated_scores,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ExitPolicy:
        """The policy of a `to_dict`.

        Raises:
            CytodistillError: fields are missing, unknown or out of bounds.
        """
        try:
            fields = dict(values)
            fields["thresholds"] = tuple(map(float, fields["thresholds"]))
            fields["calibrators"] = tuple(map(Calibrator.from_dict, fields["calibrators"]))
            fields["calibrated_scores"] = bool(fields["calibrated_scores"])
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise CytodistillError(f"policy: the stored policy is unreadable ({error!r}); fit it anew") from error

    def _raw_answer(self, seen: np.ndarray) -> np.ndarray:
        mean = seen.mean(axis=1)
        if self.answer == "ensemble":
            return mean
        if seen.shape[1] < self.exits:
            return seen[:, -1]
        return np.where(self._exceeds(seen)[:, None], seen[:, -1], mean)

    def _exceeds(self, seen: np.ndarray) -> np.ndarray:
        scores = self.score(seen)
        # In the scores' own type, so that a probability of 0.98 in float32 is not above a threshold of 0.98.
        return scores > np.asarray(self.thresholds[seen.shape[1] - 1], scores.dtype)

    def _calibrated(self, answer: np.ndarray, exit: int) -> np.ndarray:
        return self.calibrators[exit - 1].calibrated(clipped_log(answer)) if self.calibrators else answer


def scan_policy(thresholds: Sequence[float] = SCAN_THRESHOLDS) -> ExitPolicy:
    """SCAN's (Zhang et al. 2019): the first exit whose confidence exceeds its threshold answers alone; where none does,
    the mean of all does."""
    return ExitPolicy("confidence", tuple(thresholds), answer="exit")


def _margin(answer: np.ndarray) -> np.ndarray:
    second, first = np.partition(answer, [-2, -1], axis=1)[:, -2:].T
    return first - second


def _certainty(answer: np.ndarray) -> np.ndarray:
    return 1 - entr(answer).sum(axis=1) / np.log(answer.shape[1])


def _in_a_row(classes: np.ndarray) -> np.ndarray:
    """(N,) how many of the last of (N, k) classes are alike."""
    alike = classes[:, ::-1] == classes[:, -1:]
    return np.cumprod(alike, axis=1).sum(axis=1)


SCORES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "confidence": lambda answer: answer.max(axis=1),
    "entropy": _certainty,
    "margin": _margin,
}

"""A threshold that is chosen once, on validation cells, kept, and then applied as it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytodistill.errors import CytodistillError, reason
from cytodistill.metrics.checks import check_target, checked_scores, finite_scores
from cytodistill.metrics.thresholds import counts_at_thresholds

MARGIN = 1e-4
"""How far below a score a chosen threshold stands, as a share of the score, where no normal cell is in the way. A cell
that is answered in another batch, with other threads or by another runtime differs in the last digits of float32 (3e-6
at most where runtimes were compared): at a threshold equal to its score, a cell that the rule counted on finding would
be missed by rounding."""


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold that was chosen once and is then applied as it is, and what it did on the data that chose it.

    Its figures are those of the best of many thresholds on that data, so they are too good for any other. Choose it on
    validation cells; what it does is measured on test cells with `decide`.

    Args:
        name: what the point is called.
        threshold: scores from here up are abnormal; finite.
        rule: how it was chosen, in words ("sensitivity >= 0.95").
        sensitivity: on the data that chose it, 0 to 1.
        specificity: on the data that chose it, 0 to 1.
        n: number of cells (fields, patients) that chose it.

    Raises:
        CytodistillError: a value is of another kind or out of bounds.
    """

    name: str
    threshold: float
    rule: str
    sensitivity: float
    specificity: float
    n: int

    def __post_init__(self) -> None:
        for field in ("name", "rule"):
            if not isinstance(getattr(self, field), str):
                raise CytodistillError(f"operating point: {field}={getattr(self, field)!r} is no text")
        for field, low, high in (("threshold", -np.inf, np.inf), ("sensitivity", 0, 1), ("specificity", 0, 1)):
            value = getattr(self, field)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not np.isfinite(value) or not low <= value <= high:
                bounds = "a finite number" if field == "threshold" else "a number from 0 to 1"
                raise CytodistillError(f"operating point: {field}={value!r} is not {bounds}; choose the point again")
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 1:
            raise CytodistillError(f"operating point: n={self.n!r} is no count of at least 1; choose the point again")

    def to_json(self) -> str:
        """One JSON object; `from_json` gives the same point back, the threshold to the last bit."""
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> OperatingPoint:
        """The point written by `to_json`.

        Raises:
            CytodistillError: it is no JSON object with these fields and no others, or a value is out of bounds.
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            raise CytodistillError(f"operating point: not JSON ({reason(error)}); choose and save it again") from None
        wanted = {field.name for field in fields(cls)}
        if not isinstance(found, dict) or set(found) != wanted:
            raise CytodistillError(
                f"operating point: not an object with the fields {', '.join(sorted(wanted))}; choose and save it again"
            )
        return cls(**found)


def choose_operating_point(
    scores: ArrayLike,
    labels: ArrayLike,
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
    youden: bool = False,
    name: str | None = None,
) -> OperatingPoint:
    """The threshold that one rule picks on these cells, which must be validation cells, never the test's.

    - ``sensitivity=s``: of the thresholds with sensitivity ≥ s the highest, so the one with the largest specificity.
    - ``specificity=s``: of the thresholds with specificity ≥ s those with the largest sensitivity, and of these the
      highest.
    - ``youden=True``: the largest sensitivity + specificity − 1 (Youden, Cancer 3, 1950). Of equal ones the lowest
      threshold, the most sensitive: in screening a missed cell costs more than one looked at twice.

    What is picked is a score of these cells, for the first two rules that of an abnormal cell. The threshold stands a
    ten-thousandth of it (`MARGIN`) lower, but no more than half way to the next normal cell, so that the specificity is
    what it is at the score itself.

    Args:
        scores: as `roc`.
        labels: as `roc`.
        sensitivity: above 0, at most 1.
        specificity: above 0, at most 1.
        youden: True takes that rule.
        name: of the point; by default the rule's ("sensitivity", "specificity", "youden").

    Raises:
        CytodistillError: as `roc`, not exactly one rule, a target out of bounds, or a specificity that is reached only
            where no abnormal cell is found.

    Example:
        >>> point = choose_operating_point([0.1, 0.6, 0.4, 0.9], [False, False, True, True], sensitivity=0.95)
        >>> round(point.threshold, 6), point.sensitivity, point.specificity, point.rule
        (0.39996, 1.0, 0.5, 'sensitivity >= 0.95')
    """
    if (sensitivity is not None) + (specificity is not None) + bool(youden) != 1:
        raise CytodistillError("operating point: give exactly one of sensitivity=…, specificity=… and youden=True")
    s, y = checked_scores(scores, labels)
    thresholds, hits, alarms = counts_at_thresholds(s, y)
    abnormal, normal = hits[-1], alarms[-1]
    if sensitivity is not None:
        check_target("sensitivity", sensitivity)
        kind, rule = "sensitivity", f"sensitivity >= {sensitivity:.12g}"
        at = int(np.argmax(hits / abnormal >= sensitivity))
    elif specificity is not None:
        check_target("specificity", specificity)
        kind, rule = "specificity", f"specificity >= {specificity:.12g}"
        best = hits[(normal - alarms) / normal >= specificity].max()
        if not best:
            raise CytodistillError(
                f"operating point: specificity {specificity:g} is reached only where no abnormal cell is found; lower "
                "it or choose on more cells"
            )
        at = int(np.argmax(hits == best))
    else:
        kind, rule = "youden", "largest sensitivity + specificity - 1"
        # In whole numbers, so that equal ones are equal.
        gain = hits * normal - alarms * abnormal
        at = int(np.flatnonzero(gain == gain.max())[-1])
    threshold = _set_back(float(thresholds[at]), s[~y])
    return OperatingPoint(
        name=kind if name is None else name,
        threshold=threshold,
        rule=rule,
        sensitivity=float((s[y] >= threshold).sum() / abnormal),
        specificity=float((normal - alarms[at]) / normal),
        n=int(abnormal + normal),
    )


def decide(scores: ArrayLike, point: OperatingPoint) -> NDArray[np.bool_]:
    """(N,) True where the score is at or above the point's threshold: abnormal.

    Raises:
        CytodistillError: a score is not finite (a NaN would pass for normal), or they are not (N,).
    """
    return finite_scores(scores) >= point.threshold


def _set_back(score: float, normal: NDArray[np.float64]) -> float:
    """The threshold for a score: below it by the margin, or half way to the next normal cell where that is nearer."""
    below = normal[normal < score]
    if not len(below):
        return score - MARGIN * abs(score)
    threshold = score - min(MARGIN * abs(score), (score - below.max()) / 2)
    # Between neighbouring floats there is none.
    return threshold if threshold > below.max() else score

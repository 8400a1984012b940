"""Which answers are wrong, and how good the rest are: scores of doubt, failure prediction, risk against coverage.

A classifier that may leave cells to a human answers those of least doubt. Coverage is the share of cells that it
answers and risk the share of wrong answers among them (Geifman & El-Yaniv, Selective Classification for Deep Neural
Networks, NeurIPS 2017).

Equal doubts give no order, so cells of one doubt are one step of the curve: within it each counts as the mean of the
step, which is what a random order of these cells gives in expectation. A coverage inside a step is reached by leaving
some of its cells out at random.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from sklearn.metrics import roc_auc_score

from cytodistill.errors import CytodistillError
from cytodistill.metrics.checks import checked_rows, truth_values
from cytodistill.metrics.intervals import TIE


def doubt(probabilities: ArrayLike, kind: str = "max_probability") -> NDArray[np.float64]:
    """(N,) doubt about each cell's answer; larger is less sure.

    - ``"max_probability"``: 1 − max p (Hendrycks & Gimpel, ICLR 2017).
    - ``"entropy"``: −Σ p ln p, in nats.
    - ``"margin"``: 1 − (p₁ − p₂) of the two largest (Scheffer et al., IDA 2001).
    - ``"disagreement"``: of the exits' probabilities, H(mean of exits) − mean of H(exits), in nats from 0 to ln E: the
      mean KL divergence of the exits from their ensemble (Jensen–Shannon; Lin, IEEE Trans. Inf. Theory 37, 1991). It is
      0 where all exits say the same, however unsure they are.

    Args:
        probabilities: (N, C) for the first three; (N, E, C) of E exits, shallow → deep, for the last. Each row sums to
            1 within 0.001.
        kind: one of the four.

    Raises:
        CytodistillError: an unknown kind, a shape that does not fit it, or rows that are no probabilities.

    Example:
        >>> doubt([[0.5, 0.5], [1.0, 0.0]], "margin").tolist()
        [1.0, 0.0]
        >>> doubt([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]], "disagreement").round(4).tolist()
        [0.6931, 0.0]
    """
    if kind not in DOUBTS:
        raise CytodistillError(f"doubt: kind={kind!r} is unknown; give one of {', '.join(DOUBTS)}")
    p = checked_rows(probabilities, f"doubt ({kind})", 3 if kind == "disagreement" else 2)
    if p.shape[-1] < 2:
        raise CytodistillError(
            "doubt: the probabilities are of one class, of which there is no doubt; give two or more"
        )
    if kind == "disagreement" and p.shape[1] < 2:
        raise CytodistillError("doubt: one exit cannot disagree; give two or more, or another kind")
    return DOUBTS[kind](p)


def failure_auroc(doubt: ArrayLike, correct: ArrayLike) -> float | None:
    """The chance that a wrong answer has more doubt than a right one, ties counting one half.

    It is the area under the ROC curve of "this answer is wrong" (Hendrycks & Gimpel 2017). None where all answers are
    right or all are wrong, and there are no such pairs.

    Args:
        doubt: (N,) finite; larger is less sure.
        correct: (N,) bool (or 0 and 1), True where the answer is right.

    Raises:
        CytodistillError: shapes disagree, there are no cells, or a value is out of bounds.
    """
    d, right = _checked(doubt, correct)
    if right.all() or not right.any():
        return None
    return float(roc_auc_score(~right, d))


def risk_coverage(doubt: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Risk where the k cells of least doubt are answered, for k = 1 … N.

    Args: as `failure_auroc`.

    Returns:
        (N,) coverages k / N, rising to 1, and (N,) risks: expected wrong answers among the k, divided by k. The last is
        the error rate. Risks are all 0 where all answers are right and all 1 where all are wrong.

    Raises:
        CytodistillError: as `failure_auroc`.

    Example:
        >>> coverage, risk = risk_coverage([0.1, 0.2, 0.2, 0.9], [True, True, False, False])
        >>> coverage.tolist(), risk.round(4).tolist()
        ([0.25, 0.5, 0.75, 1.0], [0.0, 0.25, 0.3333, 0.5])
    """
    d, right = _checked(doubt, correct)
    _, step = np.unique(d, return_inverse=True)
    ends = np.concatenate([[0], np.cumsum(np.bincount(step))])
    wrong = np.concatenate([[0], np.cumsum(np.bincount(step, weights=~right))])
    kept = np.arange(1, len(d) + 1)
    # Straight between the ends of a step, and there exact.
    return kept / len(d), np.interp(kept, ends, wrong) / kept


def aurc(doubt: ArrayLike, correct: ArrayLike) -> float:
    """Area under the risk–coverage curve: the mean of its N risks (Geifman, Uziel & El-Yaniv, ICLR 2019).

    0 where all answers are right, 1 where all are wrong, the error rate where all doubts are equal. Lower is better,
    but it holds the error rate too: of two models compare `e_aurc` as well.

    Args and Raises: as `failure_auroc`.

    Example:
        >>> round(aurc([0.1, 0.2, 0.3, 0.4], [True, True, False, True]), 6)
        0.145833
    """
    return float(risk_coverage(doubt, correct)[1].mean())


def e_aurc(doubt: ArrayLike, correct: ArrayLike) -> float:
    """AURC less that of the best order of the same answers, all right ones first (Geifman, Uziel & El-Yaniv 2019).

    The best is summed exactly, 1/N Σ over k > N − W of (k − N + W) / k with W wrong answers; the paper's
    r + (1 − r) ln(1 − r), r the error rate, is its limit for many cells. So a perfect order has 0 at any N, and so have
    answers that are all right or all wrong.

    Args and Raises: as `failure_auroc`.
    """
    d, right = _checked(doubt, correct)
    # Never below 0 but by rounding.
    return max(0.0, aurc(d, right) - aurc(~right, right))


def risk_at(doubt: ArrayLike, correct: ArrayLike, coverage: float) -> float:
    """Risk of the fewest cells of least doubt that are at least this share of all.

    Args:
        doubt: as `failure_auroc`.
        correct: as `failure_auroc`.
        coverage: above 0, at most 1.

    Raises:
        CytodistillError: as `failure_auroc`, or the coverage is out of bounds.
    """
    if not 0 < coverage <= 1:
        raise CytodistillError(f"selective: coverage {coverage} is outside 0 to 1; 0.8 answers four cells of five")
    coverages, risks = risk_coverage(doubt, correct)
    return float(risks[np.argmax(coverages >= coverage - TIE)])


def coverage_at(doubt: ArrayLike, correct: ArrayLike, risk: float) -> float:
    """The largest coverage whose risk on these cells is at most this; 0 where there is none.

    The curve may rise above the risk and come down again, and the last coverage counts. Like an operating point, it is
    chosen on these cells and does not promise this risk on others.

    Args:
        doubt: as `failure_auroc`.
        correct: as `failure_auroc`.
        risk: from 0 to 1.

    Raises:
        CytodistillError: as `failure_auroc`, or the risk is out of bounds.
    """
    if not 0 <= risk <= 1:
        raise CytodistillError(f"selective: risk {risk} is outside 0 to 1; 0.01 is one wrong answer of a hundred")
    coverages, risks = risk_coverage(doubt, correct)
    return float(coverages[risks <= risk + TIE].max(initial=0.0))


def _margin(p: NDArray[np.float64]) -> NDArray[np.float64]:
    second, first = np.partition(p, [-2, -1], axis=-1)[:, -2:].T
    return 1 - (first - second)


def _disagreement(p: NDArray[np.float64]) -> NDArray[np.float64]:
    # Never below 0 but by rounding, which would put an order among cells whose exits agree.
    return np.maximum(_entropy(p.mean(axis=1)) - _entropy(p).mean(axis=1), 0.0)


def _entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return entr(p).sum(axis=-1)


DOUBTS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "max_probability": lambda p: 1 - p.max(axis=-1),
    "entropy": _entropy,
    "margin": _margin,
    "disagreement": _disagreement,
}


def _checked(doubt: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    d, right = np.asarray(doubt, dtype=np.float64), truth_values(correct, "selective: correct answers")
    if d.shape != right.shape:
        raise CytodistillError(
            f"selective: doubts {d.shape} and answers {right.shape} do not fit; both must be (cells,)"
        )
    if not np.isfinite(d).all():
        raise CytodistillError(f"selective: the doubt of cell {int(np.argmin(np.isfinite(d)))} is not finite")
    return d, right

"""Calibration: probabilities that are as often right as they say, and the figures that show whether they are.

A calibrator is fitted on cells that the model was not trained on and is not tested on. Nothing here knows of splits:
the caller decides which cells those are. It is applied to logits, or to log-probabilities where a model has
probabilities alone, as the average of several exits has (`clipped_log`). Every row is first made log-probabilities (its
log-sum-exp is subtracted), so a model's logits and its log-probabilities give the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import log_softmax, softmax

from cytodistill.errors import CytodistillError
from cytodistill.metrics import classification

Kind = Literal["temperature", "vector", "none"]
Scheme = Literal["width", "mass"]

# At 20 the logits of any network are nearly even, at 0.05 any lead is nearly certain: beyond lies no useful answer.
COLDEST, HOTTEST = 0.05, 20.0
# A probability of exactly 0 counts as this one in a logarithm; one such cell that is wrong costs 27.6 nats.
CLIP = 1e-12
# Weight of vector scaling's pull towards no change: a normal prior of standard deviation 1 on every scale and bias.
RIDGE = 1.0
MOST_STEPS = 10_000
# Largest slope of the mean loss, in units of the largest log-probability, that counts as the bottom.
FLAT = 1e-5
BINS = 15


@dataclass(frozen=True)
class Calibrator:
    """What turns log-probabilities z (or logits) of C classes into calibrated probabilities.

    "temperature": softmax(z / T), one T for all classes, so the predicted class stays (Guo et al., On Calibration of
    Modern Neural Networks, ICML 2017, section 4.2). "vector": softmax(w ∘ z + b), a scale and a bias a class (ibid.;
    z here is log-probabilities and not free logits, as in Kull et al., Beyond temperature scaling, NeurIPS 2019).
    "none": softmax(z).

    Args:
        kind: "temperature", "vector" or "none".
        temperature: T, positive; 1 unless the kind is "temperature".
        scale: w, C numbers, none negative; empty unless the kind is "vector".
        bias: b, C numbers; empty unless the kind is "vector".

    Raises:
        CytodistillError: the kind is unknown or the numbers do not fit it.

    Example:
        >>> [round(float(p), 4) for p in Calibrator("temperature", 2.0).calibrated(np.log([0.8, 0.2]))]
        [0.6667, 0.3333]
    """

    kind: Kind = "none"
    temperature: float = 1.0
    scale: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise CytodistillError(f"calibration: kind {self.kind!r} is unknown; use {', '.join(get_args(Kind))}")
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise CytodistillError(f"calibration: temperature {self.temperature} is not positive; fit it anew")
        if self.kind != "temperature" and self.temperature != 1:
            raise CytodistillError(f"calibration: kind {self.kind} has no temperature; leave it 1")
        if len(self.scale) != len(self.bias) or bool(self.scale) != (self.kind == "vector"):
            raise CytodistillError(
                f"calibration: {len(self.scale)} scales and {len(self.bias)} biases do not fit kind {self.kind}; "
                "vector needs one of each for every class, the others none"
            )
        if not np.isfinite(self.scale + self.bias).all() or min(self.scale, default=0) < 0:
            raise CytodistillError("calibration: scales must be at least 0, scales and biases finite; fit them anew")

    def calibrated(self, log_probabilities: ArrayLike) -> NDArray[np.float64]:
        """(…, C) probabilities of (…, C) finite log-probabilities or logits.

        Raises:
            CytodistillError: they are not finite, or not of as many classes as the calibrator.
        """
        z = _log_probabilities(log_probabilities)
        if self.kind == "vector":
            if z.shape[-1] != len(self.scale):
                raise CytodistillError(
                    f"calibration: log-probabilities of shape {z.shape} do not fit a calibrator of {len(self.scale)} "
                    "classes; use the one that was fitted with this model"
                )
            return softmax(z * self.scale + self.bias, axis=-1)
        return softmax(z / self.temperature, axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able dictionary of the fields; `from_dict` gives an equal calibrator."""
        return {
            "kind": self.kind,
            "temperature": self.temperature,
            "scale": list(self.scale),
            "bias": list(self.bias),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibrator:
        """The calibrator of a `to_dict`.

        Raises:
            CytodistillError: fields are missing, unknown or of another kind.
        """
        try:
            fields = dict(values)
            fields["temperature"] = float(fields["temperature"])
            fields["scale"], fields["bias"] = (tuple(map(float, fields[name])) for name in ("scale", "bias"))
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise CytodistillError(
                f"calibration: the stored calibrator is unreadable ({error!r}); fit it anew"
            ) from error


def clipped_log(probabilities: ArrayLike) -> NDArray[np.float64]:
    """ln max(p, 1e-12) of (…, C) probabilities: what a calibrator takes where a model has no logits."""
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), CLIP))


def fit_temperature(log_probabilities: ArrayLike, labels: ArrayLike) -> Calibrator:
    """The T from 0.05 to 20 with the least mean of −ln softmax(z / T)_y (Guo et al. 2017, section 4.2).

    The mean is convex in β = 1/T; its slope, the mean of Σ_c p_c z_c − z_y, rises with β, and T is where it is 0
    (Brent's method: the same cells always give the same T). Where it is 0 outside the bounds, T is the nearer bound.

    Where the cells cannot tell T, the answer is a calibrator of kind "none", which says that nothing was fitted: with
    no cell predicted wrong the loss falls for ever as T goes to 0, since no error shows how sure is too sure (so too
    with a single cell that is right); with every row even, T changes nothing. Cells that are all wrong give T = 20. A
    class without cells is no hindrance.

    Args:
        log_probabilities: (N, C) log-probabilities or logits, finite.
        labels: (N,) integer codes of the classes.

    Raises:
        CytodistillError: shapes disagree, there are no cells, a label is outside 0..C-1, or a number is not finite.
    """
    z, y = _checked_logs(log_probabilities, labels)
    own = z[np.arange(len(y)), y]
    if (own >= z.max(axis=1)).all():
        return Calibrator("none")

    def slope(beta: float) -> float:
        return float(((softmax(beta * z, axis=1) * z).sum(axis=1) - own).mean())

    if slope(1 / HOTTEST) >= 0:
        return Calibrator("temperature", HOTTEST)
    if slope(1 / COLDEST) <= 0:
        return Calibrator("temperature", COLDEST)
    return Calibrator("temperature", 1 / brentq(slope, 1 / HOTTEST, 1 / COLDEST, xtol=1e-12))


def fit_vector(log_probabilities: ArrayLike, labels: ArrayLike, ridge: float = RIDGE) -> Calibrator:
    """The scales w and biases b with the least Σ −ln softmax(w ∘ z + b)_y + ridge/2 · (‖w − 1‖² + ‖b‖²).

    Vector scaling (Guo et al. 2017, section 4.2) by L-BFGS with the analytic gradient, from no change (w = 1, b = 0).
    The ridge is ours: validation splits are small, and without it a class without cells would get a bias of −∞, and
    cells all predicted right scales of +∞. It is a normal prior around no change that weighs the same however many
    cells there are, so it fades as they grow. It makes the loss strictly convex: there is one answer for any cells,
    even for one. Scales are held at 0 or above, so that more of a class's evidence never makes it less likely.

    Args:
        log_probabilities: (N, C) log-probabilities or logits, finite.
        labels: (N,) integer codes of the classes.
        ridge: positive; the prior's standard deviation is 1/√ridge.

    Raises:
        CytodistillError: as `fit_temperature`, the ridge is not positive, or the search does not end.
    """
    if not (np.isfinite(ridge) and ridge > 0):
        raise CytodistillError(f"calibration: ridge {ridge} is not positive; 1 is usual")
    z, y = _checked_logs(log_probabilities, labels)
    classes = z.shape[1]
    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    found = minimize(
        _vector_loss,
        start,
        args=(z, y, ridge),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * classes + [(None, None)] * classes,
        options={"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "ftol": 1e-15, "gtol": 1e-9},
    )
    # Near the bottom a line search may give up on rounding; what counts is whether the slope is gone, but for scales
    # that rest on 0 and would go below.
    slope = np.where((found.x <= 0) & (np.arange(2 * classes) < classes), np.minimum(found.jac, 0), found.jac)
    if np.abs(slope).max() > FLAT * max(1.0, np.abs(z).max()):
        raise CytodistillError(
            f"calibration: vector scaling did not settle on these {len(y)} cells; use temperature scaling"
        )
    return Calibrator("vector", 1.0, tuple(found.x[:classes].tolist()), tuple(found.x[classes:].tolist()))


def ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS, scheme: Scheme = "width") -> float:
    """Expected calibration error of the predicted class: Σ_b |B_b|/N · |accuracy of B_b − mean confidence of B_b|.

    Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015; Guo et al. 2017, eq. 3,
    for the confidence max_c p_c of several classes. Bins as in `reliability`. In [0, 1]; with few cells it is above 0
    even for perfect probabilities, and it depends on the bins: compare only figures of the same cells and bins.

    Args:
        probabilities: (N, C), each row summing to 1.
        labels: (N,) integer codes of the classes.
        bins: how many, at least 1.
        scheme: "width", equal intervals of confidence, or "mass", about as many cells in each (Nixon et al.,
            Measuring Calibration in Deep Learning, CVPR workshops 2019).

    Raises:
        CytodistillError: as `classification_metrics`, or a setting is out of bounds.
    """
    p, y = checked_probabilities(probabilities, labels)
    return _gap(p.max(axis=1), p.argmax(axis=1) == y, bins, scheme)


def classwise_ece(probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS, scheme: Scheme = "width") -> float:
    """Mean over the C classes of Σ_b |B_b|/N · |share of the class in B_b − mean p_c in B_b| (Kull et al. 2019).

    Every cell is in a bin of every class, by its probability of that class. All C classes count the same, those without
    cells too. Args and errors as `ece`.
    """
    p, y = checked_probabilities(probabilities, labels)
    return float(np.mean([_gap(p[:, c], y == c, bins, scheme) for c in range(p.shape[1])]))


def overconfidence(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over cells of max_c p_c less the share of right answers: above 0 where the model is too sure, in [−1, 1].

    It is what is left of the ECE where the bins' gaps may cancel (calibration in the large). Its mean over draws of
    cells is the figure of the population, which the ECE's is not, so that it can have an interval.

    Raises:
        CytodistillError: as `classification_metrics`.
    """
    p, y = checked_probabilities(probabilities, labels)
    return float(p.max(axis=1).mean() - (p.argmax(axis=1) == y).mean())


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over cells of Σ_c (p_c − 1[y = c])², in [0, 2] (Brier, Monthly Weather Review 78, 1950).

    This is the sum over all classes: with two classes it is twice the binary figure, which takes one of them.

    Raises:
        CytodistillError: as `classification_metrics`.
    """
    p, y = checked_probabilities(probabilities, labels)
    return float(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1).mean())


def nll(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean over cells of −ln max(p_y, 1e-12), in nats: the log loss.

    Raises:
        CytodistillError: as `classification_metrics`.
    """
    p, y = checked_probabilities(probabilities, labels)
    return float(-clipped_log(p[np.arange(len(y)), y]).mean())


def reliability(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = BINS, scheme: Scheme = "width"
) -> dict[str, list]:
    """Confidence and accuracy of the predicted class, bin by bin, for a reliability diagram (Guo et al. 2017, fig. 1).

    A bin holds the confidences above its lower edge up to and with its upper edge; the first holds its lower edge too.
    "width": edges k/bins. "mass": edges are the quantiles k/bins of the confidences, so equal confidences are never
    parted and the order of cells does not matter; with many equal ones some bins stay empty.

    Returns:
        JSON-able dictionary: "edges" (bins + 1), and for each bin "confidence" (mean of max_c p_c), "accuracy" (share
        predicted right), both None where the bin is empty, and "count" in cells.

    Raises:
        CytodistillError: as `ece`.

    Example:
        >>> reliability([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [0, 1, 1], bins=2)["accuracy"]
        [None, 0.6666666666666666]
    """
    p, y = checked_probabilities(probabilities, labels)
    edges, count, said, true = _binned(p.max(axis=1), p.argmax(axis=1) == y, bins, scheme)

    def means(sums: NDArray[np.float64]) -> list[float | None]:
        return [float(s / n) if n else None for s, n in zip(sums, count, strict=True)]

    return {"edges": edges.tolist(), "confidence": means(said), "accuracy": means(true), "count": count.tolist()}


def checked_probabilities(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(N, C) probabilities and (N,) labels as arrays, held to what `classification_metrics` asks of them.

    Raises:
        CytodistillError: as `classification_metrics`.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not p.shape[1]:
        raise CytodistillError(f"metrics: probabilities are of shape {p.shape}; they must be (cells, classes)")
    return classification._checked(p, labels, [str(c) for c in range(p.shape[1])])


def _checked_logs(log_probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    z = _log_probabilities(log_probabilities)
    _, y = checked_probabilities(np.exp(z), labels)
    return z, y


def _log_probabilities(values: ArrayLike) -> NDArray[np.float64]:
    z = np.asarray(values, dtype=np.float64)
    if not z.ndim or not z.shape[-1]:
        raise CytodistillError(f"calibration: log-probabilities are of shape {z.shape}; the last axis must be classes")
    if not np.isfinite(z).all():
        raise CytodistillError(
            "calibration: log-probabilities or logits are not finite; clip probabilities of 0 before the logarithm"
        )
    return log_softmax(z, axis=-1)


def _vector_loss(
    parameters: NDArray[np.float64], z: NDArray[np.float64], y: NDArray[np.int64], ridge: float
) -> tuple[float, NDArray[np.float64]]:
    """Loss of `fit_vector` divided by N, and its gradient by the C scales and the C biases."""
    cells, classes = z.shape
    change = parameters - np.repeat([1.0, 0.0], classes)
    logs = log_softmax(z * parameters[:classes] + parameters[classes:], axis=1)
    rows = np.arange(cells)
    # d(−ln softmax(u)_y)/du = softmax(u) − 1[y], and u = w ∘ z + b.
    error = np.exp(logs)
    error[rows, y] -= 1
    gradient = np.concatenate([(error * z).sum(axis=0), error.sum(axis=0)]) + ridge * change
    loss = -logs[rows, y].sum() + ridge / 2 * (change @ change)
    return float(loss / cells), gradient / cells


def bin_codes(
    said: NDArray[np.float64], bins: int = BINS, scheme: Scheme = "width"
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Edges (bins + 1,) of the bins of `reliability`, and the bin of each probability, of the shape of ``said``.

    Raises:
        CytodistillError: a setting is out of bounds.
    """
    if bins < 1:
        raise CytodistillError(f"calibration: {bins} bins are too few; 15 is usual")
    if scheme not in get_args(Scheme):
        raise CytodistillError(f"calibration: scheme {scheme!r} is unknown; use {' or '.join(get_args(Scheme))}")
    share = np.linspace(0, 1, bins + 1)
    edges = share if scheme == "width" else np.quantile(said, share)
    # Inner edges only, so that a probability a rounding above 1 still falls into the last bin.
    return edges, np.searchsorted(edges[1:-1], said)


def _gap(said: NDArray[np.float64], true: NDArray[np.bool_], bins: int, scheme: Scheme) -> float:
    # A bin's share times the difference of its means is the difference of its sums over all cells.
    _, _, sums, hits = _binned(said, true, bins, scheme)
    return float(np.abs(hits - sums).sum() / len(said))


def _binned(
    said: NDArray[np.float64], true: NDArray[np.bool_], bins: int, scheme: Scheme
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Edges (bins + 1,), and for each bin the cells, the sum of what was said and the number of what was true."""
    edges, of = bin_codes(said, bins, scheme)
    sums = np.bincount(of, weights=said, minlength=bins).astype(np.float64)
    hits = np.bincount(of, weights=true, minlength=bins).astype(np.float64)
    return edges, np.bincount(of, minlength=bins).astype(np.int64), sums, hits

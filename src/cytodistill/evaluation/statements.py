"""What calibration and sets came to, in a sentence each: also where they did not keep what they promise."""

from __future__ import annotations

from typing import Any

from cytodistill.metrics.calibration import COLDEST, HOTTEST


def calibration_statement(kinds: dict[str, dict[str, Any]], change: dict[str, Any]) -> str:
    """Whether temperature scaling lowers the NLL of the ensemble on the judged cells, and how sure that is.

    Args:
        kinds: "raw" and "temperature" with "nll", "ece", "temperature" (a number, or one for each fold) and
            "if_calibrated".
        change: "temperature" with the "value" of the change in NLL and its "interval", None of one group.
    """
    raw, scaled, found = kinds["raw"], kinds["temperature"], change["temperature"]
    if found["value"] == 0:
        return f"no temperature was fitted, for no validation cell was answered wrong; NLL stays {raw['nll']:.3f}"
    between = found["interval"]
    spread = f", 95 % interval {signed(between[0])} to {signed(between[1])}" if between else ""
    figures = (
        f"NLL, {raw['nll']:.3f} to {scaled['nll']:.3f} (change {signed(found['value'])}{spread}); "
        f"ECE {100 * raw['ece']:.1f} to {100 * scaled['ece']:.1f} %{_by_chance(scaled)}"
    )
    said = f"{_temperature(scaled['temperature'])} "
    if f"{raw['nll']:.3f}" == f"{scaled['nll']:.3f}":  # nothing that the figures themselves would show
        return f"{said}leaves {figures}"
    if found["value"] > 0:
        return f"{said}does not lower {figures}"
    unsure = between is not None and between[1] >= 0
    return f"{said}lowers {figures}" + ("; other fields may undo it" if unsure else "")


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, and a minus as long as a plus; 0 without one.

    Example:
        >>> signed(-0.02), signed(0.5, 1), signed(-0.0001)
        ('\\u22120.020', '+0.5', '0.000')
    """
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def sets_statement(kind: dict[str, Any], classes: tuple[str, ...]) -> str:
    """How often the sets hold the true class, against the band in which chance alone would keep it.

    Args:
        kind: of `sets_view`.
        classes: the C names.
    """
    size = f"{kind['mean_size']:.1f} classes each"
    if "below_classes" in kind:
        return f"{_by_class(kind, classes)}, {size}"
    whose = "of a group's cells on average" if kind.get("unit") == "groups" else "of the cells"
    held = f"hold the true class of {100 * kind['measured']:.1f} % {whose}"
    if kind["verdict"] is None:
        return f"{held} where {100 * kind['asked_for']:g} % was asked for, {size}"
    if kind.get("one_sided"):
        # The number of classes in such sets makes them cover more, which is no fault and no news.
        low = f"the {100 * kind['band'][0]:.1f} % that chance leaves of {100 * kind['asked_for']:g} %"
        return f"{held}, {'below' if kind['verdict'] == 'below' else 'not below'} {low}, {size}"
    band = "band of {:.1f} to {:.1f} %".format(*(100 * end for end in kind["band"]))
    ends = {"within": f"within the {band}", "below": f"below the {band}", "above": f"above the {band}"}
    return f"{held}, {ends[kind['verdict']]}, {size}"


def _by_class(kind: dict[str, Any], classes: tuple[str, ...]) -> str:
    judged = [of for of in kind["class_bands"] if of is not None]
    if not kind["below_classes"]:
        return f"no class of {len(judged)} falls below its band"
    short = []
    for code, name in enumerate(classes):
        if name in kind["below_classes"]:
            of, (low, high) = kind["per_class"][code], kind["class_bands"][code]
            short.append(f"{name}, {100 * of['coverage']:.1f} % against {100 * low:.1f} to {100 * high:.1f} %")
    return f"{len(short)} of {len(judged)} classes fall below their bands ({'; '.join(short)})"


def _temperature(value: float | list[float]) -> str:
    if isinstance(value, list):
        return f"a temperature a fold ({min(value):.2f} to {max(value):.2f}{_at_bound(value)})"
    return f"temperature {value:.2f}{_at_bound([value])}"


def _at_bound(values: list[float]) -> str:
    """What to say of temperatures that would be further out if they could."""
    at = sum(value in (COLDEST, HOTTEST) for value in values)
    if not at:
        return ""
    return " (the bound of the search)" if len(values) == 1 else f"; {at} at the bound of the search"


def _by_chance(kind: dict[str, Any]) -> str:
    limit = (kind.get("if_calibrated") or {}).get("ece")
    return "" if limit is None else f", where chance alone makes up to {100 * limit:.1f} %"

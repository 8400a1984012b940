"""What calibration and sets came to, in a sentence each: also where they did not keep what they promise."""

from __future__ import annotations

from typing import Any


def calibration_statement(kinds: dict[str, dict[str, Any]], change: dict[str, Any]) -> str:
    """Whether temperature scaling lowers the NLL of the ensemble on the judged cells, and how sure that is.

    Args:
        kinds: "raw" and "temperature" with "nll", "ece" and "temperature" (a number, or one for each fold).
        change: "temperature" with the "value" of the change in NLL and its "interval", None of one group.
    """
    raw, scaled, found = kinds["raw"], kinds["temperature"], change["temperature"]
    if found["value"] == 0:
        return f"no temperature was fitted, for no validation cell was answered wrong; NLL stays {raw['nll']:.3f}"
    between = found["interval"]
    spread = f", 95 % interval {between[0]:+.3f} to {between[1]:+.3f}" if between else ""
    figures = (
        f"NLL, {raw['nll']:.3f} to {scaled['nll']:.3f} (change {found['value']:+.3f}{spread}); "
        f"ECE {100 * raw['ece']:.1f} to {100 * scaled['ece']:.1f} %"
    )
    if found["value"] > 0:
        return f"{_temperature(scaled['temperature'])} does not lower {figures}"
    unsure = between is not None and between[1] >= 0
    return f"{_temperature(scaled['temperature'])} lowers {figures}" + ("; other fields may undo it" if unsure else "")


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
        return f"a temperature a fold ({min(value):.2f} to {max(value):.2f})"
    return f"temperature {value:.2f}"

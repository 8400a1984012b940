"""Figures as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from cytodistill.metrics.intervals import Interval
from cytodistill.report.tables import Entry

NOTHING = "–"
NARROW = "\u202f"
"""A narrow space that no line breaks at."""

Ends = Sequence[float] | Interval | None
"""An interval: (low, high), or as the metrics have it."""


def percent(value: float | None) -> str:
    """A share as "78.8 %"; a dash where there is none."""
    return NOTHING if value is None else f"{100 * value:.1f}{NARROW}%"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number as "0.622", with a minus as long as a plus, and none before 0; a dash where there is none."""
    if value is None:
        return NOTHING
    text = f"{abs(value):.{digits}f}"
    return f"−{text}" if value < 0 and text.strip("0.") else text


def ends(of: Ends) -> tuple[float, float] | None:
    """Low and high."""
    if of is None:
        return None
    return (of.low, of.high) if isinstance(of, Interval) else (of[0], of[1])


def percents(of: Ends) -> str | None:
    """An interval of shares as "70.2–86.6"."""
    found = ends(of)
    return None if found is None else f"{100 * found[0]:.1f}–{100 * found[1]:.1f}"


def percent_entry(value: float | None, of: Ends = None) -> Entry:
    """A table's entry of a share and its interval, without the sign, which the heading has."""
    text = NOTHING if value is None else f"{100 * value:.1f}"
    return Entry(text, percents(of) if value is not None else None)


def decimal_entry(value: float | None, of: Ends = None, digits: int = 3) -> Entry:
    """A table's entry of a number and its interval, which "to" joins, for a minus sign may stand before either end."""
    found = ends(of) if value is not None else None
    under = None if found is None else f"{decimal(found[0], digits)} to {decimal(found[1], digits)}"
    return Entry(decimal(value, digits), under)


def error_entry(value: float, chance: float | None) -> Entry:
    """A table's entry of a calibration error in per cent, and what chance alone would make of it."""
    return Entry(f"{100 * value:.1f}", None if chance is None else f"chance ≤ {100 * chance:.1f}")


def count(value: int) -> str:
    """A whole number with a narrow space between thousands."""
    return f"{value:,}".replace(",", NARROW)


def counted(value: int, one: str, many: str | None = None) -> str:
    """ "1 cell", "2 cells"."""
    return f"{count(value)} {one if value == 1 else many or f'{one}s'}"

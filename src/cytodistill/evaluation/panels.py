"""Which rows of a table and panels of a picture a report has."""

from __future__ import annotations

from typing import Any


def panels(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by name, "Exit 1".."Exit E" and "Ensemble"; of a single exit that one alone, for its ensemble is it."""
    named = {f"Exit {e}": figures for e, figures in enumerate(metrics["exits"], start=1)}
    return named if len(named) == 1 else {**named, "Ensemble": metrics["ensemble"]}

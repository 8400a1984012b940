"""One cell's answer, taken apart for formats that keep its numbers and its words in different places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

# Okabe and Ito's colours, which colour-blind eyes tell apart; further classes begin again, darker.
COLOURS = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66))


class Answer(NamedTuple):
    """What a record of ``infer/writers.py`` says: the class, the numbers by name, the words by name; or the error."""

    predicted: str | None
    numbers: dict[str, float]
    words: dict[str, str]
    error: str | None


def answer_of(record: Mapping[str, Any]) -> Answer:
    """The answer of a record; what it leaves empty is left out."""
    said = {key: value for key, value in record.items() if key not in ("path", "predicted", "error") and value != ""}
    numbers = {key: float(value) for key, value in said.items() if isinstance(value, int | float)}
    words = {key: value for key, value in said.items() if isinstance(value, str)}
    return Answer(record.get("predicted"), numbers, words, record.get("error"))


def colours(classes: Sequence[str]) -> dict[str, list[int]]:
    """Red, green and blue, 0 to 255, of each class.

    Example:
        >>> colours(["normal", "abnormal"])
        {'normal': [0, 114, 178], 'abnormal': [230, 159, 0]}
    """
    return {
        name: [round(channel * 0.6 ** (code // len(COLOURS))) for channel in COLOURS[code % len(COLOURS)]]
        for code, name in enumerate(classes)
    }

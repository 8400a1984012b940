"""GeoJSON (RFC 7946) of cells, as QuPath exports and imports it: the same features out, with the answers in them.

QuPath reads ``properties.classification`` {name, color}, ``properties.measurements`` {name: number} and
``properties.metadata`` {name: text}; before its version 0.4 measurements were a list of {name, value}.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cytodistill.formats.answers import answer_of, colours
from cytodistill.formats.places import CellsError, extent, is_number, refuse

FEATURE = "feature"
BEFORE = "previous_classification"
"""Property that keeps the class that a cell had before it was answered."""


@dataclass(frozen=True)
class Features:
    """Features of a field's cells: as they are, apart from rings that are closed and measurements without a value that
    are left out. Each is kept as its JSON, for as objects they weigh several times as much. ``extents`` (N, 4) are x,
    y, width, height, the latter two 0 of points; ``members`` are what the collection says besides."""

    features: list[str]
    extents: np.ndarray
    members: dict[str, Any]
    rings_closed: int = 0
    measurements_dropped: int = 0

    def remarks(self) -> list[str]:
        """What was mended, a line each."""
        said = []
        if self.rings_closed:
            said.append(f"{self.rings_closed} rings of outlines were open; they are closed in what is written")
        if self.measurements_dropped:
            said.append(f"{self.measurements_dropped} measurements are NaN, which JSON cannot hold; they are left out")
        return said


def read_features(document: Any) -> Features:
    """Cells of a FeatureCollection; of a bare list of features too, and of a single one, for QuPath exports these.

    Raises:
        CellsError: it is none, has no features, or one that is not a cell: a geometry other than Point, Polygon and
            MultiPolygon, or coordinates that are none.
    """
    members: dict[str, Any] = {}
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        features = document.get("features")
        members = {key: value for key, value in document.items() if key not in ("type", "features")}
    elif isinstance(document, dict) and document.get("type") == "Feature":
        features = [document]
    else:
        features = document
    if not isinstance(features, list):
        raise CellsError("not GeoJSON of cells; give a FeatureCollection, as QuPath exports it")
    if not features:
        raise CellsError("no features; export the cells, not only the image")
    closed = dropped = 0
    extents = np.empty((len(features), 4))
    texts = []
    for number, feature in enumerate(features):
        properties = _properties(feature, number)
        extents[number], mended = _extent(feature["geometry"], number)
        closed += mended
        dropped += _drop_nan(properties)
        texts.append(_json_of(feature, number))
    return Features(texts, extents, members, closed, dropped)


def made_features(extents: np.ndarray) -> Features:
    """Features of cells that came in another format: points, or rectangles round what has an extent."""
    features = [
        _text({"type": "Feature", "geometry": _geometry(*row), "properties": {"objectType": "detection"}})
        for row in extents.tolist()
    ]
    return Features(features, extents, {})


class FeatureWriter:
    """Features with their answers as text, one a line.

    Args:
        features: of the cells.
        classes: the class names.
    """

    def __init__(self, features: Features, classes: Sequence[str]) -> None:
        self._features = features.features
        self._colours = colours(classes)
        said = "".join(f"{_text(key)}: {_text(value)}, " for key, value in features.members.items())
        self.head = f'{{"type": "FeatureCollection", {said}"features": [\n'
        self.tail = "\n]}\n"

    def line(self, position: int, record: Mapping[str, Any]) -> str:
        """The feature at a position, with the answer of a record of ``infer/writers.py``."""
        return _text(self._answered(json.loads(self._features[position]), record))

    def _answered(self, feature: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
        """A feature with an answer: its class, its numbers as measurements, its words as metadata. A cell that could
        not be read keeps its class, and has the reason as its property ``error``."""
        answer = answer_of(record)
        properties = dict(feature.get("properties") or {})
        if answer.predicted is None:
            properties["error"] = answer.error
            return {**feature, "properties": properties}
        properties.pop("error", None)
        if before := properties.get("classification"):
            properties.setdefault(BEFORE, before)
        properties["classification"] = {"name": answer.predicted, "color": self._colours[answer.predicted]}
        properties["measurements"] = _measured(properties.get("measurements"), answer.numbers)
        if answer.words:
            metadata = properties.get("metadata")
            properties["metadata"] = {**(metadata if isinstance(metadata, dict) else {}), **answer.words}
        return {**feature, "properties": properties}


def _measured(there: Any, numbers: Mapping[str, float]) -> Any:
    """Measurements and some more, in the way that they are written in."""
    if isinstance(there, list):
        kept = [entry for entry in there if not (isinstance(entry, dict) and entry.get("name") in numbers)]
        return kept + [{"name": name, "value": value} for name, value in numbers.items()]
    return {**(there if isinstance(there, dict) else {}), **numbers}


def _properties(feature: Any, number: int) -> dict[str, Any]:
    if not isinstance(feature, dict) or feature.get("type") != "Feature":
        refuse(FEATURE, number, "not a GeoJSON Feature; export the cells again")
    if not isinstance(feature.get("geometry"), dict):
        refuse(FEATURE, number, "no geometry; remove it, or export the cells again")
    properties = feature.setdefault("properties", None)
    if properties is not None and not isinstance(properties, dict):
        refuse(FEATURE, number, "properties that are no object; export the cells again")
    return properties or {}


def _extent(geometry: dict[str, Any], number: int) -> tuple[tuple[float, float, float, float], int]:
    """x, y, width, height of a geometry, and how many of its rings had to be closed."""
    kind = geometry.get("type")
    coordinates: Any = geometry.get("coordinates")
    if kind == "Point":
        _check_position(coordinates, number)
        return (*coordinates[:2], 0.0, 0.0), 0
    if kind not in ("Polygon", "MultiPolygon"):
        mend = "; split the points into one object each" if kind == "MultiPoint" else "; outline the cell"
        refuse(
            FEATURE, number, f"a geometry of type {kind!r:.40}, where a cell is Point, Polygon or MultiPolygon{mend}"
        )
    polygons = coordinates if kind == "MultiPolygon" else [coordinates]
    if (
        not isinstance(polygons, list)
        or not polygons
        or not all(isinstance(rings, list) and rings for rings in polygons)
    ):
        refuse(FEATURE, number, f"a {kind} without rings; export the cells again")
    closed = sum(_close(ring, number) for rings in polygons for ring in rings)
    found = extent([position for rings in polygons for position in rings[0]])
    if min(found[2:]) <= 0:
        refuse(FEATURE, number, "an outline without area; give a Point, or outline the cell")
    return found, closed


def _close(ring: Any, number: int) -> int:
    """Close a ring where it is open; whether it was."""
    if not isinstance(ring, list):
        refuse(FEATURE, number, "a ring that is no list of positions; export the cells again")
    for position in ring:
        _check_position(position, number)
    was_open = bool(ring) and ring[0] != ring[-1]
    if was_open:
        ring.append(list(ring[0]))
    if len(ring) < 4:
        refuse(FEATURE, number, f"a ring of {len(ring)} positions; an outline has three corners at least")
    return int(was_open)


def _check_position(position: Any, number: int) -> None:
    if not isinstance(position, list) or len(position) < 2 or not all(map(is_number, position)):
        shown = json.dumps(position)[:60]
        refuse(FEATURE, number, f"the position {shown} is not two numbers x, y; export the cells again")


def _drop_nan(properties: dict[str, Any]) -> int:
    """Take out the measurements that are NaN, which QuPath writes of a cell without nucleus; how many they were."""
    there = properties.get("measurements")
    if isinstance(there, dict):
        properties["measurements"] = kept = {name: value for name, value in there.items() if not _is_nan(value)}
        return len(there) - len(kept)
    if isinstance(there, list):
        some = [entry for entry in there if not (isinstance(entry, dict) and _is_nan(entry.get("value")))]
        properties["measurements"] = some
        return len(there) - len(some)
    return 0


def _json_of(feature: dict[str, Any], number: int) -> str:
    try:
        return _text(feature)
    except ValueError:
        refuse(FEATURE, number, "a property is NaN or infinite, which JSON cannot hold; remove the property")


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _geometry(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    if not (width and height):
        return {"type": "Point", "coordinates": [x, y]}
    right, bottom = x + width, y + height
    return {"type": "Polygon", "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]]}


def _text(value: Any) -> str:
    # Lone surrogates, which JSON may escape and UTF-8 cannot hold, stay escaped.
    return json.dumps(value, ensure_ascii=True, allow_nan=False)

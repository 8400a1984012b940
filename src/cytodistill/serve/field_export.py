"""A field's cells as GeoJSON for QuPath, with what the run and the reviewers said of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import select

from cytodistill.formats.cell_list import CellList
from cytodistill.formats.geojson import Features, FeatureWriter, made_features
from cytodistill.serve.coordinates import listed
from cytodistill.serve.errors import Refused
from cytodistill.serve.gallery import field_row
from cytodistill.serve.schemas import Prediction
from cytodistill.serve.store import Store
from cytodistill.serve.tables import CellRow, FieldRow

GEOJSON = "application/geo+json"
NONE = Features([], np.empty((0, 4)), {})


def field_lines(store: Store, id: str) -> Iterator[str]:
    """A FeatureCollection, a feature a cell that is there, in the order that the cells were sent in.

    A feature is the one that was sent, with its properties, or a point or rectangle of another list; where the list is
    not there any more, the cell's window. Its class is the standing review's, or else the run's; its metadata tell
    which.

    Args:
        store: of the field.
        id: of the field.

    Raises:
        Refused: there is no such field.
    """
    classes = store.identity.classes
    with store.read() as session:
        sent = _sent(store, field_row(session, id))
        writer = FeatureWriter(sent or NONE, classes)
        yield writer.head
        query = select(CellRow).where(CellRow.field_id == id).order_by(CellRow.number, CellRow.id)
        for place, row in enumerate(session.scalars(query.execution_options(yield_per=500))):
            if sent is not None and row.number <= len(sent.features):
                line = writer.line(row.number - 1, _record(row))
            else:
                line = FeatureWriter(made_features(_window(row)), classes).line(0, _record(row))
            yield f",\n{line}" if place else line
        yield writer.tail


def _sent(store: Store, field: FieldRow) -> Features | None:
    """The list that came with a field."""
    try:
        given = listed(store.list_file(field.id).read_bytes().decode(), field.name)
    except (FileNotFoundError, Refused):
        return None
    if isinstance(given, CellList) and isinstance(given.given, Features):
        return given.given
    return made_features(given.extents)


def _window(row: CellRow) -> np.ndarray:
    return np.array([[row.x, row.y, row.box_width, row.box_height]], np.float64)


def _record(row: CellRow) -> dict[str, Any]:
    """What is known of a cell in the columns of `cytodistill predict`, and who says its class."""
    answer = Prediction.model_validate_json(row.answer)
    probabilities = answer.probabilities if answer.calibrated is None else answer.calibrated
    figures = {"doubt": answer.doubt, "abnormal": answer.abnormal, "disagreement": answer.disagreement}
    reviewed = {"review_label": row.label, "reviewer": row.reviewer}
    return {
        "predicted": row.predicted if row.label is None else row.label,
        "confidence": max(probabilities.values()),
        **{f"prob_{name}": share for name, share in probabilities.items()},
        **{name: figure for name, figure in figures.items() if figure is not None},
        "stops_at": answer.stops_at,
        **{f"exit{exit.exit}_predicted": exit.predicted for exit in answer.exits},
        **({} if answer.set is None else {"set": "|".join(answer.set.classes)}),
        "classified_by": "run" if row.label is None else "reviewer",
        "run_predicted": row.predicted,
        **{name: said for name, said in reviewed.items() if said},
        "cell": row.id,
    }

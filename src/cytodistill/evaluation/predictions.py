"""One row a cell: what the ensemble and each exit said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cytodistill.data.table import BOX, CellTable


def predictions_frame(
    table: CellTable,
    indices: NDArray[np.integer],
    exit_probabilities: NDArray[np.floating],
    ensemble: NDArray[np.floating],
) -> pd.DataFrame:
    """The content of ``predictions.csv`` for the rows ``indices`` of a table.

    Columns: path; x, y, width, height (pixels) only where the table cuts cells out of larger images, for there the
    path alone does not say which cell it is; group; split; label; predicted; correct (missing where the label is not
    known); prob_<class> of the ensemble; then exit<k>_predicted and exit<k>_confidence (the highest probability) of
    exits 1..E, shallow to deep.

    Args:
        table: the cells.
        indices: (N,) positions in the table.
        exit_probabilities: (N, E, C) probabilities of each exit.
        ensemble: (N, C) probabilities of the ensemble, which decide ``predicted``.
    """
    names = np.array(table.classes, dtype=object)
    rows = table.frame.iloc[indices].reset_index(drop=True)
    boxed = [column for column in BOX if rows[column].notna().any()]
    predicted = names[ensemble.argmax(axis=1)]
    correct = pd.Series(predicted == rows["label"].to_numpy(object), dtype="boolean")
    columns: dict[str, Any] = {name: rows[name] for name in ("path", *boxed, "group", "split", "label")}
    columns["predicted"] = predicted
    columns["correct"] = correct.mask(rows["label"] == "")
    columns |= {f"prob_{name}": ensemble[:, code] for code, name in enumerate(table.classes)}
    for e in range(exit_probabilities.shape[1]):
        columns[f"exit{e + 1}_predicted"] = names[exit_probabilities[:, e].argmax(axis=1)]
        columns[f"exit{e + 1}_confidence"] = exit_probabilities[:, e].max(axis=1)
    return pd.DataFrame(columns)

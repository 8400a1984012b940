"""Intervals beside those figures of the screening view that the view itself has none of."""

from __future__ import annotations

from typing import Any

import numpy as np

from cytodistill.evaluation.applied import Screened
from cytodistill.metrics.group_decision import AGGREGATED, aggregate, group_labels
from cytodistill.metrics.group_resampling import GroupResampling, ends
from cytodistill.metrics.screening_intervals import (
    area_interval,
    average_precision_interval,
    sensitivity_interval,
    specificity_interval,
)


def with_intervals(
    view: dict[str, Any] | None, screened: Screened | None, groups: np.ndarray, draws: GroupResampling
) -> dict[str, Any] | None:
    """The view with "intervals": of "average_precision", "sensitivity_at_specificity" and "specificity_at_sensitivity",
    and with "auc_interval" beside the area of each score of a whole group. None of one group, or where the cells of a
    kind are of one.

    Args:
        view: of `screening_view`, None where there is none.
        screened: what it is a view of.
        groups: (N,) group of each cell.
        draws: of the groups.
    """
    if view is None or screened is None:
        return None
    scores, abnormal = np.clip(screened.scores, 0, 1), screened.abnormal
    found = view | {
        "intervals": {
            "average_precision": ends(average_precision_interval(draws, scores, abnormal)),
            "sensitivity_at_specificity": {
                at: ends(sensitivity_interval(draws, scores, abnormal, float(at)))
                for at in view["sensitivity_at_specificity"]
            },
            "specificity_at_sensitivity": {
                at: ends(specificity_interval(draws, scores, abnormal, float(at)))
                for at in view["specificity_at_sensitivity"]
            },
        }
    }
    if view["fields"]:
        names, truth = group_labels(abnormal, groups)
        whole = GroupResampling(names)  # a group is one unit here, with one score
        found["fields"] = dict(view["fields"])
        for _, how, k in AGGREGATED:
            own = aggregate(scores, groups, how, k)[1]
            found["fields"][how] = view["fields"][how] | {"auc_interval": ends(area_interval(whole, own, truth))}
    return found

"""What all sections are made of: the cells that were judged, what was said of them, and the runs that said it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cytodistill.data.table import CellTable
from cytodistill.evaluation.applied import Applied
from cytodistill.evaluation.trust import SETS, doubt_report
from cytodistill.metrics.group_resampling import GroupResampling
from cytodistill.train.run_folder import Run

if TYPE_CHECKING:
    from cytodistill.evaluation.run import Evaluation
    from cytodistill.train.folds import Folds


@dataclass(frozen=True)
class Judged:
    """An evaluation's N cells: its ``metrics``, their ``table``, the probabilities of the exits (N, E, C) and of the
    ensemble (N, C) as the network gave them, what the validation cells decided ``applied`` to them, and ``parts``: each
    run and the (n,) rows of the cells that it judged."""

    name: str
    metrics: dict[str, Any]
    table: CellTable
    exits: np.ndarray
    raw: np.ndarray
    applied: Applied | None
    parts: Sequence[tuple[Run, np.ndarray]]

    @property
    def classes(self) -> tuple[str, ...]:
        """Of the figures; in an external test others than the run's."""
        return self.table.classes

    @property
    def speaker(self) -> str:
        """Whose answers count: the ensemble of the exits, or of one exit alone the model."""
        return "the ensemble" if self.exits.shape[1] > 1 else "the model"

    @property
    def run(self) -> Run:
        """The run, or of a cross-validation its first."""
        return self.parts[0][0]

    @property
    def external(self) -> bool:
        """Whether the cells are of a data set with other classes than the run's."""
        return "external" in self.metrics

    @property
    def trust(self) -> dict[str, Any] | None:
        """What was measured with what the validation cells decided; None where nothing was."""
        return next(
            (self.metrics[key] for key in ("trust", "carried_over", "pooled_trust") if key in self.metrics), None
        )

    @property
    def fitted_on(self) -> tuple[int, int]:
        """How many validation cells and groups decided, of all folds together."""
        fitted = self.applied.fitted_on if self.applied else ()
        return sum(of["cells"] for of in fitted), sum(of["groups"] for of in fitted)

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) codes."""
        return self.table.labels

    @cached_property
    def groups(self) -> np.ndarray:
        """(N,) names."""
        return self.table.groups

    @property
    def probabilities(self) -> np.ndarray:
        """(N, C) the best probabilities of the ensemble that there are: calibrated where calibrators were fitted."""
        return self.raw if self.applied is None else self.applied.ensemble

    @property
    def sets(self) -> np.ndarray | None:
        """(N, C) whether each class is in the cell's set for 90 %; None where there are none."""
        return self.applied.sets.get(SETS) if self.applied else None

    @cached_property
    def correct(self) -> np.ndarray:
        """(N,) whether the ensemble is right."""
        return self.raw.argmax(1) == self.labels

    @cached_property
    def doubt(self) -> dict[str, Any]:
        """How well doubt finds wrong answers, as metrics.json has it; where it has nothing, as it would."""
        if self.trust is not None:
            return self.trust["doubt"]
        return doubt_report(self.resampling, self.exits, self.probabilities, self.labels)

    @property
    def class_intervals(self) -> dict[str, dict[str, Any]]:
        """{class: {figure: its interval, or None}} of the ensemble; empty of one group."""
        found = self.metrics["intervals"]
        return found["ensemble"]["per_class"] if found else {}

    @cached_property
    def resampling(self) -> GroupResampling:
        """Draws of the groups, the same for every interval of the page."""
        return GroupResampling(self.groups)


def judged(evaluation: Evaluation, run: Run | Folds) -> Judged:
    """The cells of an evaluation of a run or a cross-validation."""
    answers = evaluation.answers
    if isinstance(run, Run):
        parts = [(run, np.arange(len(answers)))]
    else:
        fold_of = evaluation.predictions["fold"].to_numpy()
        parts = [(of_fold, np.flatnonzero(fold_of == fold)) for fold, of_fold in enumerate(run.runs)]
    return Judged(
        run.path.absolute().name,
        evaluation.metrics,
        evaluation.table,
        answers.exit_probabilities,
        answers.probabilities,
        evaluation.applied,
        parts,
    )

"""write_report: an evaluation in; report.html, model_card.json and model_card.md out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytodistill.files import atomic_write
from cytodistill.report.by_class import class_section
from cytodistill.report.calibration import calibration_section
from cytodistill.report.confusion import confusion_section
from cytodistill.report.data_card import data_section
from cytodistill.report.doubt import doubt_section
from cytodistill.report.early_exit import early_exit_section
from cytodistill.report.exits import exits_section
from cytodistill.report.external import external_section
from cytodistill.report.gallery import gallery_section
from cytodistill.report.groups import groups_section
from cytodistill.report.judged import Judged, judged
from cytodistill.report.model_card import card_section, model_card, model_card_markdown
from cytodistill.report.one_vs_rest import one_vs_rest_section
from cytodistill.report.overview import overview
from cytodistill.report.page import page
from cytodistill.report.screening import screening_section
from cytodistill.report.section import Section
from cytodistill.report.sets import sets_section
from cytodistill.report.settings import settings_section
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

if TYPE_CHECKING:
    from cytodistill.evaluation.run import Evaluation
    from cytodistill.train.folds import Folds


def write_report(
    evaluation: Evaluation,
    run: Run | Folds,
    folder: str | Path,
    watcher: Watcher | None = None,
    *,
    card: bool = True,
) -> list[Path]:
    """Write the report of an evaluation, and the model card, beside its metrics.json.

    The page is the same for the same evaluation, byte for byte: it holds no date. Its size does not grow with the
    cells: curves are thinned, and the gallery and the list of groups are bounded.

    Args:
        evaluation: of the run, on cells with labels.
        run: the run that was evaluated, or the cross-validation.
        folder: of the evaluation, made where it is missing; each file replaces an older one whole or not at all.
        watcher: is told of progress.
        card: whether there is a model card, here and on the page.

    Returns:
        The paths written: report.html, model_card.json, model_card.md.

    Raises:
        CytodistillError: the run's weights or the images of the cells that are shown cannot be read.
    """
    cells = judged(evaluation, run)
    said = model_card(cells) if card else None
    content = {"report.html": page(overview(cells), sections(cells, said, watcher or Silent()))}
    if said is not None:
        content |= {
            "model_card.json": json.dumps(said, indent=2, allow_nan=False, ensure_ascii=False) + "\n",
            "model_card.md": model_card_markdown(said, cells),
        }
    for name, text in content.items():
        # Names of files that are no UTF-8 hold halves of surrogate pairs.
        atomic_write(Path(folder) / name, text.encode("utf-8", "replace"))
    return [Path(folder) / name for name in content]


def sections(cells: Judged, card: dict[str, Any] | None, watcher: Watcher) -> list[Section]:
    """The sections of the page, those left out that these cells or this run have nothing for."""
    found = [
        external_section(cells),
        exits_section(cells),
        class_section(cells),
        confusion_section(cells),
        screening_section(cells) or one_vs_rest_section(cells),
        calibration_section(cells),
        sets_section(cells),
        doubt_section(cells),
        early_exit_section(cells),
        gallery_section(cells, watcher),
        groups_section(cells),
        data_section(cells),
        card_section(card) if card is not None else None,
        settings_section(cells),
    ]
    return [section for section in found if section is not None]

"""The model card: what the model is for, what it was tested on, how good it was, and what it must not be used for.

Its headings are those of Mitchell et al., Model Cards for Model Reporting (FAT* 2019), as far as they apply.
"""

from __future__ import annotations

from typing import Any

from cytodistill.evaluation.panels import panels
from cytodistill.evaluation.table import COLUMNS
from cytodistill.evaluation.trust import SETS
from cytodistill.metrics.classification import PER_CLASS
from cytodistill.report.by_class import class_table
from cytodistill.report.data_card import counts_tables, facts_table
from cytodistill.report.exits import exits_table
from cytodistill.report.judged import Judged
from cytodistill.report.numbers import counted
from cytodistill.report.overview import RESEARCH_ONLY, evaluated, warnings
from cytodistill.report.page import markdown_templates
from cytodistill.report.section import Points, Section

FORMAT = 2
INTENDED = (
    "Research on the classification of single, already cropped cells of cervical smears into the model's classes.",
    "Comparison with other models on the same cells, splits and groups.",
    "A second opinion in research on how doubtful cells are handed to people.",
)
OUT_OF_SCOPE = (
    "Diagnosis, screening, triage or any other decision about a person.",
    "Whole slides or fields without a step that finds cells and is itself validated.",
    "Cells of other organs, preparations, stains, magnifications or scanners than those it was tested on.",
    "Images that hold no cell, several cells, or a cell of none of the classes: they are answered all the same.",
)


def model_card(judged: Judged) -> dict[str, Any]:
    """Content of model_card.json."""
    info, metrics = judged.run.info, judged.metrics
    return {
        "format": FORMAT,
        "name": judged.name,
        "statement": RESEARCH_ONLY,
        "model": _model(judged),
        "intended_use": list(INTENDED),
        "out_of_scope_use": list(OUT_OF_SCOPE),
        "data": {
            "trained_on": info["table"],
            "evaluated_on": {
                "source": metrics["source"],
                "split": metrics["split"],
                "format": judged.table.format,
                "cells": metrics["n"],
                "groups": metrics["groups"],
                "digest": judged.table.digest(),
            },
        },
        "protocol": protocol(judged),
        "figures": _figures(judged),
        "calibration": _calibration(judged),
        "limits": limits(judged),
        "versions": info["versions"],
    }


def model_card_markdown(card: dict[str, Any], judged: Judged) -> str:
    """The card as Markdown; what comes from outside is text in it and never markup."""
    return (
        markdown_templates()
        .get_template("model_card.md")
        .render(
            card=card,
            evaluated=evaluated(judged.metrics),
            exits=exits_table(judged),
            by_class=class_table(judged),
            data=facts_table(judged),
            counts=counts_tables(judged),
        )
    )


def card_section(card: dict[str, Any]) -> Section:
    """What of the card is not elsewhere on the page: the model, its use, the protocol and the limits."""
    model = card["model"]
    exits, method = model["exits"], model["method"].replace("_", " ")
    text = [
        f"{model['backbone']} with {counted(exits, 'exit')}, by {method}, teacher {model['teacher']}. It takes an "
        f"{model['input']}, and gives the {model['output'] if exits > 1 else 'probability of each class'}.",
        "model_card.md and model_card.json, beside this page, have the whole card, to be kept with the model.",
    ]
    lists = [
        Points("Intended use", card["intended_use"]),
        Points("Uses out of scope", card["out_of_scope_use"]),
        Points("Protocol", card["protocol"]),
        Points("Limits", card["limits"]),
    ]
    return Section("model-card", "Model card", text, lists=lists)


def _model(judged: Judged) -> dict[str, Any]:
    info, recipe = judged.run.info, judged.run.recipe
    return {
        "backbone": recipe.student.backbone,
        "exits": len(judged.metrics["exits"]),
        "estimator": recipe.estimator.head,
        "parameters": info["parameters"],
        "input": f"RGB image of one cell, {recipe.data.image_size}×{recipe.data.image_size} px ({recipe.data.resize})",
        "output": "probability of each class, by exit and by their mean",
        "classes": list(judged.run.classes),
        "recipe": info["recipe"]["name"],
        "method": info["recipe"]["method"]["name"],
        "teacher": info["recipe"]["teacher"]["source"],
        "seed": info["seed"],
        "fingerprint": info["fingerprint"],
        "runs": len(judged.parts),
    }


def protocol(judged: Judged) -> list[str]:
    """How the figures were made, in sentences."""
    metrics, recipe = judged.metrics, judged.run.recipe
    grouped = recipe.data.group != "none"
    said = [
        "Cells of one group are all in one split."
        if grouped
        else "Cells of one group may be in several splits: the figures may be too good.",
        f"The kept weights are those of the best epoch by {recipe.train.select} on the validation cells."
        if recipe.train.select != "last"
        else "The kept weights are those of the last epoch.",
    ]
    if "folds" in metrics:
        said.append(
            f"Cross-validation of {len(metrics['folds'])} folds: each cell is judged by the run that has not seen it."
        )
    if metrics["source"] is not None:
        said.append("The evaluated cells are of another source than the training cells.")
    if judged.external:
        said.append(
            f"Classes are brought together by the class maps {metrics['class_map']} and {metrics['source_map']}."
        )
    if judged.trust:
        cells, groups = judged.fitted_on
        said.append(
            f"Calibration, sets and operating points were fitted on {cells} validation cells of {groups} groups, and "
            "measured on the evaluated cells."
        )
    if metrics["intervals"]:
        said.append(
            f"Intervals: {100 * metrics['intervals']['level']:.0f} %, {metrics['intervals']['method']}, "
            f"{metrics['intervals']['resamples']} resamples."
        )
    return said


def _figures(judged: Judged) -> dict[str, Any]:
    metrics = judged.metrics
    intervals = metrics["intervals"] or {"exits": [{}] * len(metrics["exits"]), "ensemble": {}}
    ends = [*intervals["exits"], intervals["ensemble"]]
    named = {
        name: {key: {"value": figures[key], "interval": ends[place].get(key)} for key in COLUMNS}
        for place, (name, figures) in enumerate(panels(metrics).items())
    }
    by_class = {
        name: {"n": of["n"]}
        | {key: {"value": of[key], "interval": judged.class_intervals.get(name, {}).get(key)} for key in PER_CLASS}
        for name, of in metrics["ensemble"]["per_class"].items()
    }
    return {"by_exit": named, "by_class": by_class}


def _calibration(judged: Judged) -> dict[str, Any] | None:
    if judged.trust is None:
        return None
    measured = judged.trust["calibration"]["ensemble"]
    sets, view = judged.trust["conformal"].get(SETS), judged.trust["screening"]
    return {
        "fitted_on": judged.trust["fitted_on"],
        "before": _scores(measured["raw"]),
        "statement": judged.trust["statements"]["calibration"],
        "after": {"temperature": measured["temperature"]["temperature"], **_scores(measured["temperature"])},
        "sets": None
        if sets is None
        else {name: sets[name] for name in ("asked_for", "band", "verdict")}
        | {
            name: {"value": sets[name], "interval": sets["intervals"][name]}
            for name in ("coverage", "group_coverage", "mean_size")
        },
        "screening": None
        if view is None
        else {
            name: view[name] for name in ("class_map", "abnormal_classes", "auc", "auc_interval", "operating_points")
        },
    }


def _scores(figures: dict[str, Any]) -> dict[str, Any]:
    """Scores with their intervals; a calibration error with what chance alone would make of it, 95 times of 100."""
    scores = {
        name: {"value": figures[name], "interval": figures["intervals"][name]}
        for name in ("nll", "brier", "overconfidence")
    }
    return scores | {"ece": {"value": figures["ece"], "if_calibrated": figures["if_calibrated"]["ece"]}}


def limits(judged: Judged) -> list[str]:
    """What the figures do not say, in sentences."""
    metrics = judged.metrics
    per_class = {name: of["n"] for name, of in metrics["ensemble"]["per_class"].items() if of["n"]}
    rarest = min(per_class, key=lambda name: per_class[name])
    said = [*warnings(judged)]
    if metrics["source"] is None:
        said.append(
            f"Tested on the source that it was trained on ({judged.table.format}): other laboratories, stains and "
            "scanners are untested, and accuracies fall there, often far."
        )
    said += [
        f"The rarest class, {rarest}, has {per_class[rarest]} evaluated cells.",
        "The share of each class is that of the collection and not that of routine slides: predictive values do not "
        "carry over.",
        "Labels are those of the source and may be wrong; some of the most wrong cells of the report may be.",
        "Intervals hold the chance of the evaluated groups, not that of another training.",
    ]
    return said

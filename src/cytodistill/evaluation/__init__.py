"""Probabilities in; metrics, predictions, tables and figures out."""

from cytodistill.evaluation.confusion import confusion_figure
from cytodistill.evaluation.predictions import predictions_frame
from cytodistill.evaluation.report import metrics_report, write_evaluation
from cytodistill.evaluation.table import metrics_table

__all__ = [
    "confusion_figure",
    "metrics_report",
    "metrics_table",
    "predictions_frame",
    "write_evaluation",
]

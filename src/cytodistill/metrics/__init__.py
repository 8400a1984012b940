"""Figures from (probabilities, labels, groups), each computed in one place."""

from cytodistill.metrics.classification import classification_metrics

__all__ = ["classification_metrics"]

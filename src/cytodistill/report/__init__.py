"""The report of an evaluation: one page for people, and a model card."""

from cytodistill.report.write import write_report

__all__ = ["write_report"]

"""Export: a run's network as graphs of another runtime, proven to answer as the run does."""

from cytodistill.export.run import Exported, export

__all__ = ["Exported", "export"]

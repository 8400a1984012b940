"""Drawn Pap-smear cells in SIPaKMeD's own format, for trials, tests and the demo: no patient data, no download."""

from cytodistill.data.sources.synthetic.traits import CLASSES
from cytodistill.data.sources.synthetic.write import LEAST_CELLS, synthesize

__all__ = ["CLASSES", "LEAST_CELLS", "synthesize"]

"""Where each exit of a network looked, and checks of whether such a map means anything."""

from cytodistill.explain.agreement import exit_agreement, map_correlations
from cytodistill.explain.attention import exit_attention
from cytodistill.explain.cam import ClassMaps, class_maps
from cytodistill.explain.occlusion import deletion, randomisation
from cytodistill.explain.run import Explanation, explain

__all__ = [
    "ClassMaps",
    "Explanation",
    "class_maps",
    "deletion",
    "exit_agreement",
    "exit_attention",
    "explain",
    "map_correlations",
    "randomisation",
]

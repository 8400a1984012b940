"""Distillation methods. Importing this package registers those that come with it; a further one registers itself
wherever it is defined, with ``@register("name")``."""

from cytodistill.distill import (  # noqa: F401 (registers)
    attention_transfer,
    deep_supervision,
    dist,
    dkd,
    fitnet,
    kd,
    logit_standardisation,
    pkt,
    rkd,
    self_distillation,
    similarity,
    supervised,
    vid,
)
from cytodistill.distill.method import (
    Batch,
    CrossEntropy,
    Method,
    build_method,
    method_class,
    method_names,
    method_settings,
    register,
)

__all__ = [
    "Batch",
    "CrossEntropy",
    "Method",
    "build_method",
    "method_class",
    "method_names",
    "method_settings",
    "register",
]

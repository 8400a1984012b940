"""Distillation methods. Importing this package registers those that come with it; a further one registers itself
wherever it is defined, with ``@register("name")``."""

from cytodistill.distill import (  # noqa: F401 (registers)
    activation_boundaries,
    attention_transfer,
    crd,
    deep_supervision,
    dist,
    dkd,
    fitnet,
    kd,
    logit_standardisation,
    pkt,
    rkd,
    scan,
    self_distillation,
    similarity,
    snapshot,
    sskd,
    supervised,
    vid,
)
from cytodistill.distill.method import (
    Batch,
    CrossEntropy,
    Method,
    Pretraining,
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
    "Pretraining",
    "build_method",
    "method_class",
    "method_names",
    "method_settings",
    "register",
]

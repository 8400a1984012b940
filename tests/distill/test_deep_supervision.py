import numpy as np
import pytest
from scipy.special import log_softmax

from cytodistill.distill import CrossEntropy, build_method
from cytodistill.errors import CytodistillError
from cytodistill.models.outputs import OutputShapes


def test_every_exit_learns_the_labels(lesson, numbers):
    taught = lesson(
        "deep_supervision", student=OutputShapes((11, 11, 11)), shallow_ce_weight=0.5, deepest_ce_weight=2.0
    )
    labels = taught.batch.labels.numpy()
    *shallow, deepest = (
        -log_softmax(numbers(z), 1)[np.arange(len(labels)), labels].mean() for z in taught.outputs.logits
    )
    parts = taught.values()
    assert parts["shallow_ce"] == pytest.approx(0.5 * sum(shallow), rel=1e-5)
    assert parts["deepest_ce"] == pytest.approx(2 * deepest, rel=1e-5)
    assert parts["loss"] == pytest.approx(0.5 * sum(shallow) + 2 * deepest, rel=1e-5)


def test_needs_a_second_exit():
    with pytest.raises(CytodistillError, match="has one exit, .*set student.multi_exit=true"):
        build_method("deep_supervision", {}, CrossEntropy(), OutputShapes((512,)))

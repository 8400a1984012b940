import numpy as np
import pytest
import torch
from scipy.special import softmax

from cytodistill.distill.divergence import soft_kl


def np_kl(p, q):
    return (p * np.log(p / q)).sum(1).mean()


def test_target_and_others(lesson, numbers):
    taught = lesson("dkd")
    labels = taught.batch.labels.numpy()
    own = np.eye(7, dtype=bool)[labels]
    binary, others = [], []
    for logits in (taught.teacher.logits[-1], taught.outputs.logits[-1]):
        z = numbers(logits) / 4
        p = softmax(z, 1)[own]
        binary.append(np.stack([p, 1 - p], 1))
        others.append(softmax(z[~own].reshape(len(z), -1), 1))
    parts = taught.values()
    assert parts["tckd"] == pytest.approx(16 * np_kl(*binary), rel=1e-4)
    assert parts["nckd"] == pytest.approx(8 * 16 * np_kl(*others), rel=1e-4)
    assert parts["loss"] == pytest.approx(parts["ce"] + parts["tckd"] + parts["nckd"], rel=1e-6)


def test_kd_is_both_with_the_teachers_doubt_as_beta(lesson):
    """Eq. 7 of the paper: KL(t ‖ s) = TCKD + (1 − p_y of the teacher) · NCKD, for one cell."""
    taught = lesson("dkd", cells=1, nckd_weight=1.0, temperature=1.0)
    parts = taught.values()
    t, s = taught.teacher.logits[-1], taught.outputs.logits[-1]
    doubt = 1 - t.softmax(1)[0, taught.batch.labels[0]].item()
    assert soft_kl(s, t, 1.0).item() == pytest.approx(parts["tckd"] + doubt * parts["nckd"], rel=1e-4)


def test_a_teacher_that_is_sure_stays_finite(lesson):
    taught = lesson("dkd")
    for outputs, sign in ((taught.teacher, 1), (taught.outputs, -1)):
        outputs.logits[-1] = (sign * 500 * torch.eye(7)[taught.batch.labels]).requires_grad_()
    parts = taught.parts()
    parts["loss"].backward()
    assert torch.isfinite(parts["loss"])
    assert torch.isfinite(taught.outputs.logits[-1].grad).all()


def test_of_two_classes_there_are_no_others(lesson):
    assert lesson("dkd", classes=2).values()["nckd"] == pytest.approx(0, abs=1e-6)

"""Kullback–Leibler divergence of softened class probabilities, eq. 2 and 3."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_kl(student: Tensor, teacher: Tensor, temperature: float, direction: str = "teacher_student") -> Tensor:
    """τ² · KL between the softmax of two (B, C) logits at temperature τ, averaged over the batch: a scalar.

    With t = softmax(teacher/τ) and s = softmax(student/τ), ``teacher_student`` is KL(t ‖ s) = Σ t ln(t/s), the form of
    Hinton et al. 2015 and of the field; ``student_teacher`` is KL(s ‖ t), as the paper's eq. 2 is printed. The
    teacher's logits are detached here, so no gradient can reach them.
    """
    log_student = F.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.detach().float() / temperature, dim=-1)
    if direction == "teacher_student":
        divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    else:
        divergence = F.kl_div(log_teacher, log_student, reduction="batchmean", log_target=True)
    return temperature**2 * divergence

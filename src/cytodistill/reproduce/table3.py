"""Table 3: what transfer learning, distillation and self-distillation each add to ResNet-18."""

from __future__ import annotations

from cytodistill.reproduce.table import PaperTable, Row

SINGLE = {"student.multi_exit": False, "teacher.source": "none", "method.name": "supervised"}


def table3(
    student_weights: str = "imagenet", teacher: str = "resnest50d", teacher_weights: str = "imagenet"
) -> PaperTable:
    """Table 3's rows.

    Args:
        student_weights: natural-image weights of ResNet-18: "imagenet" or a file.
        teacher: timm name of the teacher (the paper's is ResNeSt-50).
        teacher_weights: its natural-image weights: "imagenet" or a file.
    """
    taught = f"{teacher} + TL"
    return PaperTable(
        "table3",
        "Table 3: ablation of transfer learning (TL), distillation (KD) and self-distillation (SD)",
        (
            Row(taught, {**SINGLE, "student.backbone": teacher, "student.pretrained": teacher_weights}, 98.15),
            Row("ResNet-18", {**SINGLE, "student.pretrained": "none"}, 95.31),
            Row("ResNet-18 + TL", {**SINGLE, "student.pretrained": student_weights}, 96.54),
            Row(
                "ResNet-18 + TL + KD",
                {"student.multi_exit": False, "student.pretrained": student_weights, "method.name": "kd"},
                97.66,
                teacher=taught,
            ),
            Row(
                "ResNet-18 + TL + KD + SD",
                {"student.pretrained": student_weights, "method.name": "self_distillation"},
                98.52,
                teacher=taught,
            ),
        ),
    )

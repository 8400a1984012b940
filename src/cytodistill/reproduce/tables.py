"""Tables 2–6 of the paper: their rows, the paper's figures in %, and the system that each row is here.

Figures are those of the paper on SIPaKMeD (Tables 2–5) and CIFAR-100 (Table 6).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cytodistill.errors import CytodistillError

ABLATIONS, BEYOND = "Ablations", "Beyond the paper"


@dataclass(frozen=True)
class Row:
    """One line: its name, the key of its system, and the paper's figures for it.

    ``paper`` may have accuracy, sensitivity, specificity, f1, and exits with ensemble. ``group`` is the heading that
    the row stands under. ``extra`` rows are not the paper's and are run when they are asked for.
    """

    name: str
    system: str
    paper: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    extra: bool = False


@dataclass(frozen=True)
class PaperTable:
    """A table: its title, rows, and the system that the others are compared with."""

    name: str
    title: str
    rows: tuple[Row, ...]
    reference: str
    sources: tuple[str, ...] = ("sipakmed",)
    """Formats of the data that the paper's own figures are of."""
    students: tuple[str, ...] = ()
    """Default students of a table that has several, whose names stand before the keys of their systems."""

    def reference_of(self, row: Row) -> str:
        """System that a row is compared with: of several students, the row's own student's."""
        return f"{row.group}-sd" if row.group in self.students else self.reference

    def select(self, patterns: Sequence[str]) -> tuple[Row, ...]:
        """Rows whose name or system matches one of the patterns (``*`` and ``?`` as in file names, case ignored), in
        the table's order; the paper's own where there is no pattern.

        Raises:
            CytodistillError: a pattern that matches no row.
        """
        if not patterns:
            return tuple(row for row in self.rows if not row.extra)

        def matches(row: Row, pattern: str) -> bool:
            names = (row.name, row.system, f"{row.group}/{row.name}")
            return any(fnmatch.fnmatchcase(name.lower(), pattern.lower().strip()) for name in names)

        for pattern in patterns:
            if not any(matches(row, pattern) for row in self.rows):
                names = ", ".join(row.name for row in self.rows)
                raise CytodistillError(f"--rows {pattern}: no row of {self.name} is called so; it has {names}")
        return tuple(row for row in self.rows if any(matches(row, pattern) for pattern in patterns))


def _four(accuracy: float, sensitivity: float, specificity: float, f1: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "sensitivity": sensitivity, "specificity": specificity, "f1": f1}


def _exits(*figures: float) -> dict[str, Any]:
    *exits, ensemble = figures
    return {"exits": exits, "ensemble": ensemble, "accuracy": ensemble}


def table2(teacher: str) -> PaperTable:
    """Comparison with other classifiers. ``teacher`` is the network whose run is the teacher's."""

    def cnn(name: str, backbone: str, paper: dict[str, Any]) -> Row:
        return Row(name, "teacher" if backbone == teacher else backbone, paper)

    rows = (
        Row("DeepPap", "deeppap", _four(93.58, 97.40, 96.90, 97.60)),
        Row("MLP on features", "mlp", {"accuracy": 88.54}),
        Row("Deep convolutional features + SVM", "conv-svm", {"accuracy": 93.35}),
        Row("Deep fully-connected features + SVM", "fc-svm", {"accuracy": 94.44}),
        cnn("CNN (VGG-19)", "vgg19", {"accuracy": 95.35}),
        Row("Mor-27", "mor27", _four(88.47, 95.90, 90.90, 95.00)),
        cnn("ResNet-101", "resnet101", _four(94.86, 99.10, 97.70, 98.70)),
        cnn("DenseNet-121", "densenet121", _four(96.79, 99.00, 98.90, 99.20)),
        Row("GCN", "gcn", _four(97.37, 99.60, 99.50, 99.60)),
        cnn("ResNet-50", "resnet50", _four(97.63, 97.62, 99.50, 98.43)),
        cnn("Inception V3", "inception_v3", _four(97.72, 97.62, 98.83, 98.24)),
        cnn("Compact VGG", "compact_vgg", _four(97.80, 97.80, 99.17, 98.28)),
        Row("Ours (improved ResNet-18)", "kd-sd", _four(98.52, 98.53, 98.68, 98.59)),
    )
    return PaperTable("table2", "Table 2: comparison with other classifiers", rows, reference="kd-sd")


def table3(teacher: str) -> PaperTable:
    """What each part adds."""
    rows = (
        Row(f"{teacher} + TL (the teacher)", "teacher", {"accuracy": 98.15}),
        Row("ResNet-18", "scratch", {"accuracy": 95.31}),
        Row("ResNet-18 + TL", "transfer", {"accuracy": 96.54}),
        Row("ResNet-18 + TL + KD", "kd", {"accuracy": 97.66}),
        Row("ResNet-18 + TL + KD + SD", "kd-sd", {"accuracy": 98.52}),
    )
    title = "Table 3: ablation of transfer learning (TL), distillation (KD) and self-distillation (SD)"
    return PaperTable("table3", title, rows, reference="kd-sd")


def table4() -> PaperTable:
    """Multi-exit networks, exit by exit."""
    rows = (
        Row("Baseline", "baseline", _exits(92.61, 95.44, 94.82, 95.31, 95.93)),
        Row("SCAN", "scan", _exits(95.13, 95.43, 97.07, 96.32, 97.21)),
        Row("MSDNet", "msdnet", _exits(96.76, 96.28, 95.66, 96.23, 96.47)),
        Row("Ours", "sd", _exits(95.65, 96.91, 97.16, 97.68, 98.15)),
        Row("Ours, deep supervision alone", "deep-supervision", {}, ABLATIONS),
        Row("Ours, with the teacher", "kd-sd", {}, ABLATIONS),
    )
    return PaperTable("table4", "Table 4: multi-exit networks, by exit and ensemble", rows, reference="sd")


BEYOND_ROWS = (
    ("SP", "similarity"),
    ("DKD", "dkd"),
    ("DIST", "dist"),
    ("Logit standardisation", "logit-standardisation"),
)


def table5(teacher: str) -> PaperTable:
    """Distillation methods on cells."""
    rows = (
        Row(f"{teacher} (the teacher)", "teacher", {"accuracy": 97.04}),
        Row("ResNet-18", "transfer", {"accuracy": 95.56}),
        Row("KD", "kd", {"accuracy": 96.54}),
        Row("FitNet", "fitnet", {"accuracy": 97.78}),
        Row("AT", "at", {"accuracy": 97.16}),
        Row("SD (snapshot distillation)", "snapshot", {"accuracy": 96.79}),
        Row("VID", "vid", {"accuracy": 96.42}),
        Row("Ours", "sd", {"accuracy": 98.15}),
        Row("Ours, with the teacher (TL + KD + SD)", "kd-sd", {}, ABLATIONS),
        Row("Ours, deep supervision alone", "deep-supervision", {}, ABLATIONS),
        *(
            Row(name, key, {}, BEYOND, extra=True)
            for name, key in (
                *BEYOND_ROWS,
                ("RKD", "rkd"),
                ("PKT", "pkt"),
                ("AB", "ab"),
                ("CRD", "crd"),
                ("SSKD", "sskd"),
            )
        ),
    )
    return PaperTable("table5", "Table 5: distillation methods on cells", rows, reference="kd-sd")


_CIFAR = (
    ("Student alone", "transfer", 77.98, 77.09),
    ("KD", "kd4", 79.69, 79.86),
    ("FitNet", "fitnet", 80.51, 79.24),
    ("AT", "at", 80.41, 80.19),
    ("VID", "vid", 79.24, 79.67),
    ("RKD", "rkd", 80.22, 79.60),
    ("PKT", "pkt", 80.57, 79.44),
    ("AB", "ab", 81.21, 79.50),
    ("CRD", "crd", 80.53, 79.81),
    ("SSKD", "sskd", 80.29, 80.36),
    ("Ours", "sd", 82.27, 80.56),
)
PAPERS_STUDENTS = ("resnet50", "resnet18")


def table6(teacher: str, students: Sequence[str]) -> PaperTable:
    """Distillation methods on CIFAR-100, for each student. The paper's figures stand beside its own two students."""
    rows = [Row(f"{teacher} (the teacher)", "teacher", {"accuracy": 80.91} if teacher == "resnet152" else {})]
    for student in students:
        for name, key, *figures in _CIFAR:
            theirs = {"accuracy": figures[PAPERS_STUDENTS.index(student)]} if student in PAPERS_STUDENTS else {}
            rows.append(Row(name, f"{student}-{key}", theirs, student))
        rows += [
            Row("Ours, deep supervision alone", f"{student}-deep-supervision", {}, student, extra=True),
            *(Row(name, f"{student}-{key}", {}, student, extra=True) for name, key in BEYOND_ROWS),
        ]
    title = "Table 6: distillation methods on CIFAR-100"
    return PaperTable("table6", title, tuple(rows), f"{students[0]}-sd", ("cifar100",), tuple(students))


TABLES = ("table2", "table3", "table4", "table5", "table6")


def paper_table(name: str, teacher: str, students: Sequence[str] = PAPERS_STUDENTS) -> PaperTable:
    """Table by name.

    Raises:
        CytodistillError: the paper has no such table of results.
    """
    if name not in TABLES:
        raise CytodistillError(f"reproduce {name}: there are {', '.join(TABLES)}")
    if name == "table4":
        return table4()
    if name == "table6":
        return table6(teacher, students)
    return {"table2": table2, "table3": table3, "table5": table5}[name](teacher)

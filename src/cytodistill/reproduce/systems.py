"""Every system that the paper's tables compare, as settings on top of one recipe: data, augmentation and budget are the
recipe's for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cytodistill.errors import CytodistillError
from cytodistill.models.backbone import create_backbone
from cytodistill.models.multi_exit import build_network
from cytodistill.models.preactivations import find_activations
from cytodistill.models.weights import on_a_hub
from cytodistill.recipe import Recipe, Student

TABLES_EPOCHS = 240
"""Epochs of the distillation field's CIFAR-100 recipe, which the methods' first stages and cycles are given for."""
INCEPTION_NEEDS = 75
"""Side in pixels at which Inception V3's maps do not vanish."""


@dataclass(frozen=True)
class System:
    """What is run: its key, its settings, and the keys of the systems whose finished runs it needs, as its frozen
    teacher or as the weights that it starts from.

    ``home`` names its run folders. It says which network taught, so that tables with other teachers may lie in one
    folder; ``homes`` are those of the systems that it needs.
    """

    key: str
    settings: dict[str, Any]
    teacher: str | None = None
    start: str | None = None
    note: str | None = None
    home: str = ""
    homes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.home:
            object.__setattr__(self, "home", self.key)

    @property
    def needs(self) -> list[str]:
        return [key for key in (self.teacher, self.start) if key]


@dataclass(frozen=True)
class Start:
    """Where the networks' weights come from: "imagenet" (the hub), "none", or a folder of weight files named by
    network (``resnet18.safetensors``), in which a network that has no file there starts from random weights."""

    source: str = "imagenet"

    def __post_init__(self) -> None:
        if self.source not in ("imagenet", "none") and not Path(self.source).is_dir():
            raise CytodistillError(
                f"--weights {self.source}: no such folder; give imagenet, none, or a folder of <network>.safetensors"
            )

    def of(self, backbone: str) -> str:
        """``student.pretrained`` of a network; "none" where the hub has nothing for it."""
        if self.source == "none" or (self.source == "imagenet" and not on_a_hub(backbone)):
            return "none"
        if self.source == "imagenet":
            return self.source
        file = Path(self.source) / f"{backbone.split('.')[0]}.safetensors"
        return str(file) if file.is_file() else "none"


def systems(recipe: Recipe, student: str, teacher: str, start: Start, prefix: str = "") -> dict[str, System]:
    """Systems by key, those of one student.

    Args:
        recipe: what all of them share.
        student: network of the student.
        teacher: network of the teacher, which is a system itself.
        start: where weights come from.
        prefix: before the key of every system but the teacher, for tables with several students.
    """
    epochs = recipe.train.epochs
    plain = {"student.multi_exit": False, "teacher.source": "none", "method.name": "supervised"}
    own = {"student.backbone": student, "student.pretrained": start.of(student)}
    exits = {**own, "student.multi_exit": True, "student.taps": _taps(student, recipe), "teacher.source": "none"}
    bare = {"student.branch": "bottleneck", "student.attention": "none", "student.context": "none"}
    scan = {"student.branch": "bottleneck", "student.attention": "conv", "student.context": "none"}

    def taught(key: str, method: str, **settings: Any) -> System:
        named = {f"method.{name}": value for name, value in settings.items()}
        return System(key, {**own, "student.multi_exit": False, "method.name": method, **named}, teacher="teacher")

    def part(of: int) -> int:
        """A stage of ``of`` epochs out of the field's 240, in this recipe's epochs."""
        return max(1, round(of * epochs / TABLES_EPOCHS))

    snapshots = {**own, "student.multi_exit": False, "teacher.source": "none", "method.name": "snapshot"}
    found = [
        System("transfer", {**plain, **own}),
        System("scratch", {**plain, **own, "student.pretrained": "none"}),
        taught("kd", "kd"),
        taught("kd4", "kd", temperature=4.0, ce_weight=0.1, kd_weight=0.9),
        taught("fitnet", "fitnet", **({} if _ends_in_activations(teacher, recipe) else {"relu": False})),
        taught("at", "attention_transfer"),
        taught("similarity", "similarity"),
        taught("vid", "vid"),
        taught("rkd", "rkd"),
        taught("pkt", "pkt"),
        taught("ab", "ab", pretrain_epochs=part(30)),
        taught("crd", "crd"),
        taught("sskd", "sskd", pretrain_epochs=part(60)),
        taught("dkd", "dkd"),
        taught("dist", "dist"),
        taught("logit-standardisation", "logit_standardisation"),
        System("snapshot", {**snapshots, "train.schedule": "cosine", "train.cycles": _cycles(epochs)}),
        System(
            "deep-supervision",
            {**exits, "method.name": "deep_supervision"},
            note="each exit's labels once; in self-distillation's loss (eq. 4) the deepest exit's count more often",
        ),
        System("sd", {**exits, "method.name": "self_distillation"}),
        System("baseline", {**exits, **bare, "method.name": "deep_supervision"}),
        System("scan", {**exits, **scan, "method.name": "scan"}),
        System(
            "msdnet",
            {
                "student.backbone": "msdnet_4",
                "student.pretrained": start.of("msdnet_4"),
                "student.multi_exit": True,
                "teacher.source": "none",
                "method.name": "deep_supervision",
            },
        ),
        System(
            "kd-sd",
            {key: value for key, value in exits.items() if key != "teacher.source"}
            | {"method.name": "self_distillation"},
            teacher="teacher",
        ),
    ]
    homes = {"teacher": f"teacher-{teacher}"}
    known: dict[str, System] = {}
    for system in found:
        key = f"{prefix}{system.key}"
        if system.teacher:
            known[key] = replace(system, key=key, home=f"{key}-from-{teacher}", homes=homes)
        else:
            known[key] = replace(system, key=key, home=key)
    settings = {**plain, "student.backbone": teacher, "student.pretrained": start.of(teacher)}
    known["teacher"] = System("teacher", settings, home=homes["teacher"])
    return known


def other_systems(recipe: Recipe, teacher: str, start: Start) -> dict[str, System]:
    """The other classifiers of Table 2: networks of their own, and features with a small estimator on them."""
    plain = {"student.multi_exit": False, "teacher.source": "none", "method.name": "supervised"}
    larger = max(recipe.data.image_size, INCEPTION_NEEDS)
    found = []
    for backbone in ("deeppap", "vgg19", "resnet101", "densenet121", "resnet50", "inception_v3", "compact_vgg"):
        if backbone == teacher:
            continue  # that row's run is the teacher's
        settings = {**plain, "student.backbone": backbone, "student.pretrained": start.of(backbone)}
        note = None
        if backbone == "inception_v3" and larger > recipe.data.image_size:
            settings["data.image_size"] = larger
            note = f"its maps vanish below {INCEPTION_NEEDS} px, so it sees {larger} px"
        found.append(System(backbone, settings, note=note))

    def estimator(key: str, head: str, features: str, network: str | None = None) -> System:
        settings = {**plain, "estimator.head": head, "estimator.features": features}
        note = "no augmentation" + ("" if head == "svm" else f", {recipe.estimator.epochs} epochs of its own")
        if network is None:
            return System(key, settings, note=note)
        start = "teacher" if network == teacher else network
        homes = {start: f"teacher-{teacher}" if network == teacher else network}
        return System(key, settings, start=start, note=note, homes=homes)

    found += [
        estimator("mlp", "mlp", "shape"),
        estimator("mor27", "svm", "shape"),
        estimator("conv-svm", "svm", "conv", "vgg19"),
        estimator("fc-svm", "svm", "fc", "vgg19"),
        estimator("gcn", "gcn", "conv", "resnet101"),
    ]
    return {system.key: system for system in found}


def ordered(chosen: Sequence[str], known: dict[str, System]) -> list[System]:
    """The systems of the chosen keys and those whose runs they need, each after what it needs."""
    order: list[System] = []

    def add(key: str) -> None:
        if all(system.key != key for system in order):
            for needed in known[key].needs:
                add(needed)
            order.append(known[key])

    for key in chosen:
        add(key)
    return order


@lru_cache
def _ends_in_activations_at(backbone: str, side: int) -> bool:
    network = build_network(Student(backbone=backbone, pretrained="none", multi_exit=False), 2, side, seed=0)
    network.keep_maps = True
    return None not in find_activations(network, side)


def _ends_in_activations(backbone: str, recipe: Recipe) -> bool:
    """Whether every stage of a network ends in an activation: DenseNet's do not, and their maps have negative values,
    which a regressor that ends in a ReLU could never say."""
    return _ends_in_activations_at(backbone, recipe.data.image_size)


def _taps(backbone: str, recipe: Recipe) -> int:
    """Four exits, or as many as the network has stages."""
    pyramid = create_backbone(backbone, stem=recipe.student.stem, image_size=recipe.data.image_size, features_only=True)
    return min(4, len(pyramid.feature_info.channels()))


def _cycles(epochs: int) -> int:
    """Cycles of snapshot distillation: four, or the nearest number that divides the epochs into whole cycles (two,
    where there is none: a single epoch, which the recipe then refuses)."""
    whole = [cycles for cycles in range(2, epochs + 1) if epochs % cycles == 0]
    return min(whole, key=lambda cycles: (abs(cycles - 4), cycles), default=2)

"""Recipe: every setting of a run, validated, in one place.

A recipe is a YAML file (``recipes/*.yaml`` by name, or a path) with the sections below. Unknown and ill-typed settings
raise CytodistillError with the setting's name; ``override`` applies ``section.key=value`` strings on top.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cytodistill.errors import CytodistillError
from cytodistill.files import named_or_file, package_names, place_in_yaml

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


def _off(value: Any) -> bool:
    """Of settings that came later: left out where they are off, so that a recipe from before is the same one still."""
    return not value


def _global(value: str) -> bool:
    """As `_off`."""
    return value == "global"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """What a cell becomes before the network sees it, and how cells are split where the source does not say."""

    image_size: Annotated[int, Field(ge=16, le=1024)] = 96
    """Side in pixels of the square network input."""
    resize: Literal["pad", "stretch"] = "pad"
    """Keep the cell's aspect ratio and pad with its border colour, or stretch to the square."""
    window: Positive = 90
    """Side in pixels of the window round a nucleus, for fields with coordinates (CRIC)."""
    microns_per_pixel: float | None = Field(None, gt=0, le=20, exclude_if=_off)
    """Pixel size of the training images, where it is known: `predict --cells` cuts the cells of other fields alike."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    ratio: str = "3:1:1"
    """Training : validation : test, where the source has no split."""
    group: Literal["auto", "none"] = "auto"
    """Split by the source's groups (fields, clusters, acquisitions), or let cells of one group be in two splits."""
    fold: int | None = None
    """Test fold of a manifest with folds; the next fold validates."""
    val_fraction: Fraction = 0.1
    """Share of the training cells that validates where the source has splits but no validation split (0: none)."""

    @field_validator("ratio")
    @classmethod
    def _ratio_has_three_parts(cls, ratio: str) -> str:
        if not re.fullmatch(r"\s*\d+(\.\d+)?\s*(:\s*\d+(\.\d+)?\s*){2}", ratio):
            raise ValueError("write it as training:validation:test, like 3:1:1")
        return ratio

    @model_validator(mode="after")
    def _std_is_positive(self) -> Data:
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        return self


class Augment(Section):
    """Batched augmentation on the training device; each strength of 0 (or scale of [1, 1]) switches it off."""

    scale: tuple[float, float] = (0.6, 1.0)
    """Range of the random crop's area, as a share of the image (1 is the whole image)."""
    aspect: float = Field(0.0, ge=0, lt=1)
    """Random crops stretch by up to this share."""
    translate: float = Field(0.0, ge=0, le=0.5)
    """Shift by up to this share of the side, beyond what the crop allows."""
    horizontal_flip: bool = True
    vertical_flip: bool = True
    rotation: float = Field(180.0, ge=0, le=180)
    """Rotate by up to this many degrees either way."""
    padding: Literal["reflection", "border", "zeros"] = "reflection"
    stain: float = Field(0.0, ge=0, lt=1)
    """Scale each channel's optical density by up to this share: stain strength and hue."""
    brightness: float = Field(0.0, ge=0, lt=1)
    contrast: float = Field(0.0, ge=0, lt=1)
    cutout: float = Field(0.0, ge=0, lt=1)
    """Side of a square that is blanked, as a share of the image's side."""

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Augment:
        if not 0 < self.scale[0] <= self.scale[1] <= 4:
            raise ValueError("scale must be two rising numbers in (0, 4]")
        return self


class Student(Section):
    """The network that is trained and kept."""

    backbone: str = "resnet18"
    """Any timm model name, or one of this package's own (docs/networks.md)."""
    pretrained: str = "imagenet"
    """Where training starts: "imagenet" (timm's hub), "none", a weight file, or a run folder."""
    stem: Literal["auto", "imagenet", "cifar"] = "auto"
    """ResNet stem: 7×7 stride 2 with max-pool, or 3×3 stride 1 without; auto is cifar up to 40 px."""
    multi_exit: bool = True
    """Exits after several stages (the paper's student), or the backbone with its own classifier only."""
    taps: Annotated[int, Field(ge=2, le=8)] = 4
    """How many of the deepest stages end in an exit."""
    branch: Literal["separable", "bottleneck"] = "separable"
    attention: Literal["none", "separable", "conv"] = "separable"
    """Spatial-channel attention multiplied onto a tap (SCAN's with full convolutions is "conv")."""
    context: Literal["none", "shallow", "all"] = "shallow"
    """Global context block on no tap, on all but the deepest, or on every one."""
    context_ratio: float = Field(0.25, gt=0, le=1)
    context_fusion: Literal["add", "mul"] = "add"
    dropout: Fraction = 0.0


class Teacher(Section):
    """The frozen network whose soft labels the student learns."""

    source: str = "none"
    """"none", a timm model name (fine-tuned on the same training cells first), a weight file, or a run folder."""
    backbone: str | None = None
    """timm name of a weight file; by default the file's stem."""
    pretrained: str = "imagenet"
    """Where a named teacher's fine-tuning starts: as for the student."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Settings of ``train`` that differ while the teacher is fine-tuned."""
    views: Annotated[int, Field(ge=0)] = Field(0, exclude_if=_off)
    """Of each training cell so many fixed views are drawn, the teacher answers each of them once, and every epoch shows
    one of them with its stored answer. 0: ever new views, and the teacher answers at every step."""


class Method(BaseModel):
    """Name of a registered method; every other key is one of that method's settings and is checked by it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "self_distillation"

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class Train(Section):
    """The optimisation."""

    epochs: Positive = 180
    batch_size: Annotated[int, Field(ge=2)] = 128
    """Global batch: with several ranks each takes its share."""
    batch_norm: Literal["global", "rank"] = Field("global", exclude_if=_global)
    """With several ranks, whose cells a batch normalisation's statistics are of: the global batch's, as in one process,
    or the rank's own share's, which spares two exchanges a layer (docs/speed.md); the moving averages are then averaged
    over ranks at each epoch's end."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["multistep", "cosine", "onecycle", "constant"] = "cosine"
    milestones: tuple[Positive, ...] = (100, 150)
    """Epochs at whose start the rate is multiplied by ``gamma`` (multistep)."""
    gamma: float = Field(0.1, gt=0, le=1)
    cycles: Positive = 1
    """How often the cosine or one-cycle schedule runs within the epochs: warm restarts."""
    warmup_epochs: float = Field(0.0, ge=0)
    label_smoothing: Fraction = 0.0
    imbalance: Literal["none", "inverse", "sqrt_inverse", "resample"] = "none"
    """Class imbalance: nothing, cross-entropy weighted by (the root of) inverse class frequency, or class-balanced
    resampling of the training cells."""
    clip_norm: float = Field(0.0, ge=0)
    """Largest gradient norm (0: not clipped)."""
    ema: Fraction = 0.0
    """Decay of the exponential moving average of the weights, which is then what is validated and kept (0: off)."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Autocast; auto is bf16 where the device computes it natively, else fp32."""
    select: Literal["f1", "accuracy", "balanced_accuracy", "last"] = "f1"
    """Which epoch is kept as the model: the best ensemble figure on the validation split, or the last."""
    checkpoint_minutes: float = Field(5.0, gt=0)
    """A checkpoint is written at each epoch's end, but not more often than at a tenth of this, and within a long epoch
    each time this has passed."""
    compile: bool = Field(False, exclude_if=_off)
    """Compile the student (torch.compile; on a GPU with CUDA graphs). Seconds to minutes before the first step, and
    again for each other size of a batch or a view; on CPUs it was slower (docs/speed.md)."""
    tensorboard: bool = False
    sizes: tuple[tuple[Share, Share], ...] = Field((), exclude_if=_off)
    """Smaller views at first: pairs of a share of the epochs and a share of ``data.image_size``, one after another. The
    epochs that are left have the full side. [[0.5, 0.5], [0.2, 0.75]] is half of the epochs at half the side."""
    shuffle_block: Annotated[int, Field(ge=0)] = Field(0, exclude_if=_off)
    """For a set larger than memory: blocks of so many neighbouring cells are visited 16 at a time, shuffled together,
    so that 16 blocks are read and held instead of the whole set. 0: an epoch is one shuffle of all cells."""

    @model_validator(mode="after")
    def _blocks_or_resampling(self) -> Train:
        if self.shuffle_block and self.imbalance == "resample":
            raise ValueError(
                f"shuffle_block={self.shuffle_block}: imbalance=resample draws cells from the whole set; take "
                "imbalance=inverse, or shuffle_block=0"
            )
        return self

    @model_validator(mode="after")
    def _sizes_rise_to_the_full_side(self) -> Train:
        sides = [side for _, side in self.sizes]
        if sides != sorted(sides) or sum(share for share, _ in self.sizes) >= 1:
            raise ValueError(
                f"sizes {[list(pair) for pair in self.sizes]}: pairs of [share of the epochs, share of the side] "
                "whose sides rise and which leave some epochs to the full side"
            )
        return self

    @model_validator(mode="after")
    def _milestones_come_before_the_end(self) -> Train:
        if self.schedule == "multistep" and self.milestones and min(self.milestones) >= self.epochs:
            raise ValueError(
                f"milestones {list(self.milestones)} all lie beyond the {self.epochs} epochs, so the rate would never "
                "fall; set train.milestones too"
            )
        return self

    @model_validator(mode="after")
    def _cycles_are_whole_epochs(self) -> Train:
        if self.cycles > 1 and self.schedule not in ("cosine", "onecycle"):
            raise ValueError(f"schedule {self.schedule} does not run in cycles; set train.schedule=cosine")
        if self.epochs % self.cycles:
            raise ValueError(f"{self.epochs} epochs are not {self.cycles} cycles of whole epochs; change one of them")
        return self

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Train:
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise ValueError("nesterov needs momentum > 0")
        return self


class Estimator(Section):
    """A classifier that is not trained end to end: features that the student's network gives as it is, or made by hand,
    and a small head on them. With a head, ``augment``, ``method`` and ``train`` play no part."""

    head: Literal["none", "svm", "mlp", "gcn"] = "none"
    """Train the student as ever; or support vector machines, a perceptron, or a graph convolution over clusters."""
    features: Literal["shape", "conv", "fc"] = "fc"
    """27 measures of nucleus and cytoplasm; or, of the student's network with the weights of ``student.pretrained``,
    its last convolutional map, averaged, or what its classifier is given."""
    contours: Literal["auto", "file", "segment"] = "auto"
    """Nucleus and cytoplasm (shape): from the data set's files, else segmented; from files only; or all segmented."""
    components: Annotated[int, Field(ge=0)] = 0
    """Principal components that are kept of the features (0: no such step)."""
    kernel: Literal["rbf", "linear"] = "rbf"
    c: float = Field(1.0, gt=0)
    """Price of an error, against a wide margin (svm)."""
    gamma: float = Field(0.0, ge=0)
    """Of the rbf kernel exp(-gamma d²); 0 is 1 / (number · variance of the features)."""
    hidden: Positive = 128
    """Width of the hidden layer (mlp) or of the graph's convolutions (gcn)."""
    epochs: Positive = 300
    """Of mlp and gcn."""
    clusters: Annotated[int, Field(ge=2)] = 32
    """k-means clusters of the training cells, the graph's nodes (gcn)."""
    neighbours: Positive = 8
    """Nearest clusters that a node is linked to."""

    @model_validator(mode="after")
    def _neighbours_are_other_clusters(self) -> Estimator:
        if self.neighbours >= self.clusters:
            raise ValueError(
                f"neighbours={self.neighbours}: a cluster has {self.clusters - 1} others; lower it, or raise clusters"
            )
        return self


class Recipe(Section):
    """All settings of one run. ``Recipe.load("paper")`` reads a named recipe or a YAML file."""

    name: str = "custom"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data = Data()
    augment: Augment = Augment()
    student: Student = Student()
    teacher: Teacher = Teacher()
    method: Method = Method()
    train: Train = Train()
    estimator: Estimator = Estimator()

    @classmethod
    def load(cls, recipe: str | Path) -> Recipe:
        """Recipe by name or from a YAML file.

        Raises:
            CytodistillError: no such recipe, not YAML, or a setting that is unknown or out of range.
        """
        text, called = named_or_file(recipe, "recipe", "recipes")
        try:
            settings = yaml.load(text, _Yaml)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that the calendar does not have
            raise CytodistillError(f"{called}: not YAML ({place_in_yaml(error)}); mend it there") from None
        if not isinstance(settings, dict):
            raise CytodistillError(f"{called}: expected sections such as `train:`, found {settings!r:.40}")
        return cls.check(settings, called)

    @classmethod
    def check(cls, settings: dict[str, Any], origin: str = "recipe") -> Recipe:
        """Recipe from nested settings; the first thing wrong is raised as one line that names it."""
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise CytodistillError(f"{origin}: {_first_problem(error, cls)}") from None

    def shortened(self, epochs: int) -> Recipe:
        """This recipe with another number of epochs, its milestones and warm-up moved along in proportion."""
        share = epochs / self.train.epochs
        moved = {round(milestone * share) for milestone in self.train.milestones}
        return self.override(
            {
                "train.epochs": epochs,
                "train.milestones": sorted(milestone for milestone in moved if 0 < milestone < epochs),
                "train.warmup_epochs": self.train.warmup_epochs * share,
            }
        )

    def override(self, assignments: list[str] | dict[str, Any]) -> Recipe:
        """This recipe with ``section.key=value`` strings (values read as YAML) or a dotted mapping applied."""
        pairs = assignments if isinstance(assignments, dict) else dict(map(_split_assignment, assignments))
        settings = self.model_dump(mode="json")
        # The method first: another one has other settings, whichever stands first on the line.
        for dotted, value in sorted(pairs.items(), key=lambda pair: pair[0] != "method.name"):
            target = settings
            *sections, key = dotted.split(".")
            for section in sections:
                if not isinstance(target.get(section), dict):
                    raise CytodistillError(f"--set {dotted}: there is no section {section!r}{_hint(section, target)}")
                target = target[section]
            if dotted == "method.name" and value != target["name"]:
                settings["method"] = target = {}  # another method has other settings
            target[key] = value
        return self.check(settings, "--set")


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return package_names("recipes")


class _Yaml(yaml.SafeLoader):
    """YAML with the numbers of its version 1.2: in 1.1, which PyYAML reads, 3:1:1 is 10861 and 1e-4 is a string."""


_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
_Yaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in _NUMBERS]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Yaml.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+.0123456789"),
)


def _split_assignment(assignment: str) -> tuple[str, Any]:
    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise CytodistillError(f"--set {assignment!r}: write it as section.key=value, for example train.epochs=20")
    try:
        parsed = yaml.load(value, _Yaml)
    except (yaml.YAMLError, ValueError):
        raise CytodistillError(f"--set {assignment!r}: {value!r} is not a YAML value") from None
    return key.strip(), parsed


def parse_choices(assignments: list[str]) -> dict[str, list[Any]]:
    """``section.key=[a, b]`` strings as values to choose from.

    Raises:
        CytodistillError: not so written, or fewer than two values.
    """
    choices = dict(map(_split_assignment, assignments))
    for key, values in choices.items():
        if not isinstance(values, list) or len(values) < 2:
            raise CytodistillError(f"--choose {key}={values!r:.40}: write two values or more, like {key}=[1e-4, 3e-4]")
    return choices


def _hint(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    problem = error.errors()[0]
    where = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        for part in where[:-1]:
            annotation = model.model_fields[part].annotation
            assert isinstance(annotation, type)
            model = annotation
        return f"{'.'.join(where)}: unknown setting{_hint(where[-1], model.model_fields)}"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] in ("model_type", "dict_type"):
        message = "expected a section of settings, key: value"
    shown = "" if isinstance(problem["input"], dict) else f"={problem['input']!r:.60}"
    return f"{'.'.join(where) or 'recipe'}{shown}: {message[0].lower()}{message[1:]}"

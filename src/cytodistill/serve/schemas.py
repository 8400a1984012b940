"""What the API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cytodistill.formats.places import Cut

Id = str
Probability = Annotated[float, Field(ge=0, le=1.0001)]


class ExitAnswer(BaseModel):
    """What one exit says."""

    exit: int
    """From 1, the shallowest."""
    predicted: str
    confidence: Probability
    probabilities: dict[str, Probability]


class ClassSet(BaseModel):
    """Classes that hold the true one at a coverage (conformal set)."""

    name: str
    coverage: float
    classes: list[str]


class Prediction(BaseModel):
    """The answer to one cell."""

    predicted: str
    confidence: Probability
    """Largest of ``probabilities``."""
    probabilities: dict[str, Probability]
    """Of the ensemble of all exits, as `cytodistill predict` gives them: not calibrated."""
    calibrated: dict[str, Probability] | None
    """The same through the temperature that the run's validation cells decided; null where it has none."""
    set: ClassSet | None
    doubt: Probability
    """1 − the largest calibrated probability (of the raw ones where ``calibrated`` is null)."""
    abnormal: Probability | None
    """Probability of the abnormal classes; null where no map says which these are."""
    disagreement: float | None
    """Of the exits, in nats (Jensen–Shannon); null where there is one."""
    exits: list[ExitAnswer]
    stops_at: int
    """The exit, from 1, at which the policy of `/model` would have stopped; the last is the ensemble of all."""


class Box(BaseModel):
    """Window of a cell in its field's pixels."""

    x: float
    y: float
    width: float
    height: float


class PredictedCell(BaseModel):
    """One cell of a request: its prediction, or why there is none."""

    name: str
    box: Box | None = None
    prediction: Prediction | None = None
    error: str | None = None


class Predictions(BaseModel):
    """Answers in the order of the images, of a zip's members, or of the cells of a field."""

    run: str
    cells: list[PredictedCell]


class Policy(BaseModel):
    """Early exit: a cell stops at the first exit whose score exceeds its threshold."""

    kind: str
    thresholds: list[float]


class Model(BaseModel):
    """The run that answers."""

    name: str
    run: str
    """Its fingerprint."""
    classes: list[str]
    exits: int
    image_size: int
    window: int
    """Side of the window round a cell of a field, in pixels as those of the training."""
    cut: Cut
    """What is cut of a cell with an outline: the window round its centre, or what the outline spans."""
    microns_per_pixel: float | None
    """Pixel size of the training; where it is known, fields with cells are asked for theirs."""
    calibrated: bool
    class_map: str | None
    abnormal: list[str]
    """Classes that count as abnormal."""
    operating_points: dict[str, float]
    """Thresholds of the abnormal probability by name, from the validation cells."""
    sets: str | None
    coverage: float | None
    policy: Policy
    explains: bool
    """Whether maps are to be had."""
    limits: dict[str, float]


class Problem(BaseModel):
    """An image that gave no cell."""

    name: str
    detail: str


State = Literal["waiting", "working", "done", "stopped", "failed"]


class Upload(BaseModel):
    """Images that were sent to be kept for review; a job while they are worked on."""

    id: Id
    state: State
    detail: str | None
    """Why it failed or was stopped."""
    added: datetime
    keep: bool
    """Whether it outlives the session: what is not kept is deleted when the service stops, but for reviewed cells."""
    group: str | None
    total: int | None
    """Images, or cells of fields; null until they are counted."""
    done: int
    problems: list[Problem]
    """The first hundred images without a cell."""
    failed: int
    """How many there are of them."""
    fields: list[FieldSummary]


class FieldSummary(BaseModel):
    """A field that cells were cut from."""

    id: Id
    upload: Id
    name: str
    width: int
    height: int
    image: bool
    """Whether its picture is still there."""


Sort = Literal["abnormal", "doubt", "disagreement", "confidence", "added", "name"]


class CellSummary(BaseModel):
    """A cell of the gallery."""

    id: Id
    upload: Id
    field: Id | None
    name: str
    box: Box | None
    width: int
    height: int
    added: datetime
    predicted: str
    confidence: Probability
    doubt: Probability
    abnormal: Probability | None
    disagreement: float | None
    exit_classes: list[str]
    """What each exit says, shallow → deep."""
    stops_at: int
    label: str | None
    """What the standing review says."""
    reviewer: str | None


class CellPage(BaseModel):
    """A page of the gallery."""

    total: int
    offset: int
    cells: list[CellSummary]


class Cell(CellSummary):
    """A cell with all that was said of it."""

    run: str
    prediction: Prediction
    reviews: list[Review]


Action = Literal["accept", "correct", "undo"]


class NewReview(BaseModel):
    """A reviewer's word on a cell."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    label: Annotated[str, Field(max_length=256)] | None = None
    """For correct: a class of the run."""
    reviewer: Annotated[str, Field(max_length=64)] | None = None
    """Who; not needed where the token has a name."""


class Review(BaseModel):
    """An event; none is ever changed. An undo takes back the reviewer's last event that stands."""

    id: int
    cell: Id
    reviewer: str
    at: datetime
    action: Action
    label: str | None
    """The class that the cell has by it; null for an undo."""
    predicted: str
    """What the run had said."""
    undoes: int | None


class Reviewed(BaseModel):
    """An event that was stored, and the cell's standing label after it."""

    review: Review
    label: str | None
    reviewer: str | None


class GrowingAgreement(BaseModel):
    """Share of agreement after so many reviews."""

    reviewed: int
    agreement: Probability


class Agreement(BaseModel):
    """How often the reviewer and the run say the same, over the cells with a standing review."""

    reviewed: int
    agreed: int
    agreement: Probability | None
    kappa: float | None
    """Cohen's; null where it is not defined."""
    classes: list[str]
    confusion: list[list[int]]
    """Rows: the run's class; columns: the reviewer's."""
    growth: list[GrowingAgreement]


class Deleted(BaseModel):
    """What is gone."""

    cells: int
    reviews: int


class Token(BaseModel):
    """To sign in with."""

    model_config = ConfigDict(extra="forbid")

    token: Annotated[str, Field(max_length=1024)]


class Session(BaseModel):
    """Who is signed in."""

    required: bool
    """Whether the service demands a token."""
    signed_in: bool
    name: str | None
    """Of the token; reviews are stored under it."""


class ExitMap(BaseModel):
    """Where one exit looked, in words and figures; the picture has an address of its own."""

    exit: int
    explained: str
    """The class that the map speaks for."""
    probability: Probability
    empty: bool
    """No place speaks for the class."""
    grid: tuple[int, int]
    """Rows and columns of places before the map was enlarged."""


class Maps(BaseModel):
    """Class-activation maps of a cell, shallow → deep."""

    method: str
    at: str
    exits: list[ExitMap]


class Health(BaseModel):
    """State of the service."""

    status: Literal["ok", "loading", "stopping", "failed"]


Card = dict[str, Any]
for _model in (Upload, Cell):
    _model.model_rebuild()

"""Arguments and options that several commands take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Cut(StrEnum):
    outline = "outline"
    window = "window"


class Grouping(StrEnum):
    auto = "auto"
    none = "none"


Source = Annotated[str, typer.Argument(help="Folder, zip or manifest CSV of labelled cells.", metavar="SOURCE")]
RunFolder = Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")]
OwnOrOtherCells = Annotated[str | None, typer.Argument(help="Other cells; by default the run's own test split.")]
Split = Annotated[str, typer.Option(help="test, val, train or all.")]
Format = Annotated[str | None, typer.Option(help="sipakmed, herlev, cric, cifar100, folder; recognised by itself.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A recipe's setting, section.key=value; may be repeated.")
]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]
RecipeOption = Annotated[str | None, typer.Option(help="quick (the default), paper, demo, or a YAML file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

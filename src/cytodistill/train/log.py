"""The run's log: one JSON object a line in log.jsonl, TensorBoard where asked for, and what the user sees meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

from cytodistill.errors import CytodistillError
from cytodistill.files import atomic_write


class Watcher(Protocol):
    """Told of progress; the command line draws bars and lines from it."""

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` steps of a stage ("decode", "teacher", "student" …); ``note`` is its latest figures."""

    def say(self, line: str) -> None:
        """One line worth keeping on the screen."""


class Silent:
    """Watcher that says nothing."""

    def step(self, stage: str, done: int, total: int, note: str = "") -> None: ...

    def say(self, line: str) -> None: ...


def summary_writer() -> Any:
    """TensorBoard's writer class; a CytodistillError where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise CytodistillError(
            "train.tensorboard=true: TensorBoard is not installed; pip install 'cytodistill[track]'"
        ) from None
    return SummaryWriter


class RunLog:
    """Appends events to log.jsonl; one that a crash cut off, or that a resumed run will write again, is dropped."""

    def __init__(self, folder: Path, tensorboard: bool = False) -> None:
        self.path = folder / "log.jsonl"
        self._board: Any = None
        if tensorboard:
            self._board = summary_writer()(str(folder / "tensorboard"))

    def rewind(self, epoch: int) -> None:
        """Keep only the whole lines of epochs before ``epoch``."""
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            atomic_write(self.path, "".join(line for line in lines if _epoch_of(line) < epoch).encode())

    def write(self, event: dict[str, Any]) -> None:
        """Append one event and sync it."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._board is not None:
            for name, value in _scalars(event):
                self._board.add_scalar(name, value, event["epoch"])
            self._board.flush()


def _epoch_of(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")


def _scalars(event: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for key, value in event.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            found += _scalars(value, f"{name}/")
        elif isinstance(value, list):
            found += _scalars({f"{position}": item for position, item in enumerate(value, 1)}, f"{name}/")
        elif isinstance(value, int | float) and key != "epoch":
            found.append((name, float(value)))
    return found


def epoch_line(stage: str, epochs: int, event: dict[str, Any]) -> str:
    """The epoch in one line, for the screen."""
    line = f"{stage} epoch {event['epoch'] + 1}/{epochs}  loss {event['loss']['loss']:.3f}"
    if event["train_accuracy"]:
        line += f"  train {' '.join(f'{100 * value:.1f}' for value in event['train_accuracy'])} %"
    if validation := event.get("val"):
        exits = " ".join(f"{100 * figures['accuracy']:.1f}" for figures in validation["exits"])
        best = validation["ensemble"]
        line += f"  val {exits} | ensemble {100 * best['accuracy']:.1f} %, F {100 * best['f1']:.1f} %"
    return f"{line}  {event['seconds']:.1f} s"

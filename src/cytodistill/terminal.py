"""What the user sees: progress bars where there is a terminal, plain lines where there is none, and small tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from cytodistill.data.table import CellTable
    from cytodistill.models.count import Cost
    from cytodistill.recipe import Recipe
    from cytodistill.reproduce.run import Planned

STAGES = {
    "decode": "Decoding",
    "inspect": "Inspecting",
    "synth": "Drawing",
    "teacher": "Teacher",
    "student": "Student",
    "evaluate": "Evaluating",
    "predict": "Predicting",
    "measure": "Measuring",
    "explain": "Explaining",
    "draw": "Drawing",
    "embed": "Embedding",
    "export": "Exporting",
    "compare": "Comparing",
}


class Terminal:
    """A Watcher that draws. Results go to ``out`` (stdout), progress and notes to ``err`` (stderr).

    Outside a terminal there are no bars, and a line is printed as it is said.
    """

    def __init__(self) -> None:
        self.out = Console()
        self.err = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.err,
            disable=not self.err.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Terminal:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def step(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Move a stage's bar; a rate is added where the stage counts cells."""
        if self._bars.disable:
            return
        task = self._tasks.get(stage)
        if task is None or done < self._bars.tasks[self._index(task)].completed:
            if task is not None:
                self._bars.remove_task(task)
            task = self._tasks[stage] = self._bars.add_task(STAGES.get(stage, stage), total=total, note="")
            self._started[stage] = time.monotonic()
        seconds = time.monotonic() - self._started[stage]
        if not note and seconds > 0.5:
            note = f"{done / seconds:.0f} cells/s"
        self._bars.update(task, completed=done, total=total, note=note)

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def result(self, line: str) -> None:
        """Print one line of the answer as it is: names may hold brackets, and paths must not be wrapped."""
        self.out.print(line, markup=False, highlight=False, soft_wrap=True)

    def _index(self, task: TaskID) -> int:
        return next(i for i, known in enumerate(self._bars.tasks) if known.id == task)


def counts_table(table: CellTable) -> Table:
    """Cells by class and split (or fold)."""
    folded = (table.frame["fold"] >= 0).any()
    frame = table.frame.assign(split=table.frame["fold"].map("fold {}".format)) if folded else table.frame
    counts = frame.groupby(["label", "split"]).size().unstack(fill_value=0)
    columns = sorted(counts.columns) if folded else [s for s in ("train", "val", "test") if s in counts.columns]
    shown = Table("class", *columns)
    for name in table.classes:
        shown.add_row(
            escape(name), *(str(counts.loc[name, column]) if name in counts.index else "0" for column in columns)
        )
    return shown


def cost_table(recipe: Recipe, classes: int, cost: Cost) -> Table:
    """Parameters and MACs, up to each exit and whole."""
    side = recipe.data.image_size
    shown = Table(
        "",
        "parameters",
        "MMACs",
        title=f"{recipe.student.backbone}, recipe {recipe.name}: {classes} classes, {side}×{side} px",
    )
    for exit, (parameters, macs) in enumerate(zip(cost.exit_parameters, cost.exit_macs, strict=True), start=1):
        shown.add_row(f"up to exit {exit}", f"{parameters:,}", f"{macs / 1e6:.1f}")
    shown.add_row("whole", f"{cost.parameters:,}", f"{cost.macs / 1e6:.1f}", style="bold")
    return shown


def plan_table(planned: list[Planned], draws: int) -> Table:
    """Rows that `reproduce` would run, with what each takes."""
    from cytodistill.reproduce.estimate import spoken

    table = Table(title=f"{len(planned)} rows × {draws} draws of the cells", title_justify="left", box=None)
    table.add_column("Row")
    table.add_column("System")
    table.add_column("Needs")
    for column in ("Parameters", "ms a cell", "Epochs", "A run"):
        table.add_column(column, justify="right")
    total, heading = 0.0, None
    for entry in planned:
        if entry.row.group != heading:
            heading = entry.row.group
            table.add_row(f"[bold]{escape(heading or '')}[/bold]")
        estimate = entry.estimate
        figures = ["–"] * 4
        if estimate is not None:
            figures = [f"{estimate.parameters:,}", f"{1000 * estimate.seconds_a_cell:.1f}", f"{estimate.epochs}", "–"]
        if entry.seconds is not None:
            figures[3] = spoken(entry.seconds)
            total += entry.seconds
        table.add_row(escape(entry.row.name), entry.system.key, ", ".join(entry.system.needs), *figures)
    if total:
        table.caption = (
            f"{spoken(total * draws)} of training in all, from measured steps; runs of feature estimators aside"
        )
        table.caption_justify = "left"
    return table

"""predict: files, folders, zips and manifests in; one line a cell out, in order, bad files passed over, from as many
threads or processes as there are, resumed where it was killed."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cytodistill.errors import CytodistillError, Interrupted
from cytodistill.estimators.inputs import contours_note
from cytodistill.formats.pixel_size import PixelSize
from cytodistill.formats.places import Cut
from cytodistill.infer.artifact import SEAL, Artifact, is_artifact
from cytodistill.infer.batch_answer import Answering, Block, answering, one_core_a_thread
from cytodistill.infer.batch_journal import Progress
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_output import Output, open_output
from cytodistill.infer.batch_rules import Request
from cytodistill.infer.field import Field, request_of, woven
from cytodistill.infer.files import collect
from cytodistill.infer.group_rows import POINT, GroupRows, groups_file, groups_of, write_groups
from cytodistill.infer.group_rows import group_point as find_group_point
from cytodistill.infer.policies import weights_digest
from cytodistill.infer.spread import on_cluster, spread_blocks
from cytodistill.train.distributed import wants_gpu
from cytodistill.train.log import Silent, Watcher
from cytodistill.train.run_folder import Run

PACKAGES = ("cytodistill", "torch", "numpy", "pillow")
MINUTE = 60.0


@dataclass(frozen=True)
class Predicted:
    """What `predict` did: the ``file`` (None is standard output), how many ``cells`` it has, how many of these were
    ``passed_over`` and the first reasons why, what was ``applied`` to the network's answers, and what became of the
    ``groups`` where their file was asked for."""

    file: Path | None
    cells: int
    passed_over: int
    problems: tuple[str, ...]
    applied: tuple[str, ...]
    groups: GroupRows | None = None


def predict(
    run: str | Path,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    raw: bool = False,
    policy: str | None = None,
    operating_point: str | None = None,
    sets: str | None = None,
    format: str | None = None,
    batch_size: int = 64,
    device: str = "auto",
    threads: int | None = None,
    workers: int = 1,
    resume: bool = False,
    cells: str | Path | None = None,
    cut: Cut | None = None,
    pixels: PixelSize | None = None,
    groups: str | Path | None = None,
    group_point: str | None = None,
    watcher: Watcher | None = None,
) -> Predicted:
    """Answer every cell of the inputs, one line each, in their order; ``docs/predict.md`` has the columns.

    The file's bytes do not depend on ``threads`` or ``workers``, nor on whether it was resumed.

    Args:
        run: finished run folder, or exported artifact.
        inputs: image files, folders, zip archives or manifests.
        out: .csv or .jsonl file to write, and beside it OUT.json, which says how it was made; CSV on standard output
            where None.
        raw: leave the probabilities as the network gives them; else they are calibrated where the run has been
            evaluated.
        policy: name of an exit policy of the run; all exits are computed where None.
        operating_point: name of an operating point of the run, for a decision by the probability of an abnormal class.
        sets: name of the run's conformal sets, "none", or None for those by group at 0.9 where the run has them.
        format: source format, recognised by itself where None.
        batch_size: cells computed at once.
        device: "auto", "cpu" or "cuda".
        threads: cores for the network, torch's own setting by default; with workers, of each of them.
        workers: processes, through Ray where there are several.
        resume: go on with a file that an earlier call with the same arguments left unfinished.
        groups: .csv file of one row a group (field, slide, patient: as the inputs have it) to write beside ``out``; see
            `group_rows.write_groups`.
        group_point: name of the run's operating point of whole groups to decide by; `group_rows.POINT` by default.
        watcher: is told of progress.

    Raises:
        CytodistillError: the run or an input cannot be used, the run has not what is asked for, or the file cannot be
            written or resumed.

    Example:
        >>> predict("runs/first", "cells.zip", "answers.csv", operating_point="sensitivity-0.95")  # doctest: +SKIP
    """
    watcher = watcher or Silent()
    if out is None and resume:
        raise CytodistillError("--resume: what went to standard output cannot be resumed; name a file with -o")
    if workers < 1 or batch_size < 1 or (threads is not None and threads < 1):
        raise CytodistillError(
            f"workers={workers}, threads={threads}, batch_size={batch_size}: give at least 1 of each"
        )
    file = Path(out) if out is not None else None
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    field = _field(given, cells)
    of_groups = groups_file(groups, group_point, file, raw)
    request = Request(
        Path(run),
        raw=raw,
        policy=policy,
        operating_point=operating_point,
        sets=sets,
        batch_size=batch_size,
        device=device,
        threads=threads or _threads(workers),
        suffix=file.suffix.lower() if file else ".csv",
    )
    request = request_of(request, file, field is not None)
    if not field and (cut or pixels):
        raise CytodistillError("--cut and the pixel size are for the cells of one field; give --cells")
    # Workers have networks of their own; the one here only says what they will answer.
    here = request if workers == 1 else replace(request, device="cpu", threads=1)
    with one_core_a_thread(), closing(answering(here)) as mine:
        named = group_point or POINT
        judged_by = find_group_point(mine.predictor.fitted, named, request.run) if of_groups else None
        if mine.rules.policy and (mine.rules.point or judged_by):
            watcher.say("the operating point was chosen on answers of all exits; early ones may be decided otherwise")
        if field:
            items = field.items(Run.open(run), pixels or PixelSize(), cut)
            for remark in field.given.remarks() if field.given else ():
                watcher.say(remark)
        else:
            items = collect(given, format, mine.predictor.recipe.data.window, of_groups is not None)
        writer = field.writer(file.suffix.lower(), items, mine.predictor.classes) if field and file else None
        head = writer.head if writer else mine.head

        def blocks(start: int) -> Generator[Block]:
            if workers == 1:
                answered = mine.blocks(items, start)
            else:
                answered = spread_blocks(
                    replace(request, run=request.run.absolute()), items, workers, mine.block_size(len(items)), start
                )
            return woven(answered, writer, start, len(items)) if writer else answered

        if file is None:
            done = _to_stdout(head, blocks(0))
        else:
            about = {"run": str(request.run.absolute()), "inputs": [str(Path(source).absolute()) for source in given]}
            asked = _asked(request, mine, items)
            if field:
                asked |= {"file of cells": field.digest, "kind of file": file.suffix.lower()}
            with open_output(file, asked, head, resume=resume, about=about) as output:
                if not output.finished:
                    _write(output, blocks(output.done.cells), Pace(watcher, len(items), output.done.cells))
            done = output.done
        if workers == 1 and (note := contours_note(mine.predictor.inputs)):
            watcher.say(note)
        rows = None
        if file and of_groups and judged_by:
            found = groups_of(items, given, field is not None)
            rows = write_groups(file, found, mine.predictor.classes, *judged_by, of_groups)
        return Predicted(file, done.cells, done.passed_over, done.problems, mine.rules.words(request), rows)


def _field(given: list[str | Path], cells: str | Path | None) -> Field | None:
    if cells is None:
        return None
    if len(given) != 1:
        raise CytodistillError(
            f"--cells {cells}: is for the cells of one field or slide; give one image, not {len(given)}"
        )
    return Field(given[0], cells)


def _threads(workers: int) -> int:
    # Of a cluster's machines nothing is known here.
    return 1 if workers > 1 and on_cluster() else max(1, torch.get_num_threads() // workers)


def _write(output: Output, blocks: Generator[Block], pace: Pace) -> None:
    try:
        with closing(blocks):
            for block in blocks:
                output.put(block)
                pace.step(output.done.cells)
    except Interrupted:
        raise Interrupted(f"interrupted; the same command with --resume goes on with {output.out}") from None


class Pace:
    """Says how fast it goes: to a bar with every block, and in a line every minute, for logs.

    Args:
        watcher: is told.
        total: cells in all.
        start: cells that an earlier process has answered.
    """

    def __init__(self, watcher: Watcher, total: int, start: int) -> None:
        self.watcher, self.total, self.start = watcher, total, start
        self._began = self._said = time.monotonic()

    def step(self, done: int) -> None:
        """``done`` cells are answered."""
        now = time.monotonic()
        rate = (done - self.start) / max(now - self._began, 1e-9)
        self.watcher.step("predict", done, self.total, f"{rate:,.0f} cells/s")
        if now - self._said >= MINUTE:
            self._said = now
            left = (self.total - done) / max(rate, 1e-9) / 60
            self.watcher.say(f"{done:,} of {self.total:,} cells, {rate:,.0f} cells/s, {left:,.0f} minutes left")


def _to_stdout(head: str, blocks: Generator[Block]) -> Progress:
    """Write the lines as they come, for a pipe that someone reads."""
    sys.stdout.write(head)
    done = Progress()
    with closing(blocks):
        for block in blocks:
            sys.stdout.write(block.text)
            sys.stdout.flush()
            done = done.after(block.cells, block.problems)
    return done


def _asked(request: Request, mine: Answering, items: Items) -> dict[str, Any]:
    """All that the bytes of the file depend on, by the name that a message gives it."""
    on_gpu = wants_gpu(request.device) and not is_artifact(request.run)
    run: dict[str, Any] = {"fingerprint": Run.open(request.run).info["fingerprint"]}
    if is_artifact(request.run):
        run["artifact"] = Artifact.open(request.run).info[SEAL]
    else:
        run["weights"] = weights_digest(Run.open(request.run))
    return {
        "run": run,
        "list of cells": {"cells": len(items), "digest": items.digest()},
        **mine.rules.described(request),
        "batch size": request.batch_size,
        "block of cells": mine.block_size(len(items)),
        "list of columns": mine.columns,
        "kind of file": request.suffix,
        "device": "cuda" if on_gpu else "cpu",
        "set of versions": {name: version(name) for name in PACKAGES},
    }

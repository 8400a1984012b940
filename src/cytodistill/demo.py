"""demo: the whole job on synthetic cells, small enough for two cores and three minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

from cytodistill.data.sources.synthetic import synthesize
from cytodistill.errors import CytodistillError
from cytodistill.evaluation import metrics_table
from cytodistill.evaluation.run import evaluate
from cytodistill.files import make_folder
from cytodistill.terminal import Terminal
from cytodistill.train.fit import fit

CELLS = 900


def run_demo(out: Path, terminal: Terminal) -> None:
    """Draw cells into ``out/cells``, fit teacher and student into ``out/run``, evaluate into ``out/run/report``.

    An earlier demo in ``out`` is replaced.

    Raises:
        CytodistillError: ``out`` holds something that is not an earlier demo.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        if not (out / ".cytodistill-demo").is_file():
            raise CytodistillError(f"{out}: is not empty and not an earlier demo; choose another folder with -o")
        shutil.rmtree(out)
    (make_folder(out) / ".cytodistill-demo").touch()
    synthesize(out / "cells", CELLS, 0, lambda done, total: terminal.step("synth", done, total))
    terminal.say(f"{out}/cells: {CELLS} synthetic Pap cells of five classes, in SIPaKMeD's format")
    run = fit(out / "cells", out / "run", recipe="demo", watcher=terminal)
    found = evaluate(run, watcher=terminal)
    terminal.out.print(metrics_table(found.metrics))
    for file in (f for f in found.files if f.name in ("metrics.json", "report.html", "confusion.png")):
        terminal.result(str(file))

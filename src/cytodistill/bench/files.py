"""Files in, lines of CSV out: decoding, network and writing together, as `predict` does it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from cytodistill.bench.contestants import Setting
from cytodistill.bench.network import described
from cytodistill.bench.rounds import ratio, take_turns
from cytodistill.infer.batch_answer import Answering, answering, one_core_a_thread
from cytodistill.infer.batch_list import Items
from cytodistill.infer.batch_rules import Request


def time_files(
    settings: Sequence[Setting],
    frame: pd.DataFrame,
    rounds: int,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """{name, policy, batch, threads …, "cells", "cells_a_second", "times"} of every setting, turn by turn.

    Networks are loaded before the clock starts. Files that were read in an earlier turn are likely to be in the
    system's cache: what is measured is decoding, not the disk.

    Args:
        settings: the first is what the others are compared with.
        frame: rows of a `CellTable`.
        rounds: that count.
        device: of run folders.
        progress: told how many of how many turns are taken.

    Raises:
        CytodistillError: a contestant cannot be loaded.
    """
    items = Items([frame])
    with ExitStack() as stack:
        stack.enter_context(one_core_a_thread())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work: dict[Setting, Callable[[], None]] = {}
        for setting in settings:
            mine = answering(_request(setting, device))
            stack.callback(mine.close)
            work[setting] = _writing(mine, items, folder / f"{len(work)}.csv")
        seconds = take_turns(work, rounds, progress)
    return [
        {
            **described(setting),
            "cells": len(items),
            "cells_a_second": len(items) / median(seconds[setting]),
            "times": ratio(seconds[setting], seconds[settings[0]]),
        }
        for setting in settings
    ]


def files_settings(settings: Sequence[Setting]) -> list[Setting]:
    """Of all settings those that files are answered with: the largest batch, on all the threads there are."""
    batch, threads = max(each.batch for each in settings), max(each.threads for each in settings)
    return list(dict.fromkeys(replace(each, batch=batch, threads=threads) for each in settings))


def _request(setting: Setting, device: str) -> Request:
    return Request(
        setting.contestant.path,
        policy=setting.policy,
        batch_size=setting.batch,
        device=device if setting.contestant.runtime == "torch" else "cpu",
        threads=setting.threads,
    )


def _writing(mine: Answering, items: Items, file: Path) -> Callable[[], None]:
    def write() -> None:
        with open(file, "w", encoding="utf-8") as out:
            out.write(mine.head)
            for block in mine.blocks(items):
                out.write(block.text)

    return write

"""Whether a cheaper training is as good, over seeds: the figures of two recipes on the same test cells.

    python benchmarks/as_good.py --cheap RUN… --dear RUN… [--times FILE] [--json FILE]

Runs are given in the same order of seeds, evaluated (`cytodistill evaluate RUN`). Figures are the mean over seeds of
the ensemble's on the test cells; intervals are over groups, the same ones drawn for both recipes, as `reproduce`'s are.
"Within the interval" is asked of the dear recipe's own interval of the macro F-measure.

Seconds are those that a process computed, from start to end, as `time` says it, so that what else the machine did does
not count; FILE is JSON of {run: seconds}.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from cytodistill.metrics.intervals import figure_differences, figure_intervals, group_tallies
from cytodistill.train.run_folder import Run

FIGURES = ("f1", "accuracy", "sensitivity")


def tallies_of(run: Run) -> Any:
    """What the run's ensemble said of its test cells, counted by group."""
    file = run.path / "report" / "predictions.csv"
    if not file.is_file():
        raise SystemExit(f"{file}: gone; cytodistill evaluate {run.path}")
    answers = pd.read_csv(file, dtype=str, keep_default_na=False)
    code = {name: number for number, name in enumerate(run.classes)}
    labels, predicted = (answers[column].map(code).to_numpy() for column in ("label", "predicted"))
    return group_tallies(labels, predicted, answers["group"].to_numpy(), len(run.classes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cheap", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--dear", type=Path, nargs="+", required=True, metavar="RUN")
    parser.add_argument("--times", type=Path, help="JSON of {run: computed seconds}")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    if len(options.cheap) != len(options.dear):
        raise SystemExit("--cheap and --dear: as many runs, in the same order of seeds")
    runs = {name: [Run.open(path) for path in getattr(options, name)] for name in ("cheap", "dear")}
    for one, other in zip(runs["cheap"], runs["dear"], strict=True):
        if one.info["table"]["digest"] != other.info["table"]["digest"]:
            raise SystemExit(f"{one.path}: has other cells or splits than {other.path}")
    tallies = {name: [tallies_of(run) for run in each] for name, each in runs.items()}
    figures = {name: figure_intervals(each) for name, each in tallies.items()}
    less = figure_differences(tallies["cheap"], tallies["dear"])
    dear = figures["dear"]["f1"]
    inside = figures["cheap"]["f1"].value >= dear.low
    content: dict[str, Any] = {
        "cheap": [str(path) for path in options.cheap],
        "dear": [str(path) for path in options.dear],
        "recipes": {name: each[0].info["recipe"] for name, each in runs.items()},
        "seeds": [run.info["seed"] for run in runs["dear"]],
        "cells_and_splits": [run.info["table"]["digest"] for run in runs["dear"]],
        "figures": {
            name: {key: [of[key].value, of[key].low, of[key].high] for key in FIGURES} for name, of in figures.items()
        },
        "difference": {key: [less[key].value, less[key].low, less[key].high, less[key].p] for key in FIGURES},
        "within_the_dear_interval": bool(inside),
        "hardware": runs["dear"][0].info["hardware"],
        "versions": runs["dear"][0].info["versions"],
    }
    for name, of in figures.items():
        print(
            f"{name:6}",
            *(
                f"{key} {100 * of[key].value:.1f} [{100 * of[key].low:.1f}, {100 * of[key].high:.1f}]"
                for key in FIGURES
            ),
        )
    f1 = less["f1"]
    print(
        f"cheap − dear, macro F: {100 * f1.value:+.1f} points [{100 * f1.low:+.1f}, {100 * f1.high:+.1f}], p {f1.p:.2f}"
    )
    print(f"the cheap one's is {'not below' if inside else 'BELOW'} the dear one's interval")
    if options.times:
        seconds = json.loads(options.times.read_text())
        spent = {name: [seconds[str(path)] for path in getattr(options, name)] for name in runs}
        ratios = [cheap / dear for cheap, dear in zip(spent["cheap"], spent["dear"], strict=True)]
        content["computed_seconds"] = spent | {"ratio": statistics.median(ratios)}
        print(f"computed seconds: {spent['cheap']} and {spent['dear']}; ratio {statistics.median(ratios):.3f}")
    if options.json:
        options.json.write_text(json.dumps(content, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()

"""The command line. Commands import what they need when they run, so that ``--help`` answers at once."""

from __future__ import annotations

import json
import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cytodistill.errors import CytodistillError, Interrupted

app = typer.Typer(
    name="cytodistill",
    help="Small, multi-exit classifiers of cervical cells by transfer learning and (self-)distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(help="Look at, split and make sets of cells.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Grouping(StrEnum):
    auto = "auto"
    none = "none"


Source = Annotated[str, typer.Argument(help="Folder, zip or manifest CSV of labelled cells.", metavar="SOURCE")]
Format = Annotated[str | None, typer.Option(help="sipakmed, herlev, cric, cifar100, folder; recognised by itself.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="A recipe's setting, section.key=value; may be repeated.")
]
DeviceOption = Annotated[Device, typer.Option(help="Where to compute.")]
RecipeOption = Annotated[str | None, typer.Option(help="quick (the default), paper, demo, or a YAML file.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from cytodistill import __version__

        print(f"cytodistill {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Debug = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    # `main` takes --debug off the line before Typer sees it; it stands here for --help.
    pass


# ---------------------------------------------------------------- data


@data_app.command("inspect")
def data_inspect(
    source: Source,
    near: Annotated[bool, typer.Option("--near", help="Look for near duplicates too: re-encoded or turned.")] = False,
    format: Format = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Classes, counts, sizes, groups, unreadable and duplicate files."""
    from cytodistill.data import near_duplicates
    from cytodistill.data.cache import cached_cells
    from cytodistill.data.inspect import inspect_source, render
    from cytodistill.data.sources import read_source
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        table = read_source(source, format)
        inspection = inspect_source(table, lambda done, total: terminal.step("inspect", done, total))
        found = None
        if near:
            cells = cached_cells(table, 96, "pad", lambda done, total: terminal.step("decode", done, total))
            found = near_duplicates.judge_pairs(table, near_duplicates.hash_pairs(cells))
    if as_json:
        content = inspection.to_dict() | ({"near_duplicates": found.to_dict(table)} if found else {})
        print(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for part in [*render(inspection), *(near_duplicates.render(found, table) if found else ())]:
        terminal.out.print(part)


@data_app.command("split")
def data_split(
    source: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="The manifest to write, a .csv file.")],
    ratio: Annotated[str, typer.Option(help="Training : validation : test.")] = "3:1:1",
    folds: Annotated[int | None, typer.Option(help="Folds for cross-validation instead of a ratio.")] = None,
    group: Annotated[Grouping, typer.Option(help="Keep groups whole, or split cell by cell.")] = Grouping.auto,
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    window: Annotated[int, typer.Option(min=2, help="Side in pixels of a cell round its nucleus (CRIC).")] = 90,
    format: Format = None,
) -> None:
    """Split by group, stratified by class, into a manifest that `fit` takes."""
    from cytodistill.data.sources import read_source
    from cytodistill.data.split import split_table
    from cytodistill.terminal import Terminal, counts_table

    if out.suffix.lower() != ".csv":
        raise CytodistillError(f"-o {out}: a manifest is a .csv file; name it so")
    table = split_table(
        read_source(source, format, window=window), ratio=ratio, folds=folds, group=group.value, seed=seed
    )
    table.write(out)
    terminal = Terminal()
    terminal.out.print(counts_table(table))
    cells = f"{out}: {len(table)} cells"
    if group is Grouping.none:
        terminal.result(
            f"{cells}, split cell by cell: cells of one field may be in two splits, so figures will flatter"
        )
    else:
        terminal.result(f"{cells} of {table.frame['group'].nunique()} groups, no group in two splits")


@data_app.command("synth")
def data_synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    cells: Annotated[int, typer.Option(help="How many cells, over five classes.")] = 1000,
    seed: Annotated[int, typer.Option(help="Same seed, same cells.")] = 0,
) -> None:
    """Draw a synthetic set of Pap cells in SIPaKMeD's format."""
    from cytodistill.data.sources.synthetic import synthesize
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        synthesize(out, cells, seed, lambda done, total: terminal.step("synth", done, total))
    terminal.result(f"{out}: {cells} synthetic cells")


# ---------------------------------------------------------------- the main job


@app.command()
def demo(
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to; an earlier demo there is replaced.")] = Path(
        "runs/demo"
    ),
) -> None:
    """Synthetic cells → teacher → student → report, in minutes on two cores."""
    from cytodistill.demo import run_demo
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        run_demo(out, terminal)


@app.command()
def fit(
    source: Source,
    out: Annotated[Path, typer.Option("-o", "--out", help="The run folder to make.", metavar="RUN")],
    recipe: RecipeOption = None,
    teacher: Annotated[str | None, typer.Option(help="timm name, weight file, run folder, or none.")] = None,
    pretrained: Annotated[str | None, typer.Option(help="imagenet, weight file, run folder, or none.")] = None,
    settings: Settings = None,
    group: Annotated[Grouping | None, typer.Option(help="none: cells of a group may be in two splits.")] = None,
    folds: Annotated[
        str | None, typer.Option(help="Cross-validate: so many folds, or `groups` to leave one group out at a time.")
    ] = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(help="With --folds: section.key=[a, b], the best of which each fold's validation cells choose."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Train a classifier: transfer learning, teacher, student. Under torchrun, on several processes."""
    from cytodistill.terminal import Terminal
    from cytodistill.train.fit import fit as fit_run

    chosen = [*([f"data.group={group.value}"] if group else []), *(settings or [])]
    if choose and folds is None:
        raise CytodistillError("--choose: chooses inside each fold; give --folds too")
    if folds is not None:
        from cytodistill.recipe import parse_choices
        from cytodistill.train.folds import fit_folds

        if folds != "groups" and not folds.isdigit():
            raise CytodistillError(f"--folds {folds}: give a number of folds, or groups")
        with Terminal() as terminal:
            fit_folds(
                source,
                out,
                "groups" if folds == "groups" else int(folds),
                recipe=recipe,
                teacher=teacher,
                pretrained=pretrained,
                settings=chosen,
                choices=parse_choices(choose or []),
                resume=resume,
                format=format,
                device=device.value,
                watcher=terminal,
            )
        terminal.result(f"{out}: every fold is finished; now `cytodistill evaluate {out}`")
        return
    with Terminal() as terminal:
        run = fit_run(
            source,
            out,
            recipe=recipe,
            teacher=teacher,
            pretrained=pretrained,
            settings=chosen,
            resume=resume,
            format=format,
            device=device.value,
            watcher=terminal,
        )
    if _first_rank():
        result = run.info["result"]
        terminal.result(
            f"{out}: best epoch {result['best_epoch'] + 1}, {result['seconds']:.0f} s; now `cytodistill evaluate {out}`"
        )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    source: Annotated[str | None, typer.Argument(help="Other cells; by default the run's own test split.")] = None,
    split: Annotated[str, typer.Option(help="test, val, train or all.")] = "test",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the files; RUN/report.")] = None,
    class_map: Annotated[
        str | None, typer.Option("--map", help="Which classes are abnormal: a map's name or file; the data set's own.")
    ] = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Figures of each exit and the ensemble; writes metrics.json, predictions.csv and pictures."""
    from cytodistill.evaluation import metrics_table
    from cytodistill.evaluation.folds import evaluate_folds
    from cytodistill.evaluation.run import evaluate as evaluate_run
    from cytodistill.evaluation.trust import trust_lines
    from cytodistill.terminal import Terminal
    from cytodistill.train.folds import is_folds

    with Terminal() as terminal:
        if is_folds(run):
            if source is not None or split != "test":
                raise CytodistillError(
                    f"{run}: a cross-validation is evaluated on its own test cells; leave out the rest"
                )
            found = evaluate_folds(run, out=out, device=device.value, watcher=terminal)
        else:
            found = evaluate_run(
                run,
                source,
                split=split,
                out=out,
                class_map=class_map,
                format=format,
                device=device.value,
                watcher=terminal,
            )
    terminal.out.print(metrics_table(found.metrics))
    for line in trust_lines(found.metrics):
        terminal.result(line)
    for file in found.files[:3]:
        terminal.result(str(file))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    inputs: Annotated[list[str], typer.Argument(help="Image files, folders, zips or manifests.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help=".csv or .jsonl; by default CSV to stdout.")] = None,
    format: Format = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Cells computed at once.")] = 64,
    device: DeviceOption = Device.auto,
) -> None:
    """Predict every image; files that cannot be read are listed and passed over."""
    from cytodistill.infer.files import collect, predict_files
    from cytodistill.infer.predictor import load
    from cytodistill.infer.writers import open_writer
    from cytodistill.terminal import Terminal
    from cytodistill.train.estimator import say_contours

    predictor = load(run, device.value)
    items = collect(inputs, format, predictor.recipe.data.window)
    with Terminal() as terminal, open_writer(out, predictor.classes, predictor.exits) as writer:
        problems = predict_files(
            predictor,
            items,
            writer,
            batch_size=batch_size,
            progress=lambda done, total: terminal.step("predict", done, total),
        )
        say_contours(predictor.inputs, terminal)
    for problem in problems[:10]:
        terminal.err.print(f"passed over: {problem}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if len(problems) > 10:
        terminal.err.print(f"… and {len(problems) - 10} more; the error column has them all", style="yellow")
    if out is not None:
        terminal.result(f"{out}: {len(items) - len(problems)} cells predicted, {len(problems)} passed over")
    if items and len(problems) == len(items):
        raise typer.Exit(1)


@app.command()
def model(
    recipe: RecipeOption = None,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 5,
    size: Annotated[int | None, typer.Option(min=16, max=1024, help="Image side in pixels; the recipe's.")] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Parameters and multiply-accumulates (MACs) of a recipe's student, whole and up to each exit."""
    from cytodistill.models.count import network_cost
    from cytodistill.models.multi_exit import build_network, check_network
    from cytodistill.recipe import Recipe
    from cytodistill.terminal import Terminal, cost_table

    chosen = Recipe.load(recipe or "quick").override(settings or [])
    if size is not None:
        chosen = chosen.override({"data.image_size": size})
    if chosen.estimator.head != "none":
        raise CytodistillError("estimator.head: `model` counts networks; set estimator.head=none for the network alone")
    check_network(chosen.student.backbone, "student.backbone")
    side = chosen.data.image_size
    cost = network_cost(build_network(chosen.student, classes, side, chosen.seed), side)
    if as_json:
        print(json.dumps({"recipe": chosen.name, "classes": classes, "image_size": side, **cost.to_dict()}, indent=2))
    else:
        Terminal().out.print(cost_table(chosen, classes, cost))


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="Run folder.", metavar="RUN")],
    source: Annotated[str | None, typer.Argument(help="Other cells; by default the run's own test split.")] = None,
    split: Annotated[str, typer.Option(help="test, val, train or all.")] = "test",
    limit: Annotated[int, typer.Option(min=1, help="Cells: wrong and doubtful ones first, each class in turn.")] = 24,
    method: Annotated[str, typer.Option(help="hirescam, gradcam or gradcam++.")] = "hirescam",
    at: Annotated[str, typer.Option(help="tap (what an exit is given) or branch (its last map).")] = "tap",
    of: Annotated[str | None, typer.Option(help="Class to explain; by default each exit's own answer.")] = None,
    contours: Annotated[str | None, typer.Option(help="auto, file, segment or none.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the files; RUN/explain.")] = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Where each exit looked, cell by cell, and whether such a map means anything."""
    from cytodistill.explain.run import explain as explain_run
    from cytodistill.terminal import Terminal

    with Terminal() as terminal:
        found = explain_run(
            run,
            source,
            split=split,
            limit=limit,
            method=method,  # type: ignore[arg-type]
            at=at,  # type: ignore[arg-type]
            of=of,
            contours=contours,
            out=out,
            format=format,
            device=device.value,
            watcher=terminal,
        )
    for file in found.files[:2]:
        terminal.result(str(file))
    terminal.result(f"{len(found.files) - 2} panels in {found.files[0].parent / 'maps'}")


@app.command()
def reproduce(
    table: Annotated[str, typer.Argument(help="table2, table3, table4, table5 or table6.")],
    source: Annotated[str | None, typer.Argument(help="Folder, zip or manifest CSV of labelled cells.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the runs and the tables.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="quick (the default), cifar100 (Table 6's default), paper, or a YAML file.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Each draws its own split and training.")] = 3,
    folds: Annotated[
        int | None, typer.Option(help="Grouped cross-validation with so many folds, in place of seeds.")
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows to run, by name, system or pattern (* for all, with those beyond the paper); may be repeated."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of every row; milestones are moved along.")] = None,
    teacher: Annotated[str | None, typer.Option(help="Network of the teacher; the paper's by default.")] = None,
    students: Annotated[str | None, typer.Option(help="Networks of Table 6's students, with commas between.")] = None,
    weights: Annotated[
        str, typer.Option(help="Where networks start: imagenet, none, or a folder of <network>.safetensors.")
    ] = "imagenet",
    workers: Annotated[int, typer.Option(min=1, help="Runs side by side, through Ray (extra `scale`).")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and how long it would take.")] = False,
    settings: Settings = None,
    format: Format = None,
    device: DeviceOption = Device.auto,
) -> None:
    """Run a table of the paper on your own cells: same splits and budget for every row; resumable."""
    from cytodistill.recipe import Recipe
    from cytodistill.reproduce import run
    from cytodistill.terminal import Terminal, plan_table

    chosen = Recipe.load(recipe or ("cifar100" if table == "table6" else "quick")).override(settings or [])
    if epochs:
        chosen = chosen.shortened(epochs)
    choice = run.choose(
        table,
        chosen,
        rows=rows or (["*"] if dry_run else []),
        teacher=teacher,
        students=students.split(",") if students else (),
        weights=weights,
    )
    draws = folds or seeds
    with Terminal() as terminal:
        if dry_run:
            planned = run.plan(choice, source, recipe=chosen, format=format, device=device.value, watcher=terminal)
            terminal.out.print(plan_table(planned, draws))
            return
        if source is None or out is None:
            raise CytodistillError(f"reproduce {table}: give SOURCE and -o FOLDER; --dry-run alone does without them")
        file = run.reproduce(
            choice,
            source,
            out,
            recipe=chosen,
            seeds=seeds,
            folds=folds,
            format=format,
            device=device.value,
            workers=workers,
            watcher=terminal,
        )
    terminal.result(file.with_suffix(".md").read_text(encoding="utf-8"))
    terminal.result(f"{file.with_suffix('.html')}")


def _first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


def main(arguments: list[str] | None = None) -> Any:
    """Entry point: runs a command; CytodistillError becomes one line on stderr and exit code 2."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    # The flag is understood wherever it stands on the line.
    given = [argument for argument in given if argument != "--debug"]
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app(args=given, prog_name="cytodistill")
    except CytodistillError as error:
        if debug:
            raise
        if _first_rank():
            print(f"error: {error}", file=sys.stderr)
        sys.exit(130 if isinstance(error, Interrupted) else 2)


def _interrupt(*_: object) -> None:
    raise Interrupted(
        "interrupted; the same command with --resume goes on with a fit, and `reproduce` goes on by itself"
    )

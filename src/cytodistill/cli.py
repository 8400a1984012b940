"""The command line: the list of commands, and what becomes of an error."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer

from cytodistill.commands import (
    auditing,
    benching,
    comparing,
    data,
    evaluation,
    exporting,
    policies,
    prediction,
    reproduction,
    serving,
    training,
)
from cytodistill.errors import CytodistillError, Interrupted

app = typer.Typer(
    name="cytodistill",
    help="Small, multi-exit classifiers of cervical cells by transfer learning and (self-)distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from cytodistill import __version__

        print(f"cytodistill {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    # `main` takes --debug off the line before Typer sees it; it stands here for --help.
    pass


COMMANDS = (
    training.demo,
    training.fit,
    evaluation.evaluate,
    comparing.compare,
    prediction.predict,
    policies.policy,
    training.model,
    evaluation.explain,
    exporting.export,
    benching.bench,
    auditing.audit,
    reproduction.reproduce,
    serving.serve,
)
app.add_typer(data.app, name="data")
for command in COMMANDS:
    app.command()(command)


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
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        sys.exit(130 if isinstance(error, Interrupted) else 2)


def _interrupt(*_: object) -> None:
    raise Interrupted(
        "interrupted; the same command with --resume goes on with a fit, and `reproduce` goes on by itself"
    )

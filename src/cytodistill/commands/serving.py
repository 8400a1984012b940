"""serve: a run behind a page and a REST API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cytodistill.commands.options import Device, DeviceOption, RunFolder
from cytodistill.errors import CytodistillError


def serve(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="Address to listen on; one that others reach demands a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    token_file: Annotated[Path | None, typer.Option(help="Lines `NAME TOKEN`; who gives a token may do all.")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name by which browsers reach the service; may be repeated.")
    ] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Trust X-Forwarded-Proto of a proxy on this machine.")
    ] = False,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for pictures and database; RUN/serve.")] = None,
    database: Annotated[
        str | None,
        typer.Option(envvar="CYTODISTILL_DATABASE", help="postgresql+psycopg://… in place of SQLite in the folder."),
    ] = None,
    keep_uploads: Annotated[
        bool, typer.Option("--keep-uploads", help="Keep what is uploaded until it is deleted.")
    ] = False,
    forget_hours: Annotated[float, typer.Option(help="Hours after which uploads not to be kept are deleted.")] = 24,
    log_names: Annotated[bool, typer.Option("--log-names", help="Let logs say what clients named things.")] = False,
    class_map: Annotated[
        str | None, typer.Option("--map", help="Which classes are abnormal: a map's name or file; the run's own.")
    ] = None,
    sets: Annotated[str, typer.Option(help="Conformal sets to show.")] = "lac-0.9-by-group",
    policy: Annotated[
        str | None, typer.Option(help="Exit policy of the run by which the page says where a cell would have stopped.")
    ] = None,
    confidence: Annotated[float, typer.Option(help="Without a policy: above this confidence a cell stops.")] = 0.95,
    max_batch: Annotated[int, typer.Option(help="Cells of one forward pass.")] = 32,
    max_wait_ms: Annotated[float, typer.Option(help="How long a cell waits for others, at most.")] = 2,
    threads: Annotated[int, typer.Option(help="Of the network; 0: all cores but one.")] = 0,
    decoders: Annotated[int, typer.Option(help="Processes that decode images; 0: one a core, at most 4.")] = 0,
    max_requests: Annotated[int, typer.Option(help="Under way at once; more are answered 503.")] = 256,
    max_body_mb: Annotated[int, typer.Option(help="MiB of one request.")] = 1024,
    max_megapixels: Annotated[int, typer.Option(help="Of one image.")] = 64,
    device: DeviceOption = Device.auto,
) -> None:
    """Serve a run: predictions, maps and reviews, by a page and a REST API. Needs the extra `serve`."""
    try:
        from cytodistill.serve.run import serve as serve_run
        from cytodistill.serve.settings import Limits, Settings
    except ImportError as error:
        raise CytodistillError(f"serve: {error.name} is not installed; pip install 'cytodistill[serve]'") from None
    from cytodistill.terminal import Terminal

    if min(max_requests, max_body_mb, max_megapixels) < 1 or max_megapixels > 100:
        raise CytodistillError("--max-requests, --max-body-mb: give 1 or more; --max-megapixels: 1 to 100")
    limits = Limits(requests=max_requests, body=max_body_mb << 20, pixels=max_megapixels * 1_000_000)
    settings = Settings.check(
        run=run,
        host=host,
        port=port,
        token_file=token_file,
        allowed_hosts=tuple(allow_host or ()),
        behind_proxy=behind_proxy,
        tls_cert=tls_cert,
        tls_key=tls_key,
        data=data,
        database=database,
        keep_uploads=keep_uploads,
        forget_hours=forget_hours,
        log_names=log_names,
        class_map=class_map,
        sets=sets,
        policy=policy,
        confidence=confidence,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        threads=threads,
        decoders=decoders,
        limits=limits,
        device=device.value,
    )
    terminal = Terminal()
    serve_run(settings, terminal.say)

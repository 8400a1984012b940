"""Settings of the service, checked before anything is opened."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cytodistill.data.images import MAX_PIXELS
from cytodistill.errors import CytodistillError

TOKEN_LENGTH = 20
"""Characters that a token has at least."""
FOLDER = "serve"
"""Where a run's service keeps its data, in the run folder, unless told otherwise."""

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Checked):
    """What one client may ask for. Sizes in bytes, times in seconds."""

    body: Count = 1 << 30
    """Of a request."""
    file: Count = 128 << 20
    """Of one image."""
    pixels: Annotated[int, Field(ge=1, le=MAX_PIXELS)] = 64_000_000
    """Of one image, width × height."""
    pixels_in_all: Count = 4_000_000_000
    """Of all images of a request."""
    images: Count = 20_000
    """Of an upload: files, members of a zip, or cells of a field."""
    images_at_once: Count = 256
    """Of a prediction that is waited for."""
    unpacked: Count = 4 << 30
    """Of a zip, as its members say."""
    ratio: Count = 200
    """Unpacked to packed size of a zip's member; images are packed already."""
    coordinates: Count = 8 << 20
    """Of the text that says where a field's cells are."""
    idle_seconds: Seconds = 20
    """Between two pieces of a request."""
    upload_seconds: Seconds = 1800
    """For a whole request."""
    rate: Count = 4096
    """Bytes a second that a request must come at, once ``idle_seconds`` are over."""
    decode_seconds: Seconds = 30
    """For one image."""
    incoming: Count = 8 << 30
    """On disk of all requests that are read and uploads that wait; more is told to come again (503)."""
    memory: Count = 3 << 30
    """Address space of a process that decodes."""
    requests: Count = 256
    """Predictions, uploads and explanations that are under way at once; more are told to come again (503)."""
    cells: Count = 4096
    """Cells that wait for the network."""
    jobs: Count = 16
    """Uploads that wait to be worked on."""
    connections: Count = 1024
    """Open at once; more are told to come again (503) and closed."""
    header_seconds: Seconds = 15
    """For the head of a request, and for a connection that asks nothing."""


class Settings(_Checked):
    """Everything that `cytodistill serve` can be told; see its options."""

    run: Path
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    token_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    """Names, besides addresses and localhost, under which browsers reach the service."""
    behind_proxy: bool = False
    """Trust X-Forwarded-Proto and X-Forwarded-For of a proxy on this machine."""
    data: Path | None = None
    database: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    keep_uploads: bool = False
    forget_hours: Annotated[float, Field(gt=0)] = 24.0
    """After which uploads that are not to be kept are deleted, should the service not stop before."""
    log_names: bool = False
    device: str = "auto"
    threads: Annotated[int, Field(ge=0)] = 0
    """Of the network; 0 leaves a core to the rest."""
    decoders: Annotated[int, Field(ge=0, le=64)] = 0
    """Processes that decode; 0 is one a core, four at most."""
    max_batch: Annotated[int, Field(ge=1, le=1024)] = 32
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    class_map: str | None = None
    sets: str = "lac-0.9-by-group"
    policy: str | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.95
    limits: Limits = Limits()

    @classmethod
    def check(cls, **values: Any) -> Settings:
        """Settings from an option each.

        Raises:
            CytodistillError: one is out of bounds, or they do not go together.
        """
        try:
            settings = cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = "-".join(str(part) for part in first["loc"]).replace("_", "-")
            raise CytodistillError(f"--{name} {first['input']}: {first['msg']}") from None
        if (settings.tls_cert is None) != (settings.tls_key is None):
            raise CytodistillError("--tls-cert and --tls-key: give both, or neither")
        for option, file in (("--tls-cert", settings.tls_cert), ("--tls-key", settings.tls_key)):
            if file is not None and not file.is_file():
                raise CytodistillError(f"{option} {file}: no such file; check the path")
        if not settings.local and settings.token_file is None:
            raise CytodistillError(
                f"--host {settings.host}: others could reach the service there; give --token-file FILE, with a token "
                'of `python -c "import secrets; print(secrets.token_urlsafe(32))"` in it'
            )
        return settings

    @property
    def local(self) -> bool:
        """Whether the service is for this machine alone."""
        return is_loopback(self.host)

    @property
    def folder(self) -> Path:
        """Where files and, without a URL, the database are."""
        return self.data if self.data is not None else self.run / FOLDER

    @property
    def secure(self) -> bool:
        return self.tls_cert is not None

    def tokens(self) -> dict[str, str]:
        """Who each token is of: token → name, "" where the file gives none. Empty without a token file.

        Raises:
            CytodistillError: the file cannot be read, is empty, or has a token that can be guessed.
        """
        if self.token_file is None:
            return {}
        try:
            lines = self.token_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CytodistillError(f"--token-file {self.token_file}: cannot be read ({error}); check it") from None
        found: dict[str, str] = {}
        for number, line in enumerate(lines, start=1):
            *name, token = line.split() or [""]
            if not token or line.lstrip().startswith("#"):
                continue
            if len(token) < TOKEN_LENGTH or not token.isascii():
                raise CytodistillError(
                    f"--token-file {self.token_file}, line {number}: the token is shorter than {TOKEN_LENGTH} "
                    "characters or not ASCII; write a line `NAME TOKEN`, the token drawn at random"
                )
            found[token] = " ".join(name)
        if not found:
            raise CytodistillError(f"--token-file {self.token_file}: no token in it; write a line `NAME TOKEN`")
        return found

    def decoder_count(self) -> int:
        return self.decoders or min(os.cpu_count() or 1, 4)

    def thread_count(self) -> int:
        return self.threads or max(1, (os.cpu_count() or 1) - 1)


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is this machine to itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

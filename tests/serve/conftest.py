"""A tiny run behind the service, in this process; images of every kind."""

from __future__ import annotations

import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")

import uvicorn
from starlette.testclient import TestClient

from cytodistill.infer.fitted import Fitted
from cytodistill.infer.predictor import Predictor, load
from cytodistill.serve.app import create_app
from cytodistill.serve.identity import identify
from cytodistill.serve.run import bind, server_config
from cytodistill.serve.service import Service
from cytodistill.serve.settings import Limits, Settings
from cytodistill.serve.store import Store

ADDRESS = "http://127.0.0.1:8000"
MAP = """
name: tiny
version: 1
source: folder
target: normal / abnormal
origin: this test
classes: {left: normal, middle: abnormal, right: abnormal}
target_classes: [normal, abnormal]
abnormal: [abnormal]
"""
SMALL = Limits(
    body=8 << 20,
    file=2 << 20,
    pixels=1_000_000,
    pixels_in_all=20_000_000,
    images=60,
    images_at_once=40,
    unpacked=16 << 20,
    decode_seconds=20,
    requests=16,
)


@pytest.fixture(scope="session")
def judged_run(tiny_run, tmp_path_factory) -> Path:
    """A copy of the tiny run, with what its validation cells decided."""
    from cytodistill.evaluation.validation import fit_on_validation

    folder = tmp_path_factory.mktemp("served") / "tiny"
    shutil.copytree(tiny_run.path, folder)
    predictor, table = load(folder, "cpu"), tiny_run.table()
    rows = table.indices("all")
    cells = predictor.inputs.of_table(table, rows)
    found = predictor.predict_cells(np.array(cells))
    fitted = fit_on_validation(
        tiny_run.info["fingerprint"],
        found.exit_probabilities,
        found.probabilities,
        table.labels,
        table.groups,
        tiny_run.classes,
        None,
    )
    assert isinstance(fitted, Fitted)
    fitted.write(folder)
    (folder / "map.yaml").write_text(MAP)
    return folder


@pytest.fixture(scope="session")
def run_as(judged_run, tmp_path_factory) -> Callable[..., Path]:
    """``run_as(format, **data)``: a copy of the run, as if it came of a source of this format, with these settings."""

    def changed(format: str, **data) -> Path:
        folder = tmp_path_factory.mktemp("changed") / "tiny"
        shutil.copytree(judged_run, folder)
        info = json.loads((folder / "run.json").read_text())
        info["table"]["format"] = format
        info["recipe"]["data"] |= data
        (folder / "run.json").write_text(json.dumps(info))
        return folder

    return changed


@pytest.fixture(scope="session")
def predictor(judged_run) -> Predictor:
    return load(judged_run, "cpu")


@pytest.fixture(scope="session")
def serving(judged_run) -> Callable:
    """``with serving(folder, **settings) as client``: the service on the tiny run, or another, its network loaded."""

    @contextmanager
    def serve(folder: Path, *, run: Path = judged_run, ready: bool = True, **settings) -> Iterator[TestClient]:
        values = {"limits": SMALL, "class_map": str(judged_run / "map.yaml"), "decoders": 1, "threads": 1}
        checked = Settings.check(run=run, data=folder, device="cpu", **(values | settings))
        identity = identify(run)
        service = Service(checked, identity, Store(folder, identity, checked.database))
        with TestClient(create_app(service), ADDRESS, raise_server_exceptions=False) as client:
            while ready and client.get("/readyz").status_code != 200:
                assert service.error is None, service.error
                time.sleep(0.02)
            yield client

    return serve


@pytest.fixture(scope="session")
def listening(judged_run) -> Callable:
    """``with listening(folder, **settings) as (port, server, service)``: the same on a socket, as `cytodistill serve`
    has it but for the signals."""

    @contextmanager
    def listen(folder: Path, *, run: Path = judged_run, **settings) -> Iterator[tuple[int, uvicorn.Server, Service]]:
        values = {"limits": SMALL, "decoders": 1, "threads": 1, "port": 0}
        checked = Settings.check(run=run, data=folder, device="cpu", **(values | settings))
        identity = identify(run)
        service = Service(checked, identity, Store(folder, identity))
        bound = bind(checked)
        server = uvicorn.Server(server_config(checked, service))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            while service.health.status != "ok":
                time.sleep(0.02)
            yield bound.getsockname()[1], server, service
        finally:
            server.should_exit = True
            thread.join(60)
            bound.close()
        assert not thread.is_alive()

    return listen


@pytest.fixture(scope="module")
def client(serving, tmp_path_factory) -> Iterator[TestClient]:
    """One service for a test file; its tests leave it as they find it, or do not mind what is in it."""
    with serving(tmp_path_factory.mktemp("data")) as client:
        yield client


@pytest.fixture(scope="session")
def files(cells) -> list[Path]:
    return sorted(cells.rglob("*.png"))


def encoded(image: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def a_cell(seed: int = 0, height: int = 24, width: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def finished(client: TestClient, upload: dict, seconds: float = 60) -> dict:
    """The upload once it has been worked on."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = client.get(f"/api/v1/uploads/{upload['id']}").json()
        if found["state"] not in ("waiting", "working"):
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def send(client: TestClient, *images: bytes | tuple[str, bytes], **fields: str) -> dict:
    """Upload images and wait for them."""
    named = [image if isinstance(image, tuple) else (f"{n}.png", image) for n, image in enumerate(images)]
    answer = client.post("/api/v1/uploads", files=[("image", pair) for pair in named], data=fields)
    assert answer.status_code == 202, answer.text
    return finished(client, answer.json())

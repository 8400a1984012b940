"""Admission, what is forgotten and when, and the end of a service."""

import asyncio
import time

import pytest

from cytodistill.serve import service as serving_module
from cytodistill.serve.gallery import INTERRUPTED
from cytodistill.serve.identity import identify
from cytodistill.serve.service import Service
from cytodistill.serve.settings import Limits, Settings
from cytodistill.serve.store import Store
from cytodistill.serve.tables import UploadRow, now

from .conftest import SMALL, a_cell, encoded, send

PREDICT, UPLOADS = "/api/v1/predict", "/api/v1/uploads"
IMAGE = {"content": encoded(a_cell()), "headers": {"Content-Type": "image/png"}}


def check_busy(answer):
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 503


def test_requests_past_the_limit_are_told_to_come_again(serving, tmp_path):
    with serving(tmp_path, limits=Limits(**(SMALL.model_dump() | {"requests": 2}))) as client:
        service = client.app.state.service
        with service.admitted(), service.admitted():
            for path in (PREDICT, UPLOADS, "/api/v1/explain"):
                check_busy(client.post(path, **IMAGE))
            # Who only looks is not kept out.
            assert client.get("/api/v1/cells").status_code == 200
            assert client.get("/metrics").text.count("cytodistill_requests_under_way 2.0") == 1
        assert client.post(PREDICT, **IMAGE).status_code == 200
        with pytest.raises(ZeroDivisionError), service.admitted():
            1 / 0  # noqa: B018
        assert service._under_way == 0


def test_a_service_that_stops_takes_nothing_more(serving, tmp_path):
    with serving(tmp_path) as client:
        client.app.state.service._stopping = True
        check_busy(client.post(PREDICT, **IMAGE))
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, "stopping")


def test_what_is_on_its_way_in_is_bounded_in_all(serving, tmp_path, monkeypatch):
    monkeypatch.setattr("cytodistill.serve.bodies.IN_MEMORY", 1000)
    image = encoded(a_cell(0, 200, 200))
    limits = Limits(**(SMALL.model_dump() | {"incoming": len(image) + 1000}))
    with serving(tmp_path, limits=limits) as client:
        incoming = client.app.state.service.store.incoming
        other = incoming.folder / "of-another"
        incoming.claim(other, 2000, limits.incoming)
        check_busy(client.post(PREDICT, files={"image": image}))
        check_busy(client.post(UPLOADS, files={"image": image}))
        assert incoming.size == 2000
        incoming.remove(other)
        assert client.post(PREDICT, files={"image": image}).status_code == 200
        assert send(client, image)["state"] == "done"
        assert incoming.size == 0
        assert not list(incoming.folder.iterdir())


def test_uploads_are_forgotten_after_their_hours_while_the_service_runs(serving, tmp_path, monkeypatch):
    monkeypatch.setattr(serving_module, "FORGETTING_SECONDS", 0.05)
    with serving(tmp_path, forget_hours=10) as client:
        store = client.app.state.service.store
        old, young, kept = (
            send(client, encoded(a_cell(n)), **more) for n, more in enumerate(({}, {}, {"keep": "true"}))
        )
        with store.write() as session:
            for upload, hours in ((old, 10.1), (young, 9.9), (kept, 99)):
                session.get(UploadRow, upload["id"]).added = now() - 3600 * hours
        until = time.monotonic() + 30
        while len(client.get(UPLOADS).json()) > 2 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.2)
        assert {upload["id"] for upload in client.get(UPLOADS).json()} == {young["id"], kept["id"]}
        assert client.get("/api/v1/cells").json()["total"] == 2


def test_after_a_kill_uploads_have_the_hours_that_they_would_have_had(judged_run, serving, tmp_path):
    identity = identify(judged_run)
    store = Store(tmp_path, identity)
    with store.write() as session:
        for id, hours, state in (("a" * 24, 1, "working"), ("b" * 24, 1, "done"), ("c" * 24, 30, "waiting")):
            session.add(UploadRow(id=id, added=now() - 3600 * hours, state=state, keep=False))
    (store.incoming.folder / "left").write_bytes(b"of a request")
    store.close()
    with serving(tmp_path, ready=False) as client:
        assert client.get(f"{UPLOADS}/{'c' * 24}").status_code == 404
        found = client.get(f"{UPLOADS}/{'a' * 24}").json()
        assert (found["state"], found["detail"]) == ("stopped", INTERRUPTED)
        assert not list(store.incoming.folder.iterdir())


def stopping(run, folder, hurry):
    """State of an upload of 50 cells that was under way when the service stopped, and of one that was over."""
    from cytodistill.serve.bodies import Content, Form, Part

    async def live():
        settings = Settings.check(run=run, data=folder, device="cpu", decoders=1, threads=1)
        service = Service(settings, identify(run), Store(folder, identify(run)))

        async def upload(count):
            image = encoded(a_cell(1, 60, 60))
            form = Form([Part("f.png", Content(image, None, len(image), image[:16]))], {"cells": "[]"})
            return await service.jobs.submit(form, [(0, 0, 20, 20)] * count, keep=False, group=None)

        async with service.running():
            await service.model()
            over = await upload(1)
            await service.jobs.finish()
            under_way = await upload(50)
            if hurry:
                service.hurry()
        return over, under_way

    over, under_way = asyncio.run(live())
    store = Store(folder, identify(run))
    with store.read() as session:
        rows = [session.get(UploadRow, id) for id in (over, under_way)]
    store.close()
    return rows


@pytest.mark.parametrize("hurry", [False, True])
def test_what_is_under_way_at_the_end_is_finished_and_stays_unless_nobody_waits(judged_run, tmp_path, hurry):
    over, under_way = stopping(judged_run, tmp_path, hurry)
    assert over is None
    if hurry:
        assert under_way.state in ("stopped", "waiting")
        assert under_way.done < 50
    else:
        assert (under_way.state, under_way.done) == ("done", 50)

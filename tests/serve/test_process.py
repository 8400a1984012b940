"""`cytodistill serve` as the process that it is: what a kill, SIGTERM and Ctrl-C leave behind."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from .conftest import a_cell, encoded
from .hostile import zipped

SECONDS = 300
UPLOADS, CELLS = "/api/v1/uploads", "/api/v1/cells"


class Process:
    """``cytodistill serve RUN`` on a free port; its output is in ``log``."""

    def __init__(self, run: Path, data: Path, *options: str) -> None:
        self.log = data.with_name(f"{data.name}-{time.monotonic_ns()}.log")
        command = (sys.executable, "-m", "cytodistill", "serve", str(run), "--port", "0", "--data", str(data))
        own = ("--decoders", "1", "--threads", "1", "--device", "cpu")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen((*command, *own, *options), stdout=log, stderr=log)
        self.address = ""

    def wait_for(self, words: str) -> re.Match[str]:
        """What is found in the log, once it is there."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if found := re.search(words, self.log.read_text()):
                return found
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"{words} is not in: {self.log.read_text()}")

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json"):
        self.address = self.address or self.wait_for(r"http://127\.0\.0\.1:\d+")[0]
        request = urllib.request.Request(self.address + path, body, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)

    def finished(self, upload: dict) -> dict:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            found = self.ask(f"{UPLOADS}/{upload['id']}")
            if found["state"] not in ("waiting", "working"):
                return found
            time.sleep(0.02)
        raise AssertionError(found)


@pytest.fixture
def start(judged_run, tmp_path):
    @contextmanager
    def started(*options: str) -> Iterator[Process]:
        served = Process(judged_run, tmp_path / "data", *options)
        try:
            yield served
        finally:
            with contextlib.suppress(ProcessLookupError):
                served.process.kill()
            served.process.wait()

    return started


def rows(tmp_path: Path, query: str) -> list[tuple]:
    """What the database holds when no service does."""
    with closing(sqlite3.connect(tmp_path / "data" / "serve.db")) as database:
        return database.execute(query).fetchall()


def many(count: int) -> tuple[bytes, str]:
    """A form with one small field and so many cells of it."""
    boxes = json.dumps({"boxes": [[n % 40, n // 40 % 40, 20, 20] for n in range(count)]}).encode()
    head = b'--xx\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    parts = (
        head % (b"cells", b""),
        boxes,
        b"\r\n",
        head % (b"image", b'; filename="f.png"'),
        encoded(a_cell(1, 60, 60)),
    )
    return b"".join(parts) + b"\r\n--xx--\r\n", "multipart/form-data; boundary=xx"


def test_a_kill_loses_no_review_and_sigterm_finishes_what_was_accepted(start, tmp_path):
    two = zipped(("a.png", encoded(a_cell(1))), ("b.png", encoded(a_cell(2))))
    with start() as killed:
        upload = killed.finished(killed.ask(UPLOADS, two, "application/zip"))
        assert (upload["state"], upload["done"], upload["keep"]) == ("done", 2, False)
        cell = killed.ask(CELLS)["cells"][0]["id"]
        killed.ask(f"{CELLS}/{cell}/reviews", json.dumps({"action": "accept", "reviewer": "me"}).encode())
        killed.process.kill()
    with start() as again:
        # At once, though the network is loaded only later; and what is not to be kept has its hours still.
        (left,) = again.ask(f"{CELLS}/{cell}")["reviews"]
        assert (left["action"], left["reviewer"]) == ("accept", "me")
        assert again.ask(CELLS)["total"] == 2
        again.wait_for("ready")
        under_way = again.ask(UPLOADS, *many(600))
        assert under_way["state"] in ("waiting", "working")
        again.process.send_signal(signal.SIGTERM)
        assert again.process.wait(SECONDS) == 0
        with pytest.raises(urllib.error.URLError):
            again.ask("/livez")
        assert "Traceback" not in again.log.read_text()
    # What nobody could have seen finished is there, finished; of what was seen the reviewed cell is.
    assert rows(tmp_path, "select upload_id, count(*) from cells group by upload_id order by 2") == [
        (upload["id"], 1),
        (under_way["id"], 600),
    ]
    with start() as last:
        found = last.ask(f"{UPLOADS}/{under_way['id']}")
        assert (found["state"], found["done"], found["total"]) == ("done", 600, 600)


def test_a_second_ctrl_c_does_not_wait_for_an_upload(start, tmp_path):
    with start() as served:
        served.wait_for("ready")
        upload = served.ask(UPLOADS, *many(20_000))
        served.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            served.process.wait(1)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(SECONDS) == 0
        assert "Traceback" not in served.log.read_text()
    ((id, state, done, detail),) = rows(tmp_path, "select id, state, done, detail from uploads")
    assert (id, state, detail) == (upload["id"], "stopped", "the service was stopped; send the rest again")
    assert done < 20_000
    assert not list((tmp_path / "data" / "incoming").iterdir())

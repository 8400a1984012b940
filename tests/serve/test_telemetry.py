"""What the log holds: a line a request, an error's place, and no name unless names are asked for."""

import logging
import re

import pytest

from .conftest import a_cell, encoded, send

NAME = "Erika-Mustermann-1970"


@pytest.fixture
def heard(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


def visit(client, monkeypatch):
    """Send, look at and review cells under a name, good and bad; then let the service itself fail twice."""
    upload = send(client, (f"{NAME}.png", encoded(a_cell())), (f"{NAME}-bad.png", b"BM" + bytes(50)), group=NAME)
    assert (upload["done"], upload["failed"]) == (1, 1)
    (cell,) = client.get("/api/v1/cells", params={"upload": upload["id"]}).json()["cells"]
    client.get(f"/api/v1/cells?reviewer={NAME}")
    client.get(f"/{NAME}")
    client.post(f"/api/v1/cells/{cell['id']}/reviews", json={"action": "accept", "reviewer": NAME})
    client.post("/api/v1/predict", files={"image": (f"{NAME}.png", b"BM")})
    service = client.app.state.service

    async def broken(*_, **__):
        raise OSError(f"cannot open {NAME}.png")

    monkeypatch.setattr(service, "intake", broken)
    answer = client.post("/api/v1/predict", files={"image": (f"{NAME}.png", encoded(a_cell()))})
    monkeypatch.undo()
    monkeypatch.setattr(service._intake, "named", broken)
    assert send(client, (f"{NAME}.png", encoded(a_cell())))["state"] == "failed"
    monkeypatch.undo()
    return answer


def test_logs_hold_no_names(serving, tmp_path, heard, monkeypatch):
    with serving(tmp_path) as client:
        answer = visit(client, monkeypatch)
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert NAME not in answer.text
    mark = answer.json()["detail"].split()[-1]
    ours = [record.getMessage() for record in heard.records if record.name.startswith("cytodistill")]
    (error,) = [said for said in ours if mark in said]
    assert "OSError" in error
    assert "in broken" in error
    (failed,) = [said for said in ours if "an upload failed" in said]
    assert "OSError" in failed
    assert "in broken" in failed
    assert any(re.match(r"POST [/\w]*/uploads 202 \d+ ms", said) for said in ours)
    assert any(re.match(r"POST [/\w]*/predict 500 \d+ ms", said) for said in ours)
    assert any(said.startswith("GET other 404 ") for said in ours)
    # As `cytodistill serve` has it: of other loggers nothing below a warning is shown, see `run._quiet`.
    shown = [r for r in heard.records if r.name.startswith("cytodistill") or r.levelno >= logging.WARNING]
    assert not [r for r in shown if NAME in r.getMessage() or NAME in str(r.exc_info)]


def test_names_are_logged_where_they_are_asked_for(serving, tmp_path, heard, monkeypatch):
    with serving(tmp_path, log_names=True) as client:
        answer = visit(client, monkeypatch)
    assert NAME not in answer.text
    assert f"OSError: cannot open {NAME}.png" in heard.text

"""Tokens, sessions and names of the service."""

import contextlib
import http.client
import re
import socket
import time

import pytest
from starlette.datastructures import Headers

from cytodistill.errors import CytodistillError
from cytodistill.serve import security
from cytodistill.serve.security import MOST_SESSIONS, SESSION_SECONDS, Doorkeeper
from cytodistill.serve.settings import Limits, Settings

from .conftest import SMALL, a_cell, encoded

TOKEN, OTHER = "t" * 24, "o" * 32
OPEN = ("/livez", "/readyz", "/api/v1/session", "/api/v1/openapi.json")


@pytest.fixture(scope="module")
def guarded(serving, tmp_path_factory):
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "tokens").write_text(f"# who may\nDr Ana {TOKEN}\n\n{OTHER}\n")
    options = {"host": "0.0.0.0", "token_file": folder / "tokens", "allowed_hosts": ("cells.example",)}
    with serving(folder / "data", **options) as client:
        yield client


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def every_address(app):
    """Addresses and methods that the API describes."""
    for path, methods in app.openapi()["paths"].items():
        for method in methods:
            yield re.sub(r"{\w+}", "0" * 24, path), method


def test_nothing_but_health_and_signing_in_answers_without_a_token(guarded):
    for path, method in every_address(guarded.app):
        status = guarded.request(method, path).status_code
        assert (status == 401) is (path not in OPEN), (method, path, status)
    assert guarded.get("/metrics").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        bearer("wrong"),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "t"),
        bearer(""),
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN} {OTHER}"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": f"cytodistill={TOKEN}"},
        {"Cookie": "cytodistill=\x01;;;=,"},
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer wrong")],
        {"X-Forwarded-For": "127.0.0.1"},
    ],
)
def test_wrong_tokens(guarded, headers):
    answer = guarded.get("/api/v1/cells", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_right_tokens(guarded):
    for token in (TOKEN, OTHER):
        assert guarded.get("/api/v1/cells", headers=bearer(token)).status_code == 200
        assert guarded.get("/api/v1/cells", headers={"Authorization": f"bearer  {token}"}).status_code == 200


def test_a_browser_signs_in_and_out(guarded):
    assert guarded.get("/api/v1/session").json() == {"required": True, "signed_in": False, "name": None}
    assert guarded.post("/api/v1/session", json={"token": "wrong"}).status_code == 401
    answer = guarded.post("/api/v1/session", json={"token": TOKEN})
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert guarded.get("/api/v1/session").json() == {"required": True, "signed_in": True, "name": "Dr Ana"}
    assert guarded.get("/api/v1/cells").status_code == 200
    # Another site may make a browser send the cookie, were it not strict; then its origin tells.
    evil = guarded.delete("/api/v1/session", headers={"Origin": "https://evil.example"})
    assert evil.status_code == 403
    secret = guarded.cookies["cytodistill"]
    assert guarded.delete("/api/v1/session").status_code == 204
    assert guarded.get("/api/v1/cells", headers={"Cookie": f"cytodistill={secret}"}).status_code == 401


def test_over_tls_the_cookie_is_for_this_host_and_tls_alone(guarded):
    answer = guarded.post("https://127.0.0.1/api/v1/session", json={"token": OTHER})
    assert answer.headers["set-cookie"].startswith("__Host-cytodistill=")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "strict-transport-security" in answer.headers
    guarded.cookies.clear()


def test_hosts_of_a_shared_service(guarded):
    for host, status in (
        ("cells.example", 200),
        ("CELLS.example:8000", 200),
        ("10.0.0.5:8000", 200),
        ("[fe80::1]", 200),
        ("evil.example", 403),
        ("cells.example.evil.example", 403),
    ):
        assert guarded.get("/livez", headers={"Host": host}).status_code == status, host


def test_sessions_are_no_more_than_so_many_and_end():
    door = Doorkeeper({TOKEN: "a"}, False)
    first = door.open_session("a")
    secrets = [door.open_session("a") for _ in range(MOST_SESSIONS)]
    assert len(set(secrets)) == MOST_SESSIONS
    assert len(door._sessions) == MOST_SESSIONS
    assert first not in secrets


def test_a_session_ends_with_its_time_or_when_it_is_closed(monkeypatch):
    door = Doorkeeper({TOKEN: "a"}, False)
    clock = time.monotonic()
    monkeypatch.setattr(security.time, "monotonic", lambda: clock)
    secret, other = door.open_session("a"), door.open_session("a")

    def signed_in(secret):
        return door.visitor(Headers({"cookie": f"cytodistill={secret}"}), "http").signed_in

    door.close_session(other)
    door.close_session("none")
    clock += SESSION_SECONDS - 1
    assert (signed_in(secret), signed_in(other)) == (True, False)
    clock += 2
    assert not signed_in(secret)
    # Nothing is left of it once the next one comes.
    door.open_session("a")
    assert len(door._sessions) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"host": "0.0.0.0"}, "--token-file"),
        ({"host": "192.168.1.5"}, "--token-file"),
        ({"host": "::"}, "--token-file"),
        ({"host": "example.org"}, "--token-file"),
        ({"tls_cert": "here.pem"}, "both"),
        ({"tls_cert": "absent.pem", "tls_key": "absent.key"}, "no such file"),
        ({"port": 70000}, "--port"),
        ({"max_batch": 0}, "--max-batch"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(tmp_path, values, said):
    with pytest.raises(CytodistillError, match=re.escape(said)):
        Settings.check(run=tmp_path, **values)


@pytest.mark.parametrize("text", ["", "\n# only a note\n", "short", "Ana tooshort", f"Ana {'ü' * 30}"])
def test_token_files_without_a_good_token_are_refused(tmp_path, text):
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(CytodistillError, match=r"--token-file"):
        Settings.check(run=tmp_path, token_file=tmp_path / "tokens").tokens()


def talk(port, sent, seconds=10):
    """What a socket answers until it is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        for piece in sent:
            line.sendall(piece)
        parts = []
        # Who is still sending when the service closes is told so by a reset, after the answer.
        with contextlib.suppress(ConnectionResetError):
            while part := line.recv(65536):
                parts.append(part)
        return b"".join(parts)


def test_lines_that_are_slow_wrong_or_endless_are_closed(listening, tmp_path):
    limits = Limits(**(SMALL.model_dump() | {"header_seconds": 1, "idle_seconds": 1}))
    head = b"POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
    with listening(tmp_path, limits=limits) as (port, _, _):
        assert talk(port, [b""]) == b""
        assert talk(port, [b"GET /livez HTTP/1.1\r\nHost: 127"]) == b""
        slow = talk(port, [head + b"Content-Length: 100\r\n\r\nabc"])
        assert slow.startswith(b"HTTP/1.1 408")
        assert b"too slowly" in slow
        for wrong in (
            b"nonsense\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n",
            b"GET /livez HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
            head + b"Transfer-Encoding: gzip\r\n\r\n",
            head + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        ):
            answer = talk(port, [wrong])
            assert re.match(rb"HTTP/1.1 (400|403|431|501)", answer), (wrong[:60], answer[:200])
            assert b"Traceback" not in answer
        endless = talk(
            port, [head + b"Transfer-Encoding: chunked\r\n\r\n", *[b"100000\r\n" + bytes(1 << 20) + b"\r\n"] * 9]
        )
        assert endless.startswith(b"HTTP/1.1 413")
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        line.request("POST", "/api/v1/predict", encoded(a_cell()), {"Content-Type": "image/png"})
        assert line.getresponse().status == 200


def test_a_request_that_comes_drop_by_drop_is_given_up(listening, tmp_path):
    limits = Limits(**(SMALL.model_dump() | {"idle_seconds": 1, "rate": 1000}))
    head = (
        b"POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"
    )
    with listening(tmp_path, limits=limits) as (port, _, _), socket.create_connection(("127.0.0.1", port)) as line:
        line.sendall(head)
        line.settimeout(0.1)
        started, answer = time.monotonic(), b""
        while not answer and time.monotonic() - started < 20:
            line.sendall(b"x")
            try:
                answer = line.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408")

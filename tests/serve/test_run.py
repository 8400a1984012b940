"""The service on its socket: TLS, a proxy's word, connections too many, and a body of very many parts."""

from __future__ import annotations

import asyncio
import http.client
import json
import select
import shutil
import socket
import ssl
import subprocess
import time

import pytest

from cytodistill.serve.run import bind
from cytodistill.serve.settings import Limits, Settings

from .conftest import SMALL, a_cell, encoded

TOKEN = "t" * 24


@pytest.fixture
def tokens(tmp_path):
    (tmp_path / "tokens").write_text(f"Ana {TOKEN}\n")
    return tmp_path / "tokens"


def ask(line: http.client.HTTPConnection, path: str, body: bytes | None = None, **headers: str):
    line.request(
        "POST" if body is not None else "GET", path, body, {k.replace("_", "-"): v for k, v in headers.items()}
    )
    answer = line.getresponse()
    return answer, json.loads(answer.read() or b"null")


def test_tls_is_spoken_with_the_certificate_that_was_given(listening, tokens, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, which makes the certificate")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=cells"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run([*made.split(), *options], check=True, capture_output=True)
    with listening(tmp_path / "data", tls_cert=cert, tls_key=key, token_file=tokens) as (port, _, _):
        known = ssl.create_default_context(cafile=cert)
        line = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=known)
        image = encoded(a_cell())
        answer, _ = ask(line, "/api/v1/predict", image, Content_Type="image/png")
        assert answer.status == 401
        answer, said = ask(line, "/api/v1/predict", image, Content_Type="image/png", Authorization=f"Bearer {TOKEN}")
        assert (answer.status, len(said["cells"])) == (200, 1)
        assert answer.getheader("Strict-Transport-Security")
        answer, _ = ask(line, "/api/v1/session", json.dumps({"token": TOKEN}).encode(), Content_Type="application/json")
        assert answer.getheader("Set-Cookie").startswith("__Host-cytodistill=")
        line.close()
        stranger = http.client.HTTPSConnection("127.0.0.1", port, timeout=30)
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.request("GET", "/livez")
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(plain, "/livez")


@pytest.mark.parametrize(("behind", "cookie"), [(True, "__Host-cytodistill="), (False, "cytodistill=")])
def test_what_a_proxy_says_of_tls_counts_only_where_one_is_expected(listening, tokens, tmp_path, behind, cookie):
    given = json.dumps({"token": TOKEN}).encode()
    with listening(tmp_path / "data", token_file=tokens, behind_proxy=behind) as (port, _, _):
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        sent = {"Content_Type": "application/json", "X_Forwarded_Proto": "https", "X_Forwarded_For": "203.0.113.7"}
        answer, _ = ask(line, "/api/v1/session", given, **sent)
        assert answer.status == 200
        secret = answer.getheader("Set-Cookie").split(";")[0]
        assert secret.startswith(cookie)
        assert ("secure" in answer.getheader("Set-Cookie").lower()) is behind
        assert (answer.getheader("Strict-Transport-Security") is not None) is behind
        answer, who = ask(line, "/api/v1/session", Cookie=secret, X_Forwarded_Proto="https")
        assert (who["signed_in"], who["name"]) == (True, "Ana")
        # The host stays the one that the request names.
        answer, _ = ask(line, "/livez", Host="evil.example", X_Forwarded_Host="127.0.0.1")
        assert answer.status == 403


def test_a_connection_too_many_is_told_so_as_all_else_is(listening, tmp_path):
    limits = Limits(**(SMALL.model_dump() | {"connections": 3}))
    with listening(tmp_path, limits=limits) as (port, server, _):
        lines = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(4)]
        assert [ask(line, "/livez")[0].status for line in lines[:3]] == [200] * 3
        answer, said = ask(lines[3], "/api/v1/predict", bytes(100), Content_Type="image/png")
        assert (answer.status, said["status"], answer.getheader("Connection")) == (503, 503, "close")
        assert answer.getheader("Content-Type") == "application/problem+json"
        assert int(answer.getheader("Retry-After")) > 0
        assert "default-src 'none'" in answer.getheader("Content-Security-Policy")
        assert ask(lines[0], "/livez")[0].status == 200
        lines[1].close()
        while len(server.server_state.connections) > 2:
            time.sleep(0.02)
        again = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        assert ask(again, "/livez")[0].status == 200
        for line in (*lines, again):
            line.close()


def test_a_million_parts_are_refused_long_before_the_last(listening, tmp_path):
    limits = Limits(**(SMALL.model_dump() | {"body": 1 << 30}))
    part = b'--xx\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n\r\n'
    parts = 1_000_000
    head = (
        "POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=xx\r\n"
        f"Content-Length: {parts * len(part) + 8}\r\n\r\n"
    )
    with (
        listening(tmp_path, limits=limits) as (port, _, service),
        socket.create_connection(("127.0.0.1", port)) as line,
    ):
        line.sendall(head.encode())
        sent, body = 0, part * parts + b"--xx--\r\n"
        while sent < len(body) and not select.select([line], [], [], 0)[0]:
            sent += line.send(body[sent : sent + (1 << 16)])
        line.settimeout(60)
        answer = b""
        while b"}" not in answer:
            piece = line.recv(65536)
            assert piece, answer
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413")
    assert f"more than {SMALL.images_at_once} files" in answer.decode()
    assert sent < len(body) // 2
    assert service.store.incoming.size == 0


def test_answers_do_not_wait_for_acknowledgements(tmp_path):
    """On the socket that the service listens on, asyncio switches Nagle's algorithm off for each connection."""
    seen = []

    async def connect():
        def met(reader, writer):
            seen.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listening = bind(Settings(run=tmp_path, port=0))
        async with await asyncio.start_server(met, sock=listening):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            assert await reader.read() == b""
            writer.close()

    asyncio.run(connect())
    assert seen == [1]

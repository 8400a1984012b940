"""Bodies are read alike however they arrive in pieces, and nothing stays on the disk."""

import asyncio
import errno
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from cytodistill.serve import bodies
from cytodistill.serve.bodies import BodyReader, shown
from cytodistill.serve.errors import Busy, Refused
from cytodistill.serve.formats import kind_of
from cytodistill.serve.incoming import Incoming
from cytodistill.serve.settings import Limits

LIMITS = Limits(body=1 << 20, file=300_000, images=5)


def request(body: bytes, kind: str, cuts: list[int]) -> Request:
    places = sorted({0, *(cut % (len(body) + 1) for cut in cuts), len(body)})
    pieces = [body[start:stop] for start, stop in pairwise(places)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": n < len(pieces) - 1} for n, piece in enumerate(pieces)
    ]

    async def receive():
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)


def read(folder, body, kind, cuts=(), limits=LIMITS):
    return asyncio.run(BodyReader(Incoming(folder), limits, limits.images).read(request(body, kind, list(cuts))))


def form(files: list[tuple[str, bytes]], fields: dict[str, str]) -> bytes:
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'.encode()
        + b"Content-Type: image/png\r\n\r\n"
        + content
        for name, content in files
    ]
    parts += [f'--xyz\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}'.encode() for k, v in fields.items()]
    return b"\r\n".join([*parts, b"--xyz--\r\n"])


def content_of(part):
    return part.content.memory if part.content.path is None else part.content.path.read_bytes()


# A boundary's own beginning inside the data is where a parser of pieces goes wrong.
contents = st.lists(st.sampled_from([b"\r\n", b"--", b"--xy", b"\r\n--xy", b"PNG", b"\0" * 50]), max_size=12).map(
    b"".join
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=st.lists(contents, min_size=1, max_size=4), cuts=st.lists(st.integers(0, 5000), max_size=8))
def test_pieces_do_not_matter(tmp_path, files, cuts):
    sent = [(f"{n}.png", b"x" + content) for n, content in enumerate(files)]
    found = read(tmp_path, form(sent, {"group": "slide é"}), "multipart/form-data; boundary=xyz", cuts)
    assert [(part.name, content_of(part)) for part in found.parts] == sent
    assert found.fields == {"group": "slide é"}
    found.discard()
    assert not list(tmp_path.iterdir())


def test_what_is_large_goes_to_disk_under_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "IN_MEMORY", 1000)
    sent = [("a.png", b"a" * 900), ("../b.png", b"b" * 200), ("c.png", b"c" * 50_000)]
    found = read(tmp_path, form(sent, {}), "multipart/form-data; boundary=xyz", range(0, 60_000, 777))
    assert [part.content.path is None for part in found.parts] == [True, False, False]
    assert [(part.name, content_of(part)) for part in found.parts] == sent
    assert all(file.parent == tmp_path and len(file.name) == 24 for file in tmp_path.iterdir())
    found.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([("a.png", b"a" * 300_001)], 413),
        ([("a.png", b"a")] * 6, 413),
        ([("a.zip", b"PK\x03\x04" + b"a" * 400_000), ("b.png", b"b" * 300_001)], 413),
        ([("a.png", b"")], 422),
    ],
)
def test_refusals_leave_nothing_on_disk(tmp_path, monkeypatch, sent, status):
    monkeypatch.setattr(bodies, "IN_MEMORY", 1000)
    with pytest.raises(Refused) as refused:
        read(tmp_path, form(sent, {}), "multipart/form-data; boundary=xyz", range(0, 10**6, 5000))
    assert refused.value.status_code == status
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "raised"), [(errno.ENOSPC, Busy), (errno.EIO, OSError)])
def test_a_full_disk_is_no_fault_of_the_client(tmp_path, monkeypatch, number, raised):
    class Full(bodies.FileIO):
        def write(self, data):
            if self.tell():
                raise OSError(number, "of this test")
            return super().write(data[:100])

    monkeypatch.setattr(bodies, "IN_MEMORY", 1000)
    monkeypatch.setattr(bodies, "FileIO", Full)
    with pytest.raises(raised):
        read(tmp_path, form([("a.png", b"a" * 9000)], {}), "multipart/form-data; boundary=xyz")
    assert not list(tmp_path.iterdir())


def test_a_client_that_goes_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "IN_MEMORY", 10)
    body = form([("a.png", b"a" * 5000)], {})
    going = request(body, "multipart/form-data; boundary=xyz", [2000])
    first = asyncio.run(going.receive())
    later = [first | {"more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return later.pop(0)

    with pytest.raises(Refused, match=r"cut off"):
        asyncio.run(BodyReader(Incoming(tmp_path), LIMITS, 5).read(Request(going.scope, receive)))
    assert not list(tmp_path.iterdir())


@given(st.text())
def test_names_are_one_short_printable_line(name):
    found = shown(name)
    assert len(found) <= 255
    assert found.isprintable()
    assert found == shown(found)


@given(st.binary(max_size=30))
def test_kinds_are_told_by_content(head):
    found = kind_of(head)
    assert found in (None, "PNG", "JPEG", "BMP", "TIFF", "WEBP", "ZIP")
    assert SimpleNamespace(kind=found).kind is None or len(head) >= 2

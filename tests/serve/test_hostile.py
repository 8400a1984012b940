"""What is sent to break the service is refused in so many words, tells nothing of the service, and leaves it up."""

from __future__ import annotations

import json

import numpy as np
import pytest

from . import hostile
from .conftest import ADDRESS, SMALL, a_cell, encoded, send

GOOD = encoded(a_cell())
PREDICT = "/api/v1/predict"
TOO_LARGE, NOT_TAKEN, UNUSABLE = 413, 415, 422

IMAGES = {
    "nothing": (b"", 422),
    "a png's first bytes": (hostile.PNG, UNUSABLE),
    "png bomb": (hostile.png_bomb(), TOO_LARGE),
    "png of 2³¹ pixels a side": (hostile.png(2**31 - 1, 2**31 - 1, b""), TOO_LARGE),
    "png without pixels": (hostile.png(0, 0, b""), UNUSABLE),
    "png one pixel high": (encoded(a_cell(0, 1, 24)), UNUSABLE),
    "png cut off": (encoded(a_cell(0, 200, 200))[:9000], UNUSABLE),
    "png with rubbish for data": (hostile.png(24, 24, b"rubbish"), UNUSABLE),
    "png with too little data": (hostile.png(900, 900, hostile.zlib.compress(b"x")), UNUSABLE),
    "png comment bomb": (hostile.png_text_bomb(), UNUSABLE),
    "png profile bomb": (hostile.png_profile_bomb(), None),
    "png of 60,000 chunks": (hostile.png_many_chunks(), None),
    "png of an unknown depth": (hostile.png(24, 24, b"", depth=7), UNUSABLE),
    "jpeg bomb": (hostile.jpeg_said(65_000, 65_000), TOO_LARGE),
    "jpeg cut off": (encoded(a_cell(0, 200, 200), "JPEG")[:3000], UNUSABLE),
    "jpeg's first bytes": (b"\xff\xd8\xff", UNUSABLE),
    "jpeg of no height": (hostile.jpeg_said(24, 0), UNUSABLE),
    "bmp bomb": (hostile.bmp(50_000, 50_000), TOO_LARGE),
    "bmp of negative width": (hostile.bmp(-24, 24), TOO_LARGE),
    "bmp of 2³¹ rows upside down": (hostile.bmp(2, -(2**31)), None),
    "bmp run-length bomb": (hostile.bmp_run_lengths(), TOO_LARGE),
    "bmp cut off": (encoded(a_cell(), "BMP")[:60], UNUSABLE),
    "tiff bomb": (hostile.tiff_bomb(), TOO_LARGE),
    "tiff of 2³² − 1 pixels a side": (hostile.tiff_of(2**32 - 1, 2**32 - 1), TOO_LARGE),
    "tiff in a circle": (hostile.tiff_loop(), UNUSABLE),
    "tiff whose data lies beyond its end": (hostile.tiff_of(24, 24, offset=2**31), UNUSABLE),
    "tiff of an unknown compression": (hostile.tiff_of(24, 24, 34_999), UNUSABLE),
    "tiff of 2³² − 1 entries' values": (hostile.tiff((256, 4, 2**32 - 1, 8)), UNUSABLE),
    "tiff of numbers with a fraction": (encoded(np.zeros((24, 24), np.float32), "TIFF"), UNUSABLE),
    "tiff's first bytes": (b"II*\0", UNUSABLE),
    "webp bomb": (encoded(np.zeros((1500, 1500, 3), np.uint8), "WEBP", lossless=True), TOO_LARGE),
    "webp of the largest size without data": (hostile.webp(16_383, 16_383), UNUSABLE),
    "webp cut off": (encoded(a_cell(0, 90, 90), "WEBP")[:200], UNUSABLE),
    "webp's first bytes": (b"RIFF\xff\xff\xff\xffWEBP", UNUSABLE),
    "gif": (b"GIF89a" + bytes(50), NOT_TAKEN),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", NOT_TAKEN),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n(%stdout) (w) file", NOT_TAKEN),
    "pdf": (b"%PDF-1.7\n", NOT_TAKEN),
    "html": (b"<!doctype html><script src=//evil></script>", NOT_TAKEN),
    "elf": (b"\x7fELF" + bytes(60), NOT_TAKEN),
    "gzip": (b"\x1f\x8b\x08" + bytes(30), NOT_TAKEN),
    "pickle": (b"\x80\x04cos\nsystem\n(S'id'\ntR.", NOT_TAKEN),
    "numpy pickle": (b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': (1,)}", NOT_TAKEN),
    "larger than an image may be": (b"BM" + bytes(SMALL.file), TOO_LARGE),
    "zip bomb": (hostile.zip_bomb(), TOO_LARGE),
    "zip too large unpacked": (hostile.zip_large(), TOO_LARGE),
    "zip in a zip": (hostile.zipped(("a.zip", hostile.zipped(("b.png", GOOD)))), UNUSABLE),
    "zip slip": (hostile.zipped(("../../../etc/cron.d/x.png", GOOD)), UNUSABLE),
    "zip with a path from the root": (hostile.zipped(("/etc/x.png", GOOD)), UNUSABLE),
    "zip with a drive": (hostile.zipped(("C:\\windows\\x.png", GOOD)), UNUSABLE),
    "zip with a line end in a name": (hostile.zipped(("a\nb.png", GOOD)), UNUSABLE),
    "zip with a link": (hostile.zip_link(), UNUSABLE),
    "zip with a device": (hostile.zip_device(), UNUSABLE),
    "zip with a password": (hostile.zip_encrypted(), UNUSABLE),
    "zip that lies of a size": (hostile.zip_lying(), UNUSABLE),
    "zip of overlapping members": (hostile.zip_overlapping(), None),
    "zip of too many images": (hostile.zipped(*((f"{n}.png", b"") for n in range(70))), TOO_LARGE),
    "zip of too many files": (hostile.zipped(*((f"{n}.txt", b"") for n in range(200))), TOO_LARGE),
    "zip that says 65,535 members": (hostile.zip_directory_said(0xFFFF), UNUSABLE),
    "zip with one name twice": (hostile.zipped(("a.png", GOOD), ("./a.png", GOOD), ("a.png", GOOD)), UNUSABLE),
    "zip without images": (hostile.zipped(("readme.txt", b"hi")), UNUSABLE),
    "zip packed by lzma": (hostile.zipped(("a.png", GOOD), method=hostile.zipfile.ZIP_LZMA), UNUSABLE),
    "zip cut off": (hostile.zipped(("a.png", GOOD))[:-30], UNUSABLE),
    "zip's first bytes": (b"PK\x03\x04", UNUSABLE),
    "empty zip": (hostile.zipped(), UNUSABLE),
}


def check_refusal(answer, status=None):
    """A clear refusal that holds nothing of the service's insides."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.text[:500])
    if status is not None:
        assert answer.status_code == status, answer.text[:500]
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) == {"status", "title", "detail"}
    assert body["status"] == answer.status_code
    assert 0 < len(body["detail"]) < 400
    for leak in ("Traceback", "/tmp", "/home", "/work", "site-packages", ".py", "0x", "PIL", "sqlalchemy", "root:"):
        assert leak not in answer.text, answer.text


@pytest.fixture(autouse=True)
def _stays_up(client):
    yield
    answer = client.post(PREDICT, files={"image": GOOD})
    assert answer.status_code == 200
    assert not list(client.app.state.service.store.incoming.folder.iterdir())


@pytest.mark.parametrize("name", IMAGES)
def test_images_and_archives(client, name):
    content, status = IMAGES[name]
    answer = client.post(PREDICT, files=[("image", ("x.png", content, "image/png"))])
    if status is None and answer.status_code == 200:
        # Odd, but harmless: it has a few pixels, and each is answered or has its own error.
        assert all((cell["prediction"] is None) != (cell["error"] is None) for cell in answer.json()["cells"])
    else:
        check_refusal(answer, status)


def test_what_is_two_things_at_once_is_its_pixels_alone(client):
    for tail in (hostile.zipped(("a.png", GOOD)), b"<script>alert(1)</script>", b"%PDF-1.7", bytes(1 << 20)):
        answer = client.post(PREDICT, files={"image": GOOD + tail})
        assert answer.status_code == 200
        assert answer.json() == client.post(PREDICT, files={"image": GOOD}).json() | {"cells": answer.json()["cells"]}


def test_xml_in_an_image_is_not_read_as_xml(client):
    answer = client.post(PREDICT, files={"image": hostile.jpeg_with_entities()})
    assert answer.status_code == 200
    assert "root:" not in answer.text


def test_of_a_picture_with_many_frames_the_first_counts(client, predictor, tmp_path):
    (tmp_path / "a.webp").write_bytes(hostile.animated())
    (cell,) = client.post(PREDICT, files={"image": hostile.animated()}).json()["cells"]
    wanted = predictor.predict(tmp_path / "a.webp").probabilities[0].astype(float)
    np.testing.assert_array_equal([cell["prediction"]["probabilities"][name] for name in predictor.classes], wanted)


NAMES = [
    *("../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini", "a" * 3000, "a\x00b.png", "CON", "<img src=x onerror=a>"),
    *("%2e%2e%2f", "a\r\nSet-Cookie: x=1", "\u202egnp.exe", "', DROP TABLE cells; --", "{{7*7}}", "$(id)", " "),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(client, name):
    before = set(client.app.state.service.store.folder.rglob("*"))
    upload = send(client, (name, GOOD))
    assert upload["state"] == "done"
    (cell,) = client.get("/api/v1/cells", params={"upload": upload["id"]}).json()["cells"]
    assert len(cell["name"]) <= 255
    assert cell["name"].isprintable()
    new = set(client.app.state.service.store.folder.rglob("*")) - before
    assert {file.stem for file in new if file.suffix == ".png"} == {cell["id"]}
    assert client.delete(f"/api/v1/uploads/{upload['id']}").status_code == 200


def form(*parts: bytes, boundary: bytes = b"xx") -> dict:
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    return {"content": body, "headers": {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}}


def file_part(content: bytes, head: bytes = b'name="image"; filename="a.png"') -> bytes:
    return b"Content-Disposition: form-data; " + head + b"\r\n\r\n" + content


BODIES = {
    "very many tiny parts": (form(*(file_part(b"") for _ in range(3000))), TOO_LARGE),
    "very many tiny fields": (form(*(b'Content-Disposition: form-data; name="x"\r\n\r\n' for _ in range(3000))), 422),
    "a part with an endless header": (form(b"X: " + b"a" * 100_000 + b"\r\n\r\n"), 400),
    "a part with very many headers": (form(b"A: b\r\n" * 20_000 + b"\r\n"), 400),
    "a part without headers": (form(b"\r\nhello"), 422),
    "a file by another name": (form(file_part(GOOD, b'name="evil"; filename="a"')), 422),
    "a field twice": (form(file_part(GOOD), *[b'Content-Disposition: form-data; name="keep"\r\n\r\ntrue'] * 2), 422),
    "a field too long": (form(b'Content-Disposition: form-data; name="keep"\r\n\r\n' + b"t" * 99), TOO_LARGE),
    "a field not in UTF-8": (form(b'Content-Disposition: form-data; name="group"\r\n\r\n\xff\xfe'), 422),
    "no boundary": ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
    "a boundary too long": (form(file_part(GOOD), boundary=b"y" * 5000), 400),
    "cut off": ({"content": form(file_part(GOOD))["content"][:-9], "headers": form()["headers"]}, 400),
    "no parts": (form(), 422),
    "no form at all": ({"content": b"\0" * 500, "headers": form()["headers"]}, 400),
    "json": ({"json": {"image": "a"}}, NOT_TAKEN),
    "no type": ({"content": GOOD}, NOT_TAKEN),
    "a packed body": ({"content": GOOD, "headers": {"Content-Type": "image/png", "Content-Encoding": "gzip"}}, 415),
    "longer than a body may be": ({"content": b"a" * (SMALL.body + 1), "headers": {"Content-Type": "image/png"}}, 413),
    "a length that is no number": (
        {"content": GOOD, "headers": {"Content-Type": "image/png", "Content-Length": "-5"}},
        413,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(client, name):
    given, status = BODIES[name]
    check_refusal(client.post(PREDICT, **given), status)


def test_a_body_longer_than_it_says_is_stopped_on_the_way(client):
    def endless():
        sent = 0
        while sent < 4 * SMALL.body:
            sent += 1 << 20
            yield bytes(1 << 20)

    answer = client.post(PREDICT, content=endless(), headers={"Content-Type": "image/png"})
    check_refusal(answer, TOO_LARGE)


CELLS = {
    "no json": "{",
    "deep json": "[" * 200_000,
    "not a number": '{"boxes": [[NaN, 0, 10, 10]]}',
    "endless": '{"boxes": [[1e999, 0, 10, 10]]}',
    "huge": '{"boxes": [[0, 0, 1e9, 1e9]]}',
    "of no size": '{"boxes": [[0, 0, 0, 10]]}',
    "too many": json.dumps({"boxes": [[0, 0, 5, 5]] * 100}),
    "none": '{"boxes": []}',
    "both": '{"boxes": [[0, 0, 5, 5]], "points": [[1, 1]]}',
    "unknown": '{"boxen": []}',
    "text": '{"points": [["1; DROP", "2"]]}',
    "long": '{"boxes": [' + "1" * 5000 + "]}",
}


@pytest.mark.parametrize("name", CELLS)
def test_coordinates(client, name):
    check_refusal(client.post(PREDICT, files={"image": GOOD}, data={"cells": CELLS[name]}))


PATHS = [
    *("/api/v1/cells/../../../etc/passwd", "/api/v1/cells/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/api/v1/cells/..;/"),
    *("/api/v1/cells/x'%20OR%201=1", "/api/v1/cells/%00", "/api/v1/cells/" + "a" * 5000, "/api/v1/fields/-1/image"),
    *("/static/../../../../etc/passwd", "/..%2f..%2fetc/passwd", "/docs", "/redoc", "/api/v2/cells", "/.git/config"),
    *("/api/v1/cells?sort=name;DROP", "/api/v1/cells?limit=100000000", "/api/v1/cells?offset=-1"),
    *("/api/v1/cells?min_confidence=nan", "/api/v1/cells?exit=99999999999999999999", "/api/v1/cells?limit=1e5"),
    "/api/v1/cells?" + "&".join("predicted=a" for _ in range(100)),
]


@pytest.mark.parametrize("path", PATHS)
def test_addresses(client, path):
    check_refusal(client.get(path))


HEADERS = {
    "another host": ({"Host": "evil.example"}, 403),
    "a host that begins like ours": ({"Host": "127.0.0.1.evil.example"}, 403),
    "a host that ends like ours": ({"Host": "evil-localhost"}, 403),
    "a host with a name before it": ({"Host": "user@evil.example:8000"}, 403),
    "an address elsewhere": ({"Host": "192.168.0.7:8000"}, 403),
    "no host": ({"Host": ""}, 403),
    "a host that is none": ({"Host": "[::1"}, 403),
    "a forwarded host": ({"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1"}, 403),
    "another page": ({"Origin": "https://evil.example"}, 403),
    "no page's origin": ({"Origin": "null"}, 403),
    "our host, another port": ({"Origin": "http://127.0.0.1:9999"}, 403),
    "a page that begins like ours": ({"Origin": f"{ADDRESS}.evil.example"}, 403),
    "what browsers say of other sites": ({"Sec-Fetch-Site": "cross-site"}, 403),
    "what browsers say of sister sites": ({"Sec-Fetch-Site": "same-site"}, 403),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(client, name):
    headers, status = HEADERS[name]
    check_refusal(client.post(PREDICT, files={"image": GOOD}, headers=headers), status)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND", "DELETE"])
def test_methods(client, method):
    check_refusal(client.request(method, PREDICT), 405)


def test_there_are_enough_of_them():
    assert len(IMAGES) + len(NAMES) + len(BODIES) + len(CELLS) + len(PATHS) + len(HEADERS) > 120


def test_every_answer_binds_the_browser(client):
    for path in ("/", "/livez", "/api/v1/cells", "/api/v1/none", "/metrics"):
        headers = client.get(path, follow_redirects=False).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers

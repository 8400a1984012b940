"""Uploads become cells that can be found, looked at, and deleted without a trace."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cytodistill.data.images import crop_box

from .conftest import a_cell, encoded, send


@pytest.fixture(scope="module")
def upload(client, files):
    return send(client, *(file.read_bytes() for file in files[::3]))


def page(client, **query):
    answer = client.get("/api/v1/cells", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_upload_is_worked_through(upload, files):
    assert upload["state"] == "done"
    assert upload["done"] == upload["total"] == len(files[::3])
    assert upload["failed"] == 0


@pytest.mark.parametrize("sort", ["abnormal", "doubt", "disagreement", "confidence"])
def test_cells_are_sorted_and_paged_without_gaps(client, upload, sort):
    whole = page(client, upload=upload["id"], sort=sort, limit=500)["cells"]
    figures = [cell[sort] for cell in whole]
    assert figures == sorted(figures, reverse=True)
    parts = [page(client, upload=upload["id"], sort=sort, limit=4, offset=n)["cells"] for n in range(0, len(whole), 4)]
    assert [cell["id"] for part in parts for cell in part] == [cell["id"] for cell in whole]
    rising = page(client, upload=upload["id"], sort=sort, limit=500, descending="false")["cells"]
    assert [cell[sort] for cell in rising] == figures[::-1]


def test_filters_do_what_they_say(client, upload):
    every = page(client, upload=upload["id"], limit=500)["cells"]
    middle = np.median([cell["confidence"] for cell in every])
    cases = (
        ({"predicted": "left"}, lambda cell: cell["predicted"] == "left"),
        ({"predicted": ["left", "right"]}, lambda cell: cell["predicted"] in ("left", "right")),
        ({"min_confidence": middle}, lambda cell: cell["confidence"] >= middle),
        ({"max_confidence": middle}, lambda cell: cell["confidence"] <= middle),
        ({"min_doubt": 0.3}, lambda cell: cell["doubt"] >= 0.3),
        ({"max_doubt": 0.3}, lambda cell: cell["doubt"] <= 0.3),
        ({"exit": 3}, lambda cell: cell["stops_at"] == 3),
        ({"reviewed": "true"}, lambda cell: cell["label"] is not None),
    )
    for query, keeps in cases:
        found = page(client, upload=upload["id"], limit=500, **query)
        wanted = {cell["id"] for cell in every if keeps(cell)}
        assert {cell["id"] for cell in found["cells"]} == wanted, query
        assert found["total"] == len(wanted)


def test_a_stored_cell_says_what_predict_said(client, upload, predictor, files):
    said = {}
    for cell in page(client, upload=upload["id"], limit=500)["cells"]:
        answer = client.get(f"/api/v1/cells/{cell['id']}").json()["prediction"]
        said[cell["name"]] = [answer["probabilities"][name] for name in predictor.classes]
        assert cell["exit_classes"] == [exit["predicted"] for exit in answer["exits"]]
    wanted = predictor.predict(files[::3]).probabilities
    np.testing.assert_allclose([said[f"{n}.png"] for n in range(len(wanted))], wanted, atol=1e-5)


def test_pictures_are_the_pixels_and_nothing_else(client):
    image = a_cell(1, 30, 20)
    note = PngInfo()
    note.add_text("Patient", "Jane Doe")
    upload = send(client, encoded(image, pnginfo=note) + b"<script>alert(1)</script>")
    (cell,) = page(client, upload=upload["id"])["cells"]
    answer = client.get(f"/api/v1/cells/{cell['id']}/image")
    assert answer.headers["content-type"] == "image/png"
    assert b"Jane" not in answer.content
    assert b"script" not in answer.content
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), image)


def test_a_field_keeps_its_picture_and_where_its_cells_are(client):
    image = a_cell(2, 90, 120)
    boxes = [[5, 5, 30, 30], [70.5, 40, 24, 20], [900, 900, 10, 10]]
    upload = send(client, ("field.png", encoded(image)), cells=json.dumps({"boxes": boxes}))
    assert upload["state"] == "done"
    assert (upload["done"], upload["failed"], upload["total"]) == (2, 1, 3)
    (field,) = upload["fields"]
    assert (field["width"], field["height"], field["image"]) == (120, 90, True)
    picture = client.get(f"/api/v1/fields/{field['id']}/image")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture.content))), image)
    cells = page(client, field=field["id"], sort="added", descending="false")["cells"]
    assert {(cell["box"]["x"], cell["box"]["y"]) for cell in cells} == {(5, 5), (70.5, 40)}
    for cell in cells:
        picture = np.asarray(Image.open(io.BytesIO(client.get(f"/api/v1/cells/{cell['id']}/image").content)))
        np.testing.assert_array_equal(picture, crop_box(image, *cell["box"].values()))


def test_bad_images_of_a_zip_are_told_and_counted(client, files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.write(files[0], "a/good.png")
        archive.writestr("a/bad.png", b"\x89PNG\r\n\x1a\nrubbish")
        archive.writestr("b/gif.png", b"GIF89a" + bytes(30))
    upload = send(client, ("slides.zip", buffer.getvalue()))
    assert (upload["state"], upload["done"], upload["failed"], upload["total"]) == ("done", 1, 2, 3)
    assert [problem["name"] for problem in upload["problems"]] == ["slides.zip:a/bad.png", "slides.zip:b/gif.png"]


def test_an_upload_without_a_usable_image_has_failed(client):
    upload = send(client, b"BM" + bytes(50))
    assert upload["state"] == "failed"
    assert "damaged" in upload["detail"]


def test_maps_are_those_of_explain(client, upload, predictor, files):
    import torch

    from cytodistill.explain.cam import class_maps

    cell = next(c for c in page(client, upload=upload["id"], limit=500)["cells"] if c["name"] == "0.png")
    maps = client.get(f"/api/v1/cells/{cell['id']}/maps", params={"of": "right"}).json()
    images = predictor.inputs.tensor(torch.from_numpy(predictor.cell(files[0])[None]))
    wanted = class_maps(predictor.network, images, np.array([2]), method="hirescam", at="tap")
    assert [exit["explained"] for exit in maps["exits"]] == ["right"] * 3
    np.testing.assert_allclose(
        [exit["probability"] for exit in maps["exits"]], wanted.probabilities[0, :, 2], atol=1e-5
    )
    for exit in (1, 2, 3):
        grey = client.get(f"/api/v1/cells/{cell['id']}/maps/{exit}", params={"of": "right", "plain": "true"})
        shown = np.asarray(Image.open(io.BytesIO(grey.content))) / 255
        np.testing.assert_allclose(shown, wanted.maps[0, exit - 1], atol=3e-3)
        over = client.get(f"/api/v1/cells/{cell['id']}/maps/{exit}")
        assert Image.open(io.BytesIO(over.content)).size == (64, 64)
    again = client.post(
        "/api/v1/explain?exit=2&of=right&plain=true",
        content=files[0].read_bytes(),
        headers={"Content-Type": "image/png"},
    )
    shown = np.asarray(Image.open(io.BytesIO(again.content))) / 255
    np.testing.assert_allclose(shown, wanted.maps[0, 1], atol=3e-3)


def test_asking_for_what_is_not_there(client, upload):
    cell = page(client, upload=upload["id"])["cells"][0]["id"]
    assert client.get(f"/api/v1/cells/{cell}/maps/9").status_code == 404
    assert client.get(f"/api/v1/cells/{cell}/maps", params={"of": "nothing"}).status_code == 422
    assert client.get(f"/api/v1/cells/{'0' * 24}").status_code == 404
    assert client.get(f"/api/v1/fields/{'0' * 24}/image").status_code == 404
    assert client.get("/api/v1/model/card").status_code == 404


def every_byte(folder):
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_deletion_leaves_no_trace_on_the_disk(client, serving, tmp_path):
    secret = "slide-of-Erika-Mustermann"
    with serving(tmp_path) as own:
        upload = send(own, (f"{secret}.png", encoded(a_cell(7))), ("b.png", encoded(a_cell(8))), ("c.png", b"BM"))
        cells = page(own, upload=upload["id"], sort="name")["cells"]
        reviewed = own.post(f"/api/v1/cells/{cells[0]['id']}/reviews", json={"action": "accept", "reviewer": "me"})
        assert reviewed.status_code == 201
        assert secret.encode() in every_byte(tmp_path)
        assert own.delete(f"/api/v1/uploads/{upload['id']}").status_code == 409
        gone = own.delete(f"/api/v1/uploads/{upload['id']}", params={"reviews": "true"})
        assert gone.json() == {"cells": 2, "reviews": 1}
        assert secret.encode() not in every_byte(tmp_path)
        assert not list((tmp_path / "cells").rglob("*.png"))
        assert own.get(f"/api/v1/cells/{cells[0]['id']}/image").status_code == 404
        assert own.get("/api/v1/uploads").json() == []


def test_one_cell_can_be_deleted_alone(client):
    upload = send(client, encoded(a_cell(11)), encoded(a_cell(12)))
    first, second = page(client, upload=upload["id"])["cells"]
    assert client.delete(f"/api/v1/cells/{first['id']}").json() == {"cells": 1, "reviews": 0}
    assert client.delete(f"/api/v1/cells/{first['id']}").status_code == 404
    assert [cell["id"] for cell in page(client, upload=upload["id"])["cells"]] == [second["id"]]


def test_what_is_not_to_be_kept_goes_with_the_session_but_for_reviewed_cells(serving, tmp_path):
    with serving(tmp_path) as first:
        boxes = json.dumps({"boxes": [[0, 0, 20, 20], [20, 20, 20, 20]]})
        field = send(first, ("field.png", encoded(a_cell(1, 60, 60))), cells=boxes)
        send(first, ("gone.png", encoded(a_cell(2))))
        kept = send(first, ("kept.png", encoded(a_cell(3))), keep="true")
        chosen = page(first, upload=field["id"])["cells"][0]["id"]
        first.post(f"/api/v1/cells/{chosen}/reviews", json={"action": "accept", "reviewer": "me"})
    assert b"gone.png" not in every_byte(tmp_path)
    with serving(tmp_path, ready=False) as second:
        left = {cell["id"]: cell for cell in page(second)["cells"]}
        assert set(left) == {chosen, page(second, upload=kept["id"])["cells"][0]["id"]}
        assert second.get(f"/api/v1/cells/{chosen}/image").status_code == 200
        assert second.get(f"/api/v1/fields/{left[chosen]['field']}/image").status_code == 404
        assert second.get(f"/api/v1/fields/{left[chosen]['field']}").json()["image"] is False


def test_stopping_an_upload_that_is_over_changes_nothing(client, upload):
    assert client.post(f"/api/v1/uploads/{upload['id']}/stop").json()["state"] == "done"

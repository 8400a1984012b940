"""A field leaves the service as GeoJSON that QuPath opens: in order, closed, with answers and reviews."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from .conftest import a_cell, encoded, send

SCHEMA = json.loads((Path(__file__).parents[1] / "formats" / "qupath.schema.json").read_text())
FIELD = ("field.png", encoded(a_cell(4, 200, 200)))


def polygon(x, y, side, **properties):
    ring = [[x, y], [x + side, y + 1], [x + side, y + side], [x, y]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def point(x, y, **properties):
    return {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, y]}, "properties": properties}


def cells_of(client, upload):
    """Cells by the upper left corner of their windows."""
    found = client.get("/api/v1/cells", params={"upload": upload["id"], "limit": 500}).json()["cells"]
    return {(cell["box"]["x"], cell["box"]["y"]): cell for cell in found}


def review(client, cell, **given):
    answer = client.post(f"/api/v1/cells/{cell['id']}/reviews", json={"reviewer": "Dr Ana"} | given)
    assert answer.status_code == 201, answer.text


def export(client, field):
    answer = client.get(f"/api/v1/fields/{field}/export.geojson")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/geo+json"
    assert answer.headers["content-disposition"] == f'attachment; filename="{field}.geojson"'
    document = json.loads(answer.text, parse_constant=pytest.fail)
    jsonschema.validate(document, SCHEMA)
    for feature in document["features"]:
        if feature["geometry"]["type"] == "Polygon":
            assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
    return document


def test_features_come_back_in_order_with_answers_and_reviews(client, predictor):
    features = [
        polygon(10, 12, 30, objectType="annotation", classification={"name": "seen", "color": [1, 2, 3]}),
        point(5000, 5000, name="outside"),
        point(60, 50, measurements={"area": 3.5}, metadata={"slide": "7"}),
        polygon(100, 120, 40, name="third"),
    ]
    features[0]["id"] = "3b1c0d6e-0000-4000-8000-000000000001"
    open_ring = json.loads(json.dumps(features))
    open_ring[3]["geometry"]["coordinates"][0].pop()
    given = {"type": "FeatureCollection", "features": open_ring, "named": "kept"}
    upload = send(client, FIELD, cells=json.dumps(given))
    assert (upload["done"], upload["failed"]) == (3, 1)
    cells = cells_of(client, upload)
    first, second, third = cells[10, 12], cells[15, 5], cells[100, 120]
    other = next(name for name in predictor.classes if name != first["predicted"])
    review(client, first, action="correct", label=other)
    review(client, third, action="accept")

    document = export(client, upload["fields"][0]["id"])
    assert document["named"] == "kept"
    out = document["features"]
    assert [feature["geometry"] for feature in out] == [features[n]["geometry"] for n in (0, 2, 3)]
    assert out[0]["id"] == features[0]["id"]
    assert out[2]["properties"]["name"] == "third"
    said = [feature["properties"] for feature in out]
    assert [one["classification"]["name"] for one in said] == [other, second["predicted"], third["predicted"]]
    assert said[0]["previous_classification"] == {"name": "seen", "color": [1, 2, 3]}
    assert [one["metadata"]["classified_by"] for one in said] == ["reviewer", "run", "reviewer"]
    assert said[0]["metadata"]["review_label"] == other
    assert said[0]["metadata"]["run_predicted"] == first["predicted"]
    assert said[0]["metadata"]["reviewer"] == "Dr Ana"
    assert "review_label" not in said[1]["metadata"]
    assert said[1]["metadata"]["slide"] == "7"
    assert said[1]["measurements"]["area"] == 3.5
    for one, cell in zip(said, (first, second, third), strict=True):
        whole = client.get(f"/api/v1/cells/{cell['id']}").json()["prediction"]
        told = {name: one["measurements"][f"prob_{name}"] for name in predictor.classes}
        assert told == whole["calibrated"]
        assert one["metadata"]["cell"] == cell["id"]
        assert one["metadata"]["set"].split("|") == whole["set"]["classes"]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("x,y\n60,50\n20,30\n90,90\n", "Point"),
        ('{"points": [[60, 50], [20, 30], [90, 90]]}', "Point"),
        ("x,y,width,height\n60,50,9,8\n20,30,9,8\n90,90,9,8\n", "Polygon"),
        ('{"boxes": [[60, 50, 9, 8], [20, 30, 9, 8], [90, 90, 9, 8]]}', "Polygon"),
    ],
)
def test_other_lists_become_points_and_rectangles(client, given, kind):
    upload = send(client, FIELD, cells=given)
    geometries = [feature["geometry"] for feature in export(client, upload["fields"][0]["id"])["features"]]
    assert {geometry["type"] for geometry in geometries} == {kind}
    corners = [geometry["coordinates"] if kind == "Point" else geometry["coordinates"][0][0] for geometry in geometries]
    assert corners == [[60, 50], [20, 30], [90, 90]]


def test_what_was_exported_is_taken_again(client):
    upload = send(client, FIELD, cells="x,y,width,height\n60,50,9,8\n20,30,9,8\n")
    document = export(client, upload["fields"][0]["id"])
    again = client.post("/api/v1/predict", files={"image": FIELD}, data={"cells": json.dumps(document)}).json()["cells"]
    assert [tuple(cell["box"].values()) for cell in again] == [(60, 50, 9, 8), (20, 30, 9, 8)]


def test_of_reviewed_cells_that_are_left_the_windows_are_told(serving, tmp_path):
    secret = "Erika Mustermann"
    given = {"type": "FeatureCollection", "features": [polygon(10, 12, 30), polygon(60, 70, 20, name=secret)]}
    with serving(tmp_path) as first:
        upload = send(first, FIELD, cells=json.dumps(given))
        review(first, cells_of(first, upload)[60, 70], action="accept")
        (file,) = (tmp_path / "fields").glob("*.cells")
        assert secret in file.read_text()
    assert not file.exists()
    with serving(tmp_path, ready=False) as second:
        (feature,) = export(second, upload["fields"][0]["id"])["features"]
        assert feature["geometry"]["coordinates"] == [[[60, 70], [80, 70], [80, 90], [60, 90], [60, 70]]]
        assert feature["properties"]["metadata"]["classified_by"] == "reviewer"


def test_a_deleted_upload_leaves_no_list(serving, tmp_path):
    with serving(tmp_path) as own:
        upload = send(own, FIELD, cells="x,y\n60,50\n", keep="true")
        field = upload["fields"][0]["id"]
        assert own.delete(f"/api/v1/uploads/{upload['id']}").status_code == 200
        assert not list((tmp_path / "fields").iterdir())
        assert own.get(f"/api/v1/fields/{field}/export.geojson").status_code == 404

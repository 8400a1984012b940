"""GeoJSON: every feature comes back, in order, with what it had; bad ones are named; what is written is valid."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from cytodistill.formats.geojson import BEFORE, FeatureWriter, made_features, read_features
from cytodistill.formats.places import CellsError, parse_json

CLASSES = ("normal", "abnormal")

SCHEMA = json.loads(Path(__file__).with_name("qupath.schema.json").read_text())


def check_valid(document):
    jsonschema.validate(document, SCHEMA)
    for feature in document["features"]:
        geometry = feature["geometry"]
        polygons = {"Polygon": [geometry["coordinates"]], "MultiPolygon": geometry["coordinates"]}
        for rings in polygons.get(geometry["type"], []):
            assert all(ring[0] == ring[-1] for ring in rings)


def record(predicted="abnormal", error=None):
    if error:
        return {"path": "a.png", "predicted": None, "confidence": None, "exit": None, "error": error}
    return {"path": "a.png", "predicted": predicted, "confidence": 0.75, "set": "normal|abnormal", "exit": "ensemble"}


def written(features, records):
    writer = FeatureWriter(features, CLASSES)
    lines = [writer.line(position, said) for position, said in enumerate(records)]
    return json.loads(writer.head + ",\n".join(lines) + writer.tail, parse_constant=pytest.fail)


NUMBERS = st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)
POINTS = st.tuples(NUMBERS, NUMBERS).map(list)
RINGS = st.lists(POINTS, min_size=3, max_size=6, unique_by=tuple).flatmap(
    lambda ring: st.sampled_from([ring, [*ring, ring[0]]])
)
GEOMETRIES = st.one_of(
    st.builds(lambda at: {"type": "Point", "coordinates": at}, POINTS),
    st.builds(lambda rings: {"type": "Polygon", "coordinates": rings}, st.lists(RINGS, min_size=1, max_size=2)),
    st.builds(
        lambda polygons: {"type": "MultiPolygon", "coordinates": polygons},
        st.lists(st.lists(RINGS, min_size=1, max_size=2), min_size=1, max_size=2),
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OWN = {"classification", "measurements", "metadata", "error", BEFORE}
PROPERTIES = st.none() | st.builds(
    lambda free, qupath: {**{key: value for key, value in free.items() if key not in OWN}, **qupath},
    st.dictionaries(st.text(max_size=8), JSON, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "classification": st.just({"name": "Tumor", "color": [200, 0, 0]}),
            "measurements": st.dictionaries(st.text(max_size=8), NUMBERS, max_size=3)
            | st.lists(st.fixed_dictionaries({"name": st.text(max_size=8), "value": NUMBERS}), max_size=3),
            "metadata": st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=2),
        },
    ),
)
FEATURES = st.builds(
    lambda geometry, properties, identity: {
        "type": "Feature",
        "id": identity,
        "geometry": geometry,
        "properties": properties,
    },
    GEOMETRIES,
    PROPERTIES,
    st.uuids().map(str),
)


@settings(deadline=None, max_examples=60)
@given(features=st.lists(FEATURES, min_size=1, max_size=5), failed=st.sets(st.integers(0, 4)))
def test_every_feature_comes_back_in_order_with_all_that_it_had(features, failed):
    given = copy.deepcopy(features)
    try:
        read = read_features({"type": "FeatureCollection", "features": features, "crs": {"name": "px"}})
    except CellsError:
        # Three corners drawn on one line; that no other feature is refused, the examples that are left show.
        reject()
    records = [record(error="gone") if number in failed else record() for number in range(len(features))]
    document = written(read, records)
    check_valid(document)
    assert document["crs"] == {"name": "px"}
    assert [feature["id"] for feature in document["features"]] == [feature["id"] for feature in given]
    for number, (before, after) in enumerate(zip(given, document["features"], strict=True)):
        had, has = before["properties"] or {}, after["properties"]
        assert {key: value for key, value in had.items() if key not in OWN}.items() <= has.items()
        if number in failed:
            assert has == {**had, "error": "gone"}
            continue
        assert has["classification"]["name"] == "abnormal"
        assert has.get(BEFORE) == had.get("classification")
        there = had.get("measurements", {})
        if isinstance(there, list):
            kept = [entry for entry in there if entry["name"] != "confidence"]
            assert has["measurements"] == [*kept, {"name": "confidence", "value": 0.75}]
        else:
            assert has["measurements"] == {**there, "confidence": 0.75}
        assert has["metadata"] == {**had.get("metadata", {}), "set": "normal|abnormal", "exit": "ensemble"}


@settings(deadline=None, max_examples=60)
@given(document=JSON | st.builds(lambda inner: {"type": "FeatureCollection", "features": inner}, st.lists(JSON)))
def test_whatever_is_given_is_refused_in_one_line(document):
    with pytest.raises(CellsError) as refused:
        read_features(document)
    assert "\n" not in str(refused.value)


def feature(kind="Point", coordinates=(1, 2), **properties):
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


SQUARE = [[0, 0], [4, 0], [4, 2], [0, 2]]


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ([], "no features"),
        ([feature("LineString", SQUARE)], "feature 1: a geometry of type 'LineString'"),
        ([feature(coordinates=[1, 2]), feature("MultiPoint", SQUARE)], "feature 2: .*split the points"),
        ([feature(coordinates=[1, float("nan")])], "feature 1: the position .1, NaN. is not two numbers"),
        ([feature(coordinates=[1, True])], "is not two numbers"),
        ([feature(coordinates=[1, 10**400])], "is not two numbers"),
        ([feature("Polygon", [SQUARE[:2]])], "three corners at least"),
        ([feature("Polygon", [])], "without rings"),
        ([feature("Polygon", [[[0, 0], [4, 0], [2, 0]]])], "without area"),
        ([{"type": "Feature", "geometry": None, "properties": {}}], "feature 1: no geometry"),
        ([{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": 3}], "no object"),
        ([feature(coordinates=[1, 2], score=float("inf"))], "a property is NaN or infinite"),
    ],
)
def test_features_that_are_no_cells_are_named(features, said):
    with pytest.raises(CellsError, match=said):
        read_features({"type": "FeatureCollection", "features": features})


def test_what_is_mended_is_counted_and_said():
    nan = parse_json('{"measurements": {"Nucleus: Area": NaN, "Cell: Area": 5}}')
    read = read_features([feature("Polygon", [copy.deepcopy(SQUARE)], **nan)])
    assert (read.rings_closed, read.measurements_dropped, len(read.remarks())) == (1, 1, 2)
    assert read.extents.tolist() == [[0, 0, 4, 2]]
    document = written(read, [record()])
    check_valid(document)
    assert document["features"][0]["properties"]["measurements"] == {"Cell: Area": 5, "confidence": 0.75}


def test_an_answered_list_can_be_answered_again():
    once = written(read_features([feature(coordinates=[1, 2], classification={"name": "Tumor"})]), [record()])
    again = written(read_features(copy.deepcopy(once)), [record("normal")])
    properties = again["features"][0]["properties"]
    assert (properties["classification"]["name"], properties[BEFORE]) == ("normal", {"name": "Tumor"})


def test_cells_of_other_formats_become_points_and_rectangles():
    made = made_features(read_features([feature(coordinates=[1, 2]), feature("Polygon", [SQUARE])]).extents)
    document = written(made, [record(), record()])
    check_valid(document)
    assert document["features"][0]["geometry"] == {"type": "Point", "coordinates": [1, 2]}
    assert document["features"][1]["geometry"]["coordinates"] == [[[0, 0], [4, 0], [4, 2], [0, 2], [0, 0]]]

"""Cells of a field as JSON or as a table."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytodistill.serve.coordinates import boxes_of
from cytodistill.serve.errors import Refused


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n10,20\n30.5,40\n",
        "\ufeffX;Y\r\n10;20\r\n\r\n30.5;40\r\n",
        "10\t20\n30.5\t40",
        "cell,nucleus_x,nucleus_y,bethesda_system\n1,10,20,LSIL\n2,30.5,40,SCC\n",
        "image_filename,x,y\nsome/a.png,10,20\nb.png,1,1\nC:\\fields\\a.png,30.5,40\n",
        json.dumps({"points": [[10, 20], [30.5, 40]]}),
    ],
)
def test_points_in_every_way_that_they_are_written(text):
    assert boxes_of(text, 10, 5, "slide/a.png") == [(5, 15, 10, 10), (25.5, 35, 10, 10)]


@pytest.mark.parametrize("text", ["x,y,width,height\n1,2,3,4", "height,width,y,x\n4,3,2,1", "1,2,3,4"])
def test_windows_are_told_by_their_upper_left_corner(text):
    assert boxes_of(text, 10, 5, "a.png") == [(1, 2, 3, 4)]


def test_geojson_gives_what_outlines_span_and_a_window_round_points():
    outline = {"type": "Polygon", "coordinates": [[[1, 2], [4, 2], [4, 6], [1, 2]]]}
    geometries = [outline, {"type": "Point", "coordinates": [10, 20]}]
    features = [{"type": "Feature", "geometry": geometry, "properties": None} for geometry in geometries]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    assert boxes_of(text, 10, 5, "a.png") == [(1, 2, 3, 4), (5, 15, 10, 10)]
    with pytest.raises(Refused, match="cells: feature 1: a geometry of type 'LineString'"):
        boxes_of(text.replace('"Polygon"', '"LineString"'), 10, 5, "a.png")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("a,b\n1,2", "no columns x and y"),
        ("x,y,width\n1,2,3", "one of width and height"),
        ("1,2,3", "without a header"),
        ("x,y\n1,two", "row 2 of the table"),
        ("x,y\n1,2\n3", "row 3 of the table"),
        ("x,y\n1,nan", "finite"),
        ("x,y,width,height\n1,2,0,4", "greater than 0"),
        ("image,x,y\nb.png,1,2", "no row names this image"),
        ("x,y", "none given"),
        ('x,y\n"1,2', "not a table"),
        ("x,y\n" + "1,2\n" * 6, "more than the 5"),
        ("[1, 2]", "cells: JSON"),
    ],
)
def test_tables_that_are_none_are_refused_in_one_line(text, said):
    with pytest.raises(Refused, match=said) as refused:
        boxes_of(text, 10, 5, "a.png")
    assert "\n" not in refused.value.detail


@given(st.text(max_size=200))
def test_whatever_is_sent_gives_boxes_or_is_refused(text):
    with contextlib.suppress(Refused):
        assert np.isfinite(boxes_of(text, 10, 100, "a.png")).all()

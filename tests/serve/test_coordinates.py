"""Cells of a field as a client lists them."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytodistill.formats.pixel_size import PixelSize
from cytodistill.serve.coordinates import boxes_of, pixel_size_of
from cytodistill.serve.errors import Refused

CUTS = ("window", "outline")


@pytest.mark.parametrize("cut", CUTS)
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
def test_points_in_every_way_that_they_are_written(text, cut):
    assert boxes_of(text, 10, cut, 5, "slide/a.png") == [(5, 15, 10, 10), (25.5, 35, 10, 10)]


@pytest.mark.parametrize("text", ["x,y,width,height\n1,2,3,4", "height,width,y,x\n4,3,2,1", "1,2,3,4"])
def test_windows_are_told_by_their_upper_left_corner(text):
    assert boxes_of(text, 10, "outline", 5, "a.png") == [(1, 2, 3, 4)]
    assert boxes_of(text, 10, "window", 5, "a.png") == [(-2.5, -1, 10, 10)]


OUTLINE = {"type": "Polygon", "coordinates": [[[1, 2], [4, 2], [4, 6], [1, 2]]]}
CUT = {"outline": [(1, 2, 3, 4), (5, 15, 10, 10)], "window": [(-2.5, -1, 10, 10), (5, 15, 10, 10)]}


@pytest.mark.parametrize("cut", CUTS)
def test_geojson_gives_what_the_run_cuts_of_outlines_and_a_window_round_points(cut):
    geometries = [OUTLINE, {"type": "Point", "coordinates": [10, 20]}]
    features = [{"type": "Feature", "geometry": geometry, "properties": None} for geometry in geometries]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    assert boxes_of(text, 10, cut, 5, "a.png") == CUT[cut]
    assert boxes_of(f"\ufeff {json.dumps(features)}", 10, cut, 5, "a.png") == CUT[cut]
    with pytest.raises(Refused, match="cells: feature 1: a geometry of type 'LineString'"):
        boxes_of(text.replace('"Polygon"', '"LineString"'), 10, cut, 5, "a.png")


@pytest.mark.parametrize("cut", CUTS)
def test_coco_gives_the_annotations_of_the_image(cut):
    images = [{"id": 7, "file_name": "slides/a.png"}, {"id": 8, "file_name": "b.png"}]
    annotations = [{"id": n, "image_id": image, "bbox": [1, 2, 3, 4]} for n, image in enumerate((8, 7, 8))]
    text = json.dumps({"images": images, "annotations": annotations})
    assert boxes_of(text, 10, cut, 5, "a.png") == CUT[cut][:1]
    with pytest.raises(Refused, match=r"cells: no image has the file_name c\.png"):
        boxes_of(text, 10, cut, 5, "c.png")


@pytest.mark.parametrize("cut", CUTS)
def test_what_the_apis_own_json_says_is_cut_as_it_says(cut):
    assert boxes_of('{"boxes": [[1, 2, 3, 4]]}', 10, cut, 5) == [(1, 2, 3, 4)]
    assert boxes_of('{"points": [[10, 20]], "window": 4}', 10, cut, 5) == [(8, 18, 4, 4)]


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
        ("x,y,width,height\n1,2,0,4", "must be positive"),
        ("x,y,width,height\n1,2,3,9000", "cell 1 is a window of 3×9000 pixels"),
        ("x,y\n1,1\n1e308,1e308", "cell 2 is a window of 10×10 pixels at"),
        ("image,x,y\nb.png,1,2", "no row names this image"),
        ("x,y", "no cells in the table"),
        ('{"points": []}', "none given"),
        ("{}", "give boxes or points"),
        ('x,y\n"1,2', "not a table"),
        ("x,y\n" + "1,2\n" * 6, "more than the 5"),
        ("[1, 2]", "cells: feature 1: not a GeoJSON Feature"),
        ('{"type": "Topology"}', "cells: not GeoJSON of cells"),
        ('{"annotations": []}', "cells: COCO without images"),
        ('{"boxen": []}', "cells: boxen: Extra inputs"),
        ('{"points": [[NaN, 1]]}', "cells: points.0.0: "),
    ],
)
def test_lists_that_are_none_are_refused_in_one_line(text, said):
    with pytest.raises(Refused, match=said) as refused:
        boxes_of(text, 10, "outline", 5, "a.png")
    assert "\n" not in refused.value.detail


@given(st.text(max_size=200), st.sampled_from(CUTS))
def test_whatever_is_sent_gives_boxes_or_is_refused(text, cut):
    with contextlib.suppress(Refused):
        assert np.isfinite(boxes_of(text, 10, cut, 100, "a.png")).all()


def test_a_form_says_the_pixel_size():
    assert pixel_size_of({}, None) == PixelSize()
    assert pixel_size_of({"microns_per_pixel": "0.25"}, None) == PixelSize(0.25)
    assert pixel_size_of({}, True) == PixelSize(ignore=True)


@pytest.mark.parametrize("text", ["", "small", "0", "-1", "nan", "inf", "1e999"])
def test_a_pixel_size_that_is_none_is_refused(text):
    with pytest.raises(Refused, match="microns_per_pixel: give a positive number"):
        pixel_size_of({"microns_per_pixel": text}, None)

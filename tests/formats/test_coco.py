"""COCO: annotations of one image in, the same out with category and score."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cytodistill.formats.coco import AnnotationWriter, made_annotations, read_annotations
from cytodistill.formats.places import CellsError


def annotation(number, image=7, box=(1, 2, 3, 4), **more):
    return {"id": number, "image_id": image, "bbox": list(box), **more}


def document(*annotations, **more):
    images = [{"id": 7, "file_name": "slides/a.png"}, {"id": 8, "file_name": "b.png"}]
    return {"info": {"year": 2026}, "images": images, "annotations": list(annotations), **more}


def written(annotations, *records):
    writer = AnnotationWriter(annotations, ("LSIL", "HSIL"))
    lines = [writer.line(position, record) for position, record in enumerate(records)]
    return json.loads(writer.head + ",\n".join(lines) + writer.tail)


def test_annotations_come_back_in_order_with_category_and_score():
    given = document(
        annotation(5, category_id=3, area=12, attributes={"by": "me"}),
        annotation(6, image=8),
        annotation(4, box=(9, 9, 1, 1)),
        categories=[{"id": 3, "name": "HSIL", "supercategory": "cell"}],
    )
    read = read_annotations(given, "elsewhere/a.png")
    assert read.extents.tolist() == [[1, 2, 3, 4], [9, 9, 1, 1]]
    answer = {"path": "a", "predicted": "LSIL", "confidence": 0.5, "prob_LSIL": 0.5}
    said = written(read, answer, {"path": "a", "error": "unreadable"})
    assert said["info"] == given["info"]
    assert said["images"] == given["images"]
    assert said["categories"] == [*given["categories"], {"id": 4, "name": "LSIL"}]
    first, second = said["annotations"]
    assert first == {
        **given["annotations"][0],
        "category_id": 4,
        "previous_category_id": 3,
        "score": 0.5,
        "attributes": {"by": "me", "confidence": 0.5, "prob_LSIL": 0.5},
    }
    assert second == {**given["annotations"][2], "error": "unreadable"}


def test_cells_of_other_formats_become_annotations():
    made = made_annotations(np.array([[1.5, 2, 3, 4]]), "x/a.png", (20, 10))
    said = written(made, {"predicted": "HSIL", "confidence": 0.9})
    assert said["images"] == [{"id": 1, "file_name": "a.png", "width": 20, "height": 10}]
    assert said["categories"] == [{"id": 1, "name": "LSIL"}, {"id": 2, "name": "HSIL"}]
    assert said["annotations"][0]["bbox"] == [1.5, 2, 3, 4]
    assert (said["annotations"][0]["category_id"], said["annotations"][0]["area"]) == (2, 12)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "not COCO"),
        ({"annotations": 3}, "not COCO"),
        ({"annotations": []}, "without images"),
        ({"images": [{"id": 1, "file_name": "c.png"}], "annotations": []}, "no image has the file_name a.png.*c.png"),
        (document(), "no annotations of a.png"),
        (document(annotation(1, image=8)), "no annotations of a.png"),
        (document(3), "annotation 1: not an object"),
        (document(annotation(1), annotation(2, box=(1, 2, 3))), "annotation 2: bbox"),
        (document(annotation(1, box=(1, 2, float("nan"), 3))), "annotation 1: bbox"),
        (document(annotation(1, box=(1, 2, 0, 3))), "must be positive"),
        (document(annotation(1, score=float("nan"))), "NaN or infinite"),
        (document(annotation(1), categories=[{"id": "x"}]), "categories must be"),
    ],
)
def test_what_is_no_list_of_boxes_is_refused_in_one_line(given, said):
    with pytest.raises(CellsError, match=said):
        read_annotations(given, "a.png")

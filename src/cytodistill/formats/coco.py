"""COCO's JSON of boxes: annotations in, the same ones out with a category of the run and a score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from cytodistill.formats.answers import answer_of
from cytodistill.formats.places import CellsError, is_number, refuse

ANNOTATION = "annotation"
BEFORE = "previous_category_id"
"""Member that keeps the category that an annotation had before it was answered."""


@dataclass(frozen=True)
class Annotations:
    """Annotations of one image, in their order, their ``extents`` (N, 4) x, y, width, height, and the ``members`` that
    the document has besides."""

    annotations: list[dict[str, Any]]
    extents: np.ndarray
    members: dict[str, Any]

    def remarks(self) -> list[str]:
        """What was mended: nothing ever is."""
        return []


def is_coco(document: Any) -> bool:
    """Whether a JSON document looks like COCO's."""
    return isinstance(document, dict) and "annotations" in document


def read_annotations(document: Any, image: str) -> Annotations:
    """Annotations of one image of a COCO document.

    Args:
        document: the parsed JSON.
        image: file name of the image, by which its entry is known; folders do not count.

    Raises:
        CellsError: it is no such document, does not have the image, or a box is none.
    """
    if not is_coco(document) or not isinstance(document["annotations"], list):
        raise CellsError("not COCO; it needs images and annotations")
    images = document.get("images")
    if not isinstance(images, list) or not all(isinstance(entry, dict) for entry in images):
        raise CellsError("COCO without images; it needs a list of them with id and file_name")
    mine = {_key(entry.get("id")) for entry in images if _base(str(entry.get("file_name"))) == _base(image)}
    if not mine:
        there = ", ".join(str(entry.get("file_name")) for entry in images[:3]) or "none"
        raise CellsError(f"no image has the file_name {_base(image)}; there are {there:.120}")
    chosen = []
    for number, annotation in enumerate(document["annotations"]):
        if not isinstance(annotation, dict):
            refuse(ANNOTATION, number, "not an object; export the annotations again")
        if _key(annotation.get("image_id")) in mine:
            chosen.append(annotation)
            _check(annotation, number)
    if not chosen:
        raise CellsError(f"no annotations of {_base(image)}; annotate its cells")
    members = {key: value for key, value in document.items() if key not in ("annotations", "categories")}
    categories = document.get("categories", [])
    if not isinstance(categories, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("id"), int) for entry in categories
    ):
        raise CellsError("categories must be a list of objects with a number as id; export them again")
    extents = np.array([annotation["bbox"] for annotation in chosen], np.float64)
    return Annotations(chosen, extents, {**members, "categories": categories})


def made_annotations(extents: np.ndarray, image: str, size: tuple[int, int]) -> Annotations:
    """Annotations of cells that came in another format: their windows.

    Args:
        extents: (N, 4) windows x, y, width, height.
        image: file name of the field.
        size: its width and height in pixels.
    """
    annotations = [
        {"id": number, "image_id": 1, "bbox": row, "area": row[2] * row[3], "iscrowd": 0}
        for number, row in enumerate(extents.tolist(), start=1)
    ]
    images = [{"id": 1, "file_name": _base(image), "width": size[0], "height": size[1]}]
    return Annotations(annotations, extents, {"images": images, "categories": []})


class AnnotationWriter:
    """Annotations with their answers as text, one a line.

    Categories of the document keep their numbers; those of the run's classes that it has not are added.

    Args:
        annotations: of the cells.
        classes: the class names.
    """

    def __init__(self, annotations: Annotations, classes: Sequence[str]) -> None:
        self._annotations = annotations.annotations
        categories = list(annotations.members["categories"])
        self._ids = {str(entry.get("name")): entry["id"] for entry in categories}
        following = max((entry["id"] for entry in categories), default=0) + 1
        for name in classes:
            if name not in self._ids:
                self._ids[name] = following
                categories.append({"id": following, "name": name})
                following += 1
        members = {**annotations.members, "categories": categories}
        try:
            said = "".join(f"{_text(key)}: {_text(value)},\n" for key, value in members.items())
        except ValueError:
            raise CellsError("a value is NaN or infinite, which JSON cannot hold; remove it") from None
        self.head = f'{{{said}"annotations": [\n'
        self.tail = "\n]}\n"

    def line(self, position: int, record: Mapping[str, Any]) -> str:
        """The annotation at a position, with the answer of a record of ``infer/writers.py``: ``category_id``, ``score``
        and its numbers and words as ``attributes``. One that could not be read has the reason as ``error``."""
        annotation, answer = dict(self._annotations[position]), answer_of(record)
        if answer.predicted is None:
            return _text({**annotation, "error": answer.error})
        annotation.pop("error", None)
        if "category_id" in annotation:
            annotation.setdefault(BEFORE, annotation["category_id"])
        annotation |= {"category_id": self._ids[answer.predicted], "score": answer.numbers["confidence"]}
        there = annotation.get("attributes")
        annotation["attributes"] = {**(there if isinstance(there, dict) else {}), **answer.numbers, **answer.words}
        return _text(annotation)


def _check(annotation: dict[str, Any], number: int) -> None:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        refuse(ANNOTATION, number, f"bbox {json.dumps(box)[:60]} is not four numbers x, y, width, height; correct it")
    if min(box[2:]) <= 0:
        refuse(ANNOTATION, number, f"a box of {box[2]:g}×{box[3]:g} pixels; its sides must be positive")
    try:
        json.dumps(annotation, allow_nan=False)
    except ValueError:
        refuse(ANNOTATION, number, "a value is NaN or infinite, which JSON cannot hold; remove it")


def _key(identity: Any) -> str:
    """An id as text: some tools write numbers, some texts, and a list can be no key."""
    return json.dumps(identity)


def _base(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)

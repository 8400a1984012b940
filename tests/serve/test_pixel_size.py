"""A field whose pixels are not those of the training: its windows are as long in µm, or it is refused in words of the
API."""

from __future__ import annotations

import json

import pytest

from cytodistill.formats.pixel_size import PixelSize
from cytodistill.infer.batch import predict

from .conftest import a_cell, encoded, finished

FIELD = ("field.png", encoded(a_cell(9, 300, 300)))
POINTS = "x,y\n150,150\n100,200\n"
CENTRES = [(150, 150), (100, 200)]


@pytest.fixture(scope="module")
def run(run_as):
    return run_as("cric", microns_per_pixel=0.5)


@pytest.fixture(scope="module")
def sized(serving, run, tmp_path_factory):
    """The service on a run that was trained at 0.5 µm a pixel."""
    with serving(tmp_path_factory.mktemp("sized"), run=run, max_batch=1) as client:
        yield client


def ask(client, path="predict", **fields):
    return client.post(f"/api/v1/{path}", files={"image": FIELD}, data=fields)


def boxes(answer):
    assert answer.status_code == 200, answer.text
    return [tuple(cell["box"].values()) for cell in answer.json()["cells"]]


def round_centres(side):
    return [(x - side / 2, y - side / 2, side, side) for x, y in CENTRES]


def test_the_model_says_its_pixel_size_and_what_it_cuts(sized, client):
    found = sized.get("/api/v1/model").json()
    assert (found["microns_per_pixel"], found["cut"], found["window"]) == (0.5, "window", 90)
    found = client.get("/api/v1/model").json()
    assert (found["microns_per_pixel"], found["cut"]) == (None, "outline")


def test_windows_are_as_long_as_in_training(sized):
    assert boxes(ask(sized, cells=POINTS, microns_per_pixel="0.5")) == round_centres(90)
    assert boxes(ask(sized, cells=POINTS, microns_per_pixel="0.25")) == round_centres(180)
    assert boxes(ask(sized, cells=POINTS, microns_per_pixel="1")) == round_centres(45)
    assert boxes(ask(sized, cells=POINTS, ignore_pixel_size="true")) == round_centres(90)
    assert boxes(ask(sized, cells=POINTS, microns_per_pixel="0.25", ignore_pixel_size="true")) == round_centres(90)


def test_a_window_that_the_client_gives_is_in_the_fields_own_pixels(sized):
    own = json.dumps({"points": CENTRES, "window": 30})
    assert boxes(ask(sized, cells=own, microns_per_pixel="0.25")) == round_centres(30)
    own = json.dumps({"boxes": [[1, 2, 30, 40]]})
    assert boxes(ask(sized, cells=own, microns_per_pixel="0.25")) == [(1, 2, 30, 40)]


def test_the_command_cuts_the_same(sized, run, tmp_path):
    (tmp_path / "field.png").write_bytes(FIELD[1])
    (tmp_path / "cells.csv").write_text(POINTS)
    out = tmp_path / "out.jsonl"
    options = {"cells": tmp_path / "cells.csv", "device": "cpu", "batch_size": 1, "pixels": PixelSize(0.3)}
    predict(run, tmp_path / "field.png", out, raw=True, **options)
    told = ask(sized, cells=POINTS, microns_per_pixel="0.3").json()["cells"]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [cell["prediction"]["confidence"] for cell in told] == pytest.approx(
        [row["confidence"] for row in rows], rel=1e-7
    )


@pytest.mark.parametrize("path", ["predict", "uploads"])
def test_differences_are_refused_in_the_words_of_the_api(sized, client, path):
    cases = (
        (sized, {"cells": POINTS}, "the run was trained at 0.5 µm a pixel; give microns_per_pixel, or ignore_pixel"),
        (sized, {"cells": '{"boxes": [[1, 2, 30, 40]]}'}, "give microns_per_pixel"),
        (sized, {"cells": POINTS, "ignore_pixel_size": "false"}, "give microns_per_pixel"),
        (sized, {"cells": POINTS, "microns_per_pixel": "1.1"}, "more than 2 times the 0.5 µm"),
        (sized, {"cells": POINTS, "microns_per_pixel": "1e-9"}, "correct its coordinates, or the pixel size"),
        (sized, {"cells": POINTS, "microns_per_pixel": "small"}, "microns_per_pixel: give a positive number"),
        (sized, {"cells": POINTS, "ignore_pixel_size": "yes"}, "ignore_pixel_size: give true or false"),
        (sized, {"microns_per_pixel": "0.5"}, "microns_per_pixel: it is for the cells of a field"),
        (client, {"cells": POINTS, "microns_per_pixel": "0.5"}, "the run does not say at which pixel size"),
    )
    for service, fields, said in cases:
        answer = ask(service, path, **fields)
        assert answer.status_code == 422, fields
        assert said in answer.json()["detail"]
        assert "--" not in answer.json()["detail"]


def test_an_upload_is_cut_at_its_pixel_size(sized):
    answer = ask(sized, "uploads", cells=POINTS, microns_per_pixel="0.25")
    upload = finished(sized, answer.json())
    cells = sized.get("/api/v1/cells", params={"upload": upload["id"]}).json()["cells"]
    assert sorted(tuple(cell["box"].values()) for cell in cells) == sorted(round_centres(180))


def test_cells_without_a_field_are_asked_for_nothing(sized, files):
    assert ask(sized).status_code == 200

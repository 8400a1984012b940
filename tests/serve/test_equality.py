"""The same images, and fields with the same lists of cells, get the same answers from the page, the API, the command
`predict` and Python."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from cytodistill.cli import app
from cytodistill.data.images import crop_box
from cytodistill.infer.fitted import voices

from .conftest import a_cell, encoded, send

# A network adds numbers up in an order that depends on how many cells it is given at once; float32 then differs in its
# last digits. Cells that are computed one by one get the very same bits.
TOGETHER = 1e-5


@pytest.fixture(scope="module")
def images(files, tmp_path_factory):
    """Cells of the run, and others that are wide, grey, and in every format that all four ways take."""
    folder = tmp_path_factory.mktemp("same")
    odd = {
        "wide.png": encoded(a_cell(1, 31, 70)),
        "grey.png": encoded(a_cell(2)[..., 0]),
        "cell.jpg": encoded(a_cell(3, 40, 31), "JPEG"),
        "cell.bmp": encoded(a_cell(4, 24, 30), "BMP"),
        "cell.tif": encoded(a_cell(5, 50, 40), "TIFF"),
        "cell.webp": encoded(a_cell(6), "WEBP"),
    }
    for name, content in odd.items():
        (folder / name).write_bytes(content)
    return [*files[:4], *(folder / name for name in odd)]


def uploaded(client, images):
    """What the page's scripts are given: the gallery's cells, and each of them as it is opened."""
    upload = send(client, *((str(n), image.read_bytes()) for n, image in enumerate(images)))
    listed = client.get("/api/v1/cells", params={"upload": upload["id"], "limit": 500}).json()["cells"]
    found = {int(cell["name"]): client.get(f"/api/v1/cells/{cell['id']}").json() for cell in listed}
    for cell in listed:
        whole = found[int(cell["name"])]
        assert {name: whole[name] for name in cell} == cell
        for copied in ("predicted", "confidence", "doubt", "abnormal", "disagreement", "stops_at"):
            assert cell[copied] == whole["prediction"][copied]
    return [found[n]["prediction"] for n in range(len(images))]


def asked(client, images):
    answer = client.post("/api/v1/predict", files=[("image", image.read_bytes()) for image in images])
    return [cell["prediction"] for cell in answer.json()["cells"]]


def commanded(judged_run, images, out, *options):
    """Rows of the file that the command writes."""
    given = ["predict", str(judged_run), *map(str, images), "-o", str(out), "--device", "cpu", *options]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    return pd.read_csv(out, keep_default_na=False).to_dict("records")


def in_python(predictor, images):
    """Answers of `Predictor` in the words of the API."""
    found = predictor.predict(images)
    log = voices(found.exit_probabilities, found.probabilities)[-1]
    calibrated = predictor.fitted.temperature[-1].calibrated(log)
    named = [dict(zip(predictor.classes, map(float, row), strict=True)) for row in found.probabilities]
    exits = [
        [dict(zip(predictor.classes, map(float, exit), strict=True)) for exit in cell]
        for cell in found.exit_probabilities
    ]
    return [
        {"predicted": predicted, "probabilities": plain, "calibrated": sure, "exits": each}
        for predicted, plain, sure, each in zip(found.predicted, named, calibrated.tolist(), exits, strict=True)
    ]


def check(predictor, told, raw, calibrated, wanted, close):
    """One answer of the service, the rows of the command, and Python's."""
    assert told["predicted"] == raw["predicted"] == calibrated["predicted"] == wanted["predicted"]
    assert told["probabilities"] == close(wanted["probabilities"])
    assert told["confidence"] == close(raw["confidence"])
    for place, name in enumerate(predictor.classes):
        assert told["probabilities"][name] == close(raw[f"prob_{name}"])
        assert told["calibrated"][name] == close(calibrated[f"prob_{name}"])
        assert told["calibrated"][name] == close(wanted["calibrated"][place])
    for place, exit in enumerate(told["exits"]):
        assert exit["probabilities"] == close(wanted["exits"][place])
        assert exit["predicted"] == raw[f"exit{place + 1}_predicted"]
        assert exit["confidence"] == close(raw[f"exit{place + 1}_confidence"])
    assert set(told["set"]["classes"]) == set(calibrated["set"].split("|"))


def test_one_by_one_the_four_ways_agree_in_every_bit(client, predictor, judged_run, images, tmp_path):
    raw = commanded(judged_run, images, tmp_path / "raw.csv", "--raw", "--batch-size", "1")
    calibrated = commanded(judged_run, images, tmp_path / "calibrated.csv", "--batch-size", "1")
    for n, image in enumerate(images):
        (page,), (api,), (python,) = uploaded(client, [image]), asked(client, [image]), in_python(predictor, [image])
        assert page == api
        assert api["probabilities"] == python["probabilities"]
        assert api["probabilities"] == {name: np.float32(raw[n][f"prob_{name}"]) for name in predictor.classes}
        # The command writes float32, with nine digits, of what the service tells in float64: the calibrated ones.
        check(predictor, api, raw[n], calibrated[n], python, lambda wanted: pytest.approx(wanted, rel=1e-6, abs=0))


def test_together_the_four_ways_agree(client, predictor, judged_run, images, tmp_path):
    raw = commanded(judged_run, images, tmp_path / "raw.csv", "--raw")
    calibrated = commanded(judged_run, images, tmp_path / "calibrated.csv")
    python = in_python(predictor, images)
    for way in (uploaded, asked):
        for n, told in enumerate(way(client, images)):
            close = lambda wanted: pytest.approx(wanted, abs=TOGETHER)  # noqa: E731
            check(predictor, told, raw[n], calibrated[n], python[n], close)


FIELD = a_cell(9, 120, 160)
BOXES = [(10, 12, 30, 20), (70.5, 80, 24, 24), (100, 60, 31, 17.5)]
CENTRES = [(25, 22), (82.5, 92), (115.5, 68.75)]


def features(*geometries):
    return json.dumps(
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "geometry": geometry, "properties": {}} for geometry in geometries],
        }
    )


def ring(x, y, width, height):
    """An outline that is no rectangle, and spans this."""
    right, bottom = x + width, y + height
    return [
        [x, y + height / 2],
        [x + width / 2, y],
        [right, y + height / 2],
        [x + width / 2, bottom],
        [x, y + height / 2],
    ]


LISTS = {
    "outlines.geojson": features(*({"type": "Polygon", "coordinates": [ring(*box)]} for box in BOXES)),
    "points.geojson": features(*({"type": "Point", "coordinates": centre} for centre in CENTRES)),
    "points.csv": "image,x,y\nb.png,1,1\n" + "".join(f"field.png,{x},{y}\n" for x, y in CENTRES),
    "boxes.csv": "x,y,width,height\n" + "".join(",".join(map(str, box)) + "\n" for box in BOXES),
    "coco.json": json.dumps(
        {
            "images": [{"id": 3, "file_name": "slides/field.png"}],
            "annotations": [{"id": n, "image_id": 3, "bbox": box} for n, box in enumerate(BOXES)],
        }
    ),
}


@pytest.fixture(scope="module", params=["cric", "folder"])
def kind(request):
    """Format of a source: a run of CRIC was trained on windows round nuclei, one of a folder on cells as they were."""
    return request.param


@pytest.fixture(scope="module")
def run(kind, run_as):
    return run_as(kind)


@pytest.fixture(scope="module")
def served(serving, run, tmp_path_factory):
    """The service on the run; each cell has a forward pass of its own, as in the one-by-one comparison above."""
    with serving(tmp_path_factory.mktemp("fields"), run=run, max_batch=1) as client:
        yield client


@pytest.mark.parametrize("name", LISTS)
def test_cells_of_a_field_are_the_same_four_ways_in_every_bit(served, predictor, run, kind, name, tmp_path):
    side = predictor.recipe.data.window
    wanted = [(x - side / 2, y - side / 2, side, side) for x, y in CENTRES]
    if kind == "folder" and "points" not in name:
        wanted = BOXES
    python = [in_python(predictor, crop_box(FIELD, *box))[0] for box in wanted]

    content = encoded(FIELD)
    answer = served.post("/api/v1/predict", files={"image": ("field.png", content)}, data={"cells": LISTS[name]})
    assert answer.status_code == 200, answer.text
    told = answer.json()["cells"]
    assert [tuple(cell["box"].values()) for cell in told] == wanted

    upload = send(served, ("field.png", content), cells=LISTS[name])
    listed = served.get("/api/v1/cells", params={"upload": upload["id"], "limit": 500}).json()["cells"]
    shown = {tuple(cell["box"].values()): served.get(f"/api/v1/cells/{cell['id']}").json() for cell in listed}
    assert [shown[box]["prediction"] for box in wanted] == [cell["prediction"] for cell in told]
    for box in wanted:
        picture = served.get(f"/api/v1/cells/{shown[box]['id']}/image").content
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), crop_box(FIELD, *box))

    (tmp_path / "field.png").write_bytes(content)
    (tmp_path / name).write_text(LISTS[name])
    options = ("--cells", str(tmp_path / name), "--batch-size", "1")
    raw = commanded(run, [tmp_path / "field.png"], tmp_path / "raw.csv", "--raw", *options)
    calibrated = commanded(run, [tmp_path / "field.png"], tmp_path / "calibrated.csv", *options)
    for n, cell in enumerate(told):
        api = cell["prediction"]
        assert api["probabilities"] == python[n]["probabilities"]
        assert api["probabilities"] == {label: np.float32(raw[n][f"prob_{label}"]) for label in predictor.classes}
        check(predictor, api, raw[n], calibrated[n], python[n], lambda wanted: pytest.approx(wanted, rel=1e-6, abs=0))

"""The same images get the same answers from the page, the API, the command `predict` and Python."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cytodistill.cli import app
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

"""`cytodistill serve DIR`: an exported artifact answers like the run that it came from, but has no maps."""

import json
import shutil
import urllib.request

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

from cytodistill.export import export
from cytodistill.infer.predictor import load

from .conftest import a_cell, encoded, send

CELL = encoded(a_cell(3))


@pytest.fixture(scope="module")
def artifact(judged_run, tmp_path_factory):
    return export(judged_run, tmp_path_factory.mktemp("artifact") / "onnx", runtime="onnx").path


@pytest.fixture(scope="module")
def exported(serving, artifact, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("data"), run=artifact) as client:
        yield client


def test_it_answers_as_predict_does_and_nearly_as_the_run(exported, artifact, predictor, tmp_path):
    (tmp_path / "a.png").write_bytes(CELL)
    (cell,) = exported.post("/api/v1/predict", files={"image": CELL}).json()["cells"]
    names = predictor.classes
    said = [cell["prediction"]["probabilities"][name] for name in names]
    own = load(artifact, "cpu").predict(tmp_path / "a.png")
    np.testing.assert_array_equal(said, own.probabilities[0].astype(float))
    np.testing.assert_allclose(said, predictor.predict(tmp_path / "a.png").probabilities[0], atol=1e-4)
    # What the run's validation cells decided has come along.
    assert cell["prediction"]["calibrated"] is not None
    assert cell["prediction"]["set"] is not None


def test_it_has_no_maps_and_says_so(exported):
    upload = send(exported, CELL)
    assert upload["state"] == "done"
    (cell,) = exported.get("/api/v1/cells", params={"upload": upload["id"]}).json()["cells"]
    model = exported.get("/api/v1/model").json()
    assert (model["explains"], model["exits"]) == (False, 3)
    answers = [
        exported.post("/api/v1/explain", content=CELL, headers={"Content-Type": "image/png"}),
        exported.get(f"/api/v1/cells/{cell['id']}/maps"),
        exported.get(f"/api/v1/cells/{cell['id']}/maps/1"),
    ]
    for answer in answers:
        assert answer.status_code == 409
        assert "serve the run folder of a network" in answer.json()["detail"]
    review = exported.post(f"/api/v1/cells/{cell['id']}/reviews", json={"action": "accept", "reviewer": "me"})
    assert review.status_code == 201


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
def test_its_page_does_without_maps(listening, artifact, tmp_path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")
    wrong: list[str] = []
    with listening(tmp_path, run=artifact) as (port, _, _), sync_api.sync_playwright() as playwright:
        address = f"http://127.0.0.1:{port}"
        request = urllib.request.Request(f"{address}/api/v1/uploads", CELL, {"Content-Type": "image/png"})
        urllib.request.urlopen(request).close()
        cells = []
        while not cells:
            with urllib.request.urlopen(f"{address}/api/v1/cells") as answer:
                cells = json.load(answer)["cells"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{address}/#/cell/{cells[0]['id']}")
        sync_api.expect(page.locator(".exit-list li")).to_have_count(3, timeout=30_000)
        sync_api.expect(page.locator(".probabilities tbody tr")).to_have_count(3)
        assert page.locator("img.map").count() == 0
        browser.close()
    assert wrong == []

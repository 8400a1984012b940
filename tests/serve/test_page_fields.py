"""The page with a field from QuPath, at another pixel size than the training's: sent, reviewed, and taken back."""

from __future__ import annotations

import json
import shutil
import urllib.request

import pytest

from .conftest import a_cell, encoded

pytest.importorskip("playwright", reason="needs playwright, of the extra dev")
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
    pytest.mark.xdist_group("page"),
]
FIELD = {"name": "field.png", "mimeType": "image/png", "buffer": encoded(a_cell(3, 200, 300))}
CORNERS = [(30, 40), (150, 60), (80, 120)]


def outline(x, y):
    ring = [[x, y], [x + 40, y + 5], [x + 35, y + 30], [x, y]]
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {"name": str(x)}}


FEATURES = [outline(*corner) for corner in CORNERS]
CELLS = {
    "name": "cells.geojson",
    "mimeType": "application/geo+json",
    "buffer": json.dumps({"type": "FeatureCollection", "features": FEATURES}).encode(),
}


def get(address, path):
    with urllib.request.urlopen(f"{address}/api/v1/{path}") as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def served(listening, judged_run, run_as, tmp_path_factory):
    """Address of a service on a run that was trained on windows of 90 px at 0.5 µm."""
    run, labels = run_as("cric", microns_per_pixel=0.5), str(judged_run / "map.yaml")
    with listening(tmp_path_factory.mktemp("fields"), run=run, class_map=labels) as (port, _, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def page(served):
    """The page of uploads; afterwards nothing may have gone wrong in its console."""
    wrong = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{served}/#/uploads")
        page.wait_for_selector("#uploads:not([hidden])")
        yield page
        browser.close()
    assert wrong == []


def test_a_field_goes_from_qupath_to_qupath(served, page):
    assert ".geojson" in page.locator("#files").get_attribute("accept").split(",")
    expect(page.locator(".zone")).to_contain_text("GeoJSON from QuPath")
    expect(page.locator("#microns-note")).to_contain_text("a pixel was 0.5 µm")

    page.set_input_files("#files", [FIELD, CELLS])
    expect(page.locator("#urgent")).to_contain_text("Say the pixel size of the field")
    expect(page.get_by_label("Pixel size of a field, in µm")).to_be_focused()
    assert get(served, "uploads") == []
    page.get_by_label("Pixel size of a field, in µm").fill("0.25")
    page.set_input_files("#files", [FIELD, CELLS])
    page.get_by_role("link", name="field.png").click()
    marks = page.locator(".mark")
    expect(marks).to_have_count(3)
    field = page.url.split("/")[-1]
    cells = get(served, f"cells?field={field}")["cells"]
    assert {(cell["box"]["x"], cell["box"]["y"]) for cell in cells} == {(x + 20 - 90, y + 15 - 90) for x, y in CORNERS}
    assert {cell["box"]["width"] for cell in cells} == {180}

    by_place = {cell["box"]["x"]: cell for cell in cells}
    chosen = by_place[150 + 20 - 90]
    classes = get(served, "model")["classes"]
    other = next(name for name in classes if name != chosen["predicted"])
    page.locator(f"[data-id='{chosen['id']}']").focus()
    page.keyboard.press(str(classes.index(other) + 1))
    page.get_by_label("Your name").fill("Dr Ana")
    page.keyboard.press("Enter")
    expect(page.locator(f"[data-id='{chosen['id']}']")).to_contain_text("✓")
    with page.expect_download() as download:
        page.get_by_role("link", name="Cells as GeoJSON").click()
    assert download.value.suggested_filename == f"{field}.geojson"
    out = json.loads(download.value.path().read_text())["features"]
    assert [feature["geometry"] for feature in out] == [feature["geometry"] for feature in FEATURES]
    assert [feature["properties"]["name"] for feature in out] == ["30", "150", "80"]
    assert out[1]["properties"]["classification"]["name"] == other
    assert [feature["properties"]["metadata"]["classified_by"] for feature in out] == ["run", "reviewer", "run"]


def test_pixels_may_be_taken_for_those_of_the_training(served, page):
    before = len(get(served, "uploads"))
    page.get_by_label("Cut as if a field's pixels were of this size").check()
    page.set_input_files("#files", [FIELD, CELLS])
    expect(page.locator(".job")).to_have_count(before + 1)
    expect(page.locator(".job progress")).to_have_count(0)
    upload = get(served, "uploads")[0]
    cells = get(served, f"cells?upload={upload['id']}")["cells"]
    assert {cell["box"]["width"] for cell in cells} == {90}


def test_geojson_of_several_images_is_refused_before_it_is_sent(served, page):
    before = len(get(served, "uploads"))
    page.set_input_files("#files", [FIELD, FIELD | {"name": "other.png"}, CELLS])
    expect(page.locator("#urgent")).to_contain_text("send each field with its own")
    assert len(get(served, "uploads")) == before


def test_axe_finds_nothing_serious_in_the_form(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    for width in (1360, 390):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        found = axe.run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], width


DROP = """async () => {
  const { filesOf } = await import("/js/files.js");
  const file = (name) => ({ isFile: true, isDirectory: false, name, file: (done) => done(new File(["x"], name)) });
  const folder = (name, ...entries) => ({
    isFile: false, isDirectory: true, name,
    createReader: () => { const parts = [entries, []]; return { readEntries: (done) => done(parts.shift()) }; },
  });
  const inside = folder("more", file("2.png"), file("Thumbs.db"));
  const dropped = [folder("CROPPED", file("1.BMP"), file("1_cyt.dat"), inside), file("3.dat")];
  const items = dropped.map((entry) => ({ webkitGetAsEntry: () => entry }));
  return (await filesOf({ items, files: [] })).map((file) => file.name);
}"""


def test_of_a_dropped_folder_what_is_no_image_is_left(page):
    # What was dropped by itself is sent, and its refusal is told.
    assert page.evaluate(DROP) == ["1.BMP", "2.png", "3.dat"]

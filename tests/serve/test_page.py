"""The page in a browser: the whole path by keyboard, what an untrusted name does, and what axe says of it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cytodistill.serve.app import STATIC
from cytodistill.train.fit import fit

from .conftest import a_cell, encoded

pytest.importorskip("playwright", reason="needs playwright, of the extra dev")
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# These tests tell one story on one service, in order: one worker runs them.
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium"),
    pytest.mark.xdist_group("page"),
]
CLASSES = ("left", "middle", "right")
expect.set_options(timeout=30_000)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def served(listening, judged_run, tmp_path_factory):
    """Address of a service with all tiny cells in it, each class in a folder of its slides, and a field."""
    with listening(tmp_path_factory.mktemp("page"), class_map=str(judged_run / "map.yaml")) as (port, _, _):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def visit(browser):
    """``visit(address, **context)`` opens a page; afterwards nothing may have gone wrong in its console."""
    wrong, contexts = [], []

    def open_page(address, ready="main > section:not([hidden])", **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        page.wait_for_selector(ready)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def archive(files, tmp_path_factory) -> Path:
    """The tiny cells as a zip; a member's folder is its slide, its name starts with the class."""
    path = tmp_path_factory.mktemp("sent") / "cells.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        for file in files:
            zipped.write(file, f"{file.parent.name}/{file.parent.parent.name}-{file.name}")
    return path


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> list[Path]:
    """Image of a field, and a table of four cells in it and one of another field."""
    folder = tmp_path_factory.mktemp("field")
    (folder / "field.png").write_bytes(encoded(a_cell(3, 120, 160)))
    (folder / "cells.csv").write_text("image,x,y\nfield.png,30,30\nfield.png,120,30\nfield.png,30,90\nb.png,1,1\n")
    return [folder / "field.png", folder / "cells.csv"]


def get(address: str, path: str):
    with urllib.request.urlopen(f"{address}/api/v1/{path}") as answer:
        return json.load(answer)


def review(address: str, cell: str, label: str) -> None:
    given = json.dumps({"action": "correct", "label": label, "reviewer": "Dr Ana"}).encode()
    request = urllib.request.Request(
        f"{address}/api/v1/cells/{cell}/reviews", given, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()


def add(page, address, files):
    """Send files by the page's form, and wait until they are worked on."""
    before = len(get(address, "uploads"))
    page.goto(f"{address}/#/uploads")
    page.set_input_files("#files", files)
    expect(page.locator(".job")).to_have_count(before + 1)
    expect(page.locator(".job progress")).to_have_count(0)


def shown(page) -> list[str]:
    return page.locator(".card").evaluate_all("cards => cards.map((card) => card.dataset.id)")


def truth(cell) -> str:
    return cell["name"].split("/")[-1].split("-")[0]


def test_from_an_upload_to_a_training_by_keyboard(served, visit, archive, tiny, tmp_path):
    page = visit(served)
    expect(page.get_by_text("No cells yet.")).to_be_visible()
    add(page, served, archive)
    expect(page.locator("#polite")).to_contain_text("45 cells ready")
    page.goto(f"{served}/#/")
    expect(page.locator(".count").first).to_have_text("45 cells")
    wanted = get(served, "cells?sort=abnormal&descending=true&limit=100")["cells"]
    assert shown(page) == [cell["id"] for cell in wanted]

    page.keyboard.press("Tab")
    page.locator(".card").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    first, second = wanted[1], wanted[2]
    expect(page.locator("#cell h1")).to_be_focused()
    expect(page.locator("#cell .head .count")).to_have_text("2 of 45 cells")
    expect(page.locator(".exit-list li")).to_have_count(len(first["exit_classes"]))
    for map in page.locator("img.map").all():
        expect(map).not_to_have_js_property("naturalWidth", 0)
    said = get(served, f"cells/{first['id']}")["prediction"]
    expect(page.locator(".probabilities tbody tr")).to_have_count(3)
    assert [name for name in CLASSES if name in page.locator(".set").inner_text()] == said["set"]["classes"]

    other = next(name for name in CLASSES if name != first["predicted"])
    page.keyboard.press(str(CLASSES.index(other) + 1))
    page.get_by_label("Your name").fill("Dr Ana")
    page.keyboard.press("Enter")
    expect(page.locator("#cell .head .count")).to_have_text("3 of 45 cells")
    expect(page.locator("#polite")).to_contain_text("Cell 3 of 45")
    (event,) = get(served, f"cells/{first['id']}/reviews")
    assert (event["action"], event["label"], event["reviewer"]) == ("correct", other, "Dr Ana")
    page.keyboard.press("u")
    expect(page.locator("#cell .head .count")).to_have_text("2 of 45 cells")
    expect(page.locator(".standing")).to_have_text("Not reviewed yet.")
    assert [one["action"] for one in get(served, f"cells/{first['id']}/reviews")] == ["correct", "undo"]
    assert get(served, f"cells/{first['id']}")["label"] is None

    for place, cell in enumerate((first, second), start=3):
        page.keyboard.press(str(CLASSES.index(truth(cell)) + 1))
        expect(page.locator("#cell .head .count")).to_have_text(f"{place} of 45 cells")
    page.keyboard.press("Escape")
    expect(page.locator(f"[data-id='{wanted[3]['id']}']")).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("a")
    for cell in wanted[3:5]:
        page.locator(f"[data-id='{cell['id']}']").focus()
        page.keyboard.press(str(CLASSES.index(truth(cell)) + 1))
    expect(page.locator("#tally")).to_contain_text("5 reviewed")
    expect(page.locator(f"[data-id='{wanted[0]['id']}'] .verdict")).to_contain_text("accepted")
    for cell in wanted[5:]:
        review(served, cell["id"], truth(cell))

    page.get_by_role("link", name="Reviews", exact=True).click()
    found = get(served, "agreement")
    expect(page.locator(".tiles dd").first).to_have_text("45")
    expect(page.locator(".tiles dd").nth(1)).to_contain_text(f"{round(100 * found['agreement'])}")
    with page.expect_download() as download:
        page.get_by_text("Reviews as CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert len(rows) == 47
    assert {row["reviewer"] for row in rows} == {"Dr Ana"}
    with page.expect_download() as download:
        page.get_by_text("Cells and labels for training").click()
    with zipfile.ZipFile(download.value.path()) as zipped:
        zipped.extractall(tmp_path / "reviewed")
    run = fit(tmp_path / "reviewed" / "manifest.csv", tmp_path / "run", recipe=tiny.override({"train.epochs": 1}))
    assert run.finished
    labels = dict(run.table().frame[["path", "label"]].values)
    assert {Path(path).stem: label for path, label in labels.items()} == {
        cell["id"]: wanted[0]["predicted"] if cell is wanted[0] else truth(cell) for cell in wanted
    }


def test_a_field_is_marked_and_reviewed_where_it_is(served, visit, field):
    page = visit(served)
    add(page, served, field)
    page.get_by_role("link", name="field.png").click()
    marks = page.locator(".mark")
    expect(marks).to_have_count(3)
    field_id = page.url.split("/")[-1]
    cells = get(served, f"cells?field={field_id}")["cells"]
    assert sorted((cell["box"]["x"], cell["box"]["y"]) for cell in cells) == [(-15, -15), (-15, 45), (75, -15)]
    by_place = {(cell["box"]["x"], cell["box"]["y"]): cell for cell in cells}
    page.locator(f"[data-id='{by_place[-15, -15]['id']}']").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"[data-id='{by_place[75, -15]['id']}']")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    chosen = by_place[-15, 45]
    other = next(name for name in CLASSES if name != chosen["predicted"])
    page.keyboard.press(str(CLASSES.index(other) + 1))
    page.get_by_label("Your name").fill("Ben")
    page.keyboard.press("Enter")
    mark = page.locator(f"[data-id='{chosen['id']}']")
    expect(mark).to_have_text(f"{CLASSES.index(other) + 1}✓")
    expect(mark).to_have_attribute("aria-label", re.compile(f"reviewed as {other}"))
    page.keyboard.press("o")
    expect(page.locator(".standing")).to_have_text(f"Ben said {other}.")
    page.keyboard.press("Escape")
    expect(mark).to_be_focused()
    page.get_by_role("checkbox", name=re.compile(other)).uncheck()
    expect(mark).to_be_hidden()


def test_the_gallery_shows_what_is_asked_for(served, visit):
    page = visit(served, ".card")
    everything = get(served, "cells?limit=100")["cells"]
    page.get_by_role("checkbox", name="left").check()
    wanted = [cell for cell in everything if cell["predicted"] == "left"]
    expect(page.locator(".card")).to_have_count(len(wanted))
    page.get_by_label("to", exact=True).fill("90")
    page.keyboard.press("Tab")
    doubtful = {cell["id"] for cell in wanted if cell["doubt"] >= 0.1}
    expect(page.locator("#gallery .count")).to_have_text(re.compile(f"^{len(doubtful)} cell"))
    assert set(shown(page)) == doubtful
    page.get_by_role("button", name="Show all").click()
    page.locator("select[name=order]").select_option("doubt")
    page.locator("select[name=reviews]").select_option("differs")
    differing = [cell for cell in everything if cell["label"] not in (None, cell["predicted"])]
    in_order = get(served, "cells?sort=doubt&descending=true&agrees=false&limit=100")["cells"]
    assert [cell["doubt"] for cell in in_order] == sorted((cell["doubt"] for cell in differing), reverse=True)
    expect(page.locator(".card")).to_have_count(len(differing))
    # Each is waited for: as many may have been shown before.
    for place, cell in enumerate(in_order):
        expect(page.locator(".card").nth(place)).to_have_attribute("data-id", cell["id"])


def test_an_answer_that_comes_too_late_does_not_replace_a_newer_one(served, visit):
    page = visit(served, ".card")
    held = []
    page.route(
        lambda url: "/cells?" in url and "sort=doubt" in url and "predicted" not in url,
        lambda route: held.append(route),
    )
    page.locator("select[name=order]").select_option("doubt")
    page.get_by_role("checkbox", name="left").check()
    wanted = [cell for cell in get(served, "cells?limit=100")["cells"] if cell["predicted"] == "left"]
    expect(page.locator(".card")).to_have_count(len(wanted))
    assert len(held) == 1
    with page.expect_response(held[0].request.url) as late:
        held[0].continue_()
    late.value.finished()
    page.wait_for_timeout(300)
    assert len(shown(page)) == len(wanted)


# Without what a browser itself changes in a file's name: quotes and slashes.
NAMES = ["<img src=x onerror=document.title=1>.png", "<script>alert(1)<!--.png", "javascript:alert(1){{7*7}}.png"]


def test_names_are_text_and_nothing_else(served, visit, tmp_path):
    page = visit(served)
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
    group = '"><svg onload=alert(2)>'
    page.goto(f"{served}/#/uploads")
    page.get_by_label("Slide or patient, if all are of one").fill(group)
    sent = [{"name": name, "mimeType": "image/png", "buffer": encoded(a_cell(n))} for n, name in enumerate(NAMES)] + [
        {"name": "<b>bad</b>.png", "mimeType": "image/png", "buffer": b"no image"}
    ]
    page.set_input_files("#files", sent)
    expect(page.get_by_text(group)).to_be_visible()
    page.get_by_text("1 image could not be used", exact=True).click()
    expect(page.get_by_text("<b>bad</b>.png: ", exact=False)).to_be_visible()
    for name in NAMES:
        cell = next(cell for cell in get(served, "cells?limit=500")["cells"] if cell["name"] == name)
        page.goto(f"{served}/#/cell/{cell['id']}")
        expect(page.locator("#cell h1")).to_have_text(name)
    assert page.locator("main script, main b:text('bad'), img[src='x'], svg[onload]").count() == 0
    page.goto(f"{served}/#/uploads")
    page.get_by_role("button", name=re.compile("^Delete the upload")).first.click()
    page.get_by_role("button", name="Delete", exact=True).last.click()
    expect(page.locator("#polite")).to_contain_text("Deleted.")
    assert not any(cell["name"] in NAMES for cell in get(served, "cells?limit=500")["cells"])


def test_what_cannot_be_sent_is_said_beforehand(served, visit, field):
    page = visit(f"{served}/#/uploads")
    page.set_input_files("#files", field[1])
    expect(page.locator("#urgent")).to_contain_text("needs its field image")


def test_keys_can_be_listed_and_switched_off(served, visit):
    page = visit(served, ".card")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog.get_by_text("undo the last review")).to_be_visible()
    dialog.get_by_label("Single keys act").uncheck()
    dialog.get_by_role("button", name="Close").click()
    page.keyboard.press("?")
    expect(page.locator("dialog")).to_have_count(0)


def test_a_token_opens_the_page_and_names_the_reviewer(listening, judged_run, browser, tmp_path):
    (tmp_path / "tokens").write_text(f"Dr Eve {'e' * 24}\n")
    with listening(tmp_path / "data", token_file=tmp_path / "tokens") as (port, _, _):
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_label("Token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("dialog .wrong")).to_have_text("token: wrong")
        page.get_by_label("Token").fill("e" * 24)
        page.keyboard.press("Enter")
        expect(page.locator("#reviewer")).to_have_text("Dr Eve")
        expect(page.get_by_text("No cells yet.")).to_be_visible()
        page.close()


def test_axe_finds_nothing_serious_and_nothing_runs_over(served, visit, field):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    cell = get(served, "cells?reviewed=true&limit=1")["cells"][0]["id"]
    field_id = next(upload["fields"][0]["id"] for upload in get(served, "uploads") if upload["fields"])
    page = visit(served)
    ready = {"": ".card", f"cell/{cell}": ".map", f"field/{field_id}": ".mark", "uploads": ".job", "reviews": ".tiles"}
    for place, element in ready.items():
        page.goto(f"{served}/#/{place}")
        page.locator(element).first.wait_for()
        for width, scheme in ((1360, "light"), (1360, "dark"), (390, "light")):
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (place, width)
            # A scheme changes colours alone.
            options = {"resultTypes": ["violations"], "preload": False}
            if scheme == "dark":
                options["runOnly"] = ["color-contrast"]
            found = axe.run(page, options=options).response["violations"]
            grave = {one["id"]: one["nodes"] for one in found if one["impact"] in ("serious", "critical")}
            assert grave == {}, (place, width, scheme)


def test_the_page_is_whole_and_of_this_service_alone():
    scripts = sorted((STATIC / "js").glob("*.js"))
    index = (STATIC / "index.html").read_text()
    assert not re.search(r"<style|style=|<script(?![^>]* src=)|\son\w+=", index)
    for file in re.findall(r'(?:href|src)="([\w/.]+)"', index):
        assert (STATIC / file).is_file(), file
    for file in [*scripts, *(STATIC / "css").glob("*.css"), STATIC / "index.html"]:
        text = file.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            file
        )
        assert len(text.splitlines()) <= 300, file
    for script in scripts:
        for name in re.findall(r'from "\./([\w-]+\.js)"', script.read_text()):
            assert (STATIC / "js" / name).is_file(), (script, name)
    assert np.all([script.read_text().startswith("/**") for script in scripts])

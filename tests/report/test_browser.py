"""The page as Chromium shows it: nothing is asked for, nothing goes wrong, and axe finds no barrier."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from cytodistill.report import write_report

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
VIEWS = [(DESKTOP, "dark"), (PHONE, "light")]


@pytest.fixture(scope="module")
def address(evaluation, tiny_run, tmp_path_factory) -> str:
    return write_report(evaluation, tiny_run, tmp_path_factory.mktemp("report"))[0].as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.parametrize(("size", "scheme"), VIEWS)
def test_the_page_is_quiet_alone_and_without_barriers(browser, address, size, scheme):
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth") == size["width"]  # wide tables scroll by themselves
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = axe.Axe().run(page).response["violations"]
    assert [f"{of['impact']}: {of['id']}" for of in found if of["impact"] in ("serious", "critical")] == []
    context.close()


def test_the_keyboard_reaches_the_summary_tables_and_folded_figures(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#summary"
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.localName + '.' + document.activeElement.className"))
    assert {"summary.", "div.frame"} <= reached
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.evaluate("one => one.open")
    page.close()


def test_paper_has_the_settings_and_no_contents(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert page.locator("#recipe-table-caption").is_visible()
    assert page.get_by_role("rowheader", name="train.batch_size").is_visible()
    page.close()

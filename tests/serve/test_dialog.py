"""A question's answer holds from the moment it is given, however soon the next key comes."""

import shutil

import pytest

from cytodistill.serve.app import STATIC

pytest.importorskip("playwright", reason="needs playwright, of the extra dev")
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
PAGE = """<!doctype html><title>Keys</title><button id="help">Keys</button>
<script type="module">
  import { startKeyboard } from "./js/keyboard.js";
  startKeyboard();
  document.title = "ready";
</script>
"""


@pytest.fixture(scope="module")
def page():
    """The page's keyboard alone, without a service."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.route(
            "http://page/js/*", lambda route: route.fulfill(path=STATIC / "js" / route.request.url.split("/")[-1])
        )
        page.route("http://page/", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.goto("http://page/")
        expect(page).to_have_title("ready")
        yield page
        browser.close()


def test_a_key_right_after_close_finds_the_keys_switched_off(page):
    page.get_by_role("button", name="Keys").focus()
    page.keyboard.press("?")
    page.get_by_label("Single keys act").uncheck()
    # In the browser's own next step, before any event of the dialog: no tester's hand is so quick every time.
    left = page.evaluate(
        """async () => {
            document.querySelector("dialog form").requestSubmit();
            for (let step = 0; step < 20; step++) await null;
            document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "?", bubbles: true }));
            return document.querySelectorAll("dialog").length;
        }"""
    )
    assert left == 0
    expect(page.get_by_role("button", name="Keys")).to_be_focused()


@pytest.mark.parametrize("way", ["Escape", "Close"])
def test_a_question_that_was_left_is_gone(page, way):
    page.get_by_role("button", name="Keys").click()
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.keyboard.press("Escape") if way == "Escape" else dialog.get_by_role("button", name="Close").click()
    expect(page.locator("dialog")).to_have_count(0)

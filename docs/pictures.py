"""The pictures of these pages: a demo's run, its report and its review page, as headless Chromium shows them.

    python docs/pictures.py                  # trains a demo's run of its own: minutes
    python docs/pictures.py runs/demo/run    # takes the one that `make demo` has left: a minute

Only drawn cells are in them: those of real sets must not be passed on. Needs the extra `dev` and Debian's chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from cytodistill.data.sources.synthetic import synthesize
from cytodistill.demo import run_demo
from cytodistill.terminal import Terminal

DOCS = Path(__file__).resolve().parent
sys.path.append(str(DOCS.parent / "benchmarks"))
from serving import Running  # noqa: E402

expect.set_options(timeout=60_000)
PICTURES = DOCS / "pictures"
MOST = 250_000
"""Bytes of a picture."""
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 780}
# What docs/serve.md has its reader do, so that the reader sees what is in the pictures.
CELLS, SEED = 65, 1
FIELD = "im_Koilocytotic/im_Koilocytotic/001.bmp"
MARKS = "x,y\n55,85\n112,93\n173,117\n248,116\n52,150\n293,172\n"
# How many are reviewed in which order: some for the gallery, and some that reviewer and run may differ on.
REVIEWED = {"doubt": 24, "abnormal": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="finished run of a demo; by default one is made")
    run = parser.parse_args().run
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        work = Path(scratch)
        if run is None:
            run = work / "demo" / "run"
            with Terminal() as terminal:
                run_demo(run.parent, terminal)
        if not (run.parent / ".cytodistill-demo").is_file() or not (run / "report" / "report.html").is_file():
            raise SystemExit(f"{run}: not a finished demo's run; no other cells than drawn ones may be shown")
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        of_report(browser, run / "report" / "report.html")
        # One thread, so that the pictures take from nobody what else this machine does.
        served = Running(run, work / "served", "--threads", "1", "--decoders", "1")
        try:
            served.wait("/readyz")
            of_review_page(browser, served, *what_is_sent(work))
        finally:
            served.stop()
        browser.close()


def what_is_sent(work: Path) -> tuple[Path, list[Path]]:
    """A zip of cells that the run has never seen, and a field with the table of its cells."""
    cells = synthesize(work / "new", CELLS, SEED)
    zipped, field, table = work / "cells.zip", work / "field.bmp", work / "cells.csv"
    with zipfile.ZipFile(zipped, "w") as archive:
        for file in sorted(cells.glob("*/*/CROPPED/*.bmp")):
            archive.write(file, file.relative_to(cells))
    shutil.copyfile(cells / FIELD, field)
    table.write_text(MARKS)
    return zipped, [field, table]


def of_report(browser: Browser, report: Path) -> None:
    with opened(browser, report.as_uri()) as page:
        save(page, "report")
        save(page.locator("#early-exit"), "early-exit")


def of_review_page(browser: Browser, served: Running, zipped: Path, field: list[Path]) -> None:
    """All of the page, in the order in which a first visit comes by."""
    with opened(browser, f"{served.address}/#/uploads") as page:
        send(page, zipped, 1)
        send(page, field, 2)
        in_field = page.get_by_role("link", name=field[0].name).get_attribute("href")
        page.goto(f"{served.address}/#/")
        page.locator("#reviewer").click()
        page.get_by_label("Your name").fill("Ana")
        page.keyboard.press("Enter")
        for order, count in REVIEWED.items():
            ordered(page, order)
            review(page, served, count)
        page.locator(".card").first.focus()
        save(page, "gallery")

        ordered(page, "disagreement")
        page.locator(".card:not(.done)").first.click()
        page.locator("img.map[src]").last.wait_for()
        cell = page.url
        save(page, "cell", full_page=True)

        page.goto(f"{served.address}/{in_field}")
        page.locator(".mark").first.focus()
        save(page, "field", full_page=True)
        known = page.context.storage_state()

    with opened(browser, f"{served.address}/#/reviews", color_scheme="dark", storage_state=known) as page:
        page.locator(".tiles").wait_for()
        save(page, "reviews", full_page=True)
    with opened(browser, cell, viewport=PHONE, storage_state=known) as page:
        page.locator("img.map[src]").last.wait_for()
        save(page, "phone")


def send(page: Page, files: Path | list[Path], uploads: int) -> None:
    page.set_input_files("#files", files)
    expect(page.locator(".job.done")).to_have_count(uploads)


def ordered(page: Page, order: str) -> None:
    with page.expect_response(lambda answer: f"/cells?sort={order}" in answer.url) as found:
        page.locator("select[name=order]").select_option(order)
    # What is focused before the new cards are there loses the focus again.
    expect(page.locator(".card").first).to_have_attribute("data-id", found.value.json()["cells"][0]["id"])


def review(page: Page, served: Running, count: int) -> None:
    """By keyboard, as a reader would; the right class is known, since the cells' folders tell it."""
    classes = page.locator("input[name=predicted]").evaluate_all("boxes => boxes.map((box) => box.value)")
    for card in page.locator(".card").all()[:count]:
        name = served.get(f"/api/v1/cells/{card.get_attribute('data-id')}")["name"]
        truth = next((number for number, one in enumerate(classes, 1) if f"im_{one}/" in name), None)
        if truth is None:
            continue
        card.focus()
        page.keyboard.press(str(truth))
        expect(card.locator(".verdict")).not_to_be_empty()


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """A page in a context of its own; where its console complained, its pictures are none to show."""
    faults: list[str] = []
    context = browser.new_context(**({"viewport": WIDE, "color_scheme": "light", "locale": "en-GB"} | options))
    page = context.new_page()
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(address)
    yield page
    context.close()
    if faults:
        raise SystemExit("\n".join([f"{address}:", *faults]))


def save(shown: Page | Locator, name: str, **options: Any) -> None:
    """Once all images in sight are there and no message lies over them."""
    page = shown if isinstance(shown, Page) else shown.page
    expect(page.locator(".toast")).to_have_count(0)
    # A lazy one below the window's end, or in a view that is not shown, is not asked for.
    near = "one.checkVisibility() && (one.loading !== 'lazy' || one.getBoundingClientRect().top < innerHeight)"
    page.evaluate(f"Promise.all([...document.images].filter((one) => {near}).map((one) => one.decode()))")
    picture = Image.open(io.BytesIO(shown.screenshot(animations="disabled", **options))).convert("RGB")
    buffer = io.BytesIO()
    # Of Pillow's ways the one that keeps the classes' colours apart beside the many of a stain.
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    if buffer.tell() > MOST:
        raise SystemExit(f"{name}: {buffer.tell()} bytes, more than {MOST}; show less")
    path = PICTURES / f"{name}.png"
    path.write_bytes(buffer.getvalue())
    print(f"{path.relative_to(DOCS.parent)}  {picture.width} × {picture.height}, {buffer.tell()} bytes")


if __name__ == "__main__":
    main()

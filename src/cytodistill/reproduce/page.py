"""A reproduced table as one HTML file that needs nothing else: for a screen, a phone or paper."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from cytodistill.errors import CytodistillError
from cytodistill.reproduce.picture import captions
from cytodistill.reproduce.sheet import NOTHING, sheet

PNG = b"\x89PNG\r\n\x1a\n"


def page(content: dict[str, Any], pictures: Mapping[str, bytes]) -> str:
    """A table's JSON content as an HTML page with its pictures inside.

    Args:
        content: the table's JSON content.
        pictures: PNG or SVG by the name of the file, as `pictures` writes them; others are shown under their name.

    Raises:
        CytodistillError: no row has been run, or a picture is neither PNG nor SVG.
    """
    said = captions(content)
    shown = [(said.get(name, name), _inline(name, data), _width(data)) for name, data in pictures.items()]
    return _template().render(sheet=sheet(content), pictures=shown, nothing=NOTHING, file=f"{content['table']}.json")


def _inline(name: str, data: bytes) -> str:
    """The picture as an address that holds it. An SVG too is an image so, whose scripts no browser runs."""
    if data.startswith(PNG):
        kind = "image/png"
    elif b"<svg" in data[:1000]:
        kind = "image/svg+xml"
    else:
        raise CytodistillError(f"{name}: is neither PNG nor SVG; save the picture as one of them")
    return f"data:{kind};base64,{b64encode(data).decode()}"


def _width(data: bytes) -> int | None:
    """Width in CSS pixels of a PNG drawn at 150 dots an inch, so that letters are as large as in the text."""
    return int.from_bytes(data[16:20], "big") * 96 // 150 if data.startswith(PNG) else None


@cache
def _template() -> Template:
    # Whatever comes from content is escaped, and a name that the template misspells is an error.
    environment = Environment(
        loader=PackageLoader("cytodistill.reproduce"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("table.html")

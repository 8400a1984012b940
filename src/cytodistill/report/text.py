"""Strings from outside, made fit for a page: names and paths may hold anything."""

from __future__ import annotations

import re
from typing import Any

from markupsafe import Markup, escape

UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
"""Control characters, marks that turn the direction of what follows, halves of surrogate pairs and non-characters: none
of them can be seen, and some may not stand in HTML or UTF-8."""
BREAKS = re.compile(r"([_/])(?=\w)")
MARKS = re.compile(r"([\\`*\[\]#|~$]|(?<!\w)_|_(?!\w))")


def visible(value: Any) -> Any:
    """A string in which what cannot be seen is replaced by U+FFFD; anything else as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return UNSEEN.sub("\ufffd", value)


def breakable(text: str) -> Markup:
    """HTML of a string that may be broken after an underscore or slash, where names and paths have no spaces."""
    return Markup(BREAKS.sub(r"\1<wbr>", str(escape(visible(text)))))


def plain_markdown(value: Any) -> str:
    """Text in which nothing is Markdown or HTML: on one line, its marks escaped, its angle brackets as entities.

    Example:
        >>> plain_markdown("a|b <i>*c*")
        'a\\\\|b &lt;i&gt;\\\\*c\\\\*'
    """
    if isinstance(value, Markup):  # what a template itself is made of
        return str(value)
    text = " ".join(str(visible(value)).split())
    return MARKS.sub(r"\\\1", text.replace("&", "&amp;")).replace("<", "&lt;").replace(">", "&gt;")

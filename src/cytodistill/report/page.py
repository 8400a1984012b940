"""The page of an evaluation: one HTML file that needs nothing else, for a screen, a phone, paper or a screen reader."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

import cytodistill
from cytodistill.report import chart
from cytodistill.report.overview import RESEARCH_ONLY, Overview
from cytodistill.report.section import Section
from cytodistill.report.text import breakable, plain_markdown, visible


def page(head: Overview, sections: Sequence[Section]) -> str:
    """HTML of a report. Every string is escaped."""
    return (
        html_templates()
        .get_template("report.html")
        .render(
            head=head,
            sections=sections,
            research_only=RESEARCH_ONLY,
            version=cytodistill.__version__,
            width=chart.WIDTH,
            height=chart.HEIGHT,
            left=chart.LEFT,
            right=chart.RIGHT,
            bottom=chart.BOTTOM,
        )
    )


@cache
def html_templates() -> Environment:
    """Templates whose every value is escaped as HTML, and where a misspelt name is an error."""
    environment = _environment(autoescape=True, finalize=visible)
    environment.filters["breakable"] = breakable
    return environment


@cache
def markdown_templates() -> Environment:
    """Templates whose every value is escaped as Markdown."""
    return _environment(autoescape=False, finalize=plain_markdown)


def _environment(**options: object) -> Environment:
    return Environment(
        loader=PackageLoader("cytodistill.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,  # type: ignore[arg-type]
    )

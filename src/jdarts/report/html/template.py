"""The frame of a page: one HTML document with styles, scripts and data inside."""

import functools
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

from jdarts.report.html.markup import json_for_page
from jdarts.report.html.vega import script

#: A live page reloads itself after so many seconds.
RELOAD_SECONDS = 15


class Section(NamedTuple):
    """A part of a page with a heading and a link to it.

    Attributes:
      name: its identifier.
      title: its heading.
      html: its content.
    """

    name: str
    title: str
    html: str


def document(
    title: str,
    head: str,
    sections: Sequence[Section],
    *,
    charts: Mapping[str, Any],
    content: Mapping[str, Any],
    live: bool,
) -> str:
    """The whole page.

    Args:
      title: plain text.
      head: HTML above the sections.
      sections: its parts.
      charts: specifications by the identifier of their place; with any, the page has the script that draws them.
      content: further data of the page's script, JSON data.
      live: whether the page reloads itself.
    """
    links = "".join(f'<a href="#{each.name}">{escape(each.title)}</a>' for each in sections)
    body = "".join(f'<section id="{each.name}"><h2>{escape(each.title)}</h2>{each.html}</section>' for each in sections)
    data = json_for_page(
        {"epochs": [], "cells": {}, **content, "charts": charts, "live": RELOAD_SECONDS if live else 0}
    )
    vega = f"<script>{script()}</script>" if charts else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{_file('style.css')}</style></head>\n"
        f"<body><main>{head}<nav>{links}</nav>"
        f'<noscript><p class="problem">Without JavaScript this page shows its texts and the final cells alone.</p></noscript>'
        f"{body}</main>\n"
        f'<script id="content" type="application/json">{data}</script>{vega}<script>{_file("page.js")}</script></body></html>\n'
    )


@functools.cache
def _file(name: str) -> str:
    return files("jdarts.report.html").joinpath(name).read_text("utf-8")

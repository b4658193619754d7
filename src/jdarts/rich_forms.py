"""Rich forms of values for notebooks. What draws them is imported when a notebook asks for it."""

import importlib
from typing import Any


def svg_of(value: Any) -> str:
    """The drawing of a genotype, as SVG."""
    return importlib.import_module("jdarts.report.drawing").cells_svg(value)


def text_html(text: str, genotype: Any = None) -> str:
    """A text, and the drawing of a genotype below it where one is given, as HTML."""
    return importlib.import_module("jdarts.report.notebook").text_html(text, genotype)


def html_of(value: Any) -> str:
    """A table of a search space, as HTML."""
    return importlib.import_module("jdarts.report.notebook").space_html(value)

"""Charts as Vega-Lite specifications, and the JavaScript that draws them."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jdarts.files.atomic import replace_text
from jdarts.files.user_cache import cache_folder, is_private_file, private_folder
from jdarts.report.html.series import Panel, Series

#: The distribution that bundles Vega.
DISTRIBUTION = "vl-convert-python"
_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_HEIGHT = 190
#: A confusion matrix of more classes has no numbers in its cells.
_NUMBERED = 15
#: A line of fewer points has marks, since it may have no length.
_FEW = 3


def can_draw() -> bool:
    """Whether the package that bundles Vega is installed."""
    return importlib.util.find_spec("vl_convert") is not None


@functools.cache
def script() -> str:
    """The JavaScript of Vega, Vega-Lite and vega-embed, to be placed in a page. Bundling takes seconds, so it is kept."""
    import vl_convert

    version = importlib.metadata.version(DISTRIBUTION)
    try:
        kept = private_folder(private_folder(cache_folder()) / "report") / f"vega-{version}.js"
        if kept.exists() and is_private_file(kept):
            return kept.read_text("utf-8")
    except OSError:
        kept = None
    text = for_pages(vl_convert.javascript_bundle(None))  # pyright: ignore[reportArgumentType]
    if kept is not None:
        with contextlib.suppress(OSError):
            replace_text(kept, text)
    return text


def for_pages(text: str) -> str:
    """JavaScript without the texts that would end its element."""
    return re.sub(r"<(/script|!--)", r"\\x3C\1", text, flags=re.IGNORECASE)


def panel_spec(panel: Panel) -> dict[str, Any]:
    """Lines over the epochs, in the width of the page; pale lines are single steps."""
    names = [each.name for each in panel.series]
    scale: dict[str, Any] = {"zero": panel.scale in ("from zero", "count")}
    axis: dict[str, Any] = {"title": None, "tickCount": 5}
    if panel.scale == "log":
        scale = {"type": "log"}
        axis["format"] = ".0e"
    if panel.scale == "percent":
        axis["format"] = ".3~%"
    if panel.scale == "count":
        axis |= {"values": _whole(max((y for each in panel.series for _, y in each.points), default=0)), "format": "d"}
    number = ".2%" if panel.scale == "percent" else ".4g"
    y = {"field": "y", "type": "quantitative", "scale": scale, "axis": axis}
    last = max((x for each in panel.series for x, _ in each.points), default=0)
    x = {
        "field": "x",
        "type": "quantitative",
        "title": "epoch",
        "axis": {"values": _whole(last), "format": "d"},
    }
    legend = {"title": None, "orient": "top"} if len(names) > 1 else None
    color = {"field": "c", "type": "nominal", "scale": {"domain": names}, "legend": legend}
    tooltip = [
        {"field": "c", "type": "nominal", "title": "curve"},
        {"field": "x", "type": "quantitative", "title": "epoch", "format": ".4~g"},
        {"field": "y", "type": "quantitative", "title": "value", "format": number},
    ]
    positive = panel.scale == "log"
    lines = {"x": x, "y": y, "color": color}
    layers: list[dict[str, Any]] = []
    pale = _rows(panel.series, "pale", positive=positive)
    if pale:
        layers.append(
            {"data": {"values": pale}, "mark": {"type": "line", "opacity": 0.28, "strokeWidth": 1}, "encoding": lines}
        )
    few = all(len(each.points) <= 60 for each in panel.series)
    mark = {"type": "line", "strokeWidth": 1.8, "point": {"size": 22} if few else False}
    layers.append(
        {
            "data": {"values": _rows(panel.series, "points", positive=positive)},
            "mark": mark,
            "encoding": {**lines, "tooltip": tooltip},
        }
    )
    return {"$schema": _SCHEMA, "width": "container", "height": _HEIGHT, "layer": layers}


def runs_spec(panel: Panel, groups: Sequence[str]) -> dict[str, Any]:
    """A thin line for each run, and the mean of each group with one standard deviation around it.

    Args:
      panel: a curve for each run.
      groups: the group of each curve.
    """
    spec = panel_spec(panel)
    base = spec["layer"][-1]["encoding"]
    rows = [
        {**row, "g": group}
        for each, group in zip(panel.series, groups)
        for row in _rows([each], "points", positive=panel.scale == "log")
    ]
    names = list(dict.fromkeys(groups))
    legend = {"title": None, "orient": "top", "columns": 1} if len(names) > 1 else None
    color = {"field": "g", "type": "nominal", "scale": {"domain": names}, "legend": legend}
    x, y = base["x"], base["y"]
    tooltip = [
        {"field": "g", "type": "nominal", "title": "group"},
        {**base["tooltip"][0], "title": "run"},
        *base["tooltip"][1:],
    ]
    mean = {**y, "aggregate": "mean"}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "line", "opacity": 0.45, "strokeWidth": 1, "tooltip": True},
            "encoding": {"x": x, "y": y, "color": color, "detail": {"field": "c"}, "tooltip": tooltip},
        }
    ]
    if any(len(each.points) < _FEW for each in panel.series):
        layers[0]["mark"]["point"] = {"size": 26}
    if len(groups) > len(names):
        layers += [
            {
                "mark": {"type": "errorband", "extent": "stdev", "opacity": 0.18},
                "encoding": {"x": x, "y": y, "color": color},
            },
            {"mark": {"type": "line", "strokeWidth": 2.4}, "encoding": {"x": x, "y": mean, "color": color}},
        ]
    return {**spec, "data": {"values": rows}, "layer": layers}


def heat_map_spec(edges: Sequence[str], operations: Sequence[str], domain: tuple[float, float]) -> dict[str, Any]:
    """A table of edges and operations in colours. The page gives it the rows of an epoch, as `{e, o, w, k}`.

    Args:
      edges: names of the rows.
      operations: names of the columns.
      domain: smallest and largest weight over all epochs.
    """
    x = {"field": "o", "type": "nominal", "sort": None, "scale": {"domain": list(operations)}, "title": None}
    x["axis"] = {"labelAngle": -35, "orient": "top", "ticks": False, "domain": False, "labelLimit": 120}
    y = {"field": "e", "type": "nominal", "sort": None, "scale": {"domain": list(edges)}, "title": None}
    y["axis"] = {"ticks": False, "domain": False, "labelLimit": 140}
    color = {
        "field": "w",
        "type": "quantitative",
        "scale": {"domain": list(domain)},
        "legend": {"title": "weight", "orient": "bottom", "format": ".3~f", "gradientLength": 160, "tickCount": 3},
    }
    tooltip = [
        {"field": "e", "type": "nominal", "title": "edge"},
        {"field": "o", "type": "nominal", "title": "operation"},
        {"field": "w", "type": "quantitative", "title": "weight", "format": ".4f"},
        {"field": "k", "type": "nominal", "title": "in the cell"},
    ]
    chosen = {"condition": {"test": "datum.k == 'yes'", "value": 2.2}, "value": 0}
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": len(edges) * (22 if len(edges) <= 20 else 15),
        "data": {"name": "cells", "values": []},
        "mark": {"type": "rect", "cursor": "default", "strokeJoin": "round"},
        "encoding": {"x": x, "y": y, "color": color, "strokeWidth": chosen, "tooltip": tooltip},
    }


def matrix_spec(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """A square of shares between runs, from rows `{a, b, s}`."""
    axis = {"labelLimit": 120, "ticks": False, "domain": False}
    x = {"field": "a", "type": "nominal", "sort": None, "scale": {"domain": list(names)}, "title": None}
    y = {"field": "b", "type": "nominal", "sort": None, "scale": {"domain": list(names)}, "title": None}
    legend = {"title": None, "orient": "bottom", "format": ".0%", "gradientLength": 160}
    color = {"field": "s", "type": "quantitative", "scale": {"domain": [0, 1]}, "legend": legend}
    tooltip = [
        {"field": "a", "type": "nominal", "title": "run"},
        {"field": "b", "type": "nominal", "title": "and run"},
        {"field": "s", "type": "quantitative", "title": "shared", "format": ".0%"},
    ]
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": len(names) * 24,
        "data": {"values": list(rows)},
        "mark": {"type": "rect", "strokeWidth": 0},
        "encoding": {
            "x": {**x, "axis": {**axis, "labelAngle": -35}},
            "y": {**y, "axis": axis},
            "color": color,
            "tooltip": tooltip,
        },
    }


def counts_spec(cells: Sequence[tuple[int, int, int, float]], names: Sequence[str]) -> dict[str, Any]:
    """A confusion matrix.

    Args:
      cells: indices of the class and of the guess, number of images, and its share of the row.
      names: of the classes. Two may look alike, so the axes have their indices.
    """
    scale = {"domain": list(range(len(names)))}
    axis = {"labelExpr": f"{json.dumps(list(names))}[datum.value]", "ticks": False, "domain": False, "labelLimit": 120}
    x = {"field": "g", "type": "ordinal", "scale": scale, "title": "the network says"}
    y = {"field": "l", "type": "ordinal", "scale": scale, "title": None}
    tooltip = [
        {"field": "ln", "type": "nominal", "title": "class"},
        {"field": "gn", "type": "nominal", "title": "taken for"},
        {"field": "n", "type": "quantitative", "title": "images"},
        {"field": "s", "type": "quantitative", "title": "share of the class", "format": ".1%"},
    ]
    color = {"field": "s", "type": "quantitative", "scale": {"domain": [0, 1]}, "legend": None}
    rows = [
        {"l": label, "g": guess, "n": count, "s": _short(share), "ln": names[label], "gn": names[guess]}
        for label, guess, count, share in cells
    ]
    place = {"x": {**x, "axis": {**axis, "labelAngle": -35, "orient": "top"}}, "y": {**y, "axis": axis}}
    layers: list[dict[str, Any]] = [
        {"mark": {"type": "rect", "strokeWidth": 0}, "encoding": {**place, "color": color, "tooltip": tooltip}}
    ]
    if len(names) <= _NUMBERED:
        # The colour of a page's text would vanish on dark cells.
        ink = {"condition": {"test": "datum.s > 0.5", "value": "#ffffff"}, "value": "#555555"}
        layers.append({"mark": {"type": "text"}, "encoding": {**place, "text": {"field": "n"}, "color": ink}})
    return {
        "$schema": _SCHEMA,
        "width": "container",
        "height": max(len(names) * 24, 60),
        "data": {"values": rows},
        "layer": layers,
    }


def _whole(last: float) -> list[int]:
    """At most eleven whole numbers from 0 to about the last, at round distances."""
    distance = next(
        digit * 10**power for power in itertools.count() for digit in (1, 2, 5) if digit * 10**power * 10 >= last
    )
    return list(range(0, math.ceil(last) + 1, distance))


def _rows(series: Sequence[Series], which: str, *, positive: bool) -> list[dict[str, Any]]:
    return [
        {"x": _short(x), "y": _short(y), "c": each.name}
        for each in series
        for x, y in getattr(each, which)
        if y > 0 or not positive
    ]


def _short(value: float) -> float:
    """A number with five digits."""
    return float(f"{value:.5g}")

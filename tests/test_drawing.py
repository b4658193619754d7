"""Drawings: nothing overlaps, lines join what the genotype joins, files are whole and the same each time."""

import errno
import functools
import itertools
import math
import os
import random
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from small_runs import run_in_a_process

from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.operations import OPERATIONS
from jdarts.report import draw_cells, draw_curves, draw_genotype
from jdarts.report.cell_figure import cells_figure
from jdarts.report.curves_figure import STEP_OPACITY, curves_figure

PUBLISHED = {
    "DARTS_V2": parse_genotype(
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),"
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],"
        "normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2),"
        "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2),"
        "('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
    ),
    "NASNet": parse_genotype(
        "Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),"
        "('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0),"
        "('sep_conv_3x3', 1), ('skip_connect', 1)], normal_concat=[2, 3, 4, 5, 6],"
        "reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0),"
        "('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2),"
        "('sep_conv_3x3', 2), ('max_pool_3x3', 1)], reduce_concat=[4, 5, 6])"
    ),
    "AmoebaNet": parse_genotype(
        "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),"
        "('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1),"
        "('skip_connect', 0), ('avg_pool_3x3', 1)], normal_concat=[4, 5, 6],"
        "reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2),"
        "('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1),"
        "('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], reduce_concat=[3, 4, 6])"
    ),
}


def random_genotype(seed, nodes, edges_per_node):
    """Operations and sources at random, also twice the same; a random part of all states is concatenated."""
    chance = random.Random(seed)

    def cell():
        return tuple(
            (chance.choice(tuple(OPERATIONS)), chance.randrange(state))
            for state in range(2, nodes + 2)
            for _ in range(min(edges_per_node, state))
        )

    def concat():
        return tuple(chance.sample(range(nodes + 2), chance.randint(1, nodes + 2)))

    return Genotype(cell(), concat(), cell(), concat(), edges_per_node)


RANDOM = {
    f"{nodes} nodes, {edges} edges each, seed {seed}": random_genotype(seed, nodes, edges)
    for nodes, edges in ((1, 1), (1, 2), (4, 3), (7, 1), (7, 2))
    for seed in (0, 1)
}
UNEQUAL = Genotype(
    normal=(("skip_connect", 0), ("noise", 0), ("sep_conv_3x3", 1), ("skip_connect", 3), ("max_pool_3x3", 3)),
    normal_concat=(3, 4),
    reduce=(("skip_connect", 1), ("noise", 2), ("noise", 0)),
    reduce_concat=(4,),
    edges_per_node=((0, 3, 2), (1, 0, 2)),
)
ALL = PUBLISHED | RANDOM | {"nodes of any number of edges": UNEQUAL}
genotypes = pytest.mark.parametrize("genotype", ALL.values(), ids=ALL)
KINDS = ("normal", "reduce")


@functools.cache
def drawn(genotype, title=None):
    """The figure of a genotype and its named parts, which tests only read."""
    figure = cells_figure(genotype, KINDS, title)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    artists: dict[Any, Any] = {a.get_gid(): a for a in (*figure.axes[0].patches, *figure.axes[0].texts) if a.get_gid()}
    return figure, artists


def boxes_of(artists):
    parts = ("label-", "state-", "output")
    return {
        gid: artist.get_window_extent()
        for gid, artist in artists.items()
        if gid.split("-", 1)[1].startswith(parts) and not gid.endswith("-text")
    }


def line_points(artist):
    path = artist.get_path().transformed(artist.get_transform())
    return np.concatenate(path.to_polygons(closed_only=False))


@genotypes
def test_neither_labels_nor_nodes_overlap_and_all_is_inside_the_picture(genotype):
    figure, artists = drawn(genotype)
    boxes = boxes_of(artists)
    edges = len(genotype.normal) + len(genotype.reduce)
    assert sum("-label-" in gid for gid in boxes) == edges
    for (name, box), (other_name, other) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(other), (name, other_name)
    for gid, box in boxes.items():
        text = artists[f"{gid}-text"].get_window_extent()
        assert box.x0 <= text.x0 and text.x1 <= box.x1 and box.y0 <= text.y0 and text.y1 <= box.y1, gid
        assert figure.bbox.x0 < box.x0 and box.x1 < figure.bbox.x1, gid
        assert figure.bbox.y0 < box.y0 and box.y1 < figure.bbox.y1, gid


@genotypes
def test_no_line_passes_behind_a_label_or_a_node(genotype):
    _, artists = drawn(genotype)
    boxes = boxes_of(artists)
    lines = [gid for gid in artists if "-edge-" in gid or "-concat-" in gid]
    for gid in lines:
        points = line_points(artists[gid])
        for name, box in boxes.items():
            inside = (points > [box.x0 + 1, box.y0 + 1]) & (points < [box.x1 - 1, box.y1 - 1])
            assert not inside.all(axis=1).any() or (gid.endswith("arrow") and name.endswith("output")), (
                gid,
                name,
            )


def touches(point, x, box):
    return math.isclose(point[0], x, abs_tol=1.0) and box.y0 <= point[1] <= box.y1


@genotypes
def test_lines_join_what_the_genotype_joins(genotype):
    _, artists = drawn(genotype)
    boxes = boxes_of(artists)
    for kind in KINDS:
        nodes = genotype.nodes(kind)
        edges = [(*edge, state) for state, node in enumerate(nodes, 2) for edge in node]
        for i, (operation, source, target) in enumerate(edges):
            label = boxes[f"{kind}-label-{i}"]
            points = line_points(artists[f"{kind}-edge-{i}"])
            assert artists[f"{kind}-label-{i}-text"].get_text() == operation
            assert touches(points[0], boxes[f"{kind}-state-{source}"].x1, boxes[f"{kind}-state-{source}"])
            assert touches(points[-1], label.x0, label)
            node = boxes[f"{kind}-state-{target}"]
            assert touches((node.x0, (label.y0 + label.y1) / 2), node.x0, node)
            assert 0 < node.x0 - label.x1 < 50
        output = boxes[f"{kind}-output"]
        concat = getattr(genotype, f"{kind}_concat")
        assert f"{kind}-concat-{len(concat)}" not in artists
        for i, state in enumerate(concat):
            points = line_points(artists[f"{kind}-concat-{i}"])
            assert touches(points[0], boxes[f"{kind}-state-{state}"].x1, boxes[f"{kind}-state-{state}"])
            assert touches(points[-1], output.x0, output)


def test_every_line_runs_from_left_to_right():
    _, artists = drawn(PUBLISHED["AmoebaNet"])
    for gid, artist in artists.items():
        if "-edge-" in gid:
            assert (np.diff(line_points(artist)[:, 0]) >= 0).all(), gid


def test_kinds_of_operations_differ_in_colour():
    _, artists = drawn(PUBLISHED["DARTS_V2"])
    colour = {artists[f"{g}-text"].get_text(): artists[g].get_edgecolor() for g in boxes_of(artists)}
    assert colour["sep_conv_3x3"] == colour["dil_conv_3x3"]
    assert len({colour["sep_conv_3x3"], colour["max_pool_3x3"], colour["skip_connect"]}) == 3


def test_a_long_title_with_dollar_signs_is_shown_as_it_is():
    title = "a run for $5 and then for $7, " * 6
    figure, _ = drawn(random_genotype(0, 1, 1), title)
    shown = figure.axes[0].texts[0]
    assert shown.get_text() == title
    assert shown.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_genotype_gives_the_same_bytes_whatever_the_users_settings(tmp_path, suffix):
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    draw_genotype(PUBLISHED["NASNet"], first, title="NASNet")
    settings: dict[Any, Any] = {
        "font.size": 20.0,
        "svg.fonttype": "none",
        "savefig.dpi": 30.0,
        "svg.hashsalt": "other",
    }
    with matplotlib.rc_context(settings):
        draw_genotype(PUBLISHED["NASNet"], second, title="NASNet")
        assert {key: matplotlib.rcParams[key] for key in settings} == settings
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 1000


def test_the_svg_names_its_parts(tmp_path):
    draw_genotype(PUBLISHED["DARTS_V2"], tmp_path / "cell.svg")
    text = (tmp_path / "cell.svg").read_text(encoding="utf-8")
    assert 'id="normal-label-7"' in text and 'id="reduce-state-2"' in text
    assert "<text" not in text


def test_draw_cells_writes_four_files_and_nothing_else(tmp_path):
    paths = draw_cells(PUBLISHED["DARTS_V2"], tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["normal.svg", "normal.png", "reduce.svg", "reduce.png"]
    assert sorted(paths) == sorted((tmp_path / "new" / "folder").iterdir())
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert 'id="reduce-output"' not in paths[0].read_text(encoding="utf-8")


def test_another_suffix_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(InputError, match=r"'\.jpg'.*\.svg, \.png or \.pdf"):
        draw_genotype(PUBLISHED["NASNet"], tmp_path / "cell.jpg")
    with pytest.raises(InputError, match="suffix is ''"):
        draw_curves([{"step": 1, "loss": 1.0}], tmp_path / "curves")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_old_picture_and_no_pieces(tmp_path, monkeypatch):
    path = tmp_path / "cell.png"
    path.write_bytes(b"old")

    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match=r"cannot write .*cell\.png: No space left on device"):
        draw_genotype(PUBLISHED["NASNet"], path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_a_folder_that_is_a_file_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        draw_cells(PUBLISHED["NASNet"], tmp_path / "file" / "cells")


def test_drawing_never_touches_pyplot():
    code = (
        "import sys, tempfile; from pathlib import Path; from jdarts.report.drawing import draw_curves\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    draw_curves([{'step': 1, 'train/loss': 1.0}], Path(folder, 'curves.svg'))\n"
        "assert 'matplotlib.figure' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    assert run_in_a_process("-c", code) == (0, "", "")


def panels_of(records):
    return {axes.get_title(loc="left"): axes for axes in curves_figure(records).axes if axes.lines}


def test_curves_have_a_panel_per_quantity_and_gaps_for_what_is_not_finite(tmp_path):
    records = [
        {"step": 1, "time": 5.0, "train/loss": 2.0, "valid/loss": 2.5, "learning_rate": 0.025},
        {"step": 2, "time": 6.0, "train/loss": math.inf, "train/accuracy": 0.5},
        {"step": 3, "time": 7.0, "train/loss": 1.0, "alphas/entropy": 2.0},
    ]
    panels = panels_of(records)
    assert list(panels) == ["loss", "train accuracy", "alphas entropy", "learning rate"]
    train, valid = panels["loss"].lines
    assert (train.get_label(), valid.get_label()) == ("train", "valid")
    np.testing.assert_array_equal(train.get_xydata(), [[1, 2.0], [2, math.nan], [3, 1.0]])
    draw_curves(records, tmp_path / "curves.svg")
    first = (tmp_path / "curves.svg").read_bytes()
    draw_curves(records, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_bytes() == first


def test_six_panels_that_a_person_wants():
    """Of all that a search records; means of epochs lie over their steps, and the entropy is seen from 0."""
    step = {
        "alphas/entropy": 2.0,
        "alphas/entropy_normal": 2.05,
        "alphas/entropy_reduce": 1.95,
        "hypergradient/finite": 1.0,
        "hypergradient/optimizer_slope_finite": 1.0,
        "hypergradient/difference_step": 0.01,
        "hypergradient/norm": 0.3,
        "hypergradient/direct_norm": 0.2,
        "learning_rate": 0.025,
        "train/loss": 2.0,
        "valid/loss": 2.5,
        "train/accuracy": 0.5,
        "weights/gradient_norm": 4.0,
    }
    epoch = {
        "epoch/train_loss": 1.5,
        "epoch/evaluation_loss": 2.2,
        "epoch/evaluation_accuracy": 0.4,
        "epoch/number": 1.0,
    }
    panels = panels_of([{"step": 1, **step}, {"step": 2, **step}, {"step": 2, **epoch}])
    assert list(panels) == [
        "loss",
        "accuracy",
        "alphas entropy",
        "hypergradient norm",
        "weights gradient norm",
        "learning rate",
    ]

    def labels(title):
        return [line.get_label() for line in panels[title].lines]

    assert labels("loss") == ["_behind the means", "train", "valid", "evaluation"]
    assert [line.get_alpha() for line in panels["loss"].lines] == [STEP_OPACITY, 1, 1, 1]
    assert labels("alphas entropy") == ["normal", "reduce"]
    assert panels["alphas entropy"].get_ylim()[0] == 0
    assert labels("hypergradient norm") == ["sum", "direct"]


@pytest.mark.parametrize("records", [[], [{"step": 1, "time": 2.0}]])
def test_records_without_numbers_are_an_input_error(records, tmp_path):
    with pytest.raises(InputError, match="no numbers"):
        draw_curves(records, tmp_path / "curves.png")
    assert list(tmp_path.iterdir()) == []

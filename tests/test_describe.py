"""python -m jdarts.describe: counts against the published ones and against a count by hand; the command itself."""

import json
import random

import command_line
import plain_counts
import pytest

from jdarts import zoo
from jdarts.describe import describe
from jdarts.describe.command import main
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.operations import OPERATIONS
from jdarts.space import uniform_space

#: Weights without head, with head, multiply-adds: reference/darts.md, section 2.3.
PUBLISHED = {
    ("NASNet", "cifar"): (3_830_950, 4_288_944, 603_452_448),
    ("AmoebaNet", "imagenet"): (4_627_360, 5_863_560, 526_746_624),
    ("DARTS_V1", "imagenet"): (4_510_432, 5_771_208, 505_864_704),
    ("DARTS_V2", "cifar"): (3_349_342, 3_825_768, 528_359_040),
}
#: The same table, for the count by hand.
BY_HAND = PUBLISHED | {
    ("NASNet", "imagenet"): (5_564_320, 6_800_520, 604_031_616),
    ("AmoebaNet", "cifar"): (3_145_078, 3_603_072, 488_931_552),
    ("DARTS_V1", "cifar"): (3_169_414, 3_645_840, 500_987_520),
    ("DARTS_V2", "imagenet"): (4_718_752, 5_979_528, 529_911_552),
    ("PDARTS", "cifar"): (3_433_798, 3_910_224, 532_174_464),
    ("PDARTS", "imagenet"): (4_944_352, 6_205_128, 542_819_328),
    ("PC_DARTS_cifar", "cifar"): (3_634_678, 4_111_104, 556_670_592),
    ("PC_DARTS_cifar", "imagenet"): (5_270_560, 6_531_336, 571_137_408),
    ("PC_DARTS_image", "cifar"): (3_721_510, 4_197_936, 570_466_944),
    ("PC_DARTS_image", "imagenet"): (5_342_464, 6_603_240, 581_627_328),
    ("GDAS_V1", "cifar"): (3_368_782, 3_845_208, 519_428_736),
    ("GDAS_V1", "imagenet"): (4_969_216, 6_229_992, 537_597_888),
}
SIZES = {"cifar": (36, 20, 10, 32), "imagenet": (48, 14, 1000, 224)}


def counts(description):
    found = description.to_json()
    return found["params"], found["params_auxiliary"], found["multiply_adds"]


@pytest.mark.parametrize(("name", "network"), BY_HAND)
def test_the_count_by_hand_gives_the_published_numbers(name, network):
    weights, head, multiply_adds = plain_counts.network(zoo.CELLS[name], network, *SIZES[network])
    assert (weights, weights + head, multiply_adds) == BY_HAND[name, network]


@pytest.mark.parametrize(("name", "network"), PUBLISHED)
def test_published_numbers(name, network):
    assert counts(describe(zoo.CELLS[name], network)) == PUBLISHED[name, network]


def random_cell(draw, nodes, edges_per_node):
    edges = []
    for state in range(2, nodes + 2):
        for _ in range(min(edges_per_node, state)):
            edges.append((draw.choice(tuple(OPERATIONS)), draw.randrange(state)))
    return tuple(edges)


@pytest.mark.parametrize("seed", range(6))
def test_any_genotype_counts_as_by_hand(seed):
    draw = random.Random(seed)
    edges_per_node, nodes = draw.choice((1, 2, 3)), (draw.randint(1, 6), draw.randint(1, 6))
    concats = [tuple(draw.sample(range(2, n + 2), draw.randint(1, n))) for n in nodes]
    genotype = Genotype(
        random_cell(draw, nodes[0], edges_per_node),
        (0, *concats[0]),
        random_cell(draw, nodes[1], edges_per_node),
        concats[1],
        edges_per_node,
    )
    network, cells = draw.choice(("cifar", "imagenet")), draw.randint(1, 6)
    channels, classes, image_channels = draw.choice((2, 6)), draw.randint(1, 9), draw.choice((1, 3))
    size = 64 * (2 if network == "imagenet" else 1)
    weights, head, multiply_adds = plain_counts.network(
        genotype, network, channels, cells, classes, size, image_channels
    )
    found = describe(
        genotype,
        network,
        channels=channels,
        cells=cells,
        classes=classes,
        image_size=size,
        image_channels=image_channels,
    )
    with_head = weights + head if found.has_auxiliary else None
    assert counts(found) == (weights, with_head, multiply_adds)


def test_nodes_of_any_number_of_edges():
    genotype = Genotype(
        (("sep_conv_3x3", 0), ("skip_connect", 0), ("noise", 1), ("dil_conv_5x5", 3)), (3, 4),
        (("skip_connect", 1), ("max_pool_3x3", 2)), (2, 4), edges_per_node=((0, 3, 1), (1, 0, 1)),
    )  # fmt: skip
    found = describe(genotype, channels=2, cells=3, classes=3, image_size=32)
    weights, head, multiply_adds = plain_counts.network(genotype, "cifar", 2, 3, 3, 32)
    assert counts(found) == (weights, weights + head, multiply_adds)
    text = found.to_text()
    assert "  node 0 has no inputs\n  node 1 = sep_conv_3x3(c_{k-2}) + skip_connect(c_{k-2}) + noise(c_{k-1})\n" in text
    assert "  c_k = concat(node 1, node 2)\n" in text and "  node 2 = max_pool_3x3(node 0)\n" in text


def test_the_search_network():
    paper = describe(zoo.DARTS_V2, "search").to_json()
    assert (paper["params"], paper["params_auxiliary"], paper["multiply_adds"]) == (1_930_618, None, 300_255_744)
    one = Genotype((("skip_connect", 0), ("skip_connect", 1)), (2,), (("noise", 0), ("noise", 1)), (2,))
    small = {"channels": 2, "cells": 1, "classes": 3, "image_size": 8}
    # Stem 3→6, both preprocessings 6→4, factorised reductions 4→4 on two edges, classifier 4→3.
    found = describe(one, "search", space=uniform_space(("none", "skip_connect", "max_pool_3x3"), nodes=1), **small)
    assert counts(found) == (162 + 12 + 2 * 24 + 2 * 16 + 15, None, 162 * 64 + 2 * 24 * 64 + 2 * 16 * 16 + 12)
    cells = Genotype(one.normal, (2,), (*one.reduce, *one.reduce), (2, 3))
    halved = describe(zoo.DARTS_V2, "search-imagenet").to_json()
    assert (halved["params"], halved["classes"], halved["image_shape"]) == (2_185_872, 1000, [224, 224, 3])
    # Three convolutions of 3 × 3 to 8, 16 and 16 channels, each with scale and bias.
    stem = [halved["parts"][name]["params"] for name in ("stem0", "stem1", "stem2")]
    assert stem == [27 * 8 + 16, 72 * 16 + 32, 144 * 16 + 32]
    with pytest.raises(InputError, match="1 and 2 nodes; no search network has both"):
        describe(cells, "search")


command = command_line.fixture(main, "describe")


SMALL = ("--channels", 4, "--cells", 3)


def test_the_command(command, tmp_path):
    code, out, err = command("DARTS_V2", *SMALL, "--draw", tmp_path / "cells.svg")
    assert (code, err) == (0, "")
    weights, head, multiply_adds = plain_counts.network(zoo.DARTS_V2, "cifar", 4, 3, 10, 32)
    assert "node 3 = skip_connect(c_{k-2}) + dil_conv_3x3(node 0)" in out
    assert f"{weights:,} ({weights + head:,} with the auxiliary head)" in out
    assert f"multiply-adds  {multiply_adds:,}" in out
    assert (tmp_path / "cells.svg").stat().st_size
    for form in (str(zoo.DARTS_V2), zoo.DARTS_V2.to_json(), tmp_path / "genotype.txt"):
        (tmp_path / "genotype.txt").write_text(f"{zoo.DARTS_V2}\n")
        code, out, err = command(form, *SMALL, "--json")
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert (found["params"], found["params_auxiliary"]) == (weights, weights + head)
        assert found["multiply_adds"] == multiply_adds == sum(p["multiply_adds"] for p in found["parts"].values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DARTS_V3"], "error: no genotype 'DARTS_V3'; did you mean DARTS_V"),
        ([str(zoo.DARTS_V2).replace("sep_conv_3x3", "sep_conv_4x4", 1)], "unknown operation 'sep_conv_4x4' in normal; known are"),
        ([str(zoo.DARTS_V2).replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)")], "its source must be a state from 0 to 4"),
        (["DARTS_V2", "--image-size", "30"], "images of 30×30 are 15×15 at the reduction in cell 13 of 20"),
        (["DARTS_V2", "--cells", "0"], "error: --cells is 0; give 1 or more"),
        (["DARTS_V2", "--network", "imagenet", "--channels", "5"], "channels is 5; the ImageNet network halves it"),
        (["."], "holds no complete checkpoint"),
        (["DARTS_V2", "--draw", "cells.bmp"], "give .svg, .png or .pdf"),
    ],
)  # fmt: skip
def test_wrong_input(command, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


def test_a_file_that_is_no_genotype_is_named(command, tmp_path):
    path = tmp_path / "cells.json"
    path.write_bytes(b"\xff\x00")
    code, _, err = command(path)
    assert code == 2 and str(path) in err and err.count("\n") == 1
    path.write_text('{"normal": []}')
    code, _, err = command(path)
    assert code == 2 and f"{path}: genotype: normal_concat, reduce, reduce_concat missing" in err

"""python -m jdarts.derive with bounds: the cells, what is said of them, and what is refused."""

import dataclasses
import re

import command_line
import numpy as np
import pytest

from jdarts import checkpoint
from jdarts.budget import Limit
from jdarts.budget.budget import Budget, budget
from jdarts.budget.counting import counted_costs, target
from jdarts.derivation import derive_genotype, genotype_of
from jdarts.derive import main
from jdarts.describe import describe
from jdarts.errors import InputError
from jdarts.genotype import parse_genotype
from jdarts.operations import NONE
from jdarts.space import CELL_KINDS, recurrent_space, uniform_space

SPACE = uniform_space((NONE, "skip_connect", "sep_conv_3x3", "dil_conv_5x5"), nodes=2)
ALPHAS = {kind: np.tile([0.0, 0.1, 0.5, 0.3], (SPACE.num_edges, 1)) for kind in CELL_KINDS}
SIZE = ("--channels", 4, "--cells", 3, "--classes", 5, "--image-size", 8)
SETTINGS: dict = {"channels": 4, "cells": 3, "classes": 5, "image_size": 8}


derive = command_line.fixture(main, "derive")


def record_of(**fields):
    alphas = {kind: table.tolist() for kind, table in ALPHAS.items()}
    return {"space": dataclasses.asdict(SPACE), "alphas": alphas, "edges_per_node": 2, **fields}


def saved(folder, record):
    checkpoint.save(folder / checkpoint.FOLDER, 1, {"none": np.zeros(1)}, record)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("run"), record_of())


def bounded_budget(most):
    network = target(SPACE, **SETTINGS)
    return Budget(network, (Limit(counted_costs(SPACE, network)["weights"], most),))


def size_of(genotype):
    found = describe(genotype, "cifar", **SETTINGS).to_json()
    return found["params"], found["multiply_adds"]


def test_the_cells_keep_the_bounds_and_the_command_says_so(run, derive):
    code, out, err = derive(run, "--max-weights", "3.1k", "--max-multiply-adds", "60k", *SIZE)
    cells = parse_genotype(out)
    free, has = derive_genotype(ALPHAS, SPACE), size_of(cells)
    weights, multiply_adds = err.splitlines()
    assert code == 0 and has[0] <= 3100 and has[1] <= 60_000 < size_of(free)[1]
    assert weights == (
        f"{has[0]:,} weights, within the bound of 3,100 weights; without bounds {size_of(free)[0]:,} weights (cifar network: "
        "4 channels, 3 cells, 5 classes, images 8×8×3)"
    )
    assert multiply_adds.startswith(f"{has[1]:,} multiply-adds, within the bound of 60,000 multiply-adds; without")
    code, out, _ = derive(run, "--max-weights", "1G", *SIZE)
    assert (code, parse_genotype(out)) == (0, free)


def test_the_bounds_of_a_search_hold_unless_others_are_given(derive, tmp_path):
    record = record_of(budget=bounded_budget(3100).to_json())
    run, free = saved(tmp_path, record), derive_genotype(ALPHAS, SPACE)
    code, out, err = derive(run)
    kept = parse_genotype(out)
    assert code == 0 and "within the bound of 3,100 weights" in err
    assert genotype_of(record) == kept != free == genotype_of(record, limits=())
    code, out, err = derive(run, "--max-weights", "none")
    assert (code, parse_genotype(out), err) == (0, free, "")
    _, out, err = derive(run, "--max-weights", "4k")
    assert size_of(kept)[0] < size_of(parse_genotype(out))[0] <= 4000 and "4 channels, 3 cells, 5 classes" in err
    _, out, err = derive(run, "--channels", 2)
    assert "2 channels, 3 cells, 5 classes" in err
    assert "above" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--max-weights", "much"), "--max-weights: 'much' is no amount; give a whole number such as 400000, 400k, 0.4M"),
        (("--max-multiply-adds", "-1"), "--max-multiply-adds: '-1' is no amount; give a whole number"),
        (("--max-latency-ms", "0"), "--max-latency-ms is '0'; give milliseconds above 0, such as 2.5"),
        (("--max-weights", "9"), "the bound is 9 weights, and the smallest network of such cells has 2,"),
        (("--channels", "4"), "--channels is 4 without a bound that would read it; give --max-weights, such as 0.4M"),
        (("--max-weights", "9k", "--channels", "0"), "--channels is 0; give 1 or more"),
        (("--max-weights", "9k", "--image-size", "9"), "images of 9×9 are 9×9 at the reduction in cell 1 of 3"),
        (("--max-weights", "9k", "--select", "pairs"), "--select pairs does not keep bounds on the network; give argmax, or"),
    ],
)  # fmt: skip
def test_what_is_refused(options, message, run, derive):
    given = dict(zip(SIZE[::2], SIZE[1::2])) | dict(zip(options[::2], options[1::2]))
    if options[0] == "--channels":
        given = dict([options])
    code, out, err = derive(run, *(word for pair in given.items() for word in pair))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}"), err


def test_a_genotype_has_its_size(derive):
    code, _, err = derive("DARTS_V2", "--max-weights", "1M")
    assert (code, err) == (
        2,
        "error: --max-weights is for checkpoints of searches; a genotype has its edges, leave it out\n",
    )


def test_a_recurrent_cell_has_its_size(derive, tmp_path):
    space = recurrent_space(nodes=2)
    record = {"space": dataclasses.asdict(space), "alphas": np.zeros((3, 5)).tolist()}
    code, _, err = derive(saved(tmp_path, record), "--max-weights", "1M")
    assert code == 2
    assert err.startswith(
        "error: --max-weights is 1M, and the size of a recurrent cell's network does not depend on what is"
    )
    with pytest.raises(
        InputError, match="all activations of a recurrent cell have the same weights; leave the bounds out"
    ):
        genotype_of(record, limits=bounded_budget(1).limits)


@pytest.mark.parametrize("damage", ["budget", "network", "limits", "measure", "most", "tables"])
def test_a_damaged_budget(damage, derive, tmp_path):
    content = bounded_budget(3100).to_json()
    if damage == "budget":
        content = [content]
    elif damage in ("network", "limits"):
        del content[damage]
    else:
        content["limits"][0][damage] = {"normal": [[1]], "reduce": [[1]]} if damage == "tables" else "x"
    code, _, err = derive(saved(tmp_path, record_of(budget=content)))
    assert code == 2
    assert re.match(
        r"error: the budget of the search (is damaged|does not belong to its space): .*; use another checkpoint", err
    )


def test_a_budget_of_a_measure_alone_counts_what_it_needs(monkeypatch):
    monkeypatch.setattr("jdarts.budget.budget.latency_cost", lambda space, network: "measured")
    found = budget(SPACE, target(SPACE, **SETTINGS), {"latency": 5})
    assert found.limits == (Limit("measured", 5),)  # pyright: ignore[reportArgumentType]

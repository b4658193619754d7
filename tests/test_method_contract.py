"""What holds for a search by any method that has alphas: it runs, resumes with the same bits, and is the same beside other seeds.

Every preset has a network that compiles in no time. Those in stages are in `test_stages`.
"""

import json
import re
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import pytest
import small_runs
from centred import Centred
from left_by_death import keep_at, left
from small_runs import user_settings, with_stand_ins
from small_search import SETTINGS, SupernetAttributes, run
from test_search_devices import assert_close
from test_search_seeds import run_seeds

import jdarts.search.building
from jdarts.derive import main as derive
from jdarts.errors import InputError
from jdarts.methods.presets import PRESETS
from jdarts.operations import NONE
from jdarts.search import SearchConfig
from jdarts.space import CELL_KINDS

__all__ = ["quick", "user_settings"]


class QuickNetwork(SupernetAttributes):
    """Stands in for the supernet: weights, alphas and running statistics, which no derivative passes through."""

    @nn.compact
    def __call__(self, images, weights, *, train, controls=None):
        flat = Centred(train)(images)
        columns = jnp.arange(self.space.width("normal"), dtype=flat.dtype)
        mixed = sum(jnp.sum(weights.operations[kind] @ columns) for kind in CELL_KINDS)
        kernel = self.param("kernel", nn.initializers.lecun_uniform(), (flat.shape[1], self.classes))
        return flat * mixed @ kernel


def quicken(replace):
    replace(jdarts.search.building, "Supernet", QuickNetwork)
    small_runs.leave_undrawn(replace)


quick = with_stand_ins(quicken)


def _is_one_search_with_alphas(name):
    config = SearchConfig(method=name)
    return config.search_method().mixture.has_alphas and not config.staging.is_whole


WITH_ALPHAS = [name for name in PRESETS if _is_one_search_with_alphas(name)]
WITHOUT_NONE = {"operations": tuple(name for name in SETTINGS["operations"] if name != NONE)}
#: Values of presets that two epochs of the smallest search have no room for.
SMALLER: dict[str, dict[str, Any]] = {
    "pc_darts": {"alphas_from": 1, "partial_channels": 2},
    "p_darts": {
        "epochs": 4,
        "alphas_from": 1,
        "cells": 4,
        "earlier_cells": (3,),
        "dropped_operations": (1,),
        "earlier_skip_dropout": (0.1,),
    },
    "drnas": {
        **WITHOUT_NONE,
        "epochs": 4,
        "alphas_from": 1,
        "partial_channels": 1,
        "earlier_partial_channels": (2,),
        "kept_operations": (2,),
    },
    # Random mixtures too have steps of the weights alone.
    "gdas": {"alphas_from": 1},
    "snas": {"temperature_epochs": 2},
    "lambda_darts": {"cells": 4},
    "darts_plus": {"stop": "skip_connections:limit=100"},
    "darts_pt": {"decision_epochs": 1},
}


def of_preset(name):
    """The changes that make the smallest search one by a method."""
    without_none = WITHOUT_NONE if NONE not in SearchConfig(method=name).operations else {}
    # Augmentation is part of no method, and a third of what there is to compile.
    return {"method": name, "padding": 0, **without_none, **SMALLER.get(name, {})}


@pytest.fixture(scope="module")
def searched(quick, tmp_path_factory):
    """The folder of a search by a method that nothing disturbs; each runs once.

    Beside it is what a death before its second checkpoint leaves.
    """
    found: dict[str, Any] = {}

    def folder_of(name):
        if name not in found:
            found[name] = tmp_path_factory.mktemp(name) / "run"
            with pytest.MonkeyPatch.context() as patch:
                keep_at(patch, small_runs.checkpoint, "save", 2, found[name])
                run(found[name], **of_preset(name))
        return found[name]

    return folder_of


@pytest.mark.parametrize("name", WITH_ALPHAS)
def test_a_search_that_dies_after_its_first_epoch_ends_with_the_same_bits(name, searched):
    reference = searched(name)
    folder = left(reference)
    assert small_runs.newest(folder).record["epochs_ended"] == 1
    _, shown = run(folder, **of_preset(name))
    assert "resuming" in shown
    small_runs.assert_same_bits(folder, reference, ["genotype.json"])


#: Presets whose steps draw, keep or mask something for each search.
DRAWING = ("pc_darts", "sdarts_rs", "gdas", "snas", "oles", "lambda_darts", "idarts")


@pytest.mark.parametrize("name", DRAWING)
def test_a_seed_beside_another_finds_what_it_finds_alone(name, searched, tmp_path):
    run_seeds(tmp_path, "0-1", **of_preset(name))
    assert_close(tmp_path / "seed0", searched(name))


@pytest.mark.parametrize("name", ["p_darts", "drnas", "darts_plus", "darts_es", "darts_ada"])
def test_searches_that_end_or_continue_by_what_they_find_are_refused_beside_others(name, tmp_path):
    with pytest.raises(InputError, match="seeds"):
        run_seeds(tmp_path / "runs", "0-1", **of_preset(name))
    assert not (tmp_path / "runs").exists()


def test_a_search_whose_rule_leaves_no_cells_has_those_of_argmax_and_says_so(searched, monkeypatch, capsys):
    """The weights of FairDARTS begin at 0.5, and its rule keeps those from 0.85 on."""
    folder = searched("fair_darts")
    why = "the cells are those of --select argmax; by --select threshold the normal cell has no edge to its output"
    text = json.loads((folder / "summary.json").read_text())["verdict"]["text"]
    assert text[-1].startswith(why)
    epochs = [record for record in small_runs.records(folder) if "epoch/evaluation_loss" in record]
    assert [record["epoch/guards_by_argmax"] for record in epochs] == [1, 1]
    monkeypatch.setattr("sys.argv", ["derive", str(folder)])
    derive()
    shown = capsys.readouterr()
    assert shown.out == (folder / "genotype.txt").read_text()
    assert shown.err.startswith(f"warning: {why}")
    monkeypatch.setattr("sys.argv", ["derive", str(folder), "--select", "threshold"])
    with pytest.raises(InputError, match=re.escape("to its output: no weight reaches 0.85;")):
        derive()

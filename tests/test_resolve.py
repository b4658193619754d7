"""Genotypes by name, as text, in files, in the folders of runs."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jdarts import checkpoint, darts_space, zoo
from jdarts.derivation import derive_genotype
from jdarts.errors import InputError
from jdarts.genotype import RecurrentGenotype
from jdarts.resolve import find_any_genotype, find_genotype, search_record

ALPHAS = {kind: np.random.default_rng(n).normal(size=(14, 8)).tolist() for n, kind in enumerate(("normal", "reduce"))}


@pytest.fixture
def search(tmp_path):
    """A search that has ended no more than an epoch."""
    edges = [list(edge) for edge in darts_space().normal]
    space = {"normal": edges, "reduce": edges, "concat": [2, 3, 4, 5]}
    record = {"space": space, "alphas": ALPHAS, "edges_per_node": 2}
    checkpoint.save(tmp_path / "search/checkpoints", 7, {"a": jnp.ones(2)}, record)
    return tmp_path / "search"


def test_names_and_text():
    assert find_genotype("DARTS") is zoo.DARTS_V2
    assert find_genotype(f" {zoo.NASNet}\n") == find_genotype(zoo.NASNet.to_json()) == zoo.NASNet


def test_either_kind():
    assert find_any_genotype("ENAS") is find_genotype("ENAS", RecurrentGenotype) is zoo.ENAS
    assert find_any_genotype("DARTS_V1") is zoo.DARTS_V1
    assert find_genotype("DARTS_V1", RecurrentGenotype) is zoo.DARTS_V1_RECURRENT
    for genotype in (zoo.NASNet, zoo.ENAS):
        assert find_any_genotype(str(genotype)) == find_any_genotype(genotype.to_json()) == genotype
    with pytest.raises(InputError, match="a recurrent cell is given; a convolutional cell is needed here"):
        find_genotype(str(zoo.ENAS))


def test_files(tmp_path):
    path = tmp_path / "cells"
    for text in (str(zoo.NASNet), zoo.NASNet.to_json()):
        path.write_text(f"{text}\n")
        assert find_genotype(str(path)) == zoo.NASNet
    path.write_text("Genotype(normal=[])")
    with pytest.raises(InputError, match=f"{path}: genotype: normal_concat, reduce, reduce_concat missing"):
        find_genotype(str(path))


def test_a_running_search_and_a_finished_one(search):
    found = derive_genotype(ALPHAS, darts_space())
    assert find_genotype(str(search)) == find_genotype(str(search / "checkpoints/step_00000007")) == found
    record = search_record(str(search))
    assert record and record["alphas"] == ALPHAS
    (search / "genotype.json").write_text(zoo.NASNet.to_json())
    assert find_genotype(str(search)) == zoo.NASNet


def test_a_running_training(tmp_path):

    record = {"genotype": json.loads(zoo.NASNet.to_json()), "network": {}}
    checkpoint.save(tmp_path / "run/checkpoints", 7, {"a": jnp.ones(2)}, record)
    assert find_genotype(str(tmp_path / "run")) == zoo.NASNet
    assert search_record(str(tmp_path / "run")) is None


@pytest.mark.parametrize("text", ["DARTS", f"{zoo.NASNet}", "nowhere"])
def test_what_is_no_search(text):
    assert search_record(text) is None


def test_nothing_of_the_kind(tmp_path):
    with pytest.raises(
        InputError, match=r"no genotype 'PCDARTZ'; did you mean PCDARTS\? Give a published cell \(NASNet, "
    ):
        find_genotype("PCDARTZ")
    with pytest.raises(InputError, match="holds no complete checkpoint"):
        find_genotype(str(tmp_path))

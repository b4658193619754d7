"""What a checkpoint's record says wrong is an error for people, wherever it is read."""

import hashlib
import json

import command_line
import jax.numpy as jnp
import numpy as np
import pytest
from mutations import bounded, damaged_json

from jdarts import checkpoint, darts_space, zoo
from jdarts.derive import main as derive_main
from jdarts.describe.command import main as describe_main
from jdarts.errors import InputError
from jdarts.genotype import Genotype, RecurrentGenotype
from jdarts.resolve import find_any_genotype, language_sizes, search_record
from jdarts.space import recurrent_space
from jdarts.trained.loading import load_network

derive = command_line.fixture(derive_main, "derive")
describe = command_line.fixture(describe_main, "describe")

DRAW = np.random.default_rng(0)
SPACE = {kind: [list(edge) for edge in darts_space().normal] for kind in ("normal", "reduce")}
RECORDS = {
    "a search": {
        "space": SPACE | {"concat": [2, 3, 4, 5]},
        "alphas": {kind: DRAW.normal(size=(14, 8)).tolist() for kind in SPACE},
        "edges_per_node": 2,
    },
    "a search on text": {
        "space": {"recurrent": [list(edge) for edge in recurrent_space(nodes=2).recurrent], "concat": [1, 2]},
        "alphas": DRAW.normal(size=(3, 5)).tolist(),
        "network": {"vocabulary": 100, "width": 8},
    },
    "a training": {
        "genotype": json.loads(zoo.DARTS_V1.to_json()),
        "network": {"stem": "cifar", "channels": 2, "cells": 1, "auxiliary": False},
        "images": {"shape": [8, 8, 3], "mean": [0.5] * 3, "std": [0.5] * 3, "class_names": ["cat", "dog"]},
    },
}


@pytest.fixture
def sealed(tmp_path):
    """Writes a record into a checkpoint and seals it as if it was written so."""
    path = checkpoint.save(tmp_path / "run/checkpoints", 1, {"weights": {"a": jnp.ones(2)}}, {})
    whole = (path / checkpoint.CHECKSUMS).read_text()
    before = hashlib.sha256((path / checkpoint.RECORD).read_bytes()).hexdigest()
    assert whole.count(before) == 1

    def seal(text):
        (path / checkpoint.RECORD).write_text(text)
        (path / checkpoint.CHECKSUMS).write_text(whole.replace(before, hashlib.sha256(text.encode()).hexdigest()))
        return tmp_path / "run"

    return seal


@pytest.fixture
def arrays_read_once(monkeypatch):
    """Orbax takes longest to read the arrays, which are never damaged here."""
    load, loaded = checkpoint.load_all, []

    def load_once(found):
        if not loaded:
            loaded.append(load(found))
        return loaded[0]

    monkeypatch.setattr(checkpoint, "load_all", load_once)


def read_or_refused(read, *arguments):
    try:
        return read(*arguments)
    except InputError as error:
        assert len(str(error)) < 700, error
        return None


@pytest.mark.usefixtures("arrays_read_once")
@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_damaged_records_are_refused_or_read(record, sealed):
    assert isinstance(find_any_genotype(str(sealed(json.dumps(record)))), (Genotype, RecurrentGenotype))
    for damaged in damaged_json(record, 150):
        folder = sealed(json.dumps(damaged))
        with bounded():
            genotype = read_or_refused(find_any_genotype, str(folder))
            assert genotype is None or isinstance(genotype, (Genotype, RecurrentGenotype))
            read_or_refused(search_record, str(folder))
            read_or_refused(language_sizes, str(folder))
            read_or_refused(load_network, folder)


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_commands_end_with_2(record, sealed, derive, describe):
    for damaged in damaged_json(record, 6, seed=1):
        folder = sealed(json.dumps(damaged))
        for command, options in (
            (derive, ()),
            (describe, ("--network", "search", "--cells", "1", "--channels", "2")),
            (describe, ("--network", "search-ptb")),
        ):
            code, _, err = command(folder, *options)
            assert code in (0, 2) and "Traceback" not in err


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", "[" * 100_000, '{"a":' * 100_000, '"' + "x" * 10**6, "{" * 10, "NaN"]
)
def test_records_that_are_no_objects_are_refused(text, sealed):
    folder = sealed(text)
    with bounded():
        for read in (find_any_genotype, search_record, language_sizes, load_network):
            read_or_refused(read, str(folder))
        with pytest.raises(InputError):
            find_any_genotype(str(folder))
        (folder / "genotype.json").write_text(text)
        with pytest.raises(InputError, match=r"genotype\.json"):
            find_any_genotype(str(folder))

"""The mixture of an epoch as JSON data."""

import json

import jax
import numpy as np
import pytest

from jdarts.methods.mixture_record import MixtureRecord, mixture_record, read_mixture
from jdarts.methods.mixtures import mixture_by_name
from jdarts.relaxation import SOFTMAX
from jdarts.space import SearchSpace, recurrent_space, uniform_space

SPACE = uniform_space(("none", "skip_connect", "max_pool_3x3"), nodes=2)


def alphas_of(space, mixture=SOFTMAX):
    return mixture.init(jax.random.key(3), space, np.float32)


def assert_same(found, expected):
    assert found.operations == expected.operations
    for name in ("weights", "edges"):
        tables, others = getattr(found, name), getattr(expected, name)
        assert set(tables) == set(others)
        for kind in tables:
            np.testing.assert_array_equal(tables[kind].astype(np.float32), np.float32(others[kind]))


@pytest.mark.parametrize("space", [SPACE, recurrent_space(("tanh", "relu"), nodes=2)], ids=["cells", "recurrent"])
def test_a_mixture_is_read_as_it_was_written(space):
    record = mixture_record(alphas_of(space), space, SOFTMAX)
    for table in record.weights.values():
        np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-6)
    assert_same(read_mixture(record.to_json()), record)


def test_the_factors_of_edges_belong_to_it():
    mixture = mixture_by_name("softmax", edge_weights=True)
    record = mixture_record(alphas_of(SPACE, mixture), SPACE, mixture)
    assert record.edges["normal"].shape == (5,)
    assert_same(read_mixture(record.to_json()), record)


def test_edges_may_have_different_operations():
    lists = (("skip_connect", "max_pool_3x3"), ("skip_connect",))
    space = SearchSpace(lists, lists)
    found = read_mixture(mixture_record(alphas_of(space), space, SOFTMAX).to_json())
    assert found.operations["normal"] == lists
    assert found.weights["normal"][1].tolist() == [1.0, 0.0]


def test_numbers_are_as_short_as_float32_allows():
    record = MixtureRecord({"normal": (("tanh",),)}, {"normal": np.array([[0.1]], np.float32).astype(np.float64)}, {})
    assert json.loads(record.to_json())["normal"]["weights"] == [[0.1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "not a JSON object"),
        ('{"normal": 3}', "not a JSON object"),
        ('{"normal": {"operations": [["tanh"]], "weights": [["a"]]}}', "table of numbers"),
        ('{"normal": {"operations": [["tanh"]], "weights": [[1], [2]]}}', "no list of each edge"),
        ('{"normal": {"operations": [["tanh", "relu"]], "weights": [[1]]}}', "different sizes"),
        ('{"normal": {"operations": "tanh", "weights": [[1]]}}', "no list of each edge"),
        ('{"normal": {"operations": [["tanh"]], "weights": [[1]], "edges": ["a"]}}', "table of numbers"),
    ],
)
def test_anything_else_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_mixture(text)

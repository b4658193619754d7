"""Costs of choices: counts of every decided network, the best decisions within bounds against all of them, expected costs."""

import itertools
import json
import random
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdarts
from jdarts.choice.bounded import keeps, least_cost
from jdarts.choice.cost import ChoiceLimit
from jdarts.choice.decided import Call, choices_of, with_decisions
from jdarts.choice.slots import ChoiceAlphas
from jdarts.choice.tables import weights_of
from jdarts.errors import InputError
from jdarts.nets.counts import weight_sizes


class Nested(nn.Module):
    """Choices inside of candidates, shared ones, and widths of which one follows the other."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(jdarts.WidthChoice(nn.Dense, (2, 3, 5), name="first")(x))
        x = nn.relu(jdarts.WidthChoice(nn.Dense, (2, 4), name="second")(x))
        x = nn.Dense(4)(x)
        for number in range(2):
            x = x + jdarts.Choice({"block": Inner(), "skip": lambda x: x, "none": None}, name=f"block{number}")(x)
        x = jdarts.InputChoice(k=2, name="inputs")([x, x * x, jnp.tanh(x)])
        return nn.Dense(3)(x)


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(jdarts.WidthChoice(nn.Dense, (1, 3), name="width")(x))
        candidates = {"dense": nn.Dense(6), "two": nn.Sequential([nn.Dense(2), nn.Dense(6)]), "pad": _padded}
        return nn.Dense(4)(jdarts.Choice(candidates, shared="kind", name="kind")(hidden))


def _padded(x):
    return jnp.tile(x[..., :1], 6)


class Layers(nn.Module):
    """Three layers by `nn.scan`, with alphas for each."""

    @nn.compact
    def __call__(self, x):
        layers = nn.scan(Layer, variable_axes={"params": 0, "alphas": 0}, split_rngs={"params": True}, length=3)
        return nn.Dense(2)(layers()(x, None)[0])


class Layer(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        hidden = nn.relu(jdarts.WidthChoice(nn.Dense, (1, 2, 4), name="width")(x))
        return x + jdarts.Choice({"dense": nn.Dense(4), "zero": None}, name="out")(hidden), None


X = jax.ShapeDtypeStruct((1, 4), jnp.float32)


def options_of(alphas):
    spec, layers = alphas.spec, alphas.values.ndim > 1
    each = [kept if spec.keep > 1 else kept[0] for kept in itertools.combinations(spec.candidates, spec.keep)]
    return list(itertools.product(each, repeat=len(alphas.values))) if layers else each


def every_decision(alphas):
    return [dict(zip(alphas, each)) for each in itertools.product(*map(options_of, alphas.values()))]


def drawn(alphas, seed):
    """Alphas far from even, in float64 whatever JAX has."""
    draw = np.random.RandomState(seed)
    return {name: each.replace(values=draw.randn(*each.values.shape)) for name, each in alphas.items()}


def counted(network, call, alphas, choices):
    """Weights and multiply-adds of a decided network, counted in its own program."""
    small = with_decisions(network, alphas, choices)
    sizes = weight_sizes(
        lambda variables, *inputs: small.apply(variables, *inputs, mutable=["batch_stats"], **call.keywords),
        call.shapes(small),
        *call.inputs,
    )
    return {name: sum(getattr(each, name) for each in sizes.values()) for name in ("weights", "multiply_adds")}


@pytest.fixture(scope="module")
def nested():
    """The network, its choices, its costs, all decisions, and the costs of each."""
    network, call = Nested(), Call((X,), {})
    alphas, costs = choices_of(network, call), jdarts.choice_costs(network, X)
    decisions = every_decision(alphas)
    return (
        network,
        call,
        alphas,
        costs,
        decisions,
        {n: np.array([c.of(d) for d in decisions]) for n, c in costs.items()},
    )


def test_the_tables_are_the_counts_of_every_decided_network(nested):
    network, call, alphas, costs, decisions, _ = nested
    assert len(decisions) == 3 * 2 * 9 * 4 * 3 * 3
    for choices in random.Random(0).sample(decisions, 12):
        found = counted(network, call, alphas, choices)
        assert {name: cost.of(choices) for name, cost in costs.items()} == found
    # A width of the block is in a table with the block, and those that follow each other are in one.
    names = {tuple(axis.name for axis in axes) for axes in costs["weights"].tables}
    assert ("first", "second") in names and ("block0", "block0/block/width", "kind") in names
    assert not any("inputs" in axes for axes in names)


@pytest.mark.parametrize("seed", range(6))
def test_no_decisions_within_the_bounds_are_better(seed, nested):
    _, _, choices, costs, decisions, sizes = nested
    alphas, draw = drawn(choices, seed), random.Random(seed)
    weights = {name: np.asarray(each) for name, each in weights_of(alphas).items()}
    total = np.array(
        [sum(strength(weights[name], choices[name], kept) for name, kept in each.items()) for each in decisions]
    )
    some = draw.randrange(len(decisions))
    limits = [(cost, int(sizes[name][some])) for name, cost in costs.items()][: 1 + seed % 2]
    allowed = np.all([sizes[cost.measure] <= most for cost, most in limits], axis=0)
    found = jdarts.decide(alphas, limits=limits)
    assert keeps(found, [ChoiceLimit(*each) for each in limits])
    assert total[decisions.index(found)] == pytest.approx(total[allowed].max(), abs=1e-6)


def strength(weights, alphas, kept):
    names = kept if alphas.spec.keep > 1 else (kept,)
    return sum(weights[alphas.spec.candidates.index(name)] for name in names)


def test_a_bound_is_kept_to_the_unit_and_the_smallest_network_is_named(nested):
    _, _, choices, costs, _, sizes = nested
    cost = costs["weights"]
    # The largest is the strongest.
    big = {
        name: each.replace(
            values=np.arange(each.values.shape[-1], dtype=float)[:: 1 if each.spec.kind == "widths" else -1]
        )
        for name, each in choices.items()
    }
    for most in np.unique(sizes["weights"])[::9]:
        below = np.unique(sizes["weights"])[np.unique(sizes["weights"]) <= most].max()
        assert cost.of(jdarts.decide(big, limits=[(cost, int(most))])) <= below
    least = int(sizes["weights"].min())
    assert least_cost(cost, choices) == least
    assert cost.of(jdarts.decide(big, limits=[(cost, least)])) == least
    with pytest.raises(
        InputError, match=f"the smallest network of these choices has {least} weights; give that or more"
    ):
        jdarts.decide(big, limits=[(cost, least - 1)])


def test_a_loose_bound_changes_nothing_and_never_is_kept(nested):
    _, _, choices, costs, _, sizes = nested
    alphas = drawn(choices, 3)
    loose = [(cost, int(sizes[name].max())) for name, cost in costs.items()]
    assert jdarts.decide(alphas, limits=loose) == jdarts.decide(alphas)
    tight = [(costs["weights"], "0.12k")]
    found = jdarts.decide(alphas, never=("none", "skip"), limits=tight)
    assert costs["weights"].of(found) <= 120 and {found["block0"], found["block1"]} == {"block"}


def test_the_expected_cost_is_the_mean_over_drawn_networks_and_its_gradient_that_of_differences(nested):
    _, _, choices, costs, decisions, sizes = nested
    with jax.enable_x64(True):
        alphas = drawn(choices, 1)
        weights = {name: np.asarray(each) for name, each in weights_of(alphas).items()}
        for name, cost in costs.items():
            odds = [
                np.prod(
                    [strength(weights[one], choices[one], each[one]) for one in choices if choices[one].spec.keep == 1]
                )
                for each in decisions
            ]
            # Each kept pair of inputs comes once.
            assert float(cost.expected(weights)) == pytest.approx(float(np.dot(odds, sizes[name]) / 3), rel=1e-9)

        @jax.jit
        def expected(values):
            moved = {name: each.replace(values=values[name]) for name, each in alphas.items()}
            return costs["weights"].expected(weights_of(moved))

        values = {name: np.asarray(each.values) for name, each in alphas.items()}
        gradient = jax.device_get(jax.jit(jax.grad(expected))(values))
        for name, each in values.items():
            for index in range(each.size):
                step = 1e-5 * np.eye(each.size)[index]
                ends = [expected({**values, name: each + sign * step}) for sign in (1, -1)]
                assert float(gradient[name][index]) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, abs=1e-5)


def test_layers_of_a_scan_are_decided_one_by_one():
    network = Layers()
    alphas, costs = choices_of(network, Call((X,), {})), jdarts.choice_costs(network, X)
    decisions = every_decision(alphas)
    assert len(decisions) == 6**3
    for width, out in itertools.product(("1", "2", "4"), ("dense", "zero")):
        # The layers of a decided network agree.
        found = counted(network, Call((X,), {}), alphas, {"ScanLayer_0/width": width, "ScanLayer_0/out": out})
        given = {"ScanLayer_0/width": (width,) * 3, "ScanLayer_0/out": (out,) * 3}
        assert {name: cost.of(given) for name, cost in costs.items()} == found
    assert jdarts.choice_costs(network, X)["weights"].of(decisions[0]) == costs["weights"].of(decisions[0])
    trained, cost = drawn(alphas, 0), costs["weights"]
    weights = {name: np.asarray(each) for name, each in weights_of(trained).items()}

    def total(choices):
        return sum(
            weights[name][row][alphas[name].spec.candidates.index(each)]
            for name, rows in choices.items()
            for row, each in enumerate(rows)
        )

    for most in (60, 90, 120):
        best = max(total(each) for each in decisions if cost.of(each) <= most)
        found = jdarts.decide(trained, limits=[(cost, most)])
        assert cost.of(found) <= most and total(found) == pytest.approx(best, abs=1e-6)


class Norms(nn.Module):
    """Candidates with batch statistics, whose call takes a keyword."""

    @nn.compact
    def __call__(self, x, train):
        return nn.Dense(2)(jdarts.Choice({"norm": Norm(), "tanh": jnp.tanh}, name="block")(x, train=train))


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x))


def test_batch_statistics_are_no_weights():
    costs = jdarts.choice_costs(Norms(), X, train=False)
    found = {name: (cost.of({"block": "norm"}), cost.of({"block": "tanh"})) for name, cost in costs.items()}
    assert found == {"weights": (10 + 20 + 8, 10), "multiply_adds": (8 + 16, 8)}


def test_a_bound_goes_through_json(nested):
    _, _, _, costs, decisions, _ = nested
    limit = ChoiceLimit(costs["multiply_adds"], 80)
    again = ChoiceLimit.from_json(json.loads(json.dumps(limit.to_json())))
    assert again.most == 80 and all(again.cost.of(each) == limit.cost.of(each) for each in decisions[::50])
    for damaged in (
        {},
        [],
        {**limit.to_json(), "measure": "x"},
        {**limit.to_json(), "tables": [[[["block0", 0]], [1]]]},
    ):
        with pytest.raises(InputError, match="the budget of the search is damaged"):
            ChoiceLimit.from_json(damaged)


class Apart(nn.Module):
    """Candidates whose widths are decided apart."""

    @nn.compact
    def __call__(self, x):
        wide = {name: jdarts.WidthChoice(nn.Dense, (2, 4), name=name) for name in ("one", "other")}
        return nn.Dense(2)(jdarts.Choice(wide, name="block")(x))


class Root(nn.Module):
    """A layer whose size is no sum over the widths before it."""

    @nn.compact
    def __call__(self, x):
        one, two, three = (jdarts.WidthChoice(nn.Dense, (1, 4), name=name)(x) for name in ("one", "two", "three"))
        return nn.Dense(2 if one.shape[-1] + two.shape[-1] + three.shape[-1] <= 6 else 5)(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: jdarts.choice_costs(Apart(), X),
            "cannot be counted at the widths .*; give candidates of one choice",
        ),
        (lambda: jdarts.choice_costs(Root(), X), "are no sum over its choices; give widths that act"),
        (lambda: jdarts.choice_costs(nn.Dense(2), X), "the network has no choices"),
        (
            lambda: jdarts.decide({}, limits=cast(Any, [3])),
            r"a limit is 3; give a pair such as \(costs\['weights'\], '50k'\)",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_costs_of_another_network(nested):
    _, _, choices, costs, _, _ = nested
    alphas: dict[str, ChoiceAlphas] = {"other": drawn(choices, 0)["block0"]}
    with pytest.raises(InputError, match=r"the costs are of the choices .*, and the alphas of other, or their"):
        jdarts.decide(alphas, limits=[(costs["weights"], 1)])
    with pytest.raises(InputError, match="is None; give one of"):
        costs["weights"].of({})
    with pytest.raises(InputError, match="'much' is no amount"):
        jdarts.decide(drawn(choices, 0), limits=[(costs["weights"], "much")])

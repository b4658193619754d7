"""Choices inside Linen networks: mixtures, alphas by name, the bilevel step, decisions."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from choice_networks import INPUTS, LABELS, Blocks, Everything, dense, one_hot_outputs
from flax import nnx

import jdarts
from jdarts.choice.tables import space_of, weights_of
from jdarts.methods.mixtures import MIXTURES
from jdarts.nets.counts import count_weights

pytestmark = pytest.mark.usefixtures("standard_promotion")

BATCH = INPUTS, LABELS
OTHER = jax.random.normal(jax.random.key(2), INPUTS.shape), (LABELS + 1) % 3


def parts(network) -> Any:
    """A network, its weights, alphas and model state."""
    with jax.numpy_dtype_promotion("standard"):
        variables = jax.jit(network.init)(jax.random.key(0), INPUTS)
        return network, *jdarts.split_variables(variables, key=jax.random.key(3))


@pytest.fixture(scope="module")
def everything():
    return parts(Everything())


@pytest.fixture(scope="module")
def blocks():
    return parts(Blocks())


def decide_as(alphas, **chosen):
    return {name: chosen.get(name, each.spec.candidates[0]) for name, each in alphas.items()}


# ---- variables


def test_alphas_have_the_names_of_their_paths_and_of_what_they_share(everything):
    _, weights, alphas, model_state = everything
    assert {name: each.spec.candidates for name, each in alphas.items()} == {
        "width": ("2", "4", "6"),
        "block0": ("dense", "normed", "skip", "none"),
        "block1": ("dense", "normed", "skip", "none"),
        "activation": ("relu", "tanh"),
        "inputs": ("0", "1", "2"),
    }
    assert len(alphas["activation"].places) == 2
    assert set(model_state) == {"batch_stats"} and set(weights["block0"]) == {"dense", "normed"}


def test_new_alphas_are_zeros_and_drawn_ones_near_zero(everything):
    network, _, drawn, _ = everything
    _, alphas, _ = jax.jit(lambda key: jdarts.split_variables(network.init(key, INPUTS)))(jax.random.key(0))
    assert all(not np.any(each.values) for each in alphas.values())
    assert all(0 < np.abs(each.values).max() < 0.01 for each in drawn.values())


def test_a_mixture_is_the_sum_of_its_candidates_by_the_softmax(blocks):
    network, weights, alphas, _ = blocks

    def layer(params, x):
        return x @ np.asarray(params["kernel"]) + np.asarray(params["bias"])

    x = layer(weights["Dense_0"], np.asarray(INPUTS))
    for name in ("block0", "block1"):
        powers = np.exp(alphas[name].values)
        dense_share, tanh_share, _ = powers / np.sum(powers)
        x = x + dense_share * layer(weights[name]["dense"], x) + tanh_share * np.tanh(x)
    found = jax.jit(network.apply)(jdarts.join_variables(weights, alphas), INPUTS)
    np.testing.assert_allclose(found, layer(weights["Dense_3"], x), atol=1e-12)


def test_shared_alphas_move_all_their_places(everything):
    network, weights, alphas, model_state = everything
    loss = jdarts.network_loss(network, train=False)

    def of_alphas(alphas):
        return loss(weights, alphas, model_state, BATCH, jax.random.key(0))[0]

    joined = jdarts.join_variables(weights, alphas, model_state)

    def of_places(collection):
        outputs = network.apply({**joined, "alphas": collection}, INPUTS, train=False)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, LABELS))

    gradient, places = jax.jit(lambda *at: (jax.grad(of_alphas)(at[0]), jax.grad(of_places)(at[1])))(
        alphas, joined["alphas"]
    )
    both = np.asarray(places["activation0"]["choice"].values) + places["activation1"]["choice"].values
    np.testing.assert_allclose(gradient["activation"].values, both, atol=1e-12)


# ---- the bilevel step


def test_the_exact_hypergradient_is_the_gradient_through_the_unrolled_step(blocks):
    network, weights, alphas, _ = blocks
    loss_fn, rate = jdarts.network_loss(network), 0.1
    optimizers: Any = {"weight_optimizer": optax.sgd(rate), "alpha_optimizer": optax.sgd(1.0)}
    state = jdarts.init_state(jax.random.key(0), weights, alphas, **optimizers)

    def loss(weights, alphas, batch):
        return loss_fn(weights, alphas, (), batch, state.key)[0]

    def through_the_step(alphas):
        gradient = jax.grad(loss)(weights, alphas, BATCH)
        return loss(jax.tree.map(lambda w, g: w - rate * g, weights, gradient), alphas, OTHER)

    @jax.jit
    def both(state):
        new, _ = jdarts.bilevel_step(state, BATCH, OTHER, loss_fn=loss_fn, **optimizers)
        return jax.tree.map(jnp.subtract, state.alphas, new.alphas), jax.grad(through_the_step)(state.alphas)

    found, expected = both(state)
    check_close(found, expected, 1e-9)


def check_close(found, expected, tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for left, right in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance)


def test_seeds_are_vmapped_and_devices_share_a_batch():
    network = Blocks(blocks=1)
    loss_fn = jdarts.network_loss(network)
    optimizers = {"weight_optimizer": optax.sgd(0.1), "alpha_optimizer": optax.adam(0.1)}

    def start(key):
        weights, alphas, _ = jdarts.split_variables(network.init(key, INPUTS), key=key)
        return jdarts.init_state(key, weights, alphas, **optimizers)

    step = functools.partial(jdarts.bilevel_step, loss_fn=loss_fn, hypergradient=jdarts.first_order(), **optimizers)

    @jax.jit
    def alone_and_beside(batch, other):
        begun = start(jax.random.key(5))
        seeds = jax.vmap(start)(jax.vmap(jax.random.key)(jnp.array([4, 5])))
        stacked, _ = jax.vmap(step, in_axes=(0, None, None))(seeds, batch, other)
        return begun, step(begun, batch, other)[0], stacked

    begun, single, stacked = alone_and_beside(BATCH, OTHER)
    second = jax.tree.map(lambda leaf: np.asarray(leaf)[1], (stacked.weights, stacked.alphas))
    check_close(second, (single.weights, single.alphas), 1e-12)
    halves = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(2, 4, *leaf.shape[1:]), (BATCH, OTHER))
    parallel = jax.pmap(functools.partial(step, axis_name="batch"), "batch", in_axes=(None, 0, 0), out_axes=None)
    shared, _ = parallel(begun, *halves)
    check_close((shared.weights, shared.alphas), (single.weights, single.alphas), 1e-9)


@pytest.fixture(scope="module")
def drawn_by_every_mixture(everything):
    """Two choices' alphas, their weights by every mixture, and the tables of one row that it makes of these alphas."""
    controls = {"temperature": 2.0}
    two = {name: everything[2][name] for name in ("block0", "activation")}

    @jax.jit
    def drawn(alphas, key):
        rows = {name: each.values[None] for name, each in alphas.items()}
        return {
            name: (
                weights_of(alphas, name, key=key, controls=controls),
                mixture.weights(rows, space_of(alphas), key, controls).operations,
            )
            for name, mixture in MIXTURES.items()
        }

    return two, jax.device_get(drawn(two, jax.random.key(7)))


@pytest.mark.parametrize("mixture", MIXTURES)
def test_every_mixture_gives_the_weights_of_its_tables(everything, drawn_by_every_mixture, mixture):
    alphas, drawn = drawn_by_every_mixture
    weights, expected = drawn[mixture]
    assert weights.keys() == alphas.keys()
    for name, row in weights.items():
        np.testing.assert_array_equal(row, expected[name][0])
    _, _, alphas, _ = everything
    assert set(jdarts.decide(alphas, mixture=mixture)) == set(alphas)


def test_running_statistics_of_candidates_without_weight_stay(everything):
    network, weights, alphas, model_state = everything
    loss = jdarts.network_loss(network, mixture="gumbel_chosen", controls={"temperature": 1.0}, train=True)

    @jax.jit
    def changed_and_drawn(key):
        _, (new, _) = loss(weights, alphas, model_state, BATCH, key)
        of_step = jax.random.fold_in(key, 0)
        return new, weights_of(alphas, "gumbel_chosen", key=of_step, controls={"temperature": 1.0})

    for seed in range(3):
        new, drawn = jax.device_get(changed_and_drawn(jax.random.key(seed)))
        for name in ("block0", "block1"):
            before, after = (tree["batch_stats"][name]["normed"]["BatchNorm_0"]["mean"] for tree in (model_state, new))
            assert np.array_equal(before, after) == (drawn[name][1] == 0)


@pytest.mark.parametrize(
    ("loss", "targets", "value"),
    [
        ("squared_error", jnp.zeros((8, 3)), None),
        (lambda outputs, targets: jnp.abs(outputs).sum(axis=-1), LABELS, None),
    ],
)
def test_losses_for_regression_and_of_the_users_own(blocks, loss, targets, value):
    network, weights, alphas, _ = blocks
    of_network = jdarts.network_loss(network, loss)

    @jax.jit
    def computed(weights, alphas):
        outputs = network.apply(jdarts.join_variables(weights, alphas), INPUTS)
        return outputs, of_network(weights, alphas, (), (INPUTS, targets), jax.random.key(0))

    outputs, (found, (state, metrics)) = jax.device_get(computed(weights, alphas))
    expected = np.mean(np.square(outputs)) if loss == "squared_error" else np.mean(np.abs(outputs).sum(axis=-1))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (state, metrics) == ((), {})


# ---- decisions


def test_the_strongest_candidates_are_decided(everything):
    _, _, alphas, _ = everything
    values = {
        "block0": [0.0, 1, 0, 2],
        "block1": [0.0, 0, 3, 1],
        "inputs": [1.0, 0, 2],
        "activation": [0.0, 1],
        "width": [1.0, 1, 0],
    }
    alphas = {name: each.replace(values=jnp.array(values[name])) for name, each in alphas.items()}
    expected = {"block0": "none", "block1": "skip", "inputs": ("0", "2"), "activation": "tanh", "width": "2"}
    assert jdarts.decide(alphas) == expected
    for never in ("none", ("none",), {"none", "skip"}):
        assert jdarts.decide(alphas, never=never)["block0"] == "normed"
    assert jdarts.decide(alphas, never="24")["width"] == "2"


@pytest.mark.parametrize(
    "chosen",
    [
        {"block0": "normed", "block1": "skip", "inputs": ("0", "2"), "activation": "tanh", "width": "4"},
        {"block0": "none", "block1": "normed", "inputs": ("1", "2"), "activation": "relu", "width": "2"},
    ],
)
def test_the_decided_network_is_the_mixture_at_one_hot_weights(everything, chosen):
    network, weights, alphas, model_state = everything
    small, variables = jdarts.decided(network, chosen, {"params": weights, **model_state}, INPUTS)

    @jax.jit
    def both(weights, variables):
        expected = one_hot_outputs(network, weights, alphas, chosen, model_state, INPUTS, train=True)
        return expected, small.apply(variables, INPUTS, train=True, mutable=["batch_stats"])

    (expected, state), (found, changed) = both(weights, variables)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    normed = next(name for name in ("block0", "block1") if chosen[name] == "normed")
    assert set(changed["batch_stats"]) == {normed}
    check_close(changed["batch_stats"][normed], state["batch_stats"][normed], 1e-12)
    assert count_weights(variables["params"]) < count_weights(weights)
    assert variables["params"].get("block0", {}).keys() == ({"normed"} if chosen["block0"] == "normed" else set())
    assert variables["params"]["width"]["channels"]["kernel"].shape == (5, int(chosen["width"]))
    fresh = jax.eval_shape(small.init, jax.random.key(1), INPUTS)
    assert jax.tree.map(jnp.shape, fresh) == jax.tree.map(jnp.shape, variables)
    assert isinstance(small, Everything)


def test_a_decided_network_trains_by_the_same_loss(everything):
    network, weights, alphas, model_state = everything
    small, variables = jdarts.decided(
        network, decide_as(alphas, inputs=("0", "1")), {"params": weights, **model_state}, INPUTS
    )
    loss_fn = jdarts.network_loss(small, train=False)
    loss, (_, metrics) = jax.jit(loss_fn)(variables["params"], {}, (), BATCH, jax.random.key(0))
    assert np.isfinite(loss) and set(metrics) == {"accuracy"}


def test_the_table_of_choices_counts_weights_and_shows_the_margin(everything):
    network, _, alphas, _ = everything
    alphas = {**alphas, "block1": alphas["block1"].replace(values=jnp.log(jnp.array([0.5, 0.3, 0.1, 0.1])))}
    table = jdarts.describe_choices(network, alphas, INPUTS)
    rows = {each.name: each for each in table}
    assert rows["block1"].weights == {"dense": 20, "normed": 28, "skip": 0, "none": 0}
    assert rows["width"].weights == {"2": 0, "4": 2 * (6 + 4), "6": 4 * (6 + 4)}
    assert rows["activation"].places == 2 and rows["inputs"].weights is None
    assert rows["block1"].chosen == "dense" and rows["block1"].margin == pytest.approx(0.2)
    assert "block1" in str(table) and "dense: 0.500 (20)" in str(table) and "0.200" in str(table)


# ---- inside scan, vmap and remat


class Layer(nn.Module):
    shared: str | None = None

    @nn.compact
    def __call__(self, x, _):
        candidates = {"dense": dense(5), "tanh": jnp.tanh, "none": None}
        return x + jdarts.Choice(candidates, shared=self.shared, name="block")(x), None


class Scanned(nn.Module):
    axes: tuple = (("variable_axes", (("params", 0), ("alphas", 0))),)
    shared: str | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x):
        settings: Any = {name: dict(value) if isinstance(value, tuple) else value for name, value in self.axes}
        layer = nn.remat(Layer) if self.remat else Layer
        return nn.scan(layer, split_rngs={"params": True}, length=3, **settings)(self.shared, name="layers")(x, None)[0]


def begun(network):
    """Weights, drawn alphas, and the network's outputs."""

    @jax.jit
    def start(key):
        weights, alphas, _ = jdarts.split_variables(network.init(key, INPUTS), key=jax.random.key(1))
        return weights, alphas, network.apply(jdarts.join_variables(weights, alphas), INPUTS)

    return start(jax.random.key(0))


def loop(weights, alphas):
    """The outputs of a loop of layers with tables of shares `[3, O]`."""
    (name,) = alphas
    powers = np.exp(alphas[name].values)
    shares = np.broadcast_to(powers / np.sum(powers, axis=-1, keepdims=True), (3, 3))
    x = np.asarray(INPUTS)
    for layer in range(3):
        kernel, bias = (np.asarray(weights["layers"]["block"]["dense"][name])[layer] for name in ("kernel", "bias"))
        x = x + shares[layer, 0] * (x @ kernel + bias) + shares[layer, 1] * np.tanh(x)
    return x


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("shared", [None, "layer"])
def test_layers_of_a_scan_have_alphas_of_their_own_or_share_them(shared, remat):
    network: Any = Scanned(shared=shared, remat=remat)
    weights, alphas, found = begun(network)
    assert {name: each.values.shape for name, each in alphas.items()} == (
        {"layer": (3,)} if shared else {"layers/block": (3, 3)}
    )
    np.testing.assert_allclose(found, loop(weights, alphas), atol=1e-12)


def test_a_scan_with_broadcast_alphas_has_one_row():
    network: Any = Scanned(axes=(("variable_axes", (("params", 0),)), ("variable_broadcast", "alphas")))
    weights, alphas, found = begun(network)
    assert alphas["layers/block"].values.shape == (3,)
    np.testing.assert_allclose(found, loop(weights, alphas), atol=1e-12)
    small, variables = jdarts.decided(network, {"layers/block": "tanh"}, {"params": weights}, INPUTS)
    assert count_weights(variables) == 0
    np.testing.assert_allclose(
        *jax.jit(
            lambda: (
                small.apply(variables, INPUTS),
                one_hot_outputs(network, weights, alphas, {"layers/block": "tanh"}, (), INPUTS)[0],
            )
        )(),
        atol=1e-12,
    )


def test_layers_of_a_scan_that_decide_alike_are_one_program_and_others_are_refused():
    network: Any = Scanned()
    weights, alphas, _ = begun(network)
    rows = np.array([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]])
    choices = jdarts.decide({"layers/block": alphas["layers/block"].replace(values=rows)})
    assert choices == {"layers/block": ("dense", "tanh", "dense")}
    with pytest.raises(jdarts.InputError, match=r"choose differently .*dense, tanh, dense.*variable_broadcast"):
        jdarts.decided(network, choices, {"params": weights}, INPUTS)
    alike = {"layers/block": ("dense",) * 3}
    small, variables = jdarts.decided(network, alike, {"params": weights}, INPUTS)

    @jax.jit
    def both(weights, variables):
        expected, _ = one_hot_outputs(network, weights, alphas, {"layers/block": "dense"}, (), INPUTS)
        return small.apply(variables, INPUTS), expected

    np.testing.assert_allclose(*both(weights, variables), atol=1e-12)


def test_a_vmapped_module_has_alphas_for_each_lane_of_its_axis():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            axes: Any = {"in_axes": (None, None), "variable_axes": {"params": 0, "alphas": 0}}
            layer = nn.vmap(Layer, split_rngs={"params": True}, axis_size=2, **axes)
            return layer(name="layers")(x, None)[0].sum(axis=0)

    network: Any = Net()

    def made(key):
        weights, alphas, _ = jdarts.split_variables(network.init(key, INPUTS))
        return alphas, network.apply(jdarts.join_variables(weights, alphas), INPUTS)

    alphas, outputs = jax.eval_shape(made, jax.random.key(0))
    assert alphas["layers/block"].values.shape == (2, 3)
    assert outputs.shape == INPUTS.shape


# ---- edges of use


class Single(nn.Module):
    make: Any

    @nn.compact
    def __call__(self, x):
        return self.make(x)


def test_a_choice_with_one_candidate_is_that_candidate():
    network: Any = Single(lambda x: jdarts.Choice({"only": dense(2)}, name="block")(x))
    weights, alphas, found = begun(network)
    only = jax.tree.map(np.asarray, weights["block"]["only"])
    np.testing.assert_allclose(found, np.asarray(INPUTS) @ only["kernel"] + only["bias"], atol=1e-12)
    assert jdarts.decide(alphas) == {"block": "only"}
    assert jdarts.describe_choices(network, alphas, INPUTS)[0].margin is None


def test_a_choice_that_is_the_network_has_a_name_too():
    network: Any = jdarts.Choice({"dense": dense(5), "tanh": jnp.tanh})
    weights, alphas, _ = jdarts.split_variables(network.init(jax.random.key(0), INPUTS))
    assert set(alphas) == {"choice"}
    small, variables = jdarts.decided(network, {"choice": "tanh"}, {"params": weights}, INPUTS)
    np.testing.assert_array_equal(small.apply(variables, INPUTS), jnp.tanh(INPUTS))


def test_calling_a_choice_twice_uses_its_weights_twice():
    def twice(x):
        choice = jdarts.Choice({"dense": dense(5), "tanh": jnp.tanh}, name="block")
        return choice(choice(x))

    weights, alphas, _ = jdarts.split_variables(Single(twice).init(jax.random.key(0), INPUTS))
    assert set(alphas) == {"block"} and set(weights) == {"block"}


def _two(first, second):
    return lambda x: second(first(x))


A_NUMBER: Any = 3
A_LIST: Any = [jnp.tanh, nn.relu]
A_LAYER: Any = nn.Dense(4)
MAX: Any = "max"
WRONG = {
    "none of the candidates": (
        lambda x: jdarts.Choice({"tanh": jnp.tanh, "relu": nn.relu}, name="b")(x, train=True),
        "choice b is called with train=, and none of tanh, relu takes it; leave it out",
    ),
    "shapes": (
        lambda x: jdarts.Choice({"two": dense(2), "three": dense(3)}, name="b")(x),
        r"candidates of the choice b have outputs of different shapes \(two \(8, 2\), three \(8, 3\)\)",
    ),
    "no candidates": (lambda x: jdarts.Choice({}, name="b")(x), "has no candidates; give one or more"),
    "a list": (
        lambda x: jdarts.Choice(A_LIST, name="b")(x),
        "the candidates of a choice are 'tuple'; give a dictionary from their names",
    ),
    "a class": (
        lambda x: jdarts.Choice({"a": nn.Dense}, name="b")(x),
        "b has a = the class Dense; give a module of it",
    ),
    "a model of NNX": (
        lambda x: jdarts.Choice({"a": nnx.Linear(5, 5, rngs=nnx.Rngs(0))}, name="b")(x),
        "b has a = a model of NNX, and stands in a Linen network; give a Linen module",
    ),
    "one array": (lambda x: jdarts.InputChoice(name="b")(x), r"one array of shape \(8, 5\); give a list of arrays"),
    "a width": (lambda x: jdarts.WidthChoice(dense, A_NUMBER, name="b")(x), "has the widths 3; give a tuple of whole"),
    "a layer": (
        lambda x: jdarts.WidthChoice(A_LAYER, (2, 4), name="b")(x),
        r"b has the layer Dense\(…\); give what makes it of a width, such as lambda width: Dense\(…\)",
    ),
    "only zeros": (
        lambda x: jdarts.Choice({"none": None}, name="b")(x),
        "no candidate but zeros; give one that is not None",
    ),
    "slash": (lambda x: jdarts.Choice({"a/b": jnp.tanh}, name="b")(x), "named 'a/b'; names are texts without a slash"),
    "no function": (
        lambda x: jdarts.Choice({"a": A_NUMBER}, name="b")(x),
        "has a = 3; give a module, a function or None",
    ),
    "name of Flax": (lambda x: jdarts.Choice({"sow": dense(5)}, name="b")(x), "candidate named sow, a name of Flax's"),
    "two of a name": (
        lambda x: jdarts.Choice({"a": jnp.tanh}, name="b")(jdarts.Choice({"a": jnp.tanh}, name="b")(x)),
        "the name 'b' of a choice is in use in its module; give each choice another name",
    ),
    "k": (lambda x: jdarts.InputChoice(k=3, name="b")([x, x]), "keeps k=3 of 2 inputs; give a k from 1 to 2"),
    "reduce": (lambda x: jdarts.InputChoice(reduce=MAX, name="b")([x, x]), "reduce='max'; give 'sum' or 'mean'"),
    "inputs": (
        lambda x: jdarts.InputChoice(name="b")({"x": x, "half": x[:, :2]}),
        r"different shapes \(x \(8, 5\), half \(8, 2\)\)",
    ),
    "widths": (
        lambda x: jdarts.WidthChoice(dense, (2, 0), name="b")(x),
        r"widths \(2, 0\); give a tuple of whole numbers above 0",
    ),
    "a width twice": (lambda x: jdarts.WidthChoice(dense, (2, 2), name="b")(x), "widths .*one name twice"),
    "other width": (
        lambda x: jdarts.WidthChoice(lambda width: dense(3), (2, 4), name="b")(x),
        r"layer of width 4, and its output has shape \(8, 3\)",
    ),
    "shared and different": (
        lambda x: _two(
            jdarts.Choice({"a": jnp.tanh}, shared="s", name="b"), jdarts.Choice({"c": jnp.tanh}, shared="s", name="d")
        )(x),
        "two choices have the name 's', and differ: candidates a, and candidates c",
    ),
    "none": (jnp.tanh, "the network has no choices; put a jdarts.Choice into it"),
    "scan without alphas": (
        lambda x: nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=2)(name="s")(x, None)[
            0
        ],
        "has no alphas here; .*variable_axes={'alphas': 0} for alphas of each layer, or variable_broadcast='alphas'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_choices_are_refused_in_one_line_that_says_what_to_do(case):
    make, message = WRONG[case]
    with pytest.raises(jdarts.InputError, match=message) as caught:
        jdarts.split_variables(Single(make).init(jax.random.key(0), INPUTS))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 330


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"block9": "skip"}, "the network has no choice 'block9'; it has activation, block0, block1, inputs, width"),
        ({"block0": "conv"}, "block0 is 'conv'; give one of dense, normed, skip, none"),
        ({"inputs": "0"}, "inputs is '0'; give 2 of 0, 1, 2"),
        ({"block0": None}, "nothing is chosen for block0; give one of dense"),
    ],
)
def test_wrong_decisions_are_refused(everything, changed, message):
    network, weights, alphas, model_state = everything
    choices = {**decide_as(alphas, inputs=("0", "1")), **changed}
    choices = {name: chosen for name, chosen in choices.items() if chosen is not None}
    with pytest.raises(jdarts.InputError, match=message):
        jdarts.decided(network, choices, {"params": weights, **model_state}, INPUTS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_alphas_that_are_not_finite_decide_nothing(everything, value):
    _, _, alphas, _ = everything
    wrong = {name: each.replace(values=np.full(each.values.shape, value)) for name, each in alphas.items()}
    with pytest.raises(jdarts.InputError, match="are not all finite; use those of an earlier step"):
        jdarts.decide(wrong)


def test_weights_of_another_network_and_reshaped_channels_are_refused(everything):
    network, weights, alphas, _ = everything
    choices = decide_as(alphas, inputs=("0", "1"))
    with pytest.raises(jdarts.InputError, match=r"no params/.*give \{'params': weights, \*\*model_state\}"):
        jdarts.decided(network, choices, weights, INPUTS)

    def reshaped(x):
        return dense(2)(jdarts.WidthChoice(dense, (2, 4), name="width")(x[:, :, None]).reshape(8, -1))

    network: Any = Single(reshaped)
    variables = network.init(jax.random.key(0), INPUTS)
    with pytest.raises(jdarts.InputError, match="no reshape between a WidthChoice and the layer after it"):
        jdarts.decided(network, {"width": "2"}, variables, INPUTS)


def test_wrong_losses_and_alphas_are_refused(blocks):
    network, weights, alphas, _ = blocks
    with pytest.raises(
        jdarts.InputError,
        match="the loss is 'mse'; give cross_entropy, binary_cross_entropy, squared_error, or a function",
    ):
        jdarts.network_loss(network, "mse")
    with pytest.raises(jdarts.InputError, match="the mixture is 'soft'; give softmax"):
        jdarts.network_loss(network, mixture="soft")
    loss = jdarts.network_loss(network, "squared_error")
    with pytest.raises(jdarts.InputError, match=r"outputs of shape \(8, 3\) and targets of \(8,\)"):
        loss(weights, alphas, (), (INPUTS, jnp.zeros(8)), jax.random.key(0))
    with pytest.raises(jdarts.InputError, match=r"a batch is .*; give a pair"):
        loss(weights, alphas, (), INPUTS, jax.random.key(0))
    with pytest.raises(
        jdarts.InputError, match=r"alphas of block0 are .*; give the alphas that jdarts.split_variables returns"
    ):
        loss(weights, {"block0": jnp.zeros(3)}, (), BATCH, jax.random.key(0))

import json

import jax
import jax.numpy as jnp
import numpy as np
import plain_supernet
import pytest
from fixtures_folder import REFERENCE_NUMBERS
from torch_layout import stacked_params, stacked_statistics

import jdarts
from jdarts.errors import InputError
from jdarts.named_spaces import find_space
from jdarts.nets.layers import check_image_size
from jdarts.nets.stem import Stem
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas, softmax_weights
from jdarts.space import CELL_KINDS, cell_kinds
from jdarts.xla.platform import compiling_for

SEPARABLE, DILATED, SKIP, MAX, AVG = "sep_conv_3x3", "dil_conv_5x5", "skip_connect", "max_pool_3x3", "avg_pool_3x3"

SPACES = {
    # One node: the last stage is the first.
    "one_node": (jdarts.uniform_space(("none", SKIP, SEPARABLE), nodes=1), 2),
    # Three nodes with lists of their own per edge, of different lengths; only one node is concatenated.
    "lists_per_edge": (
        jdarts.SearchSpace(
            normal=(
                (SKIP, DILATED), (MAX, "none", SEPARABLE), (DILATED,), (SKIP, AVG), (MAX, AVG, SKIP),
                ("none", DILATED), (SEPARABLE, SKIP), (AVG, MAX), (SKIP,),
            ),
            reduce=(
                (SKIP, MAX), (SKIP,), (SEPARABLE, DILATED), (MAX,), (SKIP, DILATED),
                (AVG,), (SKIP, "none"), (DILATED, SEPARABLE, AVG), (MAX, SKIP),
            ),
            concat=(3,),
        ),
        3,
    ),
    # Before the first cell, of a normal kind, the images are halved three times.
    "halving_stem": (jdarts.uniform_space(("none", SKIP), nodes=1), 3, 0, "imagenet"),
}  # fmt: skip


class Pair:
    """The stacked network and the plain one with the same random weights, in float64."""

    def __init__(self, space, cells, seed=0, stem: Stem = "cifar"):
        draw = np.random.default_rng(seed)
        halves = stem == "imagenet"
        sizes = {"channels": 2, "layers": cells, "classes": 3}
        self.space, self.cells = space, cells
        self.flat = plain_supernet.init_weights(
            draw, space=space, image_channels=1, dtype=np.float64, halving_stem=halves, **sizes
        )
        self.model = Supernet(space, channels=2, cells=cells, classes=3, dtype=jnp.float64, stem=stem)
        self.alphas = {kind: jnp.asarray(draw.normal(size=(space.num_edges, space.width(kind)))) for kind in CELL_KINDS}
        self.images = jnp.asarray(draw.normal(size=(3, 32, 32, 1) if halves else (3, 8, 8, 1)))
        self.cotangent = jnp.asarray(draw.normal(size=(3, 3)))
        self.params = jax.tree.map(jnp.asarray, stacked_params(self.flat, space, cells))
        self.statistics = jax.tree.map(jnp.asarray, stacked_statistics(self.flat, space, cells))

    def stacked(self, params, alphas, *, train):
        variables = {"params": params, "batch_stats": self.statistics}
        return self.model.apply(variables, self.images, alphas, train=train, mutable=["batch_stats"])

    def plain(self, flat, alphas, *, train):
        return plain_supernet.forward(flat, alphas, self.images, space=self.space, train=train)


@pytest.fixture(scope="module", params=SPACES.values(), ids=list(SPACES))
def pair(request):
    return Pair(*request.param)


def close(found, expected):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)

    jax.tree.map(check, found, expected)


@pytest.fixture(scope="module")
def both_networks(pair):
    """Gradients, results and statistics in training, and results and statistics in evaluation, of either network."""

    def stacked(params, alphas):
        logits, changed = pair.stacked(params, alphas, train=True)
        return jnp.sum(jnp.sin(logits) * pair.cotangent), (logits, changed["batch_stats"])

    def plain(moving, alphas):
        logits, statistics = pair.plain(moving | frozen, alphas, train=True)
        return jnp.sum(jnp.sin(logits) * pair.cotangent), (logits, statistics)

    def evaluated(params, alphas):
        logits, changed = pair.stacked(params, alphas, train=False)
        return logits, changed["batch_stats"]

    def of_both_modes(training, evaluation):
        return jax.jit(lambda *at: (jax.grad(training, argnums=(0, 1), has_aux=True)(*at), evaluation(*at)))

    frozen = {name: value for name, value in pair.flat.items() if plain_supernet.is_running_statistic(name)}
    moving = {name: jnp.asarray(value) for name, value in pair.flat.items() if name not in frozen}
    return (
        of_both_modes(stacked, evaluated)(pair.params, pair.alphas),
        of_both_modes(plain, lambda flat, alphas: pair.plain(flat | frozen, alphas, train=False))(moving, pair.alphas),
    )


def test_training_mode_is_the_plain_network(pair, both_networks):
    ((grads, (logits, statistics)), _), ((expected, (plain_logits, plain_statistics)), _) = both_networks
    close(logits, plain_logits)
    plain_statistics = {name: np.asarray(value) for name, value in plain_statistics.items()}
    close(statistics, stacked_statistics(pair.flat | plain_statistics, pair.space, pair.cells))
    of_weights = {name: np.asarray(value) for name, value in expected[0].items()}
    close(grads[0], stacked_params(of_weights, pair.space, pair.cells))
    close(grads[1], expected[1])


def test_evaluation_mode_is_the_plain_network(pair, both_networks):
    (_, (logits, statistics)), (_, (expected, _)) = both_networks
    close(logits, expected)
    close(statistics, pair.statistics)


def test_parameters_have_the_shapes_of_the_plain_network(pair):
    fresh = jax.eval_shape(lambda: pair.model.init(jax.random.key(0), pair.images, pair.alphas, train=True))
    assert jax.tree.map(jnp.shape, fresh["params"]) == jax.tree.map(jnp.shape, pair.params)
    assert jax.tree.map(jnp.shape, fresh["batch_stats"]) == jax.tree.map(jnp.shape, pair.statistics)


@pytest.mark.usefixtures("without_native")
def test_operations_that_are_computed_at_once_are_those_computed_one_by_one(monkeypatch):
    """Values, statistics and derivatives of both modes, at both strides; the convolutions have the form of GPUs."""
    monkeypatch.setenv("JDARTS_DEPTHWISE", "window_gathers")
    operations = (AVG, SEPARABLE, SKIP, "sep_conv_5x5", "dil_conv_3x3")
    case = Pair(jdarts.uniform_space(operations, nodes=2), 1)
    direction = jax.tree.map(jnp.cos, (case.params, case.alphas))

    def value(params, alphas):
        logits, changed = case.stacked(params, alphas, train=True)
        return jnp.sum(jnp.sin(logits) * case.cotangent), (logits, changed)

    def derivatives(params, alphas):
        gradient = jax.grad(value, argnums=(0, 1), has_aux=True)
        return jax.jvp(gradient, (params, alphas), direction)

    found = []
    for platform in ("cpu", "gpu"):
        with compiling_for(platform):
            program = jax.jit(derivatives).trace(case.params, case.alphas)
            assert ("joint_depthwise" in str(program.jaxpr)) == (platform == "gpu")
            found.append(program.lower().compile()(case.params, case.alphas))
    close(*found)


def number_of_weights(space):
    model = Supernet(space)
    alphas = {kind: jnp.zeros((space.num_edges, space.width(kind))) for kind in CELL_KINDS}
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    images = jnp.zeros((1, 32, 32, 3), jnp.float32)
    shapes = jax.eval_shape(lambda: model.init(keys, images, jax.tree.map(jnp.float32, alphas), train=True))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def test_the_search_network_of_the_paper_has_1930618_weights():
    assert number_of_weights(jdarts.darts_space()) == 1_930_618


@pytest.mark.parametrize("name", ["S1", "S2", "S3", "S4"])
def test_reduced_spaces_are_the_named_ones(name):
    """`test_published_spaces_have_their_published_weights` counts those."""
    lists = json.loads((REFERENCE_NUMBERS / "spaces.json").read_text())[name]
    assert jdarts.SearchSpace(normal=lists["normal"], reduce=lists["reduce"]) == find_space(name.lower())


def test_noise_is_drawn_from_its_own_key():
    space = jdarts.uniform_space(("noise", SKIP), nodes=1)
    model = Supernet(space, channels=2, cells=1, classes=2, dtype=jnp.float64)
    alphas = init_alphas(jax.random.key(0), space, jnp.float64)
    images = jnp.ones((2, 4, 4, 1))
    keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
    variables = jax.jit(lambda keys: model.init(keys, images, alphas, train=True))(keys)
    logits = jax.jit(lambda key: model.apply(variables, images, alphas, train=False, rngs={"noise": key}))
    one, again, other = (np.asarray(logits(jax.random.key(seed))) for seed in (1, 1, 2))
    assert np.all(one == again)
    assert np.any(one != other)


def test_mixture_weights_are_a_softmax_over_each_edges_own_list():
    space, _ = SPACES["lists_per_edge"]
    alphas = jax.device_get(init_alphas(jax.random.key(0), space, jnp.float64))
    weights = np.asarray(softmax_weights(alphas, space)["normal"])
    for row, operations, alpha in zip(weights, space.normal, alphas["normal"]):
        count = len(operations)
        np.testing.assert_allclose(row[:count], np.exp(alpha[:count]) / np.sum(np.exp(alpha[:count])), rtol=1e-12)
        assert np.all(row[count:] == 0)


def test_initial_values_are_those_of_pytorch():
    space = jdarts.uniform_space((SEPARABLE, SKIP), nodes=2)
    model = Supernet(space, channels=8, cells=1, classes=4)
    alphas = init_alphas(jax.random.key(0), space)
    assert 0 < np.abs(alphas["normal"]).max() < 6e-3
    images = jnp.zeros((1, 4, 4, 3), jnp.float32)
    init = jax.jit(lambda key: model.init(key, images, alphas, train=True)["params"])
    params = jax.device_get(init(jax.random.key(0)))
    stage = params["cell0"]["stage0"][SEPARABLE]
    bounds = {
        "depthwise1": (stage["depthwise1"], (16 * 9) ** -0.5),  # input channels are not divided by the groups
        "pointwise2": (stage["pointwise2"], 16**-0.5),
        "stem": (params["stem"]["kernel"], 27**-0.5),
        "preprocess": (params["cell0"]["preprocess"]["pointwise0"], 24**-0.5),
        "classifier": (params["classifier"]["kernel"], 32**-0.5),
    }
    for name, (values, bound) in bounds.items():
        assert 0.9 * bound < np.abs(values).max() <= bound, name
    norm = params["stem"]["norm"]
    assert np.all((norm["scale"] >= 0) & (norm["scale"] <= 1))
    assert np.all(norm["bias"] == 0)


def test_wrong_inputs_are_explained():
    space = jdarts.uniform_space((SKIP, MAX), nodes=1)
    model = Supernet(space, channels=2, cells=3)
    alphas = init_alphas(jax.random.key(0), space)
    with pytest.raises(InputError, match="float64"):
        model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.float64), alphas, train=True)
    with pytest.raises(InputError, match=r"10×10 are 5×5 at the reduction in cell 2 of 3"):
        model.init(jax.random.key(0), jnp.zeros((1, 10, 10, 3), jnp.float32), alphas, train=True)
    with pytest.raises(InputError, match=r"shape \(2, 2\); this space needs \(5, 2\)"):
        softmax_weights(alphas, jdarts.uniform_space((SKIP, MAX), nodes=2))
    check_image_size(32, 32, cell_kinds(20))

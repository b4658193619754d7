"""Operations of Flax modules, and of implementations with batch norms inside."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jdarts
from jdarts import operations
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.nets.discrete import cifar_network
from jdarts.nets.edge_options import EdgeFactors
from jdarts.nets.initial import from_one_draw
from jdarts.nets.mixed_stage import MixedStage
from jdarts.nets.stages import stages
from jdarts.operations import OPERATIONS, implementation
from jdarts.ops.candidates import Implementation, WeightShape
from jdarts.space import uniform_space
from jdarts.testing import check_operation


class Gate(nn.Module):
    """A convolution with a bias, gated by another, with initial values that are not uniform."""

    channels: int
    stride: int
    size: int = 3

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, self.channels, (self.size,) * 2, self.stride, dtype=x.dtype)
        return conv(name="main")(x) * nn.sigmoid(conv(name="gate", bias_init=nn.initializers.ones)(x))


@pytest.fixture(autouse=True)
def broadcasting():
    """Plain computations and modules broadcast as NumPy does."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def gate():
    row = jdarts.register_operation("gate", functools.partial(Gate, size=1), family="convolution")
    yield row
    operations.unregister_operations([row.name])


def test_a_module_keeps_the_contract_of_operations(gate):
    check_operation(gate)


def test_a_module_is_an_operation_of_a_network_and_starts_with_its_own_values(gate):
    genotype = Genotype((("gate", 0), ("gate", 1)), (2,), (("gate", 0), ("skip_connect", 1)), (2,))
    network = cifar_network(genotype, channels=16, cells=3, auxiliary=False)
    images = jnp.ones((2, 8, 8, 3), jnp.float32)
    variables = jax.jit(from_one_draw(lambda key: network.init(key, images, train=False)))(jax.random.key(0))
    weights = variables["params"]["cell0"]["stage0"]["gate_of_0"]
    assert {name: leaf.shape for name, leaf in weights.items()} == {
        "main.kernel": (1, 1, 1, 16, 16), "main.bias": (1, 16), "gate.kernel": (1, 1, 1, 16, 16), "gate.bias": (1, 16),
    }  # fmt: skip
    assert jnp.all(weights["gate.bias"] == 1) and jnp.all(weights["main.bias"] == 0)
    # Flax's truncated normal numbers of variance 1/fan-in: others than uniform ones, the middle half is narrow.
    kernel = np.ravel(weights["main.kernel"])
    assert np.std(kernel) == pytest.approx(16**-0.5, rel=0.2)
    other = np.ravel(variables["params"]["cell0"]["stage0"]["gate_of_1"]["main.kernel"])
    assert not np.array_equal(kernel, other)
    middle = np.quantile(np.abs([*kernel, *other]), 0.5) / np.max(np.abs([*kernel, *other]))
    assert middle < 0.42  # 0.5 if they were uniform
    logits, _ = jax.jit(functools.partial(network.apply, train=False))(variables, images)
    assert logits.shape == (2, 10) and jnp.all(jnp.isfinite(logits))


class Flat(Gate):
    @nn.compact
    def __call__(self, x):
        return x * self.param("map", nn.initializers.ones, x.shape[1:], x.dtype)


class Normal(Gate):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(x)[:, :: self.stride, :: self.stride]


class Dropped(Gate):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(x)


class Wide(Gate):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(2 * self.channels, (1, 1), self.stride)(x)


class Grouped(Gate):
    @nn.compact
    def __call__(self, x):
        return nn.GroupNorm(num_groups=32)(x)


class Strideless(nn.Module):
    channels: int

    @nn.compact
    def __call__(self, x):
        return x


WRONG = {
    "batch norm": (Normal, r"operation own: its module has variables of the kind batch_stats; a batch norm follows"),
    "image size": (Flat, "parameters depend on the size of the images"),
    "dropout": (Dropped, "it draws random numbers"),
    "other channels": (Wide, r"maps float32 \(2, 8, 8, 16\) to float32 \(2, 8, 8, 32\) at stride 1"),
    "no stride": (Strideless, "its class must take channels= and stride="),
    "its own refusal": (Grouped, "its module fails on 16 channels: Number of groups"),
}


@pytest.mark.parametrize(("module", "words"), WRONG.values(), ids=list(WRONG))
def test_modules_that_cannot_be_are_refused_and_leave_nothing(module, words):
    before = list(OPERATIONS)
    with pytest.raises(InputError, match=words):
        jdarts.register_operation("own", module)
    assert list(OPERATIONS) == before


def test_one_way_of_computing_is_given():
    with pytest.raises(InputError, match="operation 'own': give a function or a module class, or implement="):
        jdarts.register_operation("own")
    with pytest.raises(InputError, match="operation 'own': weights= is for functions of one edge"):
        jdarts.register_operation("own", Gate, weights=lambda channels, stride: {})


def test_an_own_implementation_may_have_batch_norms_inside():
    def implement(stride):
        del stride
        scale = {"scale": WeightShape((), 1)}
        first = lambda states, weights: jnp.repeat(states, 2, axis=0)  # noqa: E731
        return Implementation(first, lambda x, weights: x[..., :-1], lambda channels: scale)

    with pytest.raises(InputError, match=r"operation own: maps float32 \(2, 8, 8, 4\) to float32 \(2, 8, 8, 3\)"):
        jdarts.register_operation("own", implement=implement)


# What jdarts brings, against plain convolutions.


def convolution(x, kernel, *, stride=1, groups=1):
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )  # fmt: skip


def normalised(x):
    return (x - x.mean((0, 1, 2))) / jnp.sqrt(x.var((0, 1, 2)) + 1e-5)


def excited(x, weights):
    hidden = jax.nn.relu(x.mean((1, 2)) @ weights["squeeze"] + weights["squeeze_shift"])
    return x * jax.nn.sigmoid(hidden @ weights["excite"] + weights["excite_shift"])[:, None, None]


def bottleneck(x, weights, stride):
    x = jax.nn.relu6(normalised(x @ weights["expand"]))
    depthwise = weights["depthwise"][:, :, None, :]
    x = jax.nn.relu6(normalised(convolution(x, depthwise, stride=stride, groups=x.shape[-1])))
    return normalised((excited(x, weights) if "squeeze" in weights else x) @ weights["project"])


def test_inverted_bottlenecks_beside_separable_convolutions_are_those_of_plain_convolutions():
    """Batch norms of three widths stand between the parts of the operations."""
    space = uniform_space(("mbconv3_3x3", "mbconv6_3x3_se", "sep_conv_3x3"), nodes=1)
    draw = np.random.default_rng(0)
    states, factors = jnp.asarray(draw.normal(size=(2, 3, 4, 4, 4))), jnp.asarray(draw.uniform(size=(2, 3)))
    module = MixedStage(next(stages(space, "reduce")), unfinished=1, stride=2, axis_name=None)
    init = functools.partial(module.init, train=True)
    variables = jax.jit(init)(jax.random.key(0), states, None, EdgeFactors(factors))
    assert {name: norm["mean"].shape for name, norm in variables["batch_stats"].items()} == {
        "middle": (2, 4), "middle1_by_3": (2, 12), "middle1_by_6": (2, 24), "middle2_by_3": (2, 12),
        "middle2_by_6": (2, 24), "last": (6, 4),
    }  # fmt: skip
    apply = functools.partial(module.apply, train=True, mutable=["batch_stats"])
    (node, _), _ = jax.jit(apply)(variables, states, None, EdgeFactors(factors))

    def separable(x, weights, stride):
        for number in (1, 2):
            kernel = weights[f"depthwise{number}"][:, :, None, :]
            x = convolution(jax.nn.relu(x), kernel, stride=stride if number == 1 else 1, groups=4)
            x = normalised(x @ weights[f"pointwise{number}"])
        return x

    @jax.jit
    def plainly(params):
        total = 0
        for column, (name, plain) in enumerate(zip(space.normal[0], (bottleneck, bottleneck, separable))):
            for edge in range(2):
                weights = {key: array[edge] for key, array in params[name].items()}
                total += factors[edge, column] * plain(states[edge], weights, 2)
        return total

    np.testing.assert_allclose(node[0], plainly(variables["params"]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("stride", (1, 2))
def test_full_convolutions_and_excitation_are_those_of_plain_ones(stride):
    draw = np.random.default_rng(0)
    states = jnp.asarray(draw.normal(size=(2, 2, 4, 4, 4)))

    plain = {
        "conv_3x3": lambda x, w: convolution(jax.nn.relu(x), w["kernel"], stride=stride),
        "conv_1x1": lambda x, w: convolution(jax.nn.relu(x), w["pointwise"][None, None], stride=stride),
        "squeeze_excitation": lambda x, w: excited(x, w)[:, ::stride, ::stride],
    }
    weights = {
        name: {key: draw.normal(size=(4, *s.shape)) for key, s in implementation(name, stride).weights(4).items()}
        for name in plain
    }

    @jax.jit
    def both(states, weights):
        found = {name: implementation(name, stride).first(states, each) for name, each in weights.items()}
        edges = {
            name: [of_edge(states[edge // 2], {key: w[edge] for key, w in weights[name].items()}) for edge in range(4)]
            for name, of_edge in plain.items()
        }
        return found, edges

    found, expected = jax.device_get(both(states, weights))
    for name in plain:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_plain_average_pool_is_the_other_without_a_batch_norm():
    states = jnp.arange(32.0).reshape(1, 1, 4, 4, 2)
    for stride in (1, 2):
        plain, usual = implementation("plain_avg_pool_3x3", stride), implementation("avg_pool_3x3", stride)
        np.testing.assert_array_equal(plain.first(states, {}), usual.first(states, {}))
        assert usual.normalised and not plain.normalised

"""What holds for every row of the tables of operations and activations, and for rows that a program adds."""

import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from own_programs import own_programs

import jdarts
from jdarts import native, operations
from jdarts.derivation import derive_genotype
from jdarts.describe import describe
from jdarts.errors import InputError
from jdarts.genotype import Genotype, RecurrentGenotype, parse_genotype
from jdarts.nets.discrete import cifar_network
from jdarts.nets.edge_options import EdgeFactors
from jdarts.nets.language import LanguageModel
from jdarts.nets.mixed_stage import MixedStage
from jdarts.nets.reference_names import discrete_entries
from jdarts.nets.stages import stages
from jdarts.nets.supernet import Supernet
from jdarts.operations import ACTIVATIONS, NONE, OPERATIONS, implementation
from jdarts.report import draw_genotype
from jdarts.space import recurrent_space, uniform_space
from jdarts.testing import check_operation

SOURCES, TARGETS, CHANNELS, SIZE = 2, 2, 4, 6
EDGES = SOURCES * TARGETS
SKIPS = (("skip_connect", 0), ("skip_connect", 1))


def close(found, expected, *, rtol=1e-9, atol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), found, expected)


def inputs_of(row, stride, seed=0):
    """Sources and weights of a row at a stride, in float64."""
    draw = np.random.default_rng(seed)
    states = jnp.asarray(draw.normal(size=(SOURCES, 2, SIZE, SIZE, CHANNELS)))
    shapes = row.implement(stride).weights(CHANNELS)
    assert all(fan_in > 0 for _, fan_in in shapes.values())
    return states, {key: jnp.asarray(draw.normal(size=(EDGES, *shape))) for key, (shape, _) in shapes.items()}


def applied(row, stride, states, weights):
    """What a row makes of its sources before its last batch norm; between two batch norms stands the identity."""
    operation = row.implement(stride)
    z = operation.first(states, weights)
    for part in filter(None, (operation.second, operation.third)):
        z = part(z, weights)
    return z


#: Rows of which no other differs in the size of a kernel or a width alone.
DIFFERENT = [name for name in OPERATIONS if name not in ("mbconv3_3x3", "mbconv3_5x5", "mbconv6_5x5")]


@pytest.mark.parametrize("name", DIFFERENT)
def test_contract_of_every_operation(name):
    check_operation(name)


def test_every_operation_is_the_same_natively_and_in_operations_of_xla(monkeypatch):
    if native.lowering("pointwise", np.dtype(np.float64)) is None:
        pytest.skip("no native library can be built here")
    inputs = {name: inputs_of(row, 2) for name, row in OPERATIONS.items() if not row.implement(2).random}

    def total(inputs):
        outs = {name: applied(OPERATIONS[name], 2, *arrays) for name, arrays in inputs.items()}
        return sum(jnp.sum(jnp.sin(out)) for out in outs.values()), outs

    found = []
    for switch in ("1", "0"):
        monkeypatch.setenv("JDARTS_NATIVE", switch)
        with own_programs():
            lowered = jax.jit(jax.grad(total, has_aux=True)).lower(inputs)
        assert ("@jdarts_" in lowered.as_text()) == (switch == "1")
        found.append(lowered.compile()(inputs))
    close(*found)


def shapes_of_search_network(space):
    model = Supernet(space, channels=4, cells=3, classes=3)
    alphas = {
        kind: jax.ShapeDtypeStruct((space.num_edges, space.width(kind)), jnp.float32) for kind in ("normal", "reduce")
    }
    images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)

    def run(images, alphas):
        keys = {"params": jax.random.key(0), "noise": jax.random.key(1)}
        variables = model.init(keys, images, alphas, train=True)
        return model.apply(variables, images, alphas, train=False, rngs={"noise": jax.random.key(2)}), variables

    return jax.eval_shape(run, images, alphas)


class Together(NamedTuple):
    """Some operations in one network for searches, and in the cells of one found network."""

    logits: Any
    stage: Any
    weights: int
    drawing: str


@functools.cache
def together(names):
    """Networks and a drawing of the operations; a found cell has one node, which reads its first input by all of them."""
    searchable = [name for name in names if OPERATIONS[name].searchable]
    logits, variables = shapes_of_search_network(uniform_space((NONE, *searchable), nodes=1))
    edges = tuple((name, 0) for name in names)
    genotype = Genotype(edges, (2,), edges, (2,), edges_per_node=((len(edges),), (len(edges),)))
    with tempfile.TemporaryDirectory() as folder:
        draw_genotype(genotype, f"{folder}/cell.svg")
        drawing = Path(folder, "cell.svg").read_text()
    weights = describe(genotype, channels=4, cells=3).parts["cell1"].weights
    return Together(logits, variables["params"]["cell1"]["stage0"], weights, drawing)


def check_places(name, found):
    """An operation among others that were put together has its place in spaces, genotypes, networks and drawings."""
    genotype = Genotype(((name, 0), ("skip_connect", 1)), (2,), ((name, 0), (name, 1)), (2,))
    assert parse_genotype(str(genotype)) == genotype
    for alias in OPERATIONS[name].aliases:
        assert parse_genotype(str(genotype).replace(name, alias)) == genotype
    assert found.logits.shape == (2, 3)
    if OPERATIONS[name].searchable:
        assert (name in found.stage) == implementation(name, 2).has_weights
    else:
        assert name not in found.stage
        with pytest.raises(InputError, match=f"unknown operation '{name}' on edge 0 of the normal cell"):
            uniform_space((NONE, name), nodes=1)
    assert found.weights > 0
    if (reference := OPERATIONS[name].reference) is not None:
        network = cifar_network(genotype, channels=4, cells=3)
        layers = {layer for entry in discrete_entries(network) for layer in entry.names}
        assert f"cells.1._ops.0.{reference.last}.running_mean" in layers
    assert f"<!-- {name} -->" in found.drawing


@pytest.mark.parametrize("name", DIFFERENT)
def test_every_operation_has_its_place_in_spaces_genotypes_networks_and_drawings(name):
    check_places(name, together(tuple(DIFFERENT)))


def test_the_paper_space_is_that_of_the_table():
    assert [name for name, row in OPERATIONS.items() if row.in_paper] == list(jdarts.darts_space().normal[0][1:])
    assert [name for name, row in ACTIVATIONS.items() if row.in_paper] == list(recurrent_space().recurrent[0][1:])


# Rows that a program adds.


def _blurred(x, weights, stride):
    """A 1×1 convolution of every other pixel, of the ReLU."""
    del stride
    return jnp.einsum("bhwc,cd->bhwd", jax.nn.relu(x), weights["matrix"])


def strided_pointwise(x, weights, stride):
    return _blurred(x[:, ::stride, ::stride], weights, stride)


@pytest.fixture
def own_operations():
    """Two operations with and without weights."""
    rows = [
        jdarts.register_operation(
            "own_conv", strided_pointwise, weights=lambda channels, stride: {"matrix": (channels, channels)}
        ),
        jdarts.register_operation("negative", lambda x, weights, stride: -x[:, ::stride, ::stride], family="skip"),
    ]
    yield rows
    for row in rows:
        del operations._operations[row.name]


@pytest.fixture
def own_activation():
    row = jdarts.register_activation("tanh_again", jnp.tanh)
    yield row
    del operations._activations[row.name]


def test_an_own_operation_keeps_the_contract(own_operations):
    for row in own_operations:
        check_operation(row)


def test_an_own_operation_has_its_place(own_operations):
    names = tuple(row.name for row in own_operations)
    for name in names:
        check_places(name, together(names))
    space = uniform_space(("own_conv", "negative"), nodes=1)
    genotype = derive_genotype({kind: np.array([[1.0, 0], [0, 1.0]]) for kind in ("normal", "reduce")}, space)
    assert genotype.normal == (("own_conv", 0), ("negative", 1))
    # Two reduction cells of 8 and 16 channels, on 4×4 and 2×2 pixels after their stride.
    plain = Genotype(SKIPS, (2,), (("max_pool_3x3", 0), ("max_pool_3x3", 1)), (2,))
    own = Genotype(SKIPS, (2,), (("own_conv", 0), ("max_pool_3x3", 1)), (2,))
    more = [describe(each, channels=4, cells=3, image_size=8).to_json()["multiply_adds"] for each in (plain, own)]
    assert more[1] - more[0] == 4 * 4 * 8 * 8 + 2 * 2 * 16 * 16


def test_an_own_operation_is_weighted_as_those_of_the_table(own_operations):
    """A node of `5x` and `x`, without batch norms, is `(5 w₀ + w₁) · x`, summed over its edges."""
    own_operations.append(
        jdarts.register_operation("five", lambda x, weights, stride: 5 * x[:, ::stride, ::stride], normalised=False)
    )
    space = uniform_space(("five", "skip_connect"), nodes=1)
    draw = np.random.default_rng(0)
    states, weights = jnp.asarray(draw.normal(size=(2, 2, 4, 4, 2))), jnp.asarray(draw.uniform(size=(2, 2)))
    stage = MixedStage(next(stages(space, "normal")), unfinished=1, stride=1, axis_name=None)
    node, _ = stage.apply({}, states, None, EdgeFactors(weights), train=False)
    expected = jnp.einsum("e,ebhwc->bhwc", 5 * weights[:, 0] + weights[:, 1], states)
    close(node[0], expected)


def test_an_own_activation_has_its_place(own_activation, tmp_path):
    name = own_activation.name
    genotype = RecurrentGenotype(((name, 0), ("tanh", 1)), (1, 2))
    assert parse_genotype(str(genotype)) == genotype
    draw_genotype(genotype, tmp_path / "cell.svg")
    assert name in (tmp_path / "cell.svg").read_text()
    model = LanguageModel(genotype, 5, 4, jnp.float64)
    tokens, hidden = jax.ShapeDtypeStruct((3, 2), jnp.int32), jax.ShapeDtypeStruct((2, 4), jnp.float64)
    made, _ = jax.eval_shape(
        lambda *inputs: model.init_with_output(jax.random.key(0), *inputs, train=True), tokens, hidden
    )
    assert made.logits.shape == (3, 2, 5)


def test_an_own_activation_is_weighted_as_those_of_the_kernel(own_activation):
    """In a search cell `tanh` under another name, which the kernel does not have, makes the same numbers."""
    tokens, hidden = jnp.asarray([[1, 2], [3, 4]], jnp.int32), jnp.full((2, 4), 0.3)
    alphas = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)))

    def loss_and_gradient(name):
        model = LanguageModel(recurrent_space((NONE, name, "relu"), nodes=2), 5, 4, jnp.float64)

        def loss(alphas):
            variables = model.init(jax.random.key(0), tokens, hidden, alphas, train=True)
            prediction: Any = model.apply(variables, tokens, hidden, alphas, train=False)
            return jnp.sum(jnp.sin(prediction.logits))

        return jax.jit(jax.value_and_grad(loss))(alphas)

    found = loss_and_gradient(own_activation.name)
    close(found, loss_and_gradient("tanh"))
    assert jnp.all(found[1] != 0)


def same(x, weights, stride):
    return x[:, ::stride, ::stride]


WRONG = {
    "a taken name": (("skip_connect", same), {}, "operation skip_connect: the name is taken"),
    "an alias": (("max_pooling_3x3", same), {}, "the name is taken"),
    "none": (("none", same), {}, "the name is taken"),
    "a name of a batch norm": (("last", same), {}, "the name is taken"),
    "a capital letter": (("Swish", same), {}, "operation 'Swish': give a name of 2 to 40 small letters"),
    "a quote": (("a'b", same), {}, "give a name of 2 to 40 small letters"),
    "no text": ((3, same), {}, "operation 3: give a name"),
    "a family": (("own", same), {"family": "blue"}, "family 'blue'; give one of convolution"),
    "no stride": (("own", lambda x, weights, stride: x), {}, r"at stride 2; its output must be float32 \(2, 4, 4, 4\)"),
    "another type": (
        ("own", lambda x, weights, stride: same(x, weights, stride).astype(jnp.int32)),
        {},
        r"operation own: maps float32 .* to int32 .* at stride 1; its output must be float32",
    ),
    "an empty weight": (
        ("own", same), {"weights": lambda channels, stride: {"w": (0, channels)}}, "weight w of shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "named", "words"), WRONG.values(), ids=list(WRONG))
def test_rows_that_cannot_be_are_refused_and_leave_nothing(arguments, named, words):
    before = list(OPERATIONS)
    with pytest.raises(InputError, match=words):
        jdarts.register_operation(*arguments, **named)
    assert list(OPERATIONS) == before


def test_activations_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="activation relu: the name is taken"):
        jdarts.register_activation("relu", jnp.tanh)
    with pytest.raises(InputError, match="activation total: maps float32"):
        jdarts.register_activation("total", jnp.sum)
    assert "total" not in ACTIVATIONS


def test_names_and_strides_that_are_not_there_are_explained():
    with pytest.raises(InputError, match="unknown operation 'conv'"):
        implementation("conv", 1)
    with pytest.raises(InputError, match="stride 3"):
        implementation("skip_connect", 3)


def test_weights_by_names_of_the_reference_are_refused_where_it_has_none(own_operations):
    genotype = Genotype((("own_conv", 0), ("negative", 1)), (2,), SKIPS, (2,))
    with pytest.raises(InputError, match="operation own_conv has no layers in the reference implementation"):
        list(discrete_entries(cifar_network(genotype, channels=4, cells=3)))


def test_pieces_with_an_own_name_are_seen_in_a_text(own_operations):
    """A damaged beginning before a whole genotype is not passed over."""
    whole = "Genotype(normal=[('negative', 0), ('negative', 1)], normal_concat=[2], reduce=[('negative', 0), ('negative', 1)], "
    whole += "reduce_concat=[2])"
    with pytest.raises(InputError, match="cut off"):
        parse_genotype(f"enotype(normal=[('negative', 0), ('negative', 1)])\n{whole}")

"""The native search cell over time: against the same cell in operations of JAX, with its derivatives."""

import functools
import re
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts import native
from jdarts.nets.language import LanguageModel
from jdarts.nets.language_loss import Segment, language_loss
from jdarts.ops.cell_for_accelerators import cell_for_accelerators
from jdarts.ops.dropped import dropped_product
from jdarts.ops.found_cell import Node, found_cell
from jdarts.ops.highway import mixed_highway
from jdarts.ops.recurrent import CellInputs, mixed_cell
from jdarts.ops.search_cell import search_cell
from jdarts.space import recurrent_space
from jdarts.xla.jaxprs import equations, has_forward_mode
from jdarts.xla.platform import compiling_for

CONCAT = (0, 1)
EVERY = tuple(range(5))


def arguments(steps=4, batch=5, width=6, nodes=2, seed=0):
    random = np.random.RandomState(seed)
    shapes = (
        (nodes * (nodes + 1) // 2, 4),
        (width, 2 * width),
        (nodes, width, 2 * width),
        (steps, batch, 2 * width),
        (batch, width),
    )
    mask = random.binomial(1, 0.7, (batch, width)) / 0.7
    return tuple(jnp.asarray(random.randn(*shape)) for shape in shapes), jnp.asarray(mask)


def natively(moving, mask, length):
    mixture, recurrent, matrices, projected, hidden = moving
    return search_cell(mixture, recurrent, matrices, projected, hidden, mask, jnp.int32(length), CONCAT)


def in_jnp(moving, mask, length):
    mixture, recurrent, matrices, projected, hidden = moving
    words = None if length is None else jnp.int32(length)
    outputs, last, moments = mixed_cell(mixture, recurrent, matrices, projected, hidden, mask, words, concat=CONCAT)
    return outputs, last, *moments


def scalar(function, mask, length, seed=3):
    def loss(*moving):
        results = function(moving, mask, length)
        random = np.random.RandomState(seed)
        return sum(jnp.sum(jnp.asarray(random.randn(*result.shape)) * result) for result in results)

    return loss


def curved(function, mask, length):
    """A loss of all results whose cotangents move with the arguments."""

    def loss(*moving):
        results = function(moving, mask, length)
        return sum(jnp.sum(jnp.sin((1 + number) * result)) for number, result in enumerate(results))

    return loss


def gradient_of(function, mask, length):
    return jax.grad(curved(function, mask, length), argnums=EVERY)


def second_derivatives(function, mask, length, directions):
    """Of the curved loss along directions, in reverse mode: the gradient of the gradient's product with them."""

    def along(*moving):
        gradients = gradient_of(function, mask, length)(*moving)
        return sum(jnp.vdot(one, direction) for one, direction in zip(gradients, directions))

    return jax.grad(along, argnums=EVERY)


class Derivatives(NamedTuple):
    """What the cell in operations of JAX gives: its derivatives are in reverse mode alone."""

    results: Any
    tangents: Any
    gradients: Any
    second: Any


@functools.cache
def plain():
    """Results and all derivatives of the cell in operations of JAX, which are the same on every path, by length."""
    (moving, mask), (directions, _) = arguments(), arguments(seed=1)

    @jax.jit
    def at(length):
        def function(*moving):
            return in_jnp(moving, mask, length)

        results, pull = jax.vjp(function, *moving)
        # A pull-back is linear, and its own pull-back its transpose.
        tangents = jax.vjp(pull, jax.tree.map(jnp.zeros_like, results))[1](directions)[0]
        gradients = gradient_of(in_jnp, mask, length)(*moving)
        return Derivatives(results, tangents, gradients, second_derivatives(in_jnp, mask, length, directions)(*moving))

    return {length: jax.device_get(at(length)) for length in (0, 3)}


def test_results_and_gradients(path):
    moving, mask = arguments()
    found = jax.jit(lambda length: (natively(moving, mask, length), gradient_of(natively, mask, length)(*moving)))
    for length, expected in plain().items():
        expected = expected.results, expected.gradients
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), found(length), expected)


def test_lengths_of_any_integer_type(path):
    moving, mask = arguments(steps=140, batch=2, nodes=1, width=2)
    mixture, recurrent, matrices, projected, hidden = moving
    run = jax.jit(lambda length: search_cell(mixture, recurrent, matrices, projected, hidden, mask, length, CONCAT))
    expected = run(jnp.int32(100))
    for length in (jnp.int8(100), jnp.uint8(100), jnp.int64(100)):
        jax.tree.map(np.testing.assert_array_equal, run(length), expected)


def derivatives_of_gradients(function, length):
    moving, mask = arguments(steps=2, nodes=1)

    def along(*moving):
        gradients = jax.grad(scalar(function, mask, length), argnums=EVERY)(*moving)
        return sum(jnp.sum(jnp.sin(one)) for one in gradients)

    return jax.grad(along, argnums=EVERY)(*moving)


@functools.cache
def plain_derivatives_of_gradients():
    return jax.device_get(jax.jit(partial(derivatives_of_gradients, in_jnp))(1))


def test_derivatives_of_gradients(path):
    found, expected = jax.jit(partial(derivatives_of_gradients, natively))(1), plain_derivatives_of_gradients()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), found, expected)


def test_tangents_of_results_and_gradients(path):
    """All tangents at once, those of the statistics and of the matrices among them."""
    (moving, mask), (tangents, _) = arguments(), arguments(seed=1)

    @jax.jit
    def found(length):
        results = jax.jvp(lambda *moving: natively(moving, mask, length), moving, tangents)[1]
        return results, jax.jvp(gradient_of(natively, mask, length), moving, tangents)[1]

    for length, expected in plain().items():
        expected = expected.tangents, expected.second
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found(length), expected)


@pytest.mark.parametrize("argument, results", [(0, 3), (2, 5)])
def test_tangents_of_the_matrices_gradients_are_left_out_where_nobody_asks(argument, results):
    if not native.is_native_here("search_cell", np.float64):
        pytest.skip("no native library can be built here")
    moving, mask = arguments(steps=2, nodes=1)

    def product(*tangents):
        return jax.jvp(gradient_of(natively, mask, 1), moving, tangents)[1][argument]

    program = jax.jit(product).lower(*moving).as_text()
    calls = re.findall(r":(\d+) = stablehlo.custom_call @jdarts_search_cell_backward_tangent_float64\(", program)
    assert calls == [str(results)]


def loss_of_a_network():
    """The loss of a small search network for text, with weights and alphas that it takes."""
    model = LanguageModel(recurrent_space(nodes=1), 5, 3)
    words, hidden, alphas = jnp.zeros((2, 2), jnp.int32), jnp.zeros((2, 3), jnp.float32), jnp.zeros((1, 5), jnp.float32)
    variables = jax.jit(partial(model.init, train=True))(jax.random.key(0), words, hidden, alphas)

    def loss(weights, alphas):
        segment = Segment(words, words, hidden)
        return language_loss(model)(weights, alphas, variables["batch_stats"], segment, jax.random.key(0))[0]

    return loss, variables["params"], alphas


def test_the_loss_of_a_search_has_a_forward_mode():
    """The exact estimator takes the slower way where a loss has none."""
    if not native.is_native_here("search_cell", np.float32):
        pytest.skip("no native library can be built here")
    loss, weights, alphas = loss_of_a_network()

    assert has_forward_mode(loss, weights, alphas)


def test_lanes_of_vmap(path):
    moving, mask = arguments()
    lanes = jnp.stack([moving[0], -moving[0]])

    def gradient(mixture):
        return jax.grad(scalar(natively, mask, 3), argnums=(0, 2))(mixture, *moving[1:])

    found, alone = jax.jit(jax.vmap(gradient))(lanes), jax.jit(gradient)
    for lane in range(2):
        jax.tree.map(
            lambda a, b, lane=lane: np.testing.assert_allclose(a[lane], b, rtol=1e-10, atol=1e-12),
            found,
            alone(lanes[lane]),
        )


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("gpu", False)])
def test_only_native_functions_take_the_lanes_in_turn(platform, loops):
    """A GPU would launch the kernels of one lane after those of the other."""

    def of_highway(weights, states):
        return jnp.sum(mixed_highway(weights, states, states, states))

    def of_product(words, matrix):
        return jnp.sum(dropped_product(words, matrix, jnp.ones((5, 6))) ** 2)

    states = jnp.ones((2, 3, 5, 6))
    with compiling_for(platform):
        for function, first, second in (
            (of_highway, jnp.ones((2, 3, 4)), states),
            (of_product, states, jnp.ones((2, 7, 6))),
        ):
            traced = jax.make_jaxpr(jax.vmap(jax.grad(function, argnums=(0, 1))))(first, second)
            assert any(each.primitive.name == "scan" for each in equations(traced)) is loops


def test_the_network_takes_it_on_a_cpu(monkeypatch):
    assert native.is_native_here("search_cell", np.float16) is False
    monkeypatch.setenv("JDARTS_NATIVE", "0")
    assert native.is_native_here("search_cell", np.float32) is False


def on_accelerators(moving, mask, length):
    mixture, recurrent, matrices, projected, hidden = moving
    words = None if length is None else jnp.int32(length)
    inputs = CellInputs(recurrent, matrices, projected, hidden, mask, words)
    outputs, last, moments = cell_for_accelerators(mixture, inputs, CONCAT)
    return outputs, last, *moments


@pytest.mark.parametrize(("masked", "length"), [(True, 3), (False, 4), (True, None)])
def test_the_cell_for_accelerators_is_the_cell(masked, length):
    (moving, mask), (directions, _) = arguments(), arguments(seed=1)
    given = mask if masked else None, length

    def derivatives(function):
        return function(moving, *given), gradient_of(function, *given)(*moving)

    with compiling_for("gpu"):
        found = jax.jit(lambda: derivatives(on_accelerators))()
        if length == 3:
            second = jax.jit(second_derivatives(on_accelerators, *given, directions))(*moving)
            chex.assert_trees_all_close(second, plain()[3].second, rtol=1e-7, atol=1e-6)
    expected = (plain()[3].results, plain()[3].gradients) if length == 3 else jax.jit(lambda: derivatives(in_jnp))()
    chex.assert_trees_all_close(found, expected, rtol=1e-7, atol=1e-6)


def test_several_cells_for_accelerators_at_once():
    moving, mask = arguments()
    lanes = [jnp.stack([array, 0.5 * array]) for array in moving]
    with compiling_for("gpu"):

        def function(*moving):
            return on_accelerators(moving, mask, 3), gradient_of(on_accelerators, mask, 3)(*moving)

        traced = jax.make_jaxpr(jax.vmap(function))(*lanes)
        found = jax.jit(jax.vmap(function))(*lanes)
        alone = jax.jit(function)
        for lane in range(2):
            expected = alone(*(array[lane] for array in lanes))
            chex.assert_trees_all_close(
                jax.tree.map(lambda array, lane=lane: array[lane], found), expected, rtol=1e-9, atol=1e-12
            )
    lengths = {each.params["length"] for each in equations(traced) if each.primitive.name == "scan"}
    assert lengths == {4}, "loops are over words alone"


def test_the_network_takes_it_on_accelerators(monkeypatch):
    """Its loops hold no product for a matrix's gradient, which are those of all words together."""
    loss, weights, alphas = loss_of_a_network()

    def products_in_loops(platform):
        with compiling_for(platform):
            traced = jax.make_jaxpr(jax.grad(loss))(weights, alphas)
        loops = [each for each in equations(traced) if each.primitive.name == "scan"]
        return sum(each.primitive.name == "dot_general" for loop in loops for each in equations(loop.params["jaxpr"]))

    monkeypatch.setenv("JDARTS_NATIVE", "0")
    # Forward and back, a product with the matrix of the hidden state and one with that of the node.
    assert products_in_loops("gpu") == 4
    assert products_in_loops("cpu") > 6


@pytest.mark.parametrize(("masked", "length"), [(True, 3), (False, None)])
def test_the_found_cell_has_the_same_derivatives_on_accelerators(masked, length):
    """Nodes that share a source, one that reads the first state, and states that nobody reads; activations with a kink too."""
    _, recurrent, matrices, projected, hidden = arguments(nodes=4)[0]
    mask = arguments()[1] if masked else None
    nodes = [Node(jnp.tanh, 0), Node(jax.nn.relu, 1), Node(jax.nn.sigmoid, 1), Node(lambda x: x, 0)]
    words = None if length is None else jnp.int32(length)

    def results(recurrent, matrices, projected, hidden):
        return found_cell(CellInputs(recurrent, matrices, projected, hidden, mask, words), nodes, (1, 3, 4))

    def gradient(*moving):
        def loss(*moving):
            return sum(jnp.sum(jnp.sin((1 + number) * each)) for number, each in enumerate(results(*moving)))

        return jax.grad(loss, argnums=(0, 1, 2, 3))(*moving)

    moving = recurrent, matrices, projected, hidden
    lanes = [jnp.stack([each, 0.5 * each]) for each in moving]
    found = {}
    for platform in ("cpu", "gpu"):
        with compiling_for(platform):
            found[platform] = jax.jit(lambda: (results(*moving), gradient(*moving), jax.vmap(gradient)(*lanes)))()
            traced = jax.make_jaxpr(gradient)(*moving)
    chex.assert_trees_all_close(found["gpu"], found["cpu"], rtol=1e-9, atol=1e-12)
    (back,) = [each for each in equations(traced) if each.primitive.name == "scan" and each.params["reverse"]]
    # One product for the hidden state, and one for each state that nodes read.
    products = [each for each in equations(back.params["jaxpr"]) if each.primitive.name == "dot_general"]
    assert len(products) == 3

"""The examples of networks with choices: exact hypergradients, decided networks, and one of them as a command."""

import importlib
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from choice_networks import one_hot_outputs
from small_runs import leave_undrawn

import jdarts
from jdarts.nets.counts import count_weights

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "choices"
pytestmark = pytest.mark.usefixtures("standard_promotion", "any_rank")


@pytest.fixture
def any_rank():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for path in FOLDER.glob("*.py"):
        sys.modules.pop(path.stem, None)


#: Network, inputs, targets, loss and choices of each.
EXAMPLES: dict[str, Any] = {
    "mlp": (
        lambda module: module.Perceptron(),
        [(10,)],
        np.linspace(-1, 1, 6),
        "squared_error",
        {"width": "8", "activation": "gelu", "layer": "skip"},
    ),
    "two_towers": (
        lambda module: module.Towers(),
        [(20,), (10,)],
        np.arange(6) % 2,
        "binary_cross_entropy",
        {"left": "none", "right": "layer", "join": ("left", "product")},
    ),
    "vision_transformer": (
        lambda module: module.Transformer(blocks=1),
        [(8, 8, 1)],
        np.arange(6),
        "cross_entropy",
        {"block0": "block", "block0/block/heads": "2", "block0/block/width": "16", "activation": "relu"},
    ),
}


def parts(module, name):
    """The network of an example with weights and alphas in float64, two batches, its loss and choices."""
    make, shapes, targets, loss, choices = EXAMPLES[name]
    network, key = make(module), jax.random.key(0)
    draws = [np.random.default_rng(seed) for seed in (1, 2)]
    batches = [(tuple(draw.normal(size=(6, *shape)) for shape in shapes), targets) for draw in draws]
    draw = np.random.default_rng(0)
    shapes_of_variables = jax.eval_shape(network.init, key, *batches[0][0])
    variables = jax.tree.map(lambda leaf: draw.normal(scale=0.3, size=leaf.shape), shapes_of_variables)
    weights, alphas, _ = jdarts.split_variables(variables)
    return network, weights, alphas, batches, loss, choices


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_exact_hypergradient_is_the_gradient_through_the_unrolled_step(example, name):
    network, weights, alphas, (train, valid), loss, _ = parts(example(name), name)
    # Under jit all passes share one trace.
    loss_fn, rate, key = jax.jit(jdarts.network_loss(network, loss)), 0.1, jax.random.key(0)

    def value(weights, alphas, batch):
        return loss_fn(weights, alphas, (), batch, key)[0]

    def through_the_step(alphas):
        gradient = jax.grad(value)(weights, alphas, train)
        return value(jax.tree.map(lambda w, g: w - rate * g, weights, gradient), alphas, valid)

    optimizers: Any = {"weight_optimizer": optax.sgd(rate), "alpha_optimizer": optax.sgd(1.0)}
    state = jdarts.init_state(key, weights, alphas, **optimizers)

    @jax.jit
    def both(state):
        new, _ = jdarts.bilevel_step(state, train, valid, loss_fn=loss_fn, **optimizers)
        return jax.tree.map(jnp.subtract, state.alphas, new.alphas), jax.grad(through_the_step)(state.alphas)

    found, expected = both(state)
    for choice, each in expected.items():
        np.testing.assert_allclose(found[choice].values, each.values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_decided_network_is_the_mixture_at_one_hot_weights(example, name):
    network, weights, alphas, ((inputs, _), _), _, choices = parts(example(name), name)
    small, variables = jdarts.decided(network, choices, {"params": weights}, *inputs)

    @jax.jit
    def both(weights, variables):
        expected, _ = one_hot_outputs(network, weights, alphas, choices, (), *inputs)
        return small.apply(variables, *inputs), expected

    np.testing.assert_allclose(*both(weights, variables), atol=1e-6)
    assert count_weights(variables) < count_weights(weights)


@pytest.fixture
def run(example, monkeypatch, capsys):
    def run(*arguments):
        module = example("mlp")
        leave_undrawn(monkeypatch.setattr)
        monkeypatch.setattr(sys, "argv", ["mlp.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            example("example").run_example(module.solved, module.CONFIG, module.__doc__)
        return ended.value.code, *capsys.readouterr()

    return run


def test_an_example_is_a_command_that_resumes(run, tmp_path):
    options = ("--epochs", "2", "--run-dir", str(tmp_path / "mlp"))
    code, out, err = run(*options)
    assert code == 0, err
    assert "searching in Perceptron on mlp: 3 choices" in out and "training Perceptron on mlp" in out
    assert "absolute error" in out
    last = out.splitlines()[-1]
    assert last.startswith("393 weights became ") and ", absolute_error " in last
    code, out, err = run(*options)
    assert code == 0 and out.count("has finished") == 2 and out.splitlines()[-1] == last


def test_a_wrong_argument_is_refused(run):
    code, out, err = run("--batch-size", "0")
    assert (code, out, err) == (2, "", "error: --batch-size is 0; give 1 or more\n")

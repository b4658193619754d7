"""What saves memory: microbatches, cells computed again, narrow feature maps; and what is said of the step's memory."""

import functools
from typing import Any, get_args

import chex
import jax
import jax.flatten_util
import jax.numpy as jnp
import many_devices
import numpy as np
import optax
import pytest
from small_search import config

import jdarts
from jdarts import InputError
from jdarts.microbatches import in_microbatches
from jdarts.nets.supernet import Supernet, supernet_compiler_options
from jdarts.relaxation import init_alphas
from jdarts.runs.memory import StepMemory, cheaper_estimators, format_bytes, memory_lines, smaller_shares, step_memory
from jdarts.search import SearchConfig
from jdarts.search.config import Hypergradient
from jdarts.search.memory_options import unused_memory_options
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space

pytestmark = pytest.mark.usefixtures("standard_promotion")


def plain_loss(weights, alphas, model_state, batch, key):
    """A loss that does not mix the examples of a batch."""
    del key
    x, y = batch
    errors = jnp.square(jnp.tanh(x @ weights["hidden"]) @ (weights["out"] * jax.nn.softmax(alphas)) - y)
    return jnp.mean(errors), (model_state + jnp.mean(x), {"largest": jnp.mean(errors) + jnp.mean(y)})


def plain_problem(size, hidden):
    draw = np.random.default_rng(0)
    weights = {"hidden": jnp.asarray(draw.normal(size=(3, hidden))), "out": jnp.asarray(draw.normal(size=hidden))}
    batches = [(jnp.asarray(draw.normal(size=(size, 3))), jnp.asarray(draw.normal(size=size))) for _ in range(2)]
    optimizers = {"weight_optimizer": optax.sgd(0.1, momentum=0.9), "alpha_optimizer": optax.sgd(0.1)}
    state = jdarts.init_state(jax.random.key(0), weights, jnp.zeros(hidden), jnp.zeros(()), **optimizers)
    return state, batches, optimizers


def plain_step(parts, hypergradient, optimizers):
    loss = in_microbatches(plain_loss, parts)
    return jax.jit(functools.partial(jdarts.bilevel_step, loss_fn=loss, hypergradient=hypergradient, **optimizers))


@pytest.mark.parametrize("hypergradient", many_devices.ESTIMATORS.values(), ids=list(many_devices.ESTIMATORS))
def test_microbatches_are_the_batch_where_examples_do_not_mix(hypergradient):
    state, batches, optimizers = plain_problem(12, 4)
    whole, parts = (plain_step(count, hypergradient, optimizers)(state, *batches) for count in (1, 4))
    chex.assert_trees_all_close(parts[0].replace(key=()), whole[0].replace(key=()), rtol=1e-9, atol=1e-12)
    chex.assert_trees_all_close(parts[1], whole[1], rtol=1e-9, atol=1e-12)


def test_a_second_order_step_needs_the_memory_of_a_part():
    state, batches, optimizers = plain_problem(512, 512)
    needs = []
    for parts in (1, 8):
        compiled = plain_step(parts, jdarts.exact(), optimizers).lower(state, *batches).compile()
        needs.append(step_memory(compiled))
    whole, part = needs
    assert whole is not None and part is not None
    assert part.persistent == whole.persistent
    assert part.temporary < 0.5 * whole.temporary
    # One map of the whole batch at least.
    assert whole.temporary > 8 * 512 * 512


def test_microbatches_of_batch_norms_in_a_second_order_step():
    state = many_devices.start(many_devices.MixedLayer)
    (train, valid), *_ = many_devices.batches(1)
    network: Any = many_devices.MixedLayer(None)
    loss = supernet_loss(network)

    def in_parts(weights, alphas, model_state, batch, key):
        """The mean over halves, written out."""
        halves = [jax.tree.map(lambda leaf, i=i: leaf[8 * i : 8 * i + 8], batch) for i in range(2)]
        results = [loss(weights, alphas, model_state, half, key) for half in halves]
        return jax.tree.map(lambda a, b: (a + b) / 2, *results)

    found, expected = (
        jax.jit(functools.partial(jdarts.bilevel_step, loss_fn=each, **many_devices.optimizers()))(state, train, valid)
        for each in (in_microbatches(loss, 2), in_parts)
    )
    chex.assert_trees_all_close(found[0].replace(key=()), expected[0].replace(key=()), rtol=1e-9, atol=1e-12)
    chex.assert_trees_all_close(found[1], expected[1], rtol=1e-9, atol=1e-12)


def test_parts_that_do_not_divide_are_refused():
    state, batches, optimizers = plain_problem(10, 4)
    with pytest.raises(InputError, match=r"a batch of 10 .* 4 equal microbatches"):
        plain_step(4, None, optimizers)(state, *batches)
    with pytest.raises(InputError, match="0 parts"):
        in_microbatches(plain_loss, 0)


@pytest.fixture(scope="module")
def networks():
    """Loss, gradients and running statistics of the search network, by its settings."""
    state = many_devices.start(many_devices.supernet)
    (batch, _), *_ = many_devices.batches(1)

    @functools.cache
    def evaluated(dtype, remat):
        loss = supernet_loss(many_devices.supernet(None, dtype=dtype, remat=remat))
        wide = jnp.float32 if dtype != jnp.float64 else dtype
        weights, alphas, model_state, images = jax.tree.map(
            lambda leaf: leaf.astype(wide), (state.weights, state.alphas, state.model_state, batch[0])
        )

        def value(weights, alphas):
            return loss(weights, alphas, model_state, (images, batch[1]), jax.random.key(0))

        return jax.jit(jax.value_and_grad(value, argnums=(0, 1), has_aux=True))(weights, alphas)

    return evaluated


def test_cells_that_are_computed_again_give_the_same_numbers(networks):
    chex.assert_trees_all_close(networks(jnp.float64, True), networks(jnp.float64, False), rtol=1e-9, atol=1e-12)


def test_cells_that_are_computed_again_need_less_memory():
    """Four cells of one node: what is kept are the outputs of all, and the maps inside of one."""

    def needed(remat):
        model = Supernet(
            uniform_space(("none", "sep_conv_3x3", "skip_connect"), nodes=1), 4, 4, dtype=jnp.float64, remat=remat
        )
        loss = supernet_loss(model)
        images, labels = jnp.zeros((8, 16, 16, 3), jnp.float64), jnp.zeros(8, jnp.int32)
        alphas = init_alphas(jax.random.key(0), model.space, jnp.float64)
        variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images, alphas, train=False))

        def gradient(weights, model_state):
            return jax.grad(loss, has_aux=True)(weights, alphas, model_state, (images, labels), jax.random.key(0))[0]

        lowered = jax.jit(gradient).lower(variables["params"], variables["batch_stats"])
        compiled = lowered.compile(supernet_compiler_options(remat=remat))
        plan = compiled.memory_analysis()
        assert plan is not None
        return plan.temp_size_in_bytes

    assert needed(True) < 0.75 * needed(False)


def test_narrow_feature_maps(networks):
    narrow, wide = networks(jnp.bfloat16, False), networks(jnp.float64, False)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(narrow))
    assert abs(float(narrow[0][0]) - float(wide[0][0])) < 0.03 * float(wide[0][0])
    # The gradients point the same way.
    flat, other = (jax.flatten_util.ravel_pytree(tree[1])[0].astype(jnp.float64) for tree in (narrow, wide))
    assert float(flat @ other / jnp.linalg.norm(flat) / jnp.linalg.norm(other)) > 0.98


def test_finite_difference_refuses_narrow_weights():
    state, batches, optimizers = plain_problem(4, 4)
    narrow = state.replace(weights=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state.weights))
    with pytest.raises(InputError, match=r"bfloat16.*too few digits.*exact\(\)"):
        plain_step(1, jdarts.finite_difference(), optimizers)(narrow, *batches)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"precision": "bfloat16", "hypergradient": "finite_difference"},
            "8 bits of mantissa; give --hypergradient exact",
        ),
        ({"microbatches": 3}, "--microbatches is 3, and a device's share of --batch-size is 128"),
        ({"microbatches": 128}, "parts of 2 or more"),
        ({"microbatches": 64, "devices": 2}, "share of --batch-size is 64"),
        ({"microbatches": 0}, "--microbatches is 0; give 1 or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config(None, **changes).check()
    config(None, precision="bfloat16", microbatches=32, devices=2).check()


def test_what_is_said_of_the_memory():
    need = StepMemory(persistent=1_000_000_000, temporary=8_000_000_000)
    assert memory_lines(need, None, []) == [
        "memory of a step by XLA's plan: 9.0 GB, of which 8.0 GB for feature maps and the like"
    ]
    assert len(memory_lines(need, 9_000_000_000, [("--remat", 0.25)])) == 1
    first, warning, *options = memory_lines(need, 4_000_000_000, [("--remat", 0.25), ("--microbatches 2", 0.5)])
    assert first.endswith("; 4.0 GB are available")
    assert "does not fit" in warning
    assert options == [
        "  --remat: saves about 6.0 GB, leaves 3.0 GB, which fits",
        "  --microbatches 2: saves about 4.0 GB, leaves 5.0 GB, which alone does not fit",
    ]
    assert [format_bytes(size) for size in (2.5e6, 64e6, 1.25e9)] == ["2.5 MB", "64 MB", "1.2 GB"]


def test_options_that_would_save_memory():
    assert smaller_shares(64, 1) == [("--batch-size 32", 0.5)]
    # The half, rounded to equal shares; no batch of less than two.
    assert smaller_shares(18, 6) == [("--batch-size 6", 6 / 18)]
    assert smaller_shares(2, 1) == []
    shares = {"exact": 4.0, "finite_difference": 2.0, "first_order": 1.0}
    assert cheaper_estimators("finite_difference", shares) == [("--hypergradient first_order", 0.5)]
    assert cheaper_estimators("first_order", shares) == []
    found = dict(unused_memory_options(config(None), 1))
    assert found["--microbatches 2"] == 0.5
    assert {"--precision bfloat16", "--hypergradient first_order"} < found.keys()
    # Options that do not go together with what is set are not named.
    made = config(None, precision="bfloat16", microbatches=64, remat=True)
    assert unused_memory_options(made, 1)[0][0] == "--hypergradient first_order"


@pytest.mark.parametrize("hypergradient", get_args(Hypergradient))
def test_every_estimator_names_cheaper_ones(hypergradient):
    options = unused_memory_options(SearchConfig(hypergradient=hypergradient), 1)
    named = {option for option, _ in options if option.startswith("--hypergradient")}
    assert f"--hypergradient {hypergradient}" not in named
    assert ("--hypergradient first_order" in named) == (hypergradient != "first_order")

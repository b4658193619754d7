"""The supernet and the bilevel step against the reference implementation's own numbers."""

import functools
import gc
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fixtures_folder import fixture_files
from search_fixtures import TOLERANCE, problem_on, read_case
from torch_layout import stacked_statistics
from xla_flags import HAS_OLDER_EMITTERS

import jdarts
from jdarts import native
from jdarts.optim import alpha_optimizer, weight_optimizer
from jdarts.search.step import supernet_loss
from jdarts.xla.allocator import return_freed_memory
from jdarts.xla.leaves import join_leaves

pytestmark = pytest.mark.usefixtures("standard_promotion")


@functools.cache
def load(path, dtype):
    case = read_case(path, dtype)
    return case._replace(found=_compute(case))


def _compute(case):
    ours, model = case.ours, case.network()
    hyper = {name: float(value) for name, value in case.arrays("hyper/").items()}
    sgd: Any = {"momentum": hyper["momentum"], "weight_decay": hyper["weight_decay"]}
    clipped = weight_optimizer(hyper["eta"], clip=hyper["clip"], **sgd)
    unclipped = weight_optimizer(hyper["eta"], clip=None, **sgd)
    adam = alpha_optimizer(
        hyper["alpha_lr"], b1=hyper["alpha_beta1"], b2=hyper["alpha_beta2"], weight_decay=hyper["alpha_weight_decay"]
    )
    weights, alphas = ours(case.params("weights/")), ours(case.alphas("alphas"))
    state = jdarts.init_state(
        jax.random.key(0),
        weights,
        alphas,
        ours(stacked_statistics(case.arrays("weights/"), case.space, case.cells)),
        weight_optimizer=clipped,
        alpha_optimizer=adam,
    )
    momentum = join_leaves(jax.tree.leaves(ours(case.params("momentum/"))))
    state = state.replace(weight_opt_state=optax.tree.set(state.weight_opt_state, trace=momentum))
    train, valid = case.batch("train"), case.batch("valid")
    loss_fn = supernet_loss(model)
    second_order = jdarts.finite_difference(virtual_optimizer=unclipped)
    if case.dtype == "float32":
        # Other activations cross their kinks in float32, so that the finite difference is compared in float64 alone;
        # the weight step starts from the reference's new alphas.
        second_order, adam = no_hypergradient, optax.set_to_zero()
        after_alphas = ours(case.alphas("after_step/alphas"))
        step_from = state.replace(alphas=after_alphas, alpha_opt_state=adam.init(after_alphas))
    else:
        step_from = state

    def problem_of(state):
        def value(batch, weights, alphas):
            return loss_fn(weights, alphas, state.model_state, batch, state.key)[0]

        return problem_on(train, valid, value, state.weights, state.alphas, clipped, state.weight_opt_state)

    def first_order(state, batch):
        """The estimate on a batch, and the logits. Changes of the weights are alphas too, so that it holds all gradients."""

        def value(weights, given):
            changes, alphas = given
            weights = jax.tree.map(jnp.add, weights, changes)
            return loss_fn(weights, alphas, state.model_state, batch, state.key)[0], {}

        given = jax.tree.map(jnp.zeros_like, state.weights), state.alphas
        variables = {"params": state.weights, "batch_stats": state.model_state}
        logits, _ = model.apply(variables, batch[0], state.alphas, train=True, mutable=["batch_stats"])
        return jdarts.first_order()(problem_of(state)._replace(alphas=given, valid_loss=value)), logits

    def exact(state):
        averaged = []
        problem = problem_of(state)._replace(average=lambda tree: averaged.append(tree) or tree)
        found = {"second_order_exact": jdarts.exact(virtual_optimizer=unclipped)(problem)}
        # The mean over devices is taken of the training gradient, of that of the validation loss, and of the result's parts.
        training, of_weights, _ = averaged
        updates, _ = unclipped.update(training.gradient, state.weight_opt_state, state.weights)
        return found | {
            "unrolled/weights": optax.apply_updates(state.weights, updates),
            "unrolled/grad_weights": of_weights,
        }

    def step(state):
        estimates = []

        def recorded(problem):
            estimates.append(second_order(problem))
            return estimates[-1]

        after, metrics = jdarts.bilevel_step(
            state,
            train,
            valid,
            loss_fn=loss_fn,
            weight_optimizer=clipped,
            alpha_optimizer=adam,
            hypergradient=recorded,
        )
        return {
            "after_step": {"alphas": after.alphas, "weights": after.weights},
            # The step's own estimate, which in float64 is made from the file's alphas.
            "second_order": estimates[0].gradient,
            "metrics": {name: metrics[name] for name in ("train/loss", "weights/gradient_norm")},
        }

    run = functools.partial(_run, native.is_native_here("depthwise_forward", jnp.dtype(case.dtype)))
    # The one that takes most memory begins.
    (found,), (stepped,) = run(exact, (state,)), run(step, (step_from,))
    training, validation = run(first_order, (state, train), (state, valid))
    return found | stepped | {"training": training, "validation": validation}


def no_hypergradient(problem):
    """An estimate of 0, for a step in which the alphas stay."""
    return jdarts.Estimate(jax.tree.map(jnp.zeros_like, problem.alphas), jnp.zeros(()), {}, {})


def _run(natively, part, *states):
    """The numbers of one program at several states, which does not stay: its compilation takes more memory than all arrays."""
    # Without native functions it takes GBs, and less where each kernel is compiled once however often it is there.
    options: Any = {"xla_cpu_use_fusion_emitters": True} if HAS_OLDER_EMITTERS and not natively else None
    program = jax.jit(part).lower(*states[0]).compile(options)
    found = jax.device_get([program(*each) for each in states])
    del program
    if not natively:
        jax.clear_caches()
        gc.collect()
    return_freed_memory()
    return found


each_file = pytest.mark.parametrize("path", fixture_files("search_*.npz"))
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


@each_file
@each_dtype
def test_fixture_logits_losses_and_gradients(path, dtype):
    case = load(path, dtype)
    found, logits = case.found["training"]
    case.check(logits, case.file["train/logits"])
    case.check(found.valid_loss, case.file["train/loss"])
    of_weights, of_alphas = found.gradient
    case.check(of_weights, case.params("train/grad_weights/"))
    case.check(of_alphas, case.alphas("train/grad_alphas"))


@each_file
@each_dtype
def test_fixture_first_order_hypergradient(path, dtype):
    case = load(path, dtype)
    found, _ = case.found["validation"]
    case.check(found.valid_loss, case.file["valid/loss"])
    case.check(found.gradient[1], case.alphas("first_order"))


@each_file
@each_dtype
def test_fixture_virtual_step(path, dtype):
    case = load(path, dtype)
    case.check(case.found["unrolled/weights"], case.params("unrolled/weights/"))
    case.check(case.found["unrolled/grad_weights"], case.params("unrolled/grad_weights/"))
    case.check(case.found["second_order_exact"].valid_loss, case.file["unrolled/valid_loss"])


@each_file
@each_dtype
def test_fixture_exact_hypergradient(path, dtype):
    case = load(path, dtype)
    case.check(case.found["second_order_exact"].gradient, case.alphas("second_order_exact"))
    direct, implicit = case.alphas("unrolled/direct"), case.alphas("implicit_exact")
    norm = case.found["second_order_exact"].diagnostics["implicit_norm"]
    case.check(norm, float(case.file["hyper/eta"]) * np.asarray(optax.tree.norm(implicit)))
    # The second-order term must show: without it the gradient would be another.
    assert optax.tree.norm(implicit) * float(case.file["hyper/eta"]) > 1e-3 * optax.tree.norm(direct)


@each_file
def test_fixture_finite_difference_hypergradient(path):
    case = load(path, "float64")
    case.check(case.found["second_order"], case.alphas("second_order_fd"))


@each_file
def test_fixture_whole_step(path):
    case = load(path, "float64")
    after = case.found["after_step"]
    case.check(after["alphas"], case.alphas("after_step/alphas"))
    case.check(case.found["metrics"]["train/loss"], case.file["after_step/train_loss"])
    case.check(case.found["metrics"]["weights/gradient_norm"], case.file["after_step/grad_norm"])
    case.check(after["weights"], case.params("after_step/weights/"))


@each_file
def test_fixture_whole_step_in_float32(path):
    case = load(path, "float32")
    case.check(case.found["after_step"]["weights"], case.params("after_step/weights/"))

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
        second_order, adam = jdarts.first_order(), optax.set_to_zero()
        after_alphas = ours(case.alphas("after_step/alphas"))
        step_from = state.replace(alphas=after_alphas, alpha_opt_state=adam.init(after_alphas))
    else:
        step_from = state

    def problem_of(state):
        def value(batch, weights, alphas):
            return loss_fn(weights, alphas, state.model_state, batch, state.key)[0]

        return problem_on(train, valid, value, state.weights, state.alphas, clipped, state.weight_opt_state)

    def gradients(state):
        problem = problem_of(state)
        loss, (of_weights, of_alphas) = jax.value_and_grad(problem.train_loss, argnums=(0, 1))(
            state.weights, state.alphas
        )
        updates, _ = unclipped.update(of_weights, state.weight_opt_state, state.weights)
        variables = {"params": state.weights, "batch_stats": state.model_state}
        return {
            "train/logits": model.apply(variables, train[0], state.alphas, train=True, mutable=["batch_stats"])[0],
            "train/loss": loss,
            "train/grad_weights": of_weights,
            "train/grad_alphas": of_alphas,
            "unrolled/weights": optax.apply_updates(state.weights, updates),
            "first_order": jdarts.first_order()(problem),
        }

    def exact(state):
        averaged = []
        problem = problem_of(state)._replace(average=lambda tree: averaged.append(tree) or tree)
        found = {"second_order_exact": jdarts.exact(virtual_optimizer=unclipped)(problem)}
        # The mean over devices is taken of the training gradient, of that of the validation loss, and of the result's parts.
        _, of_weights, _ = averaged
        return found | {"unrolled/grad_weights": of_weights}

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
            "after_step": after,
            # The step's own estimate, which in float64 is made from the file's alphas.
            "second_order": estimates[0].gradient if case.dtype == "float64" else None,
            "metrics": {name: metrics[name] for name in ("train/loss", "weights/gradient_norm")},
        }

    def everything(state, step_from):
        return gradients(state) | exact(state) | step(step_from)

    # One program compiles once what its parts share. Without native functions its compilation takes more than 9 GiB.
    if native.is_native_here("depthwise_forward", jnp.dtype(case.dtype)):
        return _run(everything, state, step_from)
    # The one that takes most begins.
    return _run_alone(exact, state) | _run_alone(step, step_from) | _run_alone(gradients, state)


def _run_alone(part, *states):
    """The same, and nothing of it stays in memory for the next."""
    found = _run(part, *states)
    jax.clear_caches()
    gc.collect()
    return_freed_memory()
    return found


def _run(part, *states):
    """The numbers of a program that is compiled soon, and not kept: its compilation takes more memory than all its arrays."""
    # Without optimisation, and each kernel once however often it is there.
    sooner: dict[str, Any] = {"xla_backend_optimization_level": 0}
    if HAS_OLDER_EMITTERS:
        sooner["xla_cpu_use_fusion_emitters"] = True
    found = jax.jit(part).lower(*states).compile(sooner)(*states)
    return_freed_memory()
    after = found.pop("after_step", None)
    return jax.device_get(found) | ({} if after is None else {"after_step": after})


each_file = pytest.mark.parametrize("path", fixture_files("search_*.npz"))
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


@each_file
@each_dtype
def test_fixture_logits_losses_and_gradients(path, dtype):
    case = load(path, dtype)
    for name in ("train/logits", "train/loss"):
        case.check(case.found[name], case.file[name])
    case.check(case.found["train/grad_weights"], case.params("train/grad_weights/"))
    case.check(case.found["train/grad_alphas"], case.alphas("train/grad_alphas"))


@each_file
@each_dtype
def test_fixture_first_order_hypergradient(path, dtype):
    case = load(path, dtype)
    case.check(case.found["first_order"].valid_loss, case.file["valid/loss"])
    case.check(case.found["first_order"].gradient, case.alphas("first_order"))


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
    case.check(after.alphas, case.alphas("after_step/alphas"))
    case.check(case.found["metrics"]["train/loss"], case.file["after_step/train_loss"])
    case.check(case.found["metrics"]["weights/gradient_norm"], case.file["after_step/grad_norm"])
    case.check(after.weights, case.params("after_step/weights/"))


@each_file
def test_fixture_whole_step_in_float32(path):
    case = load(path, "float32")
    case.check(case.found["after_step"].weights, case.params("after_step/weights/"))

"""Steps of jdarts as a search takes them: one compiled program that is given the state and gives it back."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdarts import bilevel, optim
from jdarts.nets.initial import from_one_draw
from jdarts.nets.supernet import Supernet, supernet_compiler_options
from jdarts.parallel import mean_over
from jdarts.relaxation import init_alphas
from jdarts.search.building import hypergradient_by_name
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space
from jdarts.xla.allocator import keep_freed_memory, return_freed_memory
from jdarts.xla.trees import apply_updates

from .compilation import timed_compilation
from .setup import Setup, Size


class StepProgram(NamedTuple):
    """A step, and what it starts from.

    Attributes:
      step: `(state, train, valid, *, axis_name=None) -> (state, metrics)`, as `jdarts.parallel` takes it; over devices, batch
        statistics are synchronised.
      start: draws the state and both batches.
      compiler_options: for `jax.stages.Lowered.compile`.
    """

    step: Callable[..., tuple[Any, Any]]
    start: Callable[[], tuple[Any, Any, Any]]
    compiler_options: dict[str, Any]

    def shapes(self) -> tuple[Any, Any, Any]:
        """Shapes and types of what `start` draws; no array is made."""
        return jax.eval_shape(self.start)


def step_program(setup: Setup) -> StepProgram:
    """The step of a setup, before it is traced."""
    size = setup.size
    remat = setup.step == "exact_remat"
    dtype = jnp.dtype(setup.dtype)
    model = Supernet(uniform_space(nodes=size.nodes), size.channels, size.cells, size.classes, remat=remat, dtype=dtype)
    rate = 0.025
    weight_optimizer, alpha_optimizer = optim.weight_optimizer(rate), optim.alpha_optimizer()

    def weight_step(state: bilevel.BilevelState, train: Any, _: Any, *, axis_name: str | None = None) -> Any:
        loss_fn = supernet_loss(model.clone(axis_name=axis_name))
        key = jax.random.fold_in(state.key, state.step)

        def loss_of(weights: Any) -> Any:
            return loss_fn(weights, state.alphas, state.model_state, train, key)

        (loss, (model_state, _)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.weights)
        loss, model_state, gradient = mean_over((loss, model_state, gradient), axis_name)
        updates, opt_state = weight_optimizer.update(gradient, state.weight_opt_state, state.weights)
        new = state.replace(
            step=state.step + 1,
            weights=apply_updates(state.weights, updates),
            model_state=model_state,
            weight_opt_state=opt_state,
        )
        return new, loss

    def search_step(state: bilevel.BilevelState, train: Any, valid: Any, *, axis_name: str | None = None) -> Any:
        assert setup.step != "weight"
        return bilevel.bilevel_step(
            state,
            train,
            valid,
            loss_fn=supernet_loss(model.clone(axis_name=axis_name)),
            weight_optimizer=weight_optimizer,
            alpha_optimizer=alpha_optimizer,
            hypergradient=hypergradient_by_name(
                "exact" if setup.step == "exact_remat" else setup.step, optim.weight_optimizer(rate, clip=None)
            ),
            axis_name=axis_name,
        )

    return StepProgram(
        weight_step if setup.step == "weight" else search_step,
        lambda: (_initial(model, size, weight_optimizer, alpha_optimizer), *_batches(size)),
        supernet_compiler_options(remat=remat),
    )


def prepare(setup: Setup) -> tuple[Callable[[], None], dict[str, Any]]:
    """Compiles the step of a setup.

    Returns:
      A function that takes one step and waits for its end, and seconds and bytes of the compilation: `trace_s`, `compile_s`
      and `temporary_bytes`, which is what the program asks for beside its arguments and results.
    """
    keep_freed_memory()
    program = step_program(setup)
    state, train, valid = program.start()
    made = timed_compilation(jax.jit(program.step, donate_argnums=0), (state, train, valid), program.compiler_options)
    compiled = made.program

    def take() -> None:
        nonlocal state
        state, metrics = compiled(state, train, valid)
        jax.block_until_ready((state, metrics))

    return_freed_memory()
    return take, made.facts()


def _initial(model: Supernet, size: Size, weight_optimizer: Any, alpha_optimizer: Any) -> bilevel.BilevelState:
    key = jax.random.key(0)
    alphas = init_alphas(key, model.space)

    def init(key: jax.Array) -> Any:
        # Weights depend on the shapes alone; traced alphas and images of outside have no place in a function that is compiled.
        images = jnp.zeros((1, size.image_size, size.image_size, 3))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), alphas)
        return model.init({"params": key, "noise": key}, images, zeros, train=True)

    draw = from_one_draw(init)
    variables = jax.jit(draw)(key)
    optimizers = {"weight_optimizer": weight_optimizer, "alpha_optimizer": alpha_optimizer}
    start = jax.jit(functools.partial(bilevel.init_state, **optimizers))
    return start(key, variables["params"], alphas, variables["batch_stats"])


def _batches(size: Size) -> tuple[Any, Any]:
    shape = (size.batch, size.image_size, size.image_size, 3)
    keys = jax.random.split(jax.random.key(1), 4)
    train, valid = (
        (jax.random.normal(images, shape), jax.random.randint(labels, (size.batch,), 0, size.classes))
        for images, labels in (keys[:2], keys[2:])
    )
    return train, valid

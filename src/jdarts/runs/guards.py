"""Numbers that tell how far to trust a search, measured at the end of an epoch on one step's batches."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import optax

from jdarts.bilevel import BilevelState, HypergradientFn, LossFn, Problem, largest_eigenvalue
from jdarts.bilevel.curvature import ROBUST_DARTS_DECAY
from jdarts.bilevel.foresight import foresight
from jdarts.methods.stopping import EIGENVALUE, StoppingRule
from jdarts.parallel import mean_over
from jdarts.runs.bounds import EPOCHS, Bounds
from jdarts.runs.settings import WITHOUT_EFFECT, Settings


@dataclasses.dataclass(frozen=True)
class Guards(Settings):
    """What a search measures about itself. Margins, skips and changes of the genotype cost nothing, and are always there.

    Attributes:
      eigenvalue_every: epochs from one measurement of the largest eigenvalue of the validation loss by the alphas to the next; a
        measurement costs as much as about 100 passes. 0: never, unless --stop reads it.
      foresight_every: epochs from one comparison of the hypergradient with the real change of the validation loss to the next,
        along the step of the alphas and four random directions; one costs as much as about 20 passes. 0: never.
      evaluate_cells: at the end, also evaluate the supernet with the operations of the derived cells alone, each with weight 1;
        on images with the statistics of the batch.
    """

    eigenvalue_every: Annotated[int, Bounds(0, EPOCHS.maximum), WITHOUT_EFFECT] = 0
    foresight_every: Annotated[int, Bounds(0, EPOCHS.maximum), WITHOUT_EFFECT] = 0
    evaluate_cells: Annotated[bool, WITHOUT_EFFECT] = False

    def every(self, stopping: StoppingRule | None) -> dict[str, int]:
        """The programs that measure, and every how many epochs, with those of a stopping rule."""
        wanted = {} if stopping is None else dict(stopping.measured)
        eigenvalue = wanted.get(EIGENVALUE, self.eigenvalue_every)
        found = {CURVATURE: eigenvalue, FORESIGHT: self.foresight_every}
        return {name: every for name, every in found.items() if every}


def due(every: Mapping[str, int], epoch: int, epochs: int) -> list[str]:
    """The programs that measure after an epoch, which is counted from 1: all after the first one and after the last.

    Args:
      every: as `Guards.every` gives it.
      epoch: the epoch.
      epochs: epochs of the run.
    """
    return [name for name, each in every.items() if epoch == epochs or (epoch - 1) % each == 0]


#: Names of the programs.
CURVATURE, FORESIGHT = "curvature", "foresight"

#: Products with the Hessian for an eigenvalue.
_ITERATIONS = 32


class Measured(NamedTuple):
    """What the programs measure: the problem of one step of a search.

    Attributes:
      problem: the problem.
      key: draws directions; the same on all devices.
      hypergradient: the estimator of the search.
      alpha_opt_state: the state of the alphas' optimiser before the step.
      virtual: makes the virtual step; None for the weights' optimiser.
    """

    problem: Problem
    key: jax.Array
    hypergradient: HypergradientFn
    alpha_opt_state: optax.OptState
    virtual: optax.GradientTransformation | None = None


def problem_at(
    state: BilevelState,
    loss_fn: LossFn,
    train: Any,
    valid: Any,
    key: jax.Array,
    *,
    weight_optimizer: optax.GradientTransformation,
    axis_name: str | None,
) -> Problem:
    """The bilevel problem at a state of a search.

    Args:
      state: weights, alphas, running statistics and optimisers.
      loss_fn: the loss of the alphas.
      train: the batch of the training loss.
      valid: the batch of the validation loss.
      key: of noise in the losses.
      weight_optimizer: as for `bilevel_step`.
      axis_name: as for `bilevel_step`.
    """

    def loss(batch: Any, weights: Any, alphas: Any) -> tuple[jax.Array, Any]:
        value, (_, metrics) = loss_fn(weights, alphas, state.model_state, batch, key)
        return value, metrics

    return Problem(
        weights=state.weights,
        alphas=state.alphas,
        train_loss=lambda weights, alphas: loss(train, weights, alphas)[0],
        valid_loss=lambda weights, alphas: loss(valid, weights, alphas),
        weight_optimizer=weight_optimizer,
        weight_opt_state=state.weight_opt_state,
        average=lambda tree: mean_over(tree, axis_name),
    )


def measuring_programs(
    measured: Callable[..., Measured], alpha_optimizer: optax.GradientTransformation
) -> dict[str, Callable[..., dict[str, jax.Array]]]:
    """The programs that measure, by name; their arguments are those of `measured`.

    `curvature` gives the largest eigenvalue of ∇²α L_val and how exact it is, with RobustDARTS's 1e-3 on the diagonal.
    `foresight` says how well the hypergradient foretells the change of the validation loss along the next step of the alphas.

    Args:
      measured: `(state, inputs of a step, axis_name) -> Measured` of a search.
      alpha_optimizer: makes the step of the alphas.
    """

    def curvature(state: Any, *inputs: Any, axis_name: str | None = None) -> dict[str, jax.Array]:
        problem, key, *_ = measured(state, *inputs, axis_name=axis_name)
        found = largest_eigenvalue(
            lambda alphas: problem.valid_loss(problem.weights, alphas)[0],
            problem.alphas,
            key,
            iterations=_ITERATIONS,
            weight_decay=ROBUST_DARTS_DECAY,
            average=problem.average,
        )
        return {EIGENVALUE: found.eigenvalue, f"{EIGENVALUE}_residual": found.residual}

    def compared(state: Any, *inputs: Any, axis_name: str | None = None) -> dict[str, jax.Array]:
        problem, key, hypergradient, opt_state, virtual = measured(state, *inputs, axis_name=axis_name)
        gradient = hypergradient(problem).gradient
        update, _ = alpha_optimizer.update(gradient, opt_state, problem.alphas)
        return foresight(problem, gradient, update, key, virtual_optimizer=virtual).numbers()

    return {CURVATURE: curvature, FORESIGHT: compared}

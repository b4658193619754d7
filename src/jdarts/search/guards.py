"""Numbers that tell how far to trust a search, measured at the end of an epoch on the batches of its last step."""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any

import jax
import optax

from jdarts.bilevel import Problem, largest_eigenvalue
from jdarts.bilevel.curvature import ROBUST_DARTS_DECAY
from jdarts.bilevel.foresight import foresight
from jdarts.methods.stopping import EIGENVALUE, StoppingRule
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
      evaluate_cells: at the end, also evaluate the supernet with the operations of the derived cells alone, each with weight 1,
        with the statistics of the batch.
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


#: Names of the programs.
CURVATURE, FORESIGHT = "curvature", "foresight"


def curvature_program(problem_of: Callable[..., Problem], *, iterations: int = 32) -> Callable[..., dict[str, Any]]:
    """The largest eigenvalue of ∇²α L_val and how exact it is, with RobustDARTS's 1e-3 on the diagonal.

    Args:
      problem_of: `(state, images, rows, axis_name) -> Problem` of a search.
      iterations: products with the Hessian.
    """

    def curvature(state: Any, images: Any, rows: Any, *, axis_name: str | None = None) -> dict[str, jax.Array]:
        problem = problem_of(state, images, rows, axis_name=axis_name)
        found = largest_eigenvalue(
            lambda alphas: problem.valid_loss(problem.weights, alphas)[0],
            problem.alphas,
            jax.random.fold_in(state.data_key, state.bilevel.step),
            iterations=iterations,
            weight_decay=ROBUST_DARTS_DECAY,
            average=problem.average,
        )
        return {EIGENVALUE: found.eigenvalue, f"{EIGENVALUE}_residual": found.residual}

    return curvature


def foresight_program(
    problem_of: Callable[..., Problem],
    optimizers: Callable[[Any], Any],
    alpha_optimizer: optax.GradientTransformation,
) -> Callable[..., dict[str, Any]]:
    """How well the hypergradient foretells the change of the validation loss along the next step of the alphas.

    Args:
      problem_of: as for `curvature_program`.
      optimizers: from the controls of the run to `jdarts.search.program.Optimizers`.
      alpha_optimizer: makes the step of the alphas.
    """

    def compared(state: Any, images: Any, rows: Any, *, axis_name: str | None = None) -> dict[str, jax.Array]:
        problem = problem_of(state, images, rows, axis_name=axis_name)
        _, hypergradient, virtual = optimizers(state.controls)
        gradient = hypergradient(problem).gradient
        update, _ = alpha_optimizer.update(gradient, state.bilevel.alpha_opt_state, problem.alphas)
        key = jax.random.fold_in(state.data_key, state.bilevel.step)
        return foresight(problem, gradient, update, key, virtual_optimizer=virtual).numbers()

    return compared

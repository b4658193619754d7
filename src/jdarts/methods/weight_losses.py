"""The loss of the weight step, where a method changes it: perturbed mixtures and terms on the gradients of the mixture.

A weight loss is a pure function `WeightPass -> (loss, (model state, metrics))`, whose gradient in the weights the optimiser gets.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jdarts.bilevel import Metrics, PyTree
from jdarts.methods.correlation import correlation_direction
from jdarts.methods.perturbations import RADIUS, adversarial, all_projected, uniform_noise
from jdarts.relaxation import Controls, MixtureWeights, Space

Result = tuple[jax.Array, tuple[PyTree, Metrics]]


class WeightPass(NamedTuple):
    """What a weight loss sees; batch, model state and noise are bound.

    Attributes:
      loss: `(weights, mixture) -> (loss, (model state, metrics))` in training mode.
      evaluation_loss: `(weights, mixture) -> loss` with running statistics.
      weights: the weights, in which the result is differentiated.
      mixture: the mixture of the step, without a derivative by the alphas.
      cells: the number of cells of each kind.
      space: the search space.
      controls: numbers of the epoch.
      key: the same on all devices.
      average: the mean over devices of a pytree.
    """

    loss: Callable[[PyTree, MixtureWeights], Result]
    evaluation_loss: Callable[[PyTree, MixtureWeights], jax.Array]
    weights: PyTree
    mixture: MixtureWeights
    cells: Mapping[str, int]
    space: Space
    controls: Controls
    key: jax.Array
    average: Callable[[PyTree], PyTree]


WeightLoss = Callable[[WeightPass], Result]


def random_perturbation(step: WeightPass) -> Result:
    """The loss at a randomly perturbed mixture (SDARTS-RS; Chen and Hsieh 2020, equation 5).

    Each entry moves by a uniform number within ± `controls["radius"]`, and the rows are projected.
    """
    tables = step.mixture.operations
    noise = uniform_noise(step.key, tables, step.controls[RADIUS])
    moved = all_projected({kind: table + noise[kind] for kind, table in tables.items()}, step.space)
    return step.loss(step.weights, step.mixture._replace(operations=moved))


def adversarial_perturbation(step: WeightPass) -> Result:
    """The loss at the mixture that an attack on the loss finds nearby (SDARTS-ADV; Chen and Hsieh 2020, equation 6)."""
    weights = jax.lax.stop_gradient(step.weights)

    def loss(tables: Mapping[str, jax.Array]) -> jax.Array:
        return step.evaluation_loss(weights, step.mixture._replace(operations=tables))

    tables, radius = step.mixture.operations, step.controls[RADIUS]
    noise = uniform_noise(step.key, tables, radius)
    found = adversarial(loss, tables, noise, radius, step.space, average=step.average).tables
    return step.loss(step.weights, step.mixture._replace(operations=jax.lax.stop_gradient(found)))


#: Control of `correlated_gradients`.
CORRELATION = "correlation"


def correlated_gradients(step: WeightPass) -> Result:
    """The loss less `controls["correlation"]` times how well the normal cells' mixture gradients agree (Λ-DARTS).

    Λ is the mean cosine of the gradients of the training loss by the mixtures of the normal cells (Movahedi et al. 2023, equation
    6). Its gradient in the weights is exact: the derivative of the loss's directional derivative along ∂Λ/∂g.
    """
    mixture = step.mixture._replace(operations=each_cell(step.mixture.operations, step.cells))

    def loss(tables: Mapping[str, jax.Array], weights: PyTree) -> jax.Array:
        return step.loss(weights, mixture._replace(operations=tables))[0]

    def slope(tables: Mapping[str, jax.Array], weights: PyTree) -> dict[str, jax.Array]:
        return step.average(jax.grad(loss)(tables, weights))

    gradients = slope(mixture.operations, jax.lax.stop_gradient(step.weights))
    direction, value = correlation_direction(gradients["normal"])
    along = {kind: jnp.zeros_like(table) for kind, table in mixture.operations.items()}
    along["normal"] = jax.lax.stop_gradient(direction)
    plain, aux = step.loss(step.weights, mixture)
    _, directional = jax.jvp(lambda tables: loss(tables, step.weights), (mixture.operations,), (along,))
    # The value of Λ in place of the directional derivative's; the derivative is that of the latter.
    term = directional - jax.lax.stop_gradient(directional - value)
    state, metrics = aux
    return plain - step.controls[CORRELATION] * term, (state, {**metrics, "correlation": value})


def each_cell(tables: Mapping[str, jax.Array], cells: Mapping[str, int]) -> dict[str, jax.Array]:
    """A table `[L, E, O]` for each of the cells of a kind, from one table `[E, O]` for all of them."""
    return {
        kind: table if table.ndim == 3 else jnp.broadcast_to(table, (cells[kind], *table.shape))
        for kind, table in tables.items()
    }


#: A new loss of the weight step is a row here.
WEIGHT_LOSSES: Mapping[str, WeightLoss] = {
    "random": random_perturbation,
    "adversarial": adversarial_perturbation,
    "correlation": correlated_gradients,
}

"""The optimisers and schedules of the paper's search, as optax chains (section 3.1.1; reference code's settings)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


def cosine(start: float, end: float, *, epochs: int) -> np.ndarray:
    """A cosine over epochs, `end + (start − end)·(1 + cos(π·epoch/epochs))/2`, in double precision.

    Args:
      start: value in the first epoch.
      end: value after the last epoch.
      epochs: number of epochs.

    Returns:
      `[epochs + 1]`, the values in each epoch and after the last.
    """
    return end + (start - end) * (1 + np.cos(np.pi * np.arange(epochs + 1) / epochs)) / 2


def epoch_cosine(start: float, end: float, *, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """The values of `cosine` as a function of the step; they change once an epoch.

    Args:
      start: value in the first epoch.
      end: the value that the cosine would reach after the last epoch.
      epochs: number of epochs.
      steps_per_epoch: steps of an epoch.
    """
    # A table in double precision: the formula loses digits in float32 where the cosine nears −1.
    values = cosine(start, end, epochs=epochs)

    def schedule(step: Any) -> jax.Array:
        epoch = jnp.minimum(jnp.asarray(step) // steps_per_epoch, epochs)
        return jnp.asarray(values, dtype=float)[epoch]

    return schedule


def weight_optimizer(
    learning_rate: optax.ScalarOrSchedule,
    *,
    momentum: float = 0.9,
    weight_decay: float = 3e-4,
    clip: float | None = 5.0,
) -> optax.GradientTransformation:
    """SGD with momentum; gradients are clipped by their global norm first, then decay is added.

    All weights are updated as one vector (`optax.flatten`): leaf by leaf a supernet's update is thousands of small kernels. The
    state has the same structure whatever `clip` is, so that the optimiser without it can make the virtual step of
    the one with it.

    Args:
      learning_rate: number, scalar array or schedule; it multiplies outside the momentum buffer.
      momentum: decay of the buffer.
      weight_decay: L2 penalty, added to the clipped gradient.
      clip: largest global norm of a gradient; None for no clipping.
    """
    return optax.flatten(
        optax.chain(
            optax.identity() if clip is None else optax.clip_by_global_norm(clip),
            optax.add_decayed_weights(weight_decay),
            optax.sgd(learning_rate, momentum=momentum),
        )
    )


def alpha_optimizer(
    learning_rate: float = 3e-4, *, b1: float = 0.5, b2: float = 0.999, weight_decay: float = 1e-3
) -> optax.GradientTransformation:
    """Adam with an L2 penalty inside: it is added to the gradient before the moments are taken (not AdamW).

    Args:
      learning_rate: constant step size.
      b1: decay of the first moment; the paper's 0.5 for convolutional cells.
      b2: decay of the second moment.
      weight_decay: L2 penalty.
    """
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.adam(learning_rate, b1=b1, b2=b2))

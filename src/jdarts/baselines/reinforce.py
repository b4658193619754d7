"""REINFORCE (Williams 1992): a distribution over architectures without any network, moved towards those with large rewards."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jdarts.baselines.architectures import UNUSED, Architecture, Architectures, draws
from jdarts.baselines.baseline import Baseline, Best, nothing_yet

#: What logits of operations that may not be chosen are replaced by.
_NEVER = -1e30


class Policy(NamedTuple):
    """The state of REINFORCE.

    Attributes:
      logits: `operations` `[cells, E, O]`, and `edges` `[cells, E]` where nodes choose their edges.
      optimizer: Adam's state.
      average: moving average of the rewards, before its correction, float `[]`.
      loss: of the last update, float `[]`.
      best: the best architecture of all.
    """

    logits: dict[str, jax.Array]
    optimizer: Any
    average: jax.Array
    loss: jax.Array
    best: Best


def reinforce(learning_rate: float = 0.01, momentum: float = 0.9) -> Baseline:
    """The baseline: one architecture for each update, by Adam without a term for the entropy.

    The reward is compared with the corrected moving average of all rewards, the present one among them.

    Args:
      learning_rate: Adam's.
      momentum: of the moving average.
    """
    optimizer = optax.adam(learning_rate, b1=0.9, b2=0.999, eps=1e-8)

    def init(key: jax.Array, architectures: Architectures) -> Policy:
        cells, edges = len(architectures.operations), len(architectures.targets)
        keys = jax.random.split(key)
        logits = {"operations": 1e-3 * jax.random.normal(keys[0], (cells, edges, architectures.width))}
        if any(architectures.used(node) < len(node) for node in architectures.nodes):
            logits["edges"] = 1e-3 * jax.random.normal(keys[1], (cells, edges))
        zero = jnp.zeros((), logits["operations"].dtype)
        return Policy(logits, optimizer.init(logits), zero, zero, nothing_yet(architectures))

    def propose(architectures: Architectures, state: Policy, key: jax.Array) -> tuple[Architecture, Policy]:
        return sampled(architectures, state.logits, key), state

    def update(architectures: Architectures, state: Policy, architecture: Architecture, reward: float) -> Policy:
        best = state.best.updated(architecture, reward)
        average = momentum * state.average + (1 - momentum) * reward
        advantage = reward - average / (1 - momentum ** float(best.count))
        loss, gradient = _loss_and_gradient(state.logits, _choices(architectures, architecture), advantage)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer)
        logits: Any = optax.apply_updates(state.logits, updates)
        return Policy(logits, optimizer_state, average, loss, best)

    return Baseline(init, propose, update, lambda state: state.best)


def sampled(architectures: Architectures, logits: dict[str, jax.Array], key: jax.Array) -> Architecture:
    """An architecture from the distribution: the edges of each node without replacement, then their operations."""
    random = draws(key)
    on_host = {name: np.asarray(array, np.float64) for name, array in logits.items()}
    operations = on_host["operations"] + random.gumbel(size=on_host["operations"].shape)
    edges = on_host.get("edges", np.zeros(operations.shape[:2]))
    # The largest sums of logits and Gumbel noise are a draw without replacement.
    noisy = edges + random.gumbel(size=edges.shape)
    drawn = np.full(edges.shape, UNUSED, np.int32)
    for cell in range(len(drawn)):
        for node in architectures.nodes:
            order = np.argsort(-noisy[cell, list(node)])
            for edge in (node[place] for place in order[: architectures.used(node)]):
                columns = architectures.columns(cell, edge)
                drawn[cell, edge] = columns[int(np.argmax(operations[cell, edge, columns]))]
    return drawn


def log_probability(
    architectures: Architectures, logits: dict[str, jax.Array], architecture: Architecture
) -> jax.Array:
    """The logarithm of the probability with which `sampled` gives an architecture.

    Args:
      architectures: the space.
      logits: as in `Policy`.
      architecture: one of the space.
    """
    return _log_probability(logits, _choices(architectures, architecture))


class _Choices(NamedTuple):
    """What an architecture chooses, as arrays.

    Attributes:
      allowed: bool `[cells, E, O]`, the operations that may be chosen.
      chosen: bool `[cells, E, O]`, those that are.
      orders: for each node that chooses among its edges: them, and two arrays bool `[cells, orders, draws, N]`, the edge of each
        draw and the edges that are left for it, in every order in which the used edges may be drawn.
    """

    allowed: np.ndarray
    chosen: np.ndarray
    orders: list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def _choices(architectures: Architectures, architecture: Architecture) -> _Choices:
    allowed = np.zeros((*architecture.shape, architectures.width), bool)
    for cell, edge in np.ndindex(architecture.shape):
        allowed[cell, edge, architectures.columns(cell, edge)] = True
    orders = []
    for node in architectures.nodes:
        if architectures.used(node) < len(node):
            used = np.stack([np.flatnonzero(row != UNUSED) for row in architecture[:, node]])
            permuted = used[:, np.array(list(itertools.permutations(range(used.shape[1]))))]
            drawn = np.arange(len(node)) == permuted[..., None]
            orders.append((np.array(node), drawn, np.cumsum(drawn, axis=2) - drawn == 0))
    return _Choices(allowed, np.arange(architectures.width) == architecture[:, :, None], orders)


@jax.jit
def _log_probability(logits: dict[str, jax.Array], choices: _Choices) -> jax.Array:
    logs = jax.nn.log_softmax(jnp.where(choices.allowed, logits["operations"], _NEVER), axis=-1)
    total = jnp.sum(jnp.where(choices.chosen, logs, jnp.zeros_like(logs)))
    for node, drawn, left in choices.orders:
        edges = logits["edges"][:, None, None, node]
        steps = jnp.sum(jnp.where(drawn, edges, jnp.zeros_like(edges)), axis=-1)
        steps -= jax.nn.logsumexp(jnp.where(left, edges, _NEVER), axis=-1)
        total += jnp.sum(jax.nn.logsumexp(jnp.sum(steps, axis=-1), axis=-1))
    return total


def _loss(logits: dict[str, jax.Array], choices: _Choices, advantage: jax.Array) -> jax.Array:
    return -_log_probability(logits, choices) * advantage


_loss_and_gradient = jax.jit(jax.value_and_grad(_loss))

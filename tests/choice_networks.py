"""Small networks with choices, and mixtures that are decisions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import jdarts
from jdarts.choice.losses import outputs_of

INPUTS = jax.random.normal(jax.random.key(1), (8, 5))
LABELS = jnp.arange(8) % 3


def dense(features) -> Any:
    # Uniform weights compile sooner.
    return nn.Dense(features, param_dtype=jnp.float64, kernel_init=nn.initializers.lecun_uniform())


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train, param_dtype=jnp.float64)(dense(x.shape[-1])(x))


class Everything(nn.Module):
    """Candidates of every kind, alphas that two choices share, two inputs of three, and a width."""

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.relu(jdarts.WidthChoice(dense, (2, 4, 6), name="width")(x))
        x = start = dense(4)(x)
        for i in range(2):
            candidates = {"dense": dense(4), "normed": Normed(), "skip": lambda x: x, "none": None}
            x = x + jdarts.Choice(candidates, name=f"block{i}")(x, train=train)
            x = jdarts.Choice({"relu": nn.relu, "tanh": jnp.tanh}, shared="activation", name=f"activation{i}")(x)
        x = jdarts.InputChoice(k=2, name="inputs")([start, x, x * x])
        return dense(3)(x)


class Blocks(nn.Module):
    """Two blocks with a choice between candidates each: small enough for second derivatives."""

    blocks: int = 2

    @nn.compact
    def __call__(self, x):
        x = dense(3)(x)
        for i in range(self.blocks):
            x = x + jdarts.Choice({"dense": dense(3), "tanh": jnp.tanh, "none": None}, name=f"block{i}")(x)
        return dense(3)(x)


def one_hot_outputs(network, weights, alphas, choices, model_state, *inputs, **call):
    """The outputs of the mixture at weights of 1 for the chosen candidates, or of 1/k for k inputs."""
    given = {}
    for name, each in alphas.items():
        chosen = choices[name] if isinstance(choices[name], tuple) else (choices[name],)
        row = [1 / len(chosen) if candidate in chosen else 0 for candidate in each.spec.candidates]
        given[name] = jnp.broadcast_to(jnp.asarray(row, jnp.float64), each.values.shape)
    return outputs_of(network, weights, alphas, given, model_state, inputs, **call)

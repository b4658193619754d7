"""Operations from Flax modules: their parameters become weights, stacked over edges."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError, InvalidRngError
from flax.traverse_util import flatten_dict, unflatten_dict

from jdarts.errors import InputError, one_line
from jdarts.ops.candidates import Implementation, Weights, WeightShape
from jdarts.ops.edge_functions import SIZE, over_edges

#: Channels on which modules are checked: normalisations in groups need more than other operations.
CHANNELS = 16


def of_modules(
    name: str, make: Callable[..., nn.Module], *, normalised: bool = True
) -> Callable[[int], Implementation]:
    """An operation whose edges are modules, from a stride to its computation.

    Args:
      name: of the operation, for messages.
      make: called with `channels=` and `stride=`.
      normalised: as in `Implementation`.

    Raises:
      InputError: the function that is returned raises it: the module cannot be made or applied, draws random numbers, or has
        other variables than parameters.
    """

    def module(channels: int, stride: int) -> nn.Module:
        try:
            return make(channels=channels, stride=stride)
        except TypeError as error:
            raise InputError(
                f"operation {name}: cannot make its module ({one_line(error)}); its class must take channels= and stride="
            ) from error

    def variables(key: jax.Array, channels: int, stride: int, dtype: Any, size: int = SIZE) -> Mapping[str, Any]:
        x = jnp.zeros((1, size, size, channels), dtype)
        with _explained(name, channels):
            return module(channels, stride).init({"params": key}, x)

    @functools.cache
    def shapes(channels: int, stride: int) -> Mapping[str, WeightShape]:
        first, second = (
            jax.eval_shape(lambda key: variables(key, channels, stride, jnp.float32, size), jax.random.key(0))  # noqa: B023
            for size in (SIZE, 2 * SIZE)
        )
        others = sorted({*first} - {"params"})
        if others:
            mend = (
                "a batch norm follows an operation with weights by itself: leave the module's out, or give implement= with a "
                "`second` part after the norm"
                if "batch_stats" in others
                else "give a module of parameters alone"
            )
            raise InputError(f"operation {name}: its module has variables of the kind {', '.join(others)}; {mend}")
        found = {path: leaf.shape for path, leaf in _flat(first).items()}
        if found != {path: leaf.shape for path, leaf in _flat(second).items()}:
            raise InputError(
                f"operation {name}: the shapes of its module's parameters depend on the size of the images, which differs from "
                "cell to cell; give a module without such parameters"
            )
        return {path: WeightShape(shape, None) for path, shape in found.items()}

    def implement(stride: int) -> Implementation:
        def of_edge(x: jax.Array, weights: Weights) -> jax.Array:
            params = unflatten_dict(dict(weights), sep=".")
            with _explained(name, x.shape[-1]):
                output: Any = module(x.shape[-1], stride).apply({"params": params}, x)
            return output

        def initial(key: jax.Array, channels: int, dtype: Any) -> Mapping[str, jax.Array]:
            return {path: leaf.astype(dtype) for path, leaf in _flat(variables(key, channels, stride, dtype)).items()}

        return Implementation(
            over_edges(of_edge),
            weights=functools.partial(shapes, stride=stride),
            per_source=not shapes(CHANNELS, stride=stride),
            normalised=normalised,
            initial=initial,
        )

    return implement


def _flat(variables: Mapping[str, Any]) -> dict[str, jax.Array]:
    """A module's parameters, their paths joined by points."""
    found: Any = flatten_dict(variables.get("params", {}), sep=".")
    return found


@contextlib.contextmanager
def _explained(name: str, channels: int) -> Iterator[None]:
    """Explains what a module raises where it becomes part of a network."""
    what = f"operation {name}: its module fails on {channels} channels"
    try:
        yield
    except InputError:
        raise
    except InvalidRngError as error:
        raise InputError(
            f"{what}: it draws random numbers ({one_line(error)}); give a module without dropout or noise"
        ) from error
    except (FlaxError, ValueError, TypeError) as error:
        raise InputError(f"{what}: {one_line(error)}") from error

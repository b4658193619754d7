"""Latency of decided networks on this device: candidates are measured once, with the inputs that they have in the network."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdarts.budget.latency import call_latency, repeated_latency
from jdarts.budget.latency_table import read_table
from jdarts.choice.bridged import Bridged
from jdarts.choice.cost import Axis, ChoiceCost
from jdarts.choice.decided import Call, choices_of, with_decisions
from jdarts.choice.linen import Choice, call_of
from jdarts.choice.mixing import arguments_for
from jdarts.choice.tables import NamedAlphas
from jdarts.errors import InputError


def choice_latency(network: nn.Module, *inputs: Any, **call: Any) -> ChoiceCost:
    """The latency of all decided networks of a Linen network with choices, in nanoseconds, as a sum over their candidates.

    Candidates that are not in the table of this device are measured with the shapes that they have here, and kept there. What a
    network takes besides is measured on one decided network, less its candidates. The sum predicts which networks are faster,
    not the time itself.

    Args:
      network: a network with choices, unbound.
      *inputs: example inputs of one example, or their shapes and types, as for `network.init`.
      **call: further arguments of the network, such as `train=False`.

    Raises:
      InputError: the network has no choices, it is a model of NNX, it has widths or choices inside of each other or of an
        `nn.scan`, or the user's cache cannot be written.
    """
    if isinstance(network, Bridged):
        raise InputError(
            f"{type(network).__name__} is a model of NNX, whose candidates cannot be measured one by one; bound the "
            "multiply-adds, with --max-multiply-adds"
        )
    arguments = Call(inputs, call)
    choices = choices_of(network, arguments)
    _check(choices)
    table = read_table()
    tables: dict[tuple[Axis, ...], np.ndarray] = {}
    for name, called in _calls(network, arguments, choices):
        row = [table.known(*called.measured(candidate)) for candidate in choices[name].spec.candidates]
        axes = (Axis(name, 0),)
        tables[axes] = tables.get(axes, 0) + np.array(row, np.int64)
    cost = ChoiceCost("latency", 0, tables, {name: each.spec.candidates for name, each in choices.items()})
    first: dict[str, Any] = {
        name: each.spec.candidates[0] if each.spec.keep == 1 else each.spec.candidates[: each.spec.keep]
        for name, each in choices.items()
    }
    small = with_decisions(network, choices, first)
    whole = call_latency(_program(small, arguments))
    return ChoiceCost("latency", max(whole - cost.of(first), 0), tables, cost.candidates)


def _check(choices: NamedAlphas) -> None:
    places = [(name, tuple(map(str, place.path))) for name, each in choices.items() for place in each.places]
    for name, each in choices.items():
        if each.spec.kind == "widths":
            problem = "chooses a width, which changes the time of the layers after it"
        elif any(place.rows for place in each.places):
            problem = "is in an nn.scan, whose layers are one program"
        elif any(
            len(inner) > len(outer) and inner[: len(outer)] == outer
            for of, outer in places
            if of == name
            for _, inner in places
        ):
            problem = "has choices inside of its candidates"
        else:
            continue
        raise InputError(
            f"latencies cannot be summed over the choices: {name} {problem}; bound the multiply-adds, with --max-multiply-adds "
            "or jdarts.choice_costs"
        )


class _Called(NamedTuple):
    """A choice as the network calls it.

    Attributes:
      candidates: by name; modules are unbound.
      inputs: shapes and types of its arguments.
      keywords: further arguments.
    """

    candidates: Mapping[str, Any]
    inputs: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def measured(self, name: str) -> tuple[str, Callable[[], int]]:
        """The name of a candidate in the table, and what measures it."""
        candidate = self.candidates[name]
        if candidate is None:
            return "zeros", lambda: 0
        known = arguments_for(call_of(candidate), self.keywords)
        keys: dict[str, jax.Array] = dict.fromkeys(("params", "dropout", "noise"), jax.random.key(0))

        def outputs(variables: Any, *inputs: Any) -> Any:
            if not isinstance(candidate, nn.Module):
                return candidate(*inputs, **known)
            return candidate.apply(variables, *inputs, rngs=keys, mutable=False, **known)

        shapes = jax.eval_shape(lambda *inputs: _init(candidate, keys, inputs, known), *self.inputs)
        program = str(jax.make_jaxpr(outputs)(shapes, *self.inputs))
        what = f"candidate {hashlib.sha256(program.encode()).hexdigest()[:24]}"
        return what, functools.partial(self._latency, outputs, shapes)

    def _latency(self, outputs: Callable[..., Any], shapes: Any) -> int:
        variables, (first, *rest) = jax.tree.map(_zeros, (shapes, self.inputs))

        def operation(variables: Any, x: jax.Array) -> jax.Array:
            leaves = jax.tree.leaves(outputs(variables, x, *rest))
            return sum((jnp.mean(each) for each in leaves[1:]), jnp.mean(leaves[0]))

        return repeated_latency(operation, variables, first)


def _init(candidate: Any, keys: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    return candidate.init(keys, *inputs, **keywords) if isinstance(candidate, nn.Module) else {}


def _zeros(shape: Any) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)


def _calls(network: nn.Module, call: Call, choices: NamedAlphas) -> list[tuple[str, _Called]]:
    """The calls of all choices between candidates, with the names of their alphas."""
    by_path = {tuple(map(str, place.path)): name for name, each in choices.items() for place in each.places}
    found: list[tuple[str, _Called]] = []

    def noting(following: Any, args: Any, keywords: Any, context: Any) -> Any:
        if isinstance(context.module, Choice) and context.method_name == "__call__":
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), args)
            alone = {
                name: each.copy(parent=None) if isinstance(each, nn.Module) else each
                for name, each in context.module.candidates.items()
            }
            found.append((by_path[context.module.path], _Called(alone, shapes, dict(keywords))))
        return following(*args, **keywords)

    with nn.intercept_methods(noting):
        call.shapes(network)
    return found


def _program(network: nn.Module, call: Call) -> Callable[[], jax.Array]:
    """A function that computes a network's outputs by one compiled program."""
    variables, inputs = jax.tree.map(_zeros, (call.shapes(network), call.inputs))
    keys: dict[str, jax.Array] = dict.fromkeys(("dropout", "noise"), jax.random.key(0))

    def outputs(variables: Any, *inputs: Any) -> Any:
        return jax.tree.leaves(network.apply(variables, *inputs, rngs=keys, mutable=False, **call.keywords))[0]

    return functools.partial(jax.jit(outputs), variables, *inputs)

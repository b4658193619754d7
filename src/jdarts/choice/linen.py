"""Choices inside networks of Flax Linen.

Their alphas are in the collection `alphas`, below the path of each choice. Inside `nn.scan` or `nn.vmap` the collection needs an
entry as the parameters do: `variable_axes={"params": 0, "alphas": 0}` for alphas of each layer, `variable_broadcast="alphas"` for
the same ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
from flax import errors, nnx

from jdarts.choice.mixing import (
    arguments_for,
    check_keywords,
    check_makes,
    check_width,
    mixed_candidates,
    mixed_inputs,
    mixed_widths,
    named_inputs,
)
from jdarts.choice.slots import (
    COLLECTION,
    ENTRY,
    ChoiceSpec,
    Decision,
    Slot,
    checked_candidates,
    inputs_spec,
    new_alphas,
    widths_spec,
)
from jdarts.errors import InputError, shown


class _Chooser(nn.Module):
    """What all choices share: the entry in the collection of alphas."""

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except errors.NameInUseError as error:
            raise InputError(
                f"the name {shown(self.name)} of a choice is in use in its module; give each choice another name, and the "
                "same shared= to those that share alphas"
            ) from error

    @property
    def _where(self) -> str:
        return f"the choice {'/'.join(map(str, self.path)) or ENTRY}"

    def _slot(self, spec: ChoiceSpec) -> Slot:
        try:
            return self.variable(COLLECTION, ENTRY, new_alphas, spec).value
        except (
            errors.ScopeCollectionNotFound,
            errors.ScopeVariableNotFoundError,
            errors.ModifyScopeVariableError,
        ) as error:
            raise InputError(
                f"{self._where} has no alphas here; give the collection 'alphas' to apply() beside 'params' "
                "(jdarts.join_variables), and to a surrounding nn.scan or nn.vmap variable_axes={'alphas': 0} for alphas of "
                "each layer, or variable_broadcast='alphas' for the same ones"
            ) from error


class Choice(_Chooser):
    """A choice between candidates: the sum of their outputs, weighted by the softmax of the choice's alphas.

    Each candidate is a module or a function; None stands for zeros of the others' shape. Every choice has its own copies of the
    modules, below its path under the candidates' names. A keyword of the call reaches the candidates that take it.

    Attributes:
      candidates: by name.
      shared: a name of alphas that all choices with this name share, although each has its own weights.

    Example:
      `x = jdarts.Choice({"conv3": Conv(3), "skip": lambda x: x, "none": None}, name="block0")(x, train=train)`
    """

    candidates: Mapping[str, Callable[..., Any] | None]
    shared: str | None = None

    @nn.compact
    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The mixture of the candidates' outputs, or the output of the chosen candidate.

        Args:
          *args: inputs of every candidate.
          **keywords: of the candidates that take them.

        Raises:
          InputError: candidates that do not fit each other, or no alphas.
        """
        names = checked_candidates(self.candidates, self._where)
        if of_nnx := [name for name, each in self.candidates.items() if isinstance(each, nnx.Module)]:
            raise InputError(
                f"{self._where} has {of_nnx[0]} = a model of NNX, and stands in a Linen network; give a Linen module"
            )
        if taken := [name for name in names if hasattr(self, name)]:
            raise InputError(f"{self._where} has a candidate named {taken[0]}, a name of Flax's modules; give another")
        calls = {name: call_of(candidate) for name, candidate in self.candidates.items()}
        check_keywords(calls, keywords, self._where)

        def output(name: str) -> Any:
            candidate: Any = self.candidates[name]
            if isinstance(candidate, nn.Module):
                candidate = candidate.copy(parent=self, name=name)
            return candidate(*args, **arguments_for(calls[name], keywords))  # pyright: ignore[reportArgumentType]

        def shape(name: str) -> Any:
            candidate: Any = self.candidates[name]
            known = arguments_for(calls[name], keywords)  # pyright: ignore[reportArgumentType]
            if not isinstance(candidate, nn.Module):
                return jax.eval_shape(lambda *given: candidate(*given, **known), *args)
            alone = candidate.copy(parent=None)
            keys = dict.fromkeys((*self.scope.rngs, "params"), jax.random.key(0)) if self.scope else {}
            return jax.eval_shape(lambda *given: alone.init_with_output(keys, *given, **known)[0], *args)

        slot = self._slot(ChoiceSpec("candidates", names, shared=self.shared))
        return mixed_candidates(slot, self.candidates, output, shape, self._where)


def call_of(candidate: Any) -> Any:
    """The function of a candidate, whose signature says which keywords it takes."""
    return candidate.__call__ if isinstance(candidate, nn.Module) else candidate


class InputChoice(_Chooser):
    """A choice of `k` from several inputs: their sum, weighted by `k` times the softmax of the choice's alphas.

    A decision sums the `k` inputs with the largest weights. What computes the others is not pruned: the compiler leaves it out,
    but its weights stay.

    Attributes:
      k: how many inputs a decision keeps.
      reduce: `sum`, or `mean` for the sum divided by `k`.
      shared: as for `Choice`.
    """

    k: int = 1
    reduce: Literal["sum", "mean"] = "sum"
    shared: str | None = None

    @nn.compact
    def __call__(self, inputs: Mapping[str, jax.Array] | Sequence[jax.Array]) -> jax.Array:
        """The mixture of the inputs, or the sum of the chosen ones.

        Args:
          inputs: arrays of one shape, by name or in a sequence, where their names are `0`, `1`, ….

        Raises:
          InputError: inputs of different shapes, fewer than `k`, or no alphas.
        """
        named = named_inputs(inputs)
        slot = self._slot(inputs_spec(named, self.k, self.reduce, self.shared, self._where))
        return mixed_inputs(slot, named, keep=self.k, mean=self.reduce == "mean", where=self._where)


class WidthChoice(_Chooser):
    """A choice of a layer's number of channels, such as `jdarts.WidthChoice(nn.Dense, (16, 32, 64), name="hidden")(x)`.

    In the search it is the widest layer, times a factor for each channel: the sum of the weights of the widths that have it.
    The decided network makes the layer with the chosen width, and takes the first channels of its weights and of those after it.
    That is the same function if what follows acts on each channel alone and keeps zeros, such as `relu`, up to the next product
    with a matrix. A norm over channels, or a reshape of channels with other axes, is not.

    Attributes:
      layer: from a number of channels to a module; the last axis of its output has this size.
      widths: numbers of channels.
      shared: as for `Choice`.
    """

    layer: Callable[[int], nn.Module]
    widths: Sequence[int]
    shared: str | None = None

    @nn.compact
    def __call__(self, *args: Any, **keywords: Any) -> jax.Array:
        """The layer's output with a factor for each channel, or the output of the layer of the chosen width.

        Args:
          *args: inputs of the layer.
          **keywords: of the layer.

        Raises:
          InputError: widths that are no numbers of channels, a layer of another width, or no alphas.
        """
        slot = self._slot(widths_spec(self.widths, self.shared, self._where))
        check_makes(self.layer, nn.Module, self._where)
        width = max(self.widths)
        if isinstance(slot, Decision):
            width = int(slot.chosen[0])
        output = self.layer(width).copy(parent=self, name="channels")(*args, **keywords)
        check_width(output, width, self._where)
        return output if isinstance(slot, Decision) else mixed_widths(slot, output, self.widths)

"""What stands in the place of a choice: its alphas, given weights, or a decision."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from jdarts.errors import InputError, shown

#: The collection of alphas among a network's variables, and the name of each choice's entry below its path.
COLLECTION = "alphas"
ENTRY = "choice"


@dataclasses.dataclass(frozen=True)
class ChoiceSpec:
    """What a choice is, as static data.

    Attributes:
      kind: whether candidates, inputs or widths are chosen.
      candidates: their names in order.
      keep: how many of them a decision keeps.
      shared: the name of the alphas that several choices share; None where no other choice shares them.
      inside: the names between the path of the choice and those of its candidates.
    """

    kind: Literal["candidates", "inputs", "widths"]
    candidates: tuple[str, ...]
    keep: int = 1
    shared: str | None = None
    # What identifies a network is the text of its choices.
    inside: tuple[str, ...] = dataclasses.field(default=(), repr=False)


class Place(NamedTuple):
    """Where a choice stands in a network.

    Attributes:
      path: of the module, or of the variable in NNX.
      rows: shape before the candidates' axis: `()`, or the number of layers in an `nn.scan` with alphas for each.
    """

    path: tuple[str | int, ...]
    rows: tuple[int, ...]


class ChoiceAlphas(flax.struct.PyTreeNode):
    """The alphas of a choice, a pytree of one array.

    Attributes:
      values: `[O]`, or `[L, O]` for `L` layers of an `nn.scan` or `nn.vmap` with alphas for each.
      spec: the choice.
      places: where the choice stands; empty inside the network.
    """

    values: jax.Array
    spec: ChoiceSpec = flax.struct.field(pytree_node=False)
    places: tuple[Place, ...] = flax.struct.field(pytree_node=False, default=())

    @property
    def candidate_paths(self) -> tuple[tuple[str, ...], ...]:
        """The paths below which the candidates' variables are, by their names; one for each place."""
        return tuple((*map(str, place.path), *self.spec.inside) for place in self.places)


class ChoiceWeights(flax.struct.PyTreeNode):
    """Weights of a choice's candidates that were computed outside the network.

    Attributes:
      values: as those of `ChoiceAlphas`.
    """

    values: jax.Array


class Decision(flax.struct.PyTreeNode):
    """A decided choice: a pytree without arrays.

    Attributes:
      chosen: the names of the chosen candidates.
    """

    chosen: tuple[str, ...] = flax.struct.field(pytree_node=False)


Slot = ChoiceAlphas | ChoiceWeights | Decision


def new_alphas(spec: ChoiceSpec) -> ChoiceAlphas:
    """The alphas of a new network: zeros, so that all candidates have the same weight."""
    return ChoiceAlphas(jnp.zeros(len(spec.candidates)), spec)


def candidate_weights(slot: ChoiceAlphas | ChoiceWeights) -> jax.Array:
    """The weights of the candidates, `[O]`: those given, or else the softmax of the alphas."""
    return slot.values if isinstance(slot, ChoiceWeights) else jax.nn.softmax(slot.values)


def checked_names(names: object, kind: str) -> tuple[str, ...]:
    """The names of candidates.

    Raises:
      InputError: there are none, one is not a text, is empty or contains a slash, or one comes twice.
    """
    listed = tuple(names) if isinstance(names, tuple | list) else ()
    if not listed:
        raise InputError(f"a choice has no {kind}; give one or more")
    for name in listed:
        if not isinstance(name, str) or not name or "/" in name:
            raise InputError(f"a choice has {kind} named {shown(name)}; names are texts without a slash")
    if len(set(listed)) < len(listed):
        raise InputError(f"a choice has the {kind} {shown(', '.join(listed))}, with one name twice; give each its own")
    return listed


def checked_candidates(candidates: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The names of candidates that are modules, functions or None.

    Raises:
      InputError: no candidates by name, names as for `checked_names`, or a candidate that is something else.
    """
    if not isinstance(candidates, Mapping):
        raise InputError(
            f"the candidates of a choice are {shown(type(candidates).__name__)}; give a dictionary from their names to them"
        )
    names = checked_names(tuple(candidates), "candidates")
    for name, candidate in candidates.items():
        if isinstance(candidate, type):
            raise InputError(f"{where} has {name} = the class {candidate.__name__}; give a module of it, or a function")
        if candidate is not None and not callable(candidate):
            raise InputError(f"{where} has {name} = {shown(candidate)}; give a module, a function or None")
    return names


def inputs_spec(names: Iterable[str], k: int, reduce: str, shared: str | None, where: str) -> ChoiceSpec:
    """A choice of `k` inputs.

    Raises:
      InputError: names as for `checked_names`, a wrong `k` or a wrong `reduce`.
    """
    listed = checked_names(tuple(names), "inputs")
    if not isinstance(k, int) or not 1 <= k <= len(listed):
        raise InputError(f"{where} keeps k={shown(k)} of {len(listed)} inputs; give a k from 1 to {len(listed)}")
    if reduce not in ("sum", "mean"):
        raise InputError(f"{where} has reduce={shown(reduce)}; give 'sum' or 'mean'")
    return ChoiceSpec("inputs", listed, k, shared)


def widths_spec(widths: Sequence[int], shared: str | None, where: str) -> ChoiceSpec:
    """A choice of a number of channels.

    Raises:
      InputError: something else than numbers of channels, or one of them twice.
    """
    listed = isinstance(widths, tuple | list)
    if not listed or not all(isinstance(width, int) and width > 0 for width in widths):
        widths = tuple(widths) if listed else widths
        raise InputError(f"{where} has the widths {shown(widths)}; give a tuple of whole numbers above 0")
    return ChoiceSpec("widths", checked_names(tuple(map(str, widths)), "widths"), shared=shared)

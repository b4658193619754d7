"""Between the alphas of a network's choices, by name, and the tables of `jdarts.relaxation`."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.choice.slots import ChoiceAlphas
from jdarts.errors import InputError
from jdarts.methods.mixtures import PAPER, mixture_by_name
from jdarts.relaxation import NO_CONTROLS, Controls, Mixture
from jdarts.space import ChoiceSpace

#: The alphas of a network, by the names of its choices.
NamedAlphas = Mapping[str, ChoiceAlphas]


def space_of(alphas: NamedAlphas) -> ChoiceSpace:
    """The search space of choices.

    Args:
      alphas: by name, or their shapes.

    Raises:
      InputError: a choice without a spec, which is not what `jdarts.split_variables` returns.
    """
    for name, each in alphas.items():
        if not isinstance(each, ChoiceAlphas):
            raise InputError(
                f"the alphas of {name} are {type(each).__name__}; give the alphas that jdarts.split_variables returns"
            )
    return ChoiceSpace(
        tuple((name, (each.spec.candidates,) * _rows(each.values)) for name, each in sorted(alphas.items()))
    )


def _rows(values: Any) -> int:
    rows = 1
    for size in jnp.shape(values)[:-1]:
        rows *= size
    return rows


def tables_of(alphas: NamedAlphas) -> dict[str, jax.Array]:
    """The tables of alphas, `{name: [E, O]}`, with a row for each layer of an `nn.scan` and one otherwise."""
    return {name: each.values.reshape(-1, each.values.shape[-1]) for name, each in alphas.items()}


def with_tables(alphas: NamedAlphas, tables: Mapping[str, jax.Array]) -> dict[str, ChoiceAlphas]:
    """The same choices with the alphas of tables.

    Args:
      alphas: the choices, or their shapes.
      tables: as `tables_of` returns them.
    """
    return {name: each.replace(values=tables[name].reshape(each.values.shape)) for name, each in alphas.items()}


def mixture_for(mixture: str | Mixture) -> Mixture:
    """A mixture, or that of a name in `jdarts.methods.mixtures.MIXTURES`.

    Raises:
      InputError: there is none of this name.
    """
    return mixture if isinstance(mixture, Mixture) else mixture_by_name(mixture)


def weights_of(
    alphas: NamedAlphas,
    mixture: str | Mixture = PAPER,
    *,
    key: jax.Array | None = None,
    controls: Controls = NO_CONTROLS,
) -> dict[str, jax.Array]:
    """The weights of the candidates of each choice, in the shapes of its alphas.

    Args:
      alphas: by name, as `split_variables` returns them.
      mixture: how they become weights.
      key: for a mixture that draws; None for its mean.
      controls: numbers of the epoch, such as a temperature.
    """
    space = space_of(alphas)
    tables = mixture_for(mixture).weights(tables_of(alphas), space, key, controls).operations
    return {name: tables[name].reshape(each.values.shape) for name, each in alphas.items()}


def weights_of_pass(alphas: NamedAlphas, mixture: Mixture, key: jax.Array, controls: Controls) -> dict[str, jax.Array]:
    """The weights of the candidates in one pass of a network; arguments as for `weights_of`.

    Args:
      alphas: as there.
      mixture: as there; one that draws has a key from that of the pass.
      key: of the pass.
      controls: as there.
    """
    return weights_of(alphas, mixture, key=jax.random.fold_in(key, 0) if mixture.random else None, controls=controls)

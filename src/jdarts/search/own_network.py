"""A network of the user's own in the place of the supernet: what `jdarts.search.step` asks of a supernet, by choices."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdarts.choice.losses import outputs_of, without_unused
from jdarts.choice.mixing import arguments_for
from jdarts.choice.slots import COLLECTION, ChoiceAlphas
from jdarts.choice.tables import space_of
from jdarts.choice.variables import PARAMS, split_variables
from jdarts.errors import InputError, shown
from jdarts.relaxation import NO_CONTROLS, Controls, MixtureWeights
from jdarts.space import ChoiceSpace

#: The collection that a search keeps as the model state.
STATE = "batch_stats"


@dataclasses.dataclass(frozen=True)
class OwnNetwork:
    """A Linen network with choices as a search sees it. Its call takes images `[B, H, W, C]`, and `train` if it has it.

    Attributes:
      network: the network. If it has a field `axis_name`, that of the devices which share a batch is given to it.
      choices: its choices, in shapes.
      identity: what identifies it when a run resumes: its class, its choices, and the names and shapes of its weights.
      skips_unused: whether candidates of weight 0 keep their running statistics.
    """

    network: Any
    choices: Mapping[str, ChoiceAlphas]
    identity: str
    skips_unused: bool = False

    @property
    def space(self) -> ChoiceSpace:
        """The choices as a search space."""
        return space_of(self.choices)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The name of each choice."""
        return tuple(sorted(self.choices))

    def clone(self, *, axis_name: str | None = None, **_: Any) -> "OwnNetwork":
        """The same with the name of the axis of devices."""
        if axis_name is None or not hasattr(self.network, "axis_name"):
            return self
        return dataclasses.replace(self, network=self.network.clone(axis_name=axis_name))

    def init(self, rngs: Mapping[str, jax.Array], images: jax.Array, *_: Any, train: bool, **__: Any) -> dict[str, Any]:
        """New variables: `params`, and all other collections as the model state."""
        variables = dict(self.network.init(dict(rngs), images, **_keywords(self.network, train)))
        weights = variables.pop(PARAMS, {})
        return {PARAMS: weights, STATE: {name: part for name, part in variables.items() if name != COLLECTION}}

    def apply(
        self,
        variables: Mapping[str, Any],
        images: jax.Array,
        mixture: Any,
        *,
        train: bool,
        rngs: Mapping[str, jax.Array],
        mutable: Any = False,
        controls: Controls = NO_CONTROLS,
    ) -> Any:
        """The logits at the given weights of the candidates, and the new model state where it is mutable.

        Args:
          variables: as `init` returns them.
          images: `[B, H, W, C]`.
          mixture: `MixtureWeights`, or `{name: [E, O]}`.
          train: whether the network is in training mode.
          rngs: with a key under `noise`, which the network has under `dropout` too.
          mutable: whether the model state may change.
          controls: not read; they have entered the mixture.
        """
        del controls
        tables = mixture.operations if isinstance(mixture, MixtureWeights) else mixture
        weights = {name: tables[name].reshape(each.values.shape) for name, each in self.choices.items()}
        before = variables[STATE]
        logits, state = outputs_of(
            self.network,
            variables[PARAMS],
            self.choices,
            weights,
            before,
            (images,),
            rngs={**rngs, "dropout": rngs["noise"]},
            **_keywords(self.network, train),
        )
        if self.skips_unused:
            state = without_unused(state, before, self.choices, weights)
        return (logits, {STATE: state}) if mutable else logits


def own_network(network: object, image_shape: tuple[int, int, int], classes: int, *, skips_unused: bool) -> OwnNetwork:
    """A network for a search on images.

    Args:
      network: a Linen network with choices, unbound.
      image_shape: `(H, W, C)`.
      classes: number of classes.
      skips_unused: as for `OwnNetwork`.

    Raises:
      InputError: it is no such network, has no choices, or has outputs of another shape.
    """
    if not isinstance(network, nn.Module):
        raise InputError(
            f"network is {shown(type(network).__name__)}; give a flax.linen module with jdarts.Choice in it"
        )
    keywords = _keywords(network, train=True)

    def parts(key: jax.Array, images: jax.Array) -> Any:
        logits, variables = network.init_with_output(key, images, **keywords)
        return logits, split_variables(variables)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    logits, (weights, choices, _) = jax.eval_shape(parts, jax.random.key(0), image)
    if jnp.shape(logits) != (1, classes):
        raise InputError(
            f"the network's outputs have shape {jnp.shape(logits)} for one image; give logits [B, {classes}] for the "
            f"{classes} classes of the data"
        )
    return OwnNetwork(network, choices, _identity(network, choices, weights), skips_unused)


def _keywords(network: Any, train: bool) -> dict[str, Any]:
    """The keywords of the network's call that say whether it is in training mode; none if it has no such mode."""
    return arguments_for(network.__call__, {"train": train})


def _identity(network: nn.Module, choices: Mapping[str, ChoiceAlphas], weights: Any) -> str:
    leaves = [f"{jax.tree_util.keystr(path)} {leaf.shape}" for path, leaf in jax.tree.leaves_with_path(weights)]
    text = "\n".join([*(f"{name} {each.spec}" for name, each in sorted(choices.items())), *leaves])
    return f"{type(network).__name__} {hashlib.sha256(text.encode()).hexdigest()[:16]}"

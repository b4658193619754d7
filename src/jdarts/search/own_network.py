"""The user's own network in the place of the supernet: what `jdarts.search.step` asks of a supernet, by choices."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.choice.losses import outputs_of, without_unused
from jdarts.choice.slots import COLLECTION, ChoiceAlphas
from jdarts.choice.tables import space_of
from jdarts.choice.variables import PARAMS, split_variables
from jdarts.errors import InputError
from jdarts.network_tasks.calling import check_network, identity_of, mode, on_axis
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
        return dataclasses.replace(self, network=on_axis(self.network, axis_name))

    def new_variables(self, rngs: Mapping[str, jax.Array], inputs: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
        """New weights, and all other collections as the model state."""
        variables = dict(self.network.init(dict(rngs), *inputs, **mode(self.network, train=True)))
        weights = variables.pop(PARAMS, {})
        return weights, {name: part for name, part in variables.items() if name != COLLECTION}

    def outputs(
        self,
        weights: Any,
        mixture: Any,
        model_state: Any,
        inputs: tuple[Any, ...],
        *,
        train: bool,
        rngs: Mapping[str, jax.Array],
    ) -> tuple[Any, Any]:
        """The outputs at the given weights of the candidates, and the new model state.

        Args:
          weights: as `new_variables` returns them.
          mixture: `MixtureWeights`, or `{name: [E, O]}`.
          model_state: as `new_variables` returns it.
          inputs: arguments of the network.
          train: whether the network is in training mode.
          rngs: its streams of random numbers.
        """
        tables = mixture.operations if isinstance(mixture, MixtureWeights) else mixture
        of_candidates = {name: tables[name].reshape(each.values.shape) for name, each in self.choices.items()}
        outputs, state = outputs_of(
            self.network,
            weights,
            self.choices,
            of_candidates,
            model_state,
            inputs,
            rngs=dict(rngs),
            **mode(self.network, train=train),
        )
        if self.skips_unused:
            state = without_unused(state, model_state, self.choices, of_candidates)
        return outputs, state

    def init(self, rngs: Mapping[str, jax.Array], images: jax.Array, *_: Any, train: bool, **__: Any) -> dict[str, Any]:
        """New variables as a supernet has them: `params`, and all other collections as the model state."""
        del train
        weights, state = self.new_variables(rngs, (images,))
        return {PARAMS: weights, STATE: state}

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
        logits, state = self.outputs(
            variables[PARAMS],
            mixture,
            variables[STATE],
            (images,),
            train=train,
            rngs={**rngs, "dropout": rngs["noise"]},
        )
        return (logits, {STATE: state}) if mutable else logits


def own_network(network: object, inputs: tuple[Any, ...], *, skips_unused: bool) -> tuple[OwnNetwork, Any]:
    """A network as a search sees it, and the shapes of its outputs.

    Args:
      network: a Linen network with choices, unbound.
      inputs: shapes and types of its arguments.
      skips_unused: as for `OwnNetwork`.

    Raises:
      InputError: it is no such network, or has no choices.
    """
    module = check_network(network, choices=True)
    keywords = mode(module, train=True)

    def parts(key: jax.Array, *inputs: Any) -> Any:
        outputs, variables = module.init_with_output(key, *inputs, **keywords)
        return outputs, split_variables(variables)

    outputs, (weights, choices, _) = jax.eval_shape(parts, jax.random.key(0), *inputs)
    named = (f"{name} {each.spec}" for name, each in sorted(choices.items()))
    return OwnNetwork(module, choices, identity_of(module, weights, named), skips_unused), outputs


def image_network(
    network: object, image_shape: tuple[int, int, int], classes: int, *, skips_unused: bool
) -> OwnNetwork:
    """A network for a search on images.

    Args:
      network: as for `own_network`.
      image_shape: `(H, W, C)`.
      classes: number of classes.
      skips_unused: as for `OwnNetwork`.

    Raises:
      InputError: as for `own_network`, or its outputs have another shape.
    """
    own, logits = own_network(
        network, (jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),), skips_unused=skips_unused
    )
    if jnp.shape(logits) != (1, classes):
        raise InputError(
            f"the network's outputs have shape {jnp.shape(logits)} for one image; give logits [B, {classes}] for the "
            f"{classes} classes of the data"
        )
    return own

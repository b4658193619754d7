"""Choices inside networks of Flax NNX: the same as in Linen, with alphas in variables of the type `Alphas`.

```python
from jdarts.choice import nnx as choices

self.block0 = choices.Choice({"conv3": Conv(3, rngs=rngs), "skip": lambda x: x})    # in a module's __init__
graph, weights, alphas, model_state = choices.split(model)
loss_fn = choices.network_loss(graph, "cross_entropy")                              # for jdarts.bilevel_step
small = choices.decided(choices.join(graph, weights, alphas, model_state), jdarts.decide(alphas))
```
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from jdarts.bilevel import LossFn
from jdarts.choice.decisions import Choices, decisions_of
from jdarts.choice.losses import OutputLoss, batch_parts, output_loss
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
    ChoiceAlphas,
    ChoiceSpec,
    ChoiceWeights,
    Decision,
    Slot,
    checked_candidates,
    inputs_spec,
    new_alphas,
    widths_spec,
)
from jdarts.choice.tables import NamedAlphas, mixture_for, weights_of_pass
from jdarts.choice.variables import drawn_alphas, named_alphas
from jdarts.errors import InputError
from jdarts.methods.mixtures import PAPER
from jdarts.relaxation import NO_CONTROLS, Controls, Mixture

N = TypeVar("N", bound=nnx.Module)


class Alphas(nnx.Variable):
    """The alphas of a choice; the value is one of `jdarts.choice.slots`. Choices with one such object share their alphas."""


class Layers(nnx.Variable):
    """Zeros for each layer of an `nnx.scan` whose choice is decided, so that the scan has an input to slice."""


class Chooser(nnx.Module):
    """What all choices share.

    Attributes:
      alphas: the variable; None in a decided network.
      listed: the names of what can be chosen.
      chosen: the names of what was chosen; empty before.
      layers: None, or in a decided network those of an `nnx.scan`.
    """

    def __init__(self, spec: ChoiceSpec, alphas: Alphas | None) -> None:
        if alphas is not None and alphas.get_value().spec != spec:
            other = ", ".join(alphas.get_value().spec.candidates)
            raise InputError(
                f"a choice of {', '.join(spec.candidates)} has the alphas of a choice of {other}; share alphas between choices "
                "of the same candidates"
            )
        self.alphas = Alphas(new_alphas(spec)) if alphas is None else alphas
        self.listed, self.chosen = spec.candidates, ()
        self.layers: Layers | None = nnx.data(None)

    @property
    def _where(self) -> str:
        return f"the choice of {', '.join(self.listed)}"

    @property
    def _slot(self) -> Slot:
        return Decision(self.chosen) if self.alphas is None else self.alphas.get_value()

    def keep(self, chosen: tuple[str, ...]) -> None:
        """Keeps what was chosen alone."""
        if self.alphas is not None and (rows := self.alphas.get_value().values.shape[:-1]):
            self.layers = Layers(jnp.zeros(rows))
        self.alphas, self.chosen = None, chosen


class Choice(Chooser):
    """A choice between candidates, as `jdarts.Choice`.

    Args:
      candidates: modules, functions, or None for zeros, by name.
      alphas: those of another choice of the same candidates, to share them.

    Raises:
      InputError: names or candidates that are none.
    """

    def __init__(self, candidates: Mapping[str, Callable[..., Any] | None], *, alphas: Alphas | None = None) -> None:
        self.names = checked_candidates(candidates, "a choice")
        if linen := [name for name, each in candidates.items() if isinstance(each, nn.Module)]:
            raise InputError(
                f"a choice of NNX has {linen[0]} = a Linen module; give a model of NNX, or nnx.bridge.ToNNX of the module"
            )
        super().__init__(ChoiceSpec("candidates", self.names), alphas)
        self.candidates = nnx.Dict(candidates)

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        """The mixture of the candidates' outputs, or the output of the chosen candidate."""
        # A dictionary of NNX does not keep the order.
        candidates: dict[str, Any] = {name: self.candidates[name] for name in self.names}
        if not self.chosen:
            check_keywords(candidates, keywords, self._where)

        def output(name: str) -> Any:
            return candidates[name](*args, **arguments_for(candidates[name], keywords))

        def shape(name: str) -> Any:
            return _shapes_of(candidates[name])(*args, **keywords)

        return mixed_candidates(self._slot, candidates, output, shape, self._where)

    def keep(self, chosen: tuple[str, ...]) -> None:
        """Keeps the chosen candidate alone; for None a function that knows the shape of another one's output."""
        (name,) = chosen
        kept = self.candidates[name]
        if kept is None:
            kept = _zeros_as(next(each for each in self.candidates.values() if each is not None))
        super().keep(chosen)
        self.names, self.candidates = chosen, nnx.Dict({name: kept})


def _shapes_of(candidate: Any) -> Callable[..., Any]:
    """A function from inputs to the shapes of a candidate's outputs, which holds no array."""
    if isinstance(candidate, nnx.Module):
        graph, state = nnx.split(candidate)
        call, made = type(candidate).__call__, functools.partial(nnx.merge, graph)
    else:
        state, call, made = None, candidate, lambda _: candidate
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)

    def shapes(*args: Any, **keywords: Any) -> Any:
        known = arguments_for(call, keywords)

        def outputs(state: Any, *args: Any) -> Any:
            return made(state)(*args, **known)

        return jax.eval_shape(outputs, abstract, *args)

    return shapes


def _zeros_as(candidate: Any) -> Callable[..., Any]:
    shapes = _shapes_of(candidate)

    def zeros(*args: Any, **keywords: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes(*args, **keywords))

    return zeros


class InputChoice(Chooser):
    """A choice of `k` from several inputs, as `jdarts.InputChoice`.

    Args:
      inputs: their names, or their number.
      k: how many a decision keeps.
      reduce: `sum` or `mean`.
      alphas: those of another choice of the same inputs, to share them.

    Raises:
      InputError: wrong names, `k` or `reduce`.
    """

    def __init__(
        self,
        inputs: Sequence[str] | int,
        *,
        k: int = 1,
        reduce: Literal["sum", "mean"] = "sum",
        alphas: Alphas | None = None,
    ) -> None:
        listed = [str(i) for i in range(inputs)] if isinstance(inputs, int) else inputs
        spec = inputs_spec(listed, k, reduce, None, "a choice")
        super().__init__(spec, alphas)
        self.names, self.k, self.mean = spec.candidates, k, reduce == "mean"

    def __call__(self, inputs: Mapping[str, jax.Array] | Sequence[jax.Array]) -> jax.Array:
        """The mixture of the inputs, or the sum or mean of the chosen ones.

        Args:
          inputs: arrays of one shape, by name or in order.
        """
        named = named_inputs(inputs)
        if set(named) != set(self.names):
            raise InputError(f"a choice of the inputs {', '.join(self.names)} has {', '.join(named)}; give the same")
        in_order = {name: named[name] for name in self.names}
        return mixed_inputs(self._slot, in_order, keep=self.k, mean=self.mean, where=self._where)


class WidthChoice(Chooser):
    """A choice of a layer's number of channels, as `jdarts.WidthChoice`.

    A decided network keeps the widest layer, and sets the other channels to 0: the layers after it were made for that width.

    Args:
      layer: from a number of channels to a module; the last axis of its output has this size.
      widths: numbers of channels.
      alphas: those of another choice of the same widths, to share them.

    Raises:
      InputError: widths that are no numbers of channels.
    """

    def __init__(
        self, layer: Callable[[int], nnx.Module], widths: Sequence[int], *, alphas: Alphas | None = None
    ) -> None:
        super().__init__(widths_spec(widths, None, "a choice"), alphas)
        check_makes(layer, nnx.Module, self._where)
        self.widths = tuple(widths)
        self.layer = layer(max(widths))

    def __call__(self, *args: Any, **keywords: Any) -> jax.Array:
        """The layer's output with a factor for each channel."""
        function: Any = self.layer
        output = function(*args, **keywords)
        check_width(output, max(self.widths), self._where)
        slot = self._slot
        if isinstance(slot, Decision):
            slot = ChoiceWeights(jnp.array([float(str(width) == slot.chosen[0]) for width in self.widths]))
        return mixed_widths(slot, output, self.widths)


def split(
    model: nnx.Module, *, key: jax.Array | None = None, mixture: str | Mixture = PAPER
) -> tuple[Any, nnx.State, dict[str, ChoiceAlphas], nnx.State]:
    """Splits a model with choices.

    Args:
      model: the model.
      key: draws the alphas as the mixture begins them; None for those of the model, zeros at first.
      mixture: how alphas become weights.

    Returns:
      The graph, `weights` (all `nnx.Param`), `alphas` by the path of each choice, and `model_state` (all other variables).

    Raises:
      InputError: the model has no choices.
    """
    graph, weights, _, model_state = nnx.split(model, nnx.Param, Alphas, ...)
    alphas = alphas_of(model)
    if not alphas:
        raise InputError("the network has no choices; put a jdarts.choice.nnx.Choice into it")
    return graph, weights, alphas if key is None else drawn_alphas(key, alphas, mixture), model_state


def alphas_of(model: nnx.Module) -> dict[str, ChoiceAlphas]:
    """The alphas of a model by the path of the choice that holds them."""
    flat: Any = nnx.to_flat_state(nnx.state(model, Alphas))
    return named_alphas({tuple(path[:-1]): variable.get_value() for path, variable in flat})


def _placed(alphas: NamedAlphas, slot: Callable[[str], Slot]) -> nnx.State:
    return nnx.from_flat_state(
        [((*place.path, "alphas"), Alphas(slot(name))) for name, each in alphas.items() for place in each.places]
    )


def join(graph: Any, weights: Any, alphas: NamedAlphas, model_state: Any) -> Any:
    """The model of the parts of `split`."""
    slots = _placed(alphas, lambda name: ChoiceAlphas(alphas[name].values, alphas[name].spec))
    return nnx.merge(graph, weights, slots, model_state, copy=True)


def network_loss(
    graph: Any,
    loss: str | OutputLoss = "cross_entropy",
    *,
    mixture: str | Mixture = PAPER,
    controls: Controls = NO_CONTROLS,
    **call: Any,
) -> LossFn:
    """The loss of a model with choices for `jdarts.bilevel_step`, as `jdarts.network_loss`.

    Random numbers of the model, such as those of `nnx.Dropout`, come from its own streams in the model state.

    Args:
      graph: of `split`; the modes of its modules, such as those that `model.train()` sets, count.
      loss: as there.
      mixture: as there.
      controls: as there.
      **call: further arguments of the model.

    Raises:
      InputError: there is no such loss or mixture.
    """
    plug_in, of_outputs = mixture_for(mixture), output_loss(loss)

    def loss_fn(weights: Any, alphas: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        given = weights_of_pass(alphas, plug_in, key, controls)
        inputs, targets = batch_parts(batch)
        slots = _placed(alphas, lambda name: ChoiceWeights(given[name]))
        model = nnx.merge(graph, weights, slots, model_state, copy=True)
        value, metrics = of_outputs(model(*inputs, **call), targets)
        *_, state = nnx.split(model, nnx.Param, Alphas, ...)
        return value, (state, metrics)

    return loss_fn


def decided(model: N, choices: Choices) -> N:
    """A copy of a model with the chosen parts alone.

    Args:
      model: a model with choices.
      choices: as `jdarts.decide` returns them.

    Returns:
      The model with its weights; its output is that of the mixture at weights of 1 for what is chosen.

    Raises:
      InputError: choices that do not fit the model.
    """
    small = nnx.clone(model)
    alphas = alphas_of(small)
    decisions = decisions_of(choices, alphas)
    by_variable = {id(_at(small, each.places[0].path).alphas): decisions[name] for name, each in alphas.items()}
    choosers = [node for _, node in nnx.iter_graph(small) if isinstance(node, Chooser)]
    for each, decision in [(each, by_variable[id(each.alphas)]) for each in choosers]:
        each.keep(decision.chosen)
    return small


def _at(model: Any, path: Sequence[str | int]) -> Any:
    for name in path:
        model = getattr(model, str(name)) if hasattr(model, str(name)) else model[name]
    return model

"""A model of NNX as a Linen module: what runs, counts and measures Linen networks does so with it too.

Its collections are `params` (all `nnx.Param`), `alphas` (an entry for each choice) and `state` (all other variables, such as
running statistics), below the paths of the model. Each call has new streams of random numbers, from Linen's stream `dropout`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import errors, nnx, traverse_util

from jdarts.choice.decided import DECIDED
from jdarts.choice.mixing import arguments_for
from jdarts.choice.nnx import Alphas, Chooser, alphas_of
from jdarts.choice.slots import COLLECTION, ENTRY, ChoiceAlphas, Decision, Slot
from jdarts.choice.variables import PARAMS
from jdarts.errors import InputError, shown

#: The collection of variables that are neither weights nor alphas.
STATE = "state"

Path = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Model:
    """What makes a model.

    Attributes:
      make: from a stream of random numbers to the model.
      graph: of the model.
      shapes: of its variables.
      is_fixed: whether the model has its weights already, and `make` only copies it.
      made_of: what the user gave.
    """

    make: Callable[[nnx.Rngs], nnx.Module]
    graph: Any
    shapes: Any
    is_fixed: bool
    made_of: Any

    @classmethod
    def of(cls, network: Any) -> "Model":
        """The model of an NNX module, or of a function that makes one.

        Raises:
          InputError: the function makes something else.
        """
        if isinstance(network, nnx.Module):
            graph, state = nnx.split(network)
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
            return cls(lambda _: nnx.clone(network), graph, shapes, True, network)
        name = getattr(network, "__name__", type(network).__name__)
        try:
            made = nnx.eval_shape(lambda: network(nnx.Rngs(0)))
        except TypeError as error:
            raise InputError(
                f"network is {shown(name)}, and {name}(nnx.Rngs(0)) fails ({error}); give a network, or a function from nnx.Rngs "
                "to a model of NNX"
            ) from error
        if not isinstance(made, nnx.Module):
            raise InputError(
                f"network is {shown(name)}, and {name}(nnx.Rngs(0)) is no model of NNX; give a network, or a function from "
                "nnx.Rngs to a model of NNX"
            )
        graph, shapes = nnx.split(made)
        return cls(network, graph, shapes, False, network)

    def abstract(self) -> Any:
        """The model without arrays."""
        return nnx.merge(self.graph, self.shapes, copy=True)


class Bridged(nn.Module):
    """A model of NNX as a Linen module.

    Attributes:
      model: what makes it.
      axis_name: the name that its modules with a field `axis_name` get, unless they have one.
    """

    model: Model
    axis_name: str | None = None

    @nn.compact
    def __call__(self, *inputs: Any, train: bool = False, **keywords: Any) -> Any:
        """The outputs of the model.

        Args:
          *inputs: of the model.
          train: whether it is in training mode, as `model.train()` sets it; the call of the model has it as well if it takes it.
          **keywords: of the call of the model.
        """
        starts = self.is_initializing()
        model: Any = self.model.make(nnx.Rngs(self.make_rng(PARAMS))) if starts else self.model.abstract()
        slots = self._slots(model)
        for path, chooser in choosers(model).items():
            slot = slots[path]
            if isinstance(slot, Decision):
                chooser.keep(slot.chosen)
            else:
                chooser.alphas.set_value(slot)
        graph, weights, alphas, streams, state = nnx.split(model, nnx.Param, Alphas, nnx.RngState, ...)
        model = nnx.merge(
            graph,
            self._given(PARAMS, weights),
            alphas,
            self._new_streams(streams),
            self._given(STATE, state),
            copy=True,
        )
        self._set_mode(model, train)
        outputs = model(*inputs, **arguments_for(type(model).__call__, {"train": train}), **keywords)
        if self.is_mutable_collection(STATE):
            self._keep(nnx.split(model, nnx.Param, Alphas, nnx.RngState, ...)[-1], nested(state))
        return outputs

    def _slots(self, model: Any) -> dict[Path, Slot]:
        """What stands in the place of each choice."""
        new = {(*texts(path), ENTRY): slot for path, slot in choice_slots(model).items()}
        found: dict[Path, Slot] = {}
        for top, part in traverse_util.unflatten_dict(new).items():
            try:
                given = self.variable(COLLECTION, top, lambda part=part: part).value
            except (errors.ScopeCollectionNotFound, errors.ScopeVariableNotFoundError) as error:
                raise InputError(
                    "the model's choices have no alphas here; give the collection 'alphas' beside 'params'"
                ) from error
            found |= _flat({top: given})
        return {path: found[(*texts(path), ENTRY)] for path in choosers(model)}

    def _given(self, collection: str, state: Any) -> Any:
        """The variables with the values of a collection, or at first their own ones."""
        flat = nnx.to_flat_state(state)
        values: dict[Path, Any] = {}
        for top, part in nested(state).items():
            try:
                values |= _flat({top: self.variable(collection, top, lambda part=part: part).value})
            except (errors.ScopeCollectionNotFound, errors.ScopeVariableNotFoundError) as error:
                raise InputError(f"the variables have no {top} of the model; give those of this model") from error
        placed = []
        for path, variable in flat:
            value = values.get(texts(path))
            if value is None or jnp.shape(value) != jnp.shape(variable.get_value()):
                given = "is not there" if value is None else f"has the shape {jnp.shape(value)}"
                raise InputError(
                    f"{'/'.join(texts(path))} {given}, and the model's has {jnp.shape(variable.get_value())}; give the variables "
                    "of this model"
                )
            placed.append((path, variable.replace(value)))
        return nnx.from_flat_state(placed)

    def _new_streams(self, state: Any) -> Any:
        """Streams of random numbers for this call."""
        base = self.make_rng("dropout") if self.has_rng("dropout") else jax.random.key(0)
        streams = []
        for number, (path, variable) in enumerate(nnx.to_flat_state(state)):
            shape, key = jnp.shape(variable.get_value()), jax.random.fold_in(base, number)
            value: Any = jnp.zeros(shape, jnp.uint32)
            if isinstance(variable, nnx.RngKey):
                value = jax.random.split(key, shape) if shape else key
            streams.append((path, variable.replace(value)))
        return nnx.from_flat_state(streams)

    def _set_mode(self, model: Any, train: bool) -> None:
        model.train() if train else model.eval()
        for _, node in nnx.iter_graph(model):
            if self.axis_name is not None and getattr(node, "axis_name", "") is None:
                node.axis_name = self.axis_name

    def _keep(self, state: Any, known: Mapping[str, Any]) -> None:
        new = _flat(nested(state))
        for top, part in known.items():
            # A call may leave further variables, such as intermediate values.
            self.put_variable(STATE, top, _of_paths(_flat({top: part}), new)[top])


def bridged(network: Any) -> nn.Module:
    """A model of NNX, or what makes one, as a Linen module with the model's name.

    Args:
      network: an NNX module, whose weights are those at the start; or a function from `nnx.Rngs` to one, such as its class, which
        makes new weights from each seed.

    Raises:
      InputError: it is something else, or choices in it do not fit each other.
    """
    model = Model.of(network)
    made = model.abstract()
    chosen = {"/".join(texts(path)): node.chosen for path, node in _nodes(made).items() if node.chosen}
    kind: Any = type(type(made).__name__, (Bridged,), {"__module__": __name__, **({DECIDED: chosen} if chosen else {})})
    return kind(model=model)


def with_values(model: Any, variables: Mapping[str, Any], alphas: Mapping[str, Any]) -> Any:
    """A copy of a model of NNX with the variables of a run.

    Args:
      model: an NNX module.
      variables: the collections of its Linen module.
      alphas: `{name of the choice: [E, O]}`; empty for none.

    Raises:
      InputError: they are those of another model.
    """
    copied = nnx.clone(model)
    for name, part in ((PARAMS, nnx.Param), (STATE, nnx.Not(nnx.Any(nnx.Param, Alphas, nnx.RngState)))):
        values = _flat(variables.get(name, {}))
        own = nnx.to_flat_state(nnx.state(copied, part))
        shapes = {texts(path): jnp.shape(variable.get_value()) for path, variable in own}
        if shapes != {path: jnp.shape(value) for path, value in values.items()}:
            raise InputError(
                f"the run is of a model with other {name} than {type(model).__name__}; give the model that it is of, or the "
                "decided one"
            )
        nnx.update(
            copied,
            nnx.from_flat_state([(path, variable.replace(jnp.asarray(values[texts(path)]))) for path, variable in own]),
        )
    of_choices = alphas_of(copied)
    if alphas and {name: each.spec.candidates for name, each in of_choices.items()}.keys() != alphas.keys():
        raise InputError(
            f"the run has the choices {', '.join(alphas)}, and the model {', '.join(of_choices)}; give its model"
        )
    for name, each in of_choices.items() if alphas else ():
        chooser = choosers(copied)[each.places[0].path]
        slot = chooser.alphas.get_value()
        chooser.alphas.set_value(slot.replace(values=jnp.asarray(alphas[name]).reshape(slot.values.shape)))
    return copied


def choosers(model: Any) -> dict[Path, Any]:
    """The choices of a model that are not decided, by their paths."""
    return {path: node for path, node in _nodes(model).items() if node.alphas is not None}


def _nodes(model: Any) -> dict[Path, Any]:
    return {tuple(path): node for path, node in nnx.iter_graph(model) if isinstance(node, Chooser)}


def choice_slots(model: Any) -> dict[Path, ChoiceAlphas]:
    """The alphas of each choice of a model, by its path, with the names of those that several choices share."""
    nodes, by_name = choosers(model), alphas_of(model)
    of_variable = {id(nodes[each.places[0].path].alphas): name for name, each in by_name.items()}
    names = {path: of_variable[id(node.alphas)] for path, node in nodes.items()}
    found = {}
    for path, node in nodes.items():
        slot, is_shared = node.alphas.get_value(), list(names.values()).count(names[path]) > 1
        if is_shared and slot.values.ndim > 1:
            raise InputError(
                f"the choice {names[path]} has alphas for each layer of an nnx.scan or nnx.vmap, and shares them with another "
                "choice; give each its own alphas"
            )
        shared = names[path] if is_shared else None
        found[path] = slot.replace(spec=dataclasses.replace(slot.spec, shared=shared, inside=("candidates",)))
    return found


def texts(path: Path) -> tuple[str, ...]:
    """A path in texts alone."""
    return tuple(map(str, path))


def nested(state: Any) -> dict[str, Any]:
    """The values of variables in dictionaries."""
    return traverse_util.unflatten_dict(
        {texts(path): variable.get_value() for path, variable in nnx.to_flat_state(state)}
    )


def _flat(tree: Mapping[str, Any]) -> dict[Path, Any]:
    return traverse_util.flatten_dict(tree, is_leaf=lambda _, each: not isinstance(each, Mapping))


def _of_paths(known: Mapping[Path, Any], values: Mapping[Path, Any]) -> dict[str, Any]:
    return traverse_util.unflatten_dict({path: values[path] for path in known})

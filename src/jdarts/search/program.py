"""The pure functions of a search that do not depend on what its data are: the first state, a step, measurements."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jdarts import bilevel
from jdarts.budget.penalty import CostPenalty, cost_penalised, first_multipliers
from jdarts.methods.estimators import standing, without_hypergradient
from jdarts.methods.losses import Losses, draws_mixture, method_losses, with_own_key
from jdarts.methods.method import Method
from jdarts.methods.penalties import penalised
from jdarts.methods.perturbation_selection import columns_of, undecided, with_decisions
from jdarts.optimizers import restarted
from jdarts.parallel import device_key
from jdarts.relaxation import NO_CONTROLS, Controls, MixtureWeights, Space, mean_entropy, mixture_entropies
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.guards import Measured, measuring_programs, problem_at
from jdarts.runs.step_metrics import epoch_sums, first_not_finite
from jdarts.space import ChoiceSpace, SearchSpace
from jdarts.xla.outlined import inlining
from jdarts.xla.trees import all_finite

#: The two batches of a step.
Part = Literal["train", "valid"]


@flax.struct.dataclass
class SearchState:
    """The whole state of a search, as a checkpoint stores it.

    Attributes:
      bilevel: weights, alphas, optimiser states, running statistics, step and key.
      data_key: key of batches and augmentation.
      sums: sums of the metrics over the steps of the current epoch.
      not_finite_at: int32 `[]`, the first step with a loss, a gradient, a weight or an alpha that is not
        finite; 0 if there is none.
      controls: numbers that a stopping rule may change, such as the weight decay; by name, scalars.
      decided: what a selection has decided, as `jdarts.methods.perturbation_selection.columns_of` has it; empty for a search
        that does not decide on its way.
      multipliers: of the bounds on expected costs, by measure, scalars; empty for a search without a budget.
    """

    bilevel: bilevel.BilevelState
    data_key: jax.Array
    sums: dict[str, jax.Array]
    not_finite_at: jax.Array
    controls: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    decided: dict[str, jax.Array] = flax.struct.field(default_factory=dict)
    multipliers: dict[str, jax.Array] = flax.struct.field(default_factory=dict)

    @property
    def step(self) -> jax.Array:
        """Number of steps done, int32 `[]`."""
        return self.bilevel.step


class Optimizers(NamedTuple):
    """What a step makes of gradients, under the controls of the run.

    Attributes:
      weights: the optimiser of the weights.
      hypergradient: the estimator of the alphas' gradient.
      virtual: makes the virtual step of the estimator.
    """

    weights: optax.GradientTransformation
    hypergradient: bilevel.HypergradientFn
    virtual: optax.GradientTransformation


class Steps(NamedTuple):
    """How a search steps, whatever it searches in.

    Attributes:
      method: the search method. Its mixture enters outside the network, its penalties beside the hypergradient, its weight
        loss in the step of the weights.
      epoch_steps: which steps make up the epochs.
      epochs: epochs of the whole search, for the method's schedules.
      rate: the weights' learning rate, a function of the step.
      optimizers: from the controls of the run to the optimiser of the weights and the estimator.
      alpha_optimizer: optimiser of the alphas.
      run_controls: controls that a stopping rule may change, at their first values.
    """

    method: Method
    epoch_steps: EpochSteps
    epochs: int
    rate: optax.Schedule
    optimizers: Callable[[Controls], Optimizers]
    alpha_optimizer: optax.GradientTransformation
    run_controls: Mapping[str, float] = NO_CONTROLS

    def controls(self, number: Any) -> Controls:
        """The numbers of the epoch of a step, which is counted from 0."""
        return self.method.controls(self.epoch_steps.epoch(number), self.epochs)


class Searched(NamedTuple):
    """What a search searches in, and what it reads.

    Attributes:
      space: the search space.
      kinds: the kind of each cell, or the name of each choice.
      new_variables: from a key to new weights and a new model state.
      batch: `(which, key, inputs of the step, axis_name)` to one of its two batches.
      loss: `(axis_name, train=…, controls=…)` to the loss as a function of `MixtureWeights` in place of alphas.
      averaged: names of the metrics of a step whose means over an epoch are kept.
      shares_noise: whether the devices draw one noise for a whole batch.
    """

    space: Space
    kinds: Sequence[str]
    new_variables: Callable[[jax.Array], tuple[Any, Any]]
    batch: Callable[[Part, jax.Array, tuple[Any, ...], str | None], Any]
    loss: "LossOf"
    averaged: Sequence[str]
    shares_noise: bool


class LossOf(Protocol):
    """The loss of a network on devices, in training or in evaluation mode."""

    def __call__(self, axis_name: str | None, *, train: bool, controls: Controls) -> bilevel.LossFn: ...  # noqa: D102


class CoreProgram(NamedTuple):
    """The pure functions of a search that do not depend on its data.

    Attributes:
      init: `seed, uint32 [] -> SearchState`.
      step: `(state, *inputs, axis_name) -> (state, metrics)`; see `jdarts.parallel`.
      weights_step: the same for a step that leaves the alphas as they are.
      restart: `(state, axis_name) -> state`, with the weights' optimiser as new. Its schedule continues.
      measures: `(state, *inputs, axis_name) -> numbers by name`, those of `jdarts.runs.guards`, on the batches of the
        last step.
      weights_now: `(state) -> MixtureWeights` of the present alphas in an evaluation, after the last step of an epoch.
    """

    init: Callable[[jax.Array], SearchState]
    step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    weights_step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    restart: Callable[..., SearchState]
    measures: Mapping[str, Callable[..., dict[str, jax.Array]]]
    weights_now: Callable[[SearchState], MixtureWeights]


class _Inputs(NamedTuple):
    """What a step computes its losses of: batches with the keys of the mixture, losses and numbers of the epoch."""

    train: Any
    valid: Any
    losses: Losses
    controls: Controls


def core_program(
    searched: Searched,
    steps: Steps,
    *,
    decides: bool = False,
    penalties: Sequence[CostPenalty] = (),
) -> CoreProgram:
    """Builds the functions of a search.

    Args:
      searched: what it searches in.
      steps: how it steps.
      decides: whether a selection decides on operations on the way.
      penalties: on expected costs, beside the validation loss.
    """
    method, epoch_steps, _, rate, optimizers, alpha_optimizer, run_controls = steps
    mixture, space = method.mixture, searched.space

    def init(seed: jax.Array) -> SearchState:
        weight_key, alpha_key, step_key, data_key = jax.random.split(jax.random.key(seed), 4)
        alphas = mixture.init(alpha_key, space, jnp.float32)
        weights, model_state = searched.new_variables(weight_key)
        state = bilevel.init_state(
            step_key,
            weights,
            alphas,
            model_state,
            weight_optimizer=optimizers(run_controls).weights,
            alpha_optimizer=alpha_optimizer,
            method_state=() if method.freezing is None else method.freezing.init(weights),
        )
        sums = {name: jnp.zeros((), jnp.float32) for name in searched.averaged}
        controls = {name: jnp.asarray(value, jnp.float32) for name, value in run_controls.items()}
        decided = {}
        if decides and isinstance(space, SearchSpace):
            decided = {kind: jnp.asarray(each) for kind, each in columns_of(undecided(space)).items()}
        return SearchState(
            state, data_key, sums, jnp.zeros((), jnp.int32), controls, decided, first_multipliers(penalties)
        )

    def weights_at(state: SearchState, key: jax.Array | None, controls: Controls) -> MixtureWeights:
        weights = mixture.weights(state.bilevel.alphas, space, key, controls)
        return with_decisions(weights, state.decided) if state.decided else weights

    def weights_now(state: SearchState) -> MixtureWeights:
        key = jax.random.fold_in(state.data_key, state.bilevel.step) if mixture.random_in_evaluation else None
        return weights_at(state, key, steps.controls(state.bilevel.step - 1))

    def inputs_of(number: jax.Array, state: SearchState, inputs: tuple[Any, ...], axis_name: str | None) -> _Inputs:
        # The rows of images fold the epoch into the data key. The complement of the step is never an epoch, so the keys differ.
        step_key = jax.random.fold_in(state.data_key, ~number.astype(jnp.uint32))
        keys = jax.random.split(step_key)
        # Not those of the devices: the devices draw one mixture.
        mixture_keys = jax.random.split(jax.random.fold_in(step_key, 1)) if draws_mixture(method) else (None, None)
        controls = steps.controls(number)
        train = searched.batch("train", keys[0], inputs, axis_name)
        valid = train
        if method.alphas_on == "valid":
            valid = searched.batch("valid", keys[1], inputs, axis_name)
        if shares_noise := axis_name is not None and searched.shares_noise:
            # Those of `bilevel_step` on one device: the network draws for the examples of all devices.
            noise_keys = jax.random.split(jax.random.fold_in(state.bilevel.key, number))
            train, valid = (train, noise_keys[0]), (valid, noise_keys[1])

        def given(*, train: bool) -> bilevel.LossFn:
            loss = searched.loss(axis_name, train=train, controls=controls)
            loss = with_own_key(loss) if shares_noise else loss
            if not state.decided:
                return loss
            return lambda weights, mixture, *rest: loss(weights, with_decisions(mixture, state.decided), *rest)

        losses = method_losses(
            method,
            given(train=True),
            given(train=False),
            space=space,
            kinds=searched.kinds,
            controls=controls,
            axis_name=axis_name,
        )
        return _Inputs((train, mixture_keys[0]), (valid, mixture_keys[1]), losses, controls)

    def one_step(
        state: SearchState, inputs: tuple[Any, ...], *, moves_alphas: bool, axis_name: str | None
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        number = state.bilevel.step
        read = inputs_of(number, state, inputs, axis_name)
        weight_optimizer, hypergradient, _ = optimizers(state.controls)
        estimator = penalised(hypergradient, method.penalties, mixture, space, read.controls)
        estimator = cost_penalised(estimator, penalties, state.multipliers, mixture, space, read.controls)
        # XLA fuses the passes of the user's own network.
        with inlining(isinstance(space, ChoiceSpace)):
            new, metrics = bilevel.bilevel_step(
                state.bilevel,
                read.train,
                read.valid,
                loss_fn=read.losses.loss_fn,
                weight_loss_fn=read.losses.weight_loss_fn,
                weight_optimizer=weight_optimizer,
                alpha_optimizer=alpha_optimizer if moves_alphas else standing(alpha_optimizer),
                hypergradient=estimator if moves_alphas else without_hypergradient,
                weight_rule=method.freezing,
                order=method.order,
                axis_name=axis_name,
            )
        numbers = [metrics[name] for name in ("train/loss", "valid/loss", "weights/gradient_norm")]
        finite = metrics["hypergradient/finite"] & all_finite((numbers, new.weights, new.alphas, new.model_state))
        not_finite_at = first_not_finite(state.not_finite_at, finite, new.step)
        sums = epoch_sums(state.sums, metrics, starts_epoch=epoch_steps.begins(number))
        after = dataclasses.replace(state, bilevel=new, sums=sums, not_finite_at=not_finite_at)
        entropies = mixture_entropies(weights_at(after, None, read.controls).operations)
        metrics |= {f"alphas/entropy_{kind}": value for kind, value in entropies.items()}
        metrics["alphas/entropy"] = mean_entropy(entropies)
        metrics["learning_rate"] = rate(number)
        metrics |= {f"controls/{name}": value for name, value in read.controls.items()}
        metrics |= {f"controls/{name}": value for name, value in state.controls.items()}
        return after, metrics

    def measured(state: SearchState, *inputs: Any, axis_name: str | None = None) -> Measured:
        number = state.bilevel.step - 1
        read = inputs_of(number, state, inputs, axis_name)
        key = device_key(jax.random.fold_in(state.bilevel.key, number), axis_name)
        weight_optimizer, hypergradient, virtual = optimizers(state.controls)
        return Measured(
            problem_at(
                state.bilevel,
                read.losses.loss_fn,
                read.train,
                read.valid,
                key,
                weight_optimizer=weight_optimizer,
                axis_name=axis_name,
            ),
            jax.random.fold_in(state.data_key, state.bilevel.step),
            hypergradient,
            state.bilevel.alpha_opt_state,
            virtual,
        )

    def step(
        state: SearchState, *inputs: Any, axis_name: str | None = None
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        return one_step(state, inputs, moves_alphas=True, axis_name=axis_name)

    def weights_step(
        state: SearchState, *inputs: Any, axis_name: str | None = None
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        return one_step(state, inputs, moves_alphas=False, axis_name=axis_name)

    def restart(state: SearchState, *, axis_name: str | None = None) -> SearchState:
        del axis_name
        was = state.bilevel
        fresh = restarted(optimizers(state.controls).weights, was.weight_opt_state, was.weights)
        return dataclasses.replace(state, bilevel=dataclasses.replace(was, weight_opt_state=fresh))

    measures = measuring_programs(measured, alpha_optimizer)
    return CoreProgram(init, step, weights_step, restart, measures, weights_now)

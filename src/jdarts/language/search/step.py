"""One step of a search on text as one program: segments, dropout masks, the bilevel step, hidden states."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jdarts import bilevel, optimizers
from jdarts.data.text import TextSegment
from jdarts.language.search.config import Hypergradient, LanguageSearchConfig
from jdarts.language.token_streams import StreamPosition, advance, next_segment, start_of_stream
from jdarts.methods.estimators import clipped, standing, without_hypergradient
from jdarts.methods.losses import Losses, draws_mixture, method_losses
from jdarts.methods.penalties import penalised
from jdarts.methods.stopping import stopping_rule
from jdarts.nets.initial import from_one_draw
from jdarts.nets.language import LanguageModel, draw_masks
from jdarts.nets.language_loss import Segment, language_loss, without_regularisation
from jdarts.parallel import device_key
from jdarts.relaxation import GIVEN, RECURRENT, Controls, mean_entropy, mixture_entropies
from jdarts.runs.guards import Measured, measuring_programs, problem_at
from jdarts.runs.step_metrics import epoch_sums, first_not_finite
from jdarts.xla.trees import all_finite

AVERAGED = ("train/loss", "valid/loss")


@flax.struct.dataclass
class SearchState:
    """The whole state of a search, as a checkpoint stores it.

    Attributes:
      bilevel: weights, alphas, optimiser states, running statistics, step and key.
      train: position in the weights' text.
      valid: position in the alphas' text.
      mask_key: key of the dropout masks.
      sums: sums of the metrics over the steps of the current epoch.
      not_finite_at: int32 `[]`, the first step with a loss, a gradient, a weight or an alpha that is not
        finite; 0 if there is none.
      controls: numbers that a stopping rule may change, such as the weight decay; by name, scalars.
    """

    bilevel: bilevel.BilevelState
    train: StreamPosition
    valid: StreamPosition
    mask_key: jax.Array
    sums: dict[str, jax.Array]
    not_finite_at: jax.Array
    controls: dict[str, jax.Array] = flax.struct.field(default_factory=dict)

    @property
    def step(self) -> jax.Array:
        """Number of steps done, int32 `[]`."""
        return self.bilevel.step


class SearchProgram(NamedTuple):
    """The pure functions of one search.

    Attributes:
      model: the network.
      init: `seed, uint32 [] -> SearchState`.
      step: `(state, train words, valid words, length, axis_name) -> (state, metrics)`, with the words of a `TokenStream`.
        Each of several devices gets all inputs and uses its share of the columns; see `jdarts.parallel`.
      weights_step: the same for a step that leaves the alphas as they are.
      measures: `(state, train words, valid words, length, axis_name) -> numbers by name`, those of `jdarts.runs.guards`, on the
        segments of the next step.
    """

    model: LanguageModel
    init: Callable[[jax.Array], SearchState]
    step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    weights_step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    measures: Mapping[str, Callable[..., dict[str, jax.Array]]]


class _Inputs(NamedTuple):
    """What a step computes its losses of: segments with the keys of the mixture, losses and numbers of the epoch.

    `lengths` are those of the weights' and of the alphas' segment, `hypergradient` is the estimator without penalties.
    """

    train: Any
    valid: Any
    lengths: tuple[jax.Array, jax.Array]
    losses: Losses
    controls: Controls
    rate: jax.Array
    hypergradient: bilevel.HypergradientFn


def hypergradient_by_name(
    name: Hypergradient, rate: jax.Array, series: Mapping[str, Any], **settings: Any
) -> bilevel.HypergradientFn:
    """The estimator of this name, with `terms` and `at` of a series, and the optimiser of the virtual step at this step size."""
    if name == "first_order":
        return bilevel.first_order()
    if name == "exact":
        return bilevel.exact()
    if name == "neumann":
        return bilevel.neumann(**series)
    virtual = "reference" if name == "reference" else "constant"
    return bilevel.finite_difference(
        virtual_optimizer=optimizers.recurrent_weight_optimizer(rate, virtual=virtual, **settings)
    )


def search_program(
    config: LanguageSearchConfig,
    *,
    vocabulary: int,
    rows: tuple[int, int],
    steps_per_epoch: int,
    dtype: Any = jnp.float32,
) -> SearchProgram:
    """Builds the functions of a search on text.

    Args:
      config: the settings.
      vocabulary: rows of the embedding table.
      rows: rows of the weights' text and of the alphas' text, in columns.
      steps_per_epoch: steps after which the sums restart.
      dtype: type of weights, alphas and computation.
    """
    method, epochs = config.search_method(), config.loop.epochs
    model = LanguageModel(config.space, vocabulary, config.width, dtype, mixture=method.mixture)
    weights_settings = dataclasses.asdict(config.weights)
    series = {"terms": config.neumann_terms, "at": config.neumann_at}
    rule = stopping_rule(config.stop)
    run_controls = {} if rule is None else {name: weights_settings[name] for name in rule.changed_settings}
    alpha_optimizer = config.alphas.optimizer()

    @from_one_draw
    def variables_of(key: jax.Array) -> Any:
        hidden = jnp.zeros((config.batches.batch_size, config.width), dtype)
        words = jnp.zeros((1, config.batches.batch_size), jnp.int32)
        alphas, controls = method.mixture.init(key, config.space, dtype), method.controls(0, epochs)
        return model.init({"params": key, "noise": key}, words, hidden, alphas, train=True, controls=controls)

    def init(seed: jax.Array) -> SearchState:
        weight_key, alpha_key, step_key, mask_key = jax.random.split(jax.random.key(seed), 4)
        alphas, variables = method.mixture.init(alpha_key, config.space, dtype), variables_of(weight_key)
        reading = start_of_stream(config.batches.batch_size, config.width, dtype)
        state = bilevel.init_state(
            step_key,
            variables["params"],
            alphas,
            variables["batch_stats"],
            weight_optimizer=weight_optimizer(config.learning_rate, run_controls),
            alpha_optimizer=alpha_optimizer,
        )
        sums = {name: jnp.zeros((), jnp.float32) for name in AVERAGED}
        controls = {name: jnp.asarray(value, jnp.float32) for name, value in run_controls.items()}
        return SearchState(state, reading, reading, mask_key, sums, jnp.zeros((), jnp.int32), controls)

    def network_input(key: jax.Array, piece: TextSegment, hidden: jax.Array, *, regularised: bool) -> Segment:
        masks = draw_masks(
            key,
            config.dropped.rates,
            vocabulary=vocabulary,
            batch=config.batches.batch_size,
            width=config.width,
            dtype=dtype,
        )
        activation, temporal = (config.penalties.activation, config.penalties.temporal) if regularised else (0.0, 0.0)
        return Segment(
            tokens=piece.inputs,
            targets=piece.targets,
            hidden=hidden,
            length=piece.length,
            masks=masks,
            temporal=jnp.asarray(temporal, dtype),
            activation=jnp.asarray(activation, dtype),
        )

    def weight_optimizer(rate: Any, controls: Controls) -> optax.GradientTransformation:
        return optimizers.recurrent_weight_optimizer(rate, **{**weights_settings, **controls})

    def inputs_of(
        state: SearchState,
        train_words: jax.Array,
        valid_words: jax.Array,
        length: jax.Array,
        *,
        epoch: jax.Array,
        axis_name: str | None,
    ) -> _Inputs:
        number, controls = state.bilevel.step, method.controls(epoch, epochs)
        statistics_axis = axis_name if config.norm.batch_statistics == "synchronised" else None
        network = model.clone(axis_name=statistics_axis, mixture=GIVEN)
        losses = method_losses(
            method,
            language_loss(network, axis_name=axis_name, controls=controls),
            language_loss(network, train=False, axis_name=axis_name, controls=controls),
            space=config.space,
            kinds=(RECURRENT,),
            controls=controls,
            axis_name=axis_name,
        )
        pieces = [
            next_segment(reading, words, wanted, size=config.batches.bptt, rows=count)
            for reading, words, wanted, count in zip(
                (state.train, state.valid), (train_words, valid_words), (length, jnp.int32(config.batches.bptt)), rows
            )
        ]
        step_key = jax.random.fold_in(state.mask_key, number)
        keys = jax.random.split(step_key)
        mixture_keys = jax.random.split(jax.random.fold_in(step_key, 1)) if draws_mixture(method) else (None, None)
        train = network_input(keys[0], pieces[0], state.train.hidden, regularised=True)
        valid = network_input(keys[1], pieces[1], state.valid.hidden, regularised=False)
        if method.alphas_on == "train":
            valid = network_input(keys[0], pieces[0], state.train.hidden, regularised=False)
        rate = config.learning_rate * pieces[0].length.astype(jnp.float32) / config.batches.bptt
        hypergradient = hypergradient_by_name(
            config.hypergradient, rate, series, **{**weights_settings, **state.controls}
        )
        if config.hypergradient == "reference":
            hypergradient = without_regularisation(
                hypergradient,
                loss_fn=lambda weights, alphas, model_state, segment, key: losses.loss_fn(
                    weights, alphas, model_state, (segment, mixture_keys[0]), key
                ),
                model_state=state.bilevel.model_state,
                train=train,
            )
        if method.alpha_clip is not None:
            hypergradient = clipped(hypergradient, method.alpha_clip)
        return _Inputs(
            (train, mixture_keys[0]),
            (valid, mixture_keys[1]),
            (pieces[0].length, pieces[1].length),
            losses,
            controls,
            rate,
            hypergradient,
        )

    def one_step(
        state: SearchState, *words_and_length: jax.Array, moves_alphas: bool, axis_name: str | None
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        number = state.bilevel.step
        inputs = inputs_of(state, *words_and_length, epoch=number // steps_per_epoch, axis_name=axis_name)
        controls = inputs.controls
        hypergradient = penalised(inputs.hypergradient, method.penalties, method.mixture, config.space, controls)
        new, metrics = bilevel.bilevel_step(
            state.bilevel,
            inputs.train,
            inputs.valid,
            loss_fn=inputs.losses.loss_fn,
            weight_loss_fn=inputs.losses.weight_loss_fn,
            weight_optimizer=weight_optimizer(inputs.rate, state.controls),
            alpha_optimizer=alpha_optimizer if moves_alphas else standing(alpha_optimizer),
            hypergradient=hypergradient if moves_alphas else without_hypergradient,
            order=method.order,
            axis_name=axis_name,
        )
        hidden = metrics.pop("train/hidden"), metrics.pop("valid/hidden")
        finite = metrics["hypergradient/finite"] & all_finite(
            (metrics["train/loss"], metrics["valid/loss"], new.weights, new.alphas, new.model_state, hidden)
        )
        # The loss on the display is the one of the perplexity; the penalties have their own metric.
        metrics["train/penalty"] = metrics["train/loss"] - metrics["train/nll"]
        for name in ("train", "valid"):
            metrics[f"{name}/loss"] = metrics.pop(f"{name}/nll")
        metrics["alphas/entropy"] = mean_entropy(
            mixture_entropies(method.mixture.weights(new.alphas, config.space, None, controls).operations)
        )
        metrics["learning_rate"] = inputs.rate
        metrics |= {f"controls/{name}": value for name, value in {**controls, **state.controls}.items()}
        read = [
            advance(reading, length, after, rows=count)
            for reading, length, after, count in zip((state.train, state.valid), inputs.lengths, hidden, rows)
        ]
        new_state = dataclasses.replace(
            state,
            bilevel=new,
            train=read[0],
            valid=state.valid if method.alphas_on == "train" else read[1],
            sums=epoch_sums(state.sums, metrics, starts_epoch=number % steps_per_epoch == 0),
            not_finite_at=first_not_finite(state.not_finite_at, finite, new.step),
        )
        return new_state, metrics

    def measured(state: SearchState, *words_and_length: jax.Array, axis_name: str | None = None) -> Measured:
        # After an epoch its controls still hold.
        number = state.bilevel.step
        inputs = inputs_of(state, *words_and_length, epoch=(number - 1) // steps_per_epoch, axis_name=axis_name)
        key = device_key(jax.random.fold_in(state.bilevel.key, number), axis_name)
        optimizer = weight_optimizer(inputs.rate, state.controls)
        return Measured(
            problem_at(
                state.bilevel,
                inputs.losses.loss_fn,
                inputs.train,
                inputs.valid,
                key,
                weight_optimizer=optimizer,
                axis_name=axis_name,
            ),
            jax.random.fold_in(jax.random.fold_in(state.mask_key, number), 2),
            inputs.hypergradient,
            state.bilevel.alpha_opt_state,
        )

    def step(state: SearchState, *inputs: jax.Array, axis_name: str | None = None) -> Any:
        return one_step(state, *inputs, moves_alphas=True, axis_name=axis_name)

    def weights_step(state: SearchState, *inputs: jax.Array, axis_name: str | None = None) -> Any:
        return one_step(state, *inputs, moves_alphas=False, axis_name=axis_name)

    return SearchProgram(model, init, step, weights_step, measuring_programs(measured, alpha_optimizer))

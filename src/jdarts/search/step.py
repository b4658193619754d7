"""One step of a search on images as one program: augmentation, the bilevel step, metrics. Also the programs around it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jdarts import bilevel
from jdarts.budget.cost import Limit
from jdarts.budget.penalty import cost_penalised, first_multipliers
from jdarts.data import Augmentation, augment, normalise
from jdarts.methods.estimators import standing, without_hypergradient
from jdarts.methods.losses import Losses, draws_mixture, method_losses, with_own_key
from jdarts.methods.method import DARTS, Method
from jdarts.methods.penalties import penalised
from jdarts.methods.perturbation_selection import columns_of, undecided, with_decisions, without_empty_edges
from jdarts.microbatches import in_microbatches
from jdarts.nets.initial import from_one_draw
from jdarts.nets.supernet import Supernet
from jdarts.optimizers import restarted
from jdarts.parallel import device_key, mean_over, share_offset, sum_over
from jdarts.relaxation import GIVEN, NO_CONTROLS, Controls, MixtureWeights, mean_entropy, mixture_entropies
from jdarts.runs.images import shuffled_rows
from jdarts.runs.step_metrics import epoch_sums, first_not_finite, right_answers, scores
from jdarts.search.guards import CURVATURE, FORESIGHT, curvature_program, foresight_program
from jdarts.search.own_network import OwnNetwork
from jdarts.space import SearchSpace, cell_kinds
from jdarts.xla.trees import all_finite

AVERAGED = ("train/loss", "train/accuracy", "valid/loss", "valid/accuracy")


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


class Images(NamedTuple):
    """Images of both halves as a step reads them: the whole halves on the device, or the rows of one step.

    Attributes:
      train: uint8 `[N, H, W, C]` of the weights' half.
      train_labels: int32 `[N]`.
      valid: uint8 `[M, H, W, C]` of the alphas' half.
      valid_labels: int32 `[M]`.
    """

    train: Any
    train_labels: Any
    valid: Any
    valid_labels: Any


class Rows(NamedTuple):
    """Rows of the images of batches, int32 `[…, B]` each."""

    train: Any
    valid: Any


class SearchProgram(NamedTuple):
    """The pure functions of one search.

    Attributes:
      init: `seed, uint32 [] -> SearchState`.
      rows: `(data_key, epoch) -> Rows` of all steps of an epoch, `[steps, B]`.
      step: `(state, images, rows of one step, axis_name) -> (state, metrics)`; see `jdarts.parallel`.
      weights_step: the same for a step that leaves the alphas as they are.
      evaluate: `(state, images, labels, mask, axis_name) -> (sum of losses, number of right answers)` with running
        statistics.
      score: `(state, tables of operations, images, labels, mask, axis_name)` to the same, at other weights of the operations,
        with the statistics that the selection wants.
      restart: `(state, axis_name) -> state`, with the weights' optimiser as new. Its schedule continues.
      measures: `(state, images, rows, axis_name) -> numbers by name`, those of `jdarts.search.guards`, on the batches of the
        last step.
      learning_rate: the weights' schedule, a function of the step.
    """

    init: Callable[[jax.Array], SearchState]
    rows: Callable[[jax.Array, jax.Array], Rows]
    step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    weights_step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]
    score: Callable[..., tuple[jax.Array, jax.Array]]
    restart: Callable[..., SearchState]
    measures: Mapping[str, Callable[..., dict[str, jax.Array]]]
    learning_rate: optax.Schedule


def supernet_loss(
    model: Supernet | OwnNetwork, *, train: bool = True, controls: Controls = NO_CONTROLS
) -> bilevel.LossFn:
    """The loss of a supernet for `bilevel_step`: mean cross entropy, with the accuracy as its metric.

    Batches are `(images [B, H, W, C], labels [B])`; the model state is the network's `batch_stats`.

    Args:
      model: the network.
      train: whether it is in training mode.
      controls: numbers of the epoch, for network and mixture.
    """

    # Other networks than the supernet need not take them.
    numbers: Any = {"controls": controls} if controls else {}

    def loss_fn(weights: Any, alphas: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        images, labels = batch
        variables = {"params": weights, "batch_stats": model_state}
        logits, changed = model.apply(
            variables, images, alphas, train=train, mutable=["batch_stats"], rngs={"noise": key}, **numbers
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = jnp.mean(right_answers(logits, labels).astype(logits.dtype))
        return jnp.mean(losses), (changed["batch_stats"], {"accuracy": accuracy})

    # Under jit all passes of a step share one trace.
    return jax.jit(loss_fn)


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


class _Inputs(NamedTuple):
    """What a step computes its losses of: batches with the keys of the mixture, losses and numbers of the epoch."""

    train: Any
    valid: Any
    losses: Losses
    controls: Controls


def search_program(
    model: Supernet | OwnNetwork,
    *,
    method: Method = DARTS,
    image_shape: tuple[int, int, int],
    counts: tuple[int, int],
    batch_size: int,
    epochs: int,
    augmentation: Augmentation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    rate: optax.Schedule,
    optimizers: Callable[[Controls], Optimizers],
    run_controls: Mapping[str, float] = NO_CONTROLS,
    alpha_optimizer: optax.GradientTransformation,
    synchronised: bool = True,
    microbatches: int = 1,
    decides: bool = False,
    scores_by_batch: bool = True,
    limits: Sequence[Limit] = (),
    edges_per_node: int = 2,
) -> SearchProgram:
    """Builds the functions of a search on images.

    Args:
      model: the supernet, or a network of the user's own. The method's mixture replaces its mixture.
      method: the search method. Its mixture enters outside the network, its penalties beside the hypergradient, its weight
        loss in the step of the weights.
      image_shape: `(H, W, C)`.
      counts: images of the weights' half and of the alphas' half.
      batch_size: images of a batch.
      epochs: epochs of the whole search, for the method's schedules.
      augmentation: augmentation of the training images.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      rate: the weights' learning rate, a function of the step.
      optimizers: from the controls of the run to the optimiser of the weights and the estimator.
      run_controls: controls that a stopping rule may change, at their first values.
      alpha_optimizer: optimiser of the alphas.
      synchronised: whether several devices use the batch statistics of the whole batch.
      microbatches: number of parts of a batch, which a step computes one after the other.
      decides: whether a selection decides on operations on the way.
      scores_by_batch: whether it scores supernets with the statistics of the batch instead of the running ones.
      limits: bounds on expected costs, each with a penalty beside the validation loss.
      edges_per_node: edges that derivation keeps for each node, for expected costs.
    """
    steps_per_epoch = counts[0] // batch_size
    network, mixture = model.clone(mixture=GIVEN), method.mixture

    def training_network(axis_name: str | None) -> Supernet | OwnNetwork:
        return network.clone(axis_name=axis_name if synchronised else None)

    @from_one_draw
    def variables_of(key: jax.Array) -> Any:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        weights, controls = GIVEN.init(key, model.space, jnp.float32), method.controls(0, epochs)
        return network.init({"params": key, "noise": key}, images, weights, train=True, controls=controls)

    def init(seed: jax.Array) -> SearchState:
        weight_key, alpha_key, step_key, data_key = jax.random.split(jax.random.key(seed), 4)
        alphas = mixture.init(alpha_key, model.space, jnp.float32)
        variables = variables_of(weight_key)
        state = bilevel.init_state(
            step_key,
            variables["params"],
            alphas,
            variables["batch_stats"],
            weight_optimizer=optimizers(run_controls).weights,
            alpha_optimizer=alpha_optimizer,
            method_state=() if method.freezing is None else method.freezing.init(variables["params"]),
        )
        sums = {name: jnp.zeros((), jnp.float32) for name in AVERAGED}
        controls = {name: jnp.asarray(value, jnp.float32) for name, value in run_controls.items()}
        decided = {}
        if decides and isinstance(model.space, SearchSpace):
            decided = {kind: jnp.asarray(each) for kind, each in columns_of(undecided(model.space)).items()}
        return SearchState(
            state, data_key, sums, jnp.zeros((), jnp.int32), controls, decided, first_multipliers(limits)
        )

    def weights_at(state: SearchState, alphas: Any, key: jax.Array | None, controls: Controls) -> MixtureWeights:
        weights = mixture.weights(alphas, model.space, key, controls)
        return with_decisions(weights, state.decided) if state.decided else weights

    def rows(data_key: jax.Array, epoch: jax.Array) -> Rows:
        keys = jax.random.split(jax.random.fold_in(data_key, epoch))
        size = {"steps": steps_per_epoch, "batch_size": batch_size}
        return Rows(*(shuffled_rows(key, count, **size) for key, count in zip(keys, counts)))

    def inputs_of(number: jax.Array, state: SearchState, images: Images, rows: Rows, axis_name: str | None) -> _Inputs:
        # `rows` folds the epoch into the data key. The complement of the step is never an epoch, so the keys differ.
        step_key = jax.random.fold_in(state.data_key, ~number.astype(jnp.uint32))
        keys = jax.random.split(step_key)
        # Not those of the devices: the devices draw one mixture.
        mixture_keys = jax.random.split(jax.random.fold_in(step_key, 1)) if draws_mixture(method) else (None, None)
        controls = method.controls(number // steps_per_epoch, epochs)

        def batch(key: jax.Array, pixels: jax.Array, labels: jax.Array, chosen: jax.Array) -> Any:
            first = share_offset(chosen.shape[0], axis_name)
            return augment(key, pixels[chosen], augmentation, mean=mean, std=std, first=first), labels[chosen]

        train = batch(keys[0], images.train, images.train_labels, rows.train)
        valid = train
        if method.alphas_on == "valid":
            valid = batch(keys[1], images.valid, images.valid_labels, rows.valid)
        if shares_noise := axis_name is not None and synchronised:
            # Those of `bilevel_step` on one device: the network draws for the images of all devices.
            noise_keys = jax.random.split(jax.random.fold_in(state.bilevel.key, number))
            train, valid = (train, noise_keys[0]), (valid, noise_keys[1])

        def given(*, train: bool) -> bilevel.LossFn:
            loss = supernet_loss(training_network(axis_name), train=train, controls=controls)
            loss = in_microbatches(loss, microbatches)
            loss = with_own_key(loss) if shares_noise else loss
            if not state.decided:
                return loss
            return lambda weights, mixture, *rest: loss(weights, with_decisions(mixture, state.decided), *rest)

        losses = method_losses(
            method,
            given(train=True),
            given(train=False),
            space=model.space,
            kinds=model.kinds if isinstance(model, OwnNetwork) else cell_kinds(model.cells),
            controls=controls,
            axis_name=axis_name,
        )
        return _Inputs((train, mixture_keys[0]), (valid, mixture_keys[1]), losses, controls)

    def one_step(
        state: SearchState, images: Images, rows: Rows, *, moves_alphas: bool, axis_name: str | None
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        number = state.bilevel.step
        inputs = inputs_of(number, state, images, rows, axis_name)
        weight_optimizer, hypergradient, _ = optimizers(state.controls)
        estimator = penalised(hypergradient, method.penalties, mixture, model.space, inputs.controls)
        if limits and isinstance(model.space, SearchSpace):
            estimator = cost_penalised(
                estimator, limits, state.multipliers, mixture, model.space, edges_per_node, inputs.controls
            )
        new, metrics = bilevel.bilevel_step(
            state.bilevel,
            inputs.train,
            inputs.valid,
            loss_fn=inputs.losses.loss_fn,
            weight_loss_fn=inputs.losses.weight_loss_fn,
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
        sums = epoch_sums(state.sums, metrics, starts_epoch=number % steps_per_epoch == 0)
        entropies = mixture_entropies(weights_at(state, new.alphas, None, inputs.controls).operations)
        metrics |= {f"alphas/entropy_{kind}": value for kind, value in entropies.items()}
        metrics["alphas/entropy"] = mean_entropy(entropies)
        metrics["learning_rate"] = rate(number)
        metrics |= {f"controls/{name}": value for name, value in inputs.controls.items()}
        metrics |= {f"controls/{name}": value for name, value in state.controls.items()}
        return dataclasses.replace(state, bilevel=new, sums=sums, not_finite_at=not_finite_at), metrics

    def problem(state: SearchState, images: Images, rows: Rows, *, axis_name: str | None = None) -> bilevel.Problem:
        number = state.bilevel.step - 1
        inputs = inputs_of(number, state, images, rows, axis_name)
        key = device_key(jax.random.fold_in(state.bilevel.key, number), axis_name)

        def loss(batch: Any, weights: Any, alphas: Any) -> tuple[jax.Array, Any]:
            value, (_, metrics) = inputs.losses.loss_fn(weights, alphas, state.bilevel.model_state, batch, key)
            return value, metrics

        return bilevel.Problem(
            weights=state.bilevel.weights,
            alphas=state.bilevel.alphas,
            train_loss=lambda weights, alphas: loss(inputs.train, weights, alphas)[0],
            valid_loss=lambda weights, alphas: loss(inputs.valid, weights, alphas),
            weight_optimizer=optimizers(state.controls).weights,
            weight_opt_state=state.bilevel.weight_opt_state,
            average=lambda tree: mean_over(tree, axis_name),
        )

    def step(
        state: SearchState, images: Images, rows: Rows, *, axis_name: str | None = None
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        return one_step(state, images, rows, moves_alphas=True, axis_name=axis_name)

    def weights_step(
        state: SearchState, images: Images, rows: Rows, *, axis_name: str | None = None
    ) -> tuple[SearchState, dict[str, jax.Array]]:
        return one_step(state, images, rows, moves_alphas=False, axis_name=axis_name)

    def evaluate(
        state: SearchState, images: jax.Array, labels: jax.Array, mask: jax.Array, *, axis_name: str | None = None
    ) -> tuple[jax.Array, jax.Array]:
        # After an epoch the controls are still its own.
        controls = method.controls((state.bilevel.step - 1) // steps_per_epoch, epochs)
        key = jax.random.fold_in(state.data_key, state.bilevel.step) if mixture.random_in_evaluation else None
        logits: Any = network.apply(
            variables_of_state(state),
            normalise(images, mean=mean, std=std),
            weights_at(state, state.bilevel.alphas, key, controls),
            train=False,
            controls=controls,
            rngs={"noise": state.data_key},
        )
        return sum_over(scores(logits, labels, mask), axis_name)

    def score(
        state: SearchState,
        tables: Mapping[str, jax.Array],
        images: jax.Array,
        labels: jax.Array,
        mask: jax.Array,
        *,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        controls = method.controls((state.bilevel.step - 1) // steps_per_epoch, epochs)
        given = mixture.weights(state.bilevel.alphas, model.space, None, controls)._replace(operations=tables)
        logits: Any = training_network(axis_name).apply(
            variables_of_state(state),
            normalise(images, mean=mean, std=std),
            without_empty_edges(given),
            train=scores_by_batch,
            controls=controls,
            mutable=["batch_stats"] if scores_by_batch else False,
            rngs={"noise": device_key(state.data_key, axis_name)},
        )
        return sum_over(scores(logits[0] if scores_by_batch else logits, labels, mask), axis_name)

    def restart(state: SearchState, *, axis_name: str | None = None) -> SearchState:
        del axis_name
        was = state.bilevel
        fresh = restarted(optimizers(state.controls).weights, was.weight_opt_state, was.weights)
        return dataclasses.replace(state, bilevel=dataclasses.replace(was, weight_opt_state=fresh))

    measures = {
        CURVATURE: curvature_program(problem),
        FORESIGHT: foresight_program(problem, optimizers, alpha_optimizer),
    }
    return SearchProgram(init, rows, step, weights_step, evaluate, score, restart, measures, rate)


def variables_of_state(state: SearchState) -> dict[str, Any]:
    """The variables of the supernet."""
    return {"params": state.bilevel.weights, "batch_stats": state.bilevel.model_state}

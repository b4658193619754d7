"""The one place that builds the task of a search from its settings."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jdarts import bilevel, data, optimizers
from jdarts.budget.penalty import CostPenalty
from jdarts.data.streamed.dataset import LargeDataset
from jdarts.methods.estimators import clipped
from jdarts.methods.method import Method
from jdarts.methods.stopping import stopping_rule
from jdarts.nets.counts import count_weights
from jdarts.nets.initial import shapes_of
from jdarts.nets.supernet import Supernet, supernet_compiler_options
from jdarts.relaxation import Controls
from jdarts.runs.devices import Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.images import check_augmentation, check_steps_per_call
from jdarts.runs.task import SEED, Input, Program, programs_of_several
from jdarts.search.budgets import search_budget
from jdarts.search.config import Hypergradient, SearchConfig
from jdarts.search.images import Halves, SearchImages
from jdarts.search.large_images import LargeSearchImages
from jdarts.search.memory_options import unused_memory_options
from jdarts.search.own_budget import own_budget
from jdarts.search.own_network import OwnNetwork
from jdarts.search.program import Optimizers, SearchState, Steps
from jdarts.search.step import SearchProgram, search_program
from jdarts.search.task import SearchedImages, SearchTask
from jdarts.space import SearchSpace


def search_task(
    config: SearchConfig,
    dataset: data.ImageDataset | LargeDataset,
    devices: Devices,
    own: OwnNetwork | None = None,
) -> SearchTask:
    """Builds the task of a search.

    Args:
      config: the settings.
      dataset: the images.
      devices: those that share a batch.
      own: a network that takes the supernet's place.

    Raises:
      InputError: images that do not fit the settings.
    """
    images = search_images(config, dataset, devices)
    steps_per_call = min(config.calls.steps_per_call, images.steps_per_epoch)
    check_steps_per_call(steps_per_call, on_device=images.on_device)
    augmentation = config.augmentation.of(dataset.augmentation)
    check_augmentation(augmentation, images.image_shape)
    method, rule, deciding = config.search_method(), stopping_rule(config.stop), config.deciding()
    if own is None:
        found_budget = search_budget(config, method.mixture, images.image_shape, len(dataset.class_names))
    else:
        image = jax.ShapeDtypeStruct((1, *images.image_shape), jnp.float32)
        found_budget = own_budget(config, own, method.mixture, (image,))
    program_with = functools.partial(
        program_from_config,
        config,
        image_shape=images.image_shape,
        classes=len(dataset.class_names),
        counts=(len(images.train), len(images.valid)),
        penalties=() if found_budget is None else found_budget.penalised,
        augmentation=augmentation,
        mean=dataset.mean,
        std=dataset.std,
        own=own,
    )
    epoch_steps = EpochSteps.of_one_length(images.steps_per_epoch)
    program = program_with(epoch_steps=epoch_steps)
    template = shapes_of(program.init, SEED)
    measured_every = config.guards.every(rule)
    settings = json.dumps({**config.to_json(), "seed": None, "stop": None, "remat": config.remat}, sort_keys=True)
    image_settings = (dataset.mean, dataset.std, len(dataset.class_names), augmentation)
    shapes = str(images.step_shapes()), len(images.train), len(images.valid)
    weights = count_weights(template.bilevel.weights)
    costs = None if found_budget is None else json.dumps(dict(found_budget.content))
    space: Any = config.search_space if own is None else own.space
    programs_of = functools.partial(
        _programs,
        images=images,
        template=template,
        method=method,
        measured=measured_every,
        space=config.search_space,
        scores=deciding is not None or config.guards.evaluate_cells,
        restarts=deciding is not None and deciding.epochs > deciding.search_epochs,
        steps_per_call=steps_per_call,
    )
    return SearchTask(
        images=images,
        space=space,
        edges_per_node=config.edges_per_node,
        method=method,
        select=config.select,
        measured_every=measured_every,
        options=config.loop if deciding is None else dataclasses.replace(config.loop, epochs=deciding.epochs),
        seed=np.uint32(config.run.seed),
        fingerprint=images.fingerprint,
        epoch_steps=epoch_steps,
        examples=len(images.train),
        steps_per_call=steps_per_call,
        units_per_step=config.batches.batch_size,
        template=template,
        description=(
            f"searching on {config.data.dataset}: {len(images.train):,} images for the weights, {len(images.valid):,} for the "
            f"alphas; {config.size.cells} cell{'s' if config.size.cells > 1 else ''}, {weights:,} weights, hypergradient "
            f"{config.hypergradient}{'' if deciding is None else f'; {deciding.plan_words}'}"
        ),
        key=(
            SearchTask.noun,
            settings,
            (*measured_every, *template.controls, config.guards.evaluate_cells),
            image_settings,
            shapes,
            devices.key,
            costs,
            steps_per_call,
        ),
        programs=programs_of(program),
        programs_with=lambda epoch_steps: programs_of(program_with(epoch_steps=epoch_steps)),
        compiler_options=supernet_compiler_options(remat=config.remat),
        memory_options=unused_memory_options(config, devices.count),
        devices=devices,
        stopping=rule,
        deciding=deciding,
        scores_by_batch=config.scores_by_batch,
        budget=found_budget,
        stem=config.network,
    )


def program_from_config(
    config: SearchConfig,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    counts: tuple[int, int],
    penalties: Sequence[CostPenalty] = (),
    own: OwnNetwork | None = None,
    epoch_steps: EpochSteps | None = None,
    **image_settings: Any,
) -> SearchProgram:
    """Builds the functions of a search from its settings.

    Args:
      config: the settings.
      image_shape: `(H, W, C)`.
      classes: number of classes.
      counts: images of the weights' half and of the alphas' half.
      penalties: on expected costs, beside the validation loss.
      own: a network that takes the supernet's place.
      epoch_steps: which steps make up the epochs; by default all epochs are equally long.
      image_settings: augmentation, mean and standard deviation, as for `search_program`.
    """
    batch_size, method = config.batches.batch_size, config.search_method()
    supernet = Supernet(
        config.search_space,
        config.size.channels,
        config.size.cells,
        classes,
        dtype=jnp.dtype(config.precision),
        remat=config.remat,
        stem=config.network,
        **dataclasses.asdict(method.edges),
    )
    return search_program(
        supernet if own is None else own,
        steps_from_config(config, epoch_steps or EpochSteps.of_one_length(counts[0] // batch_size)),
        image_shape=image_shape,
        counts=counts,
        batch_size=batch_size,
        synchronised=config.norm.batch_statistics == "synchronised",
        microbatches=config.microbatches,
        decides=config.deciding() is not None,
        scores_by_batch=config.scores_by_batch,
        penalties=penalties,
        **image_settings,
    )


def steps_from_config(config: SearchConfig, epoch_steps: EpochSteps) -> Steps:
    """How a search steps, from its settings.

    Args:
      config: the settings.
      epoch_steps: which steps make up the epochs.
    """
    first_epoch, rate_epochs = config.rate_epochs
    deciding = config.deciding()

    def cosine(first_epoch: int = 0) -> optax.Schedule:
        value = optimizers.cosine_of_epoch(
            config.rate.learning_rate, config.rate.learning_rate_min, epochs=rate_epochs, first_epoch=first_epoch
        )
        return lambda step: value(epoch_steps.epoch(jnp.asarray(step)))

    def between_decisions(schedule: optax.Schedule) -> optax.Schedule:
        if deciding is None or deciding.learning_rate is None:
            return schedule
        return optimizers.constant_after(schedule, epoch_steps.before(deciding.search_epochs), deciding.learning_rate)

    # The state of an optimiser counts the steps of all stages that it has seen.
    rate = between_decisions(cosine())
    weight_settings = dataclasses.asdict(config.weights)
    method, rule = config.search_method(), stopping_rule(config.stop)
    series = {"terms": config.neumann_terms, "at": config.neumann_at}

    def under(controls: Controls) -> Optimizers:
        settings: dict[str, Any] = {**weight_settings, **controls}
        # The reference implementation does not clip in the virtual step.
        virtual = optimizers.weight_optimizer(rate, **{**settings, "clip": None})
        hypergradient = hypergradient_by_name(config.hypergradient, virtual, **series)
        if method.alpha_clip is not None:
            hypergradient = clipped(hypergradient, method.alpha_clip)
        return Optimizers(optimizers.weight_optimizer(rate, **settings), hypergradient, virtual)

    return Steps(
        method=method,
        epoch_steps=epoch_steps,
        epochs=config.loop.epochs,
        rate=between_decisions(cosine(first_epoch)),
        optimizers=under,
        alpha_optimizer=config.alphas.optimizer(),
        run_controls={} if rule is None else {name: weight_settings[name] for name in rule.changed_settings},
    )


def search_images(
    config: SearchConfig, dataset: data.ImageDataset | LargeDataset, devices: Devices | None = None
) -> SearchedImages:
    """Splits the images of a search; arguments as for `search_task`.

    Raises:
      InputError: images that do not fit the settings.
    """
    halves = Halves(
        batch_size=config.batches.batch_size,
        train_fraction=config.train_fraction,
        alpha_fraction=config.alpha_fraction,
        split_seed=config.batches.split_seed,
        stem=config.network,
        kinds=config.kinds,
    )
    if isinstance(dataset, LargeDataset):
        deciding = config.deciding()
        return LargeSearchImages(
            dataset,
            devices,
            halves=halves,
            epochs=config.loop.epochs if deciding is None else deciding.epochs,
            reader=config.pictures.reader(dataset.side or config.data.side),
            seed=(config.run.seed, config.staging.stage),
        )
    return SearchImages(dataset, devices, halves=halves, images_on=config.batches.images_on)


def _programs(
    program: SearchProgram,
    images: SearchedImages,
    template: SearchState,
    method: Method,
    measured: Iterable[str],
    *,
    space: SearchSpace,
    scores: bool,
    restarts: bool,
    steps_per_call: int,
) -> dict[str, Program]:
    state, in_batches = Input(template), not images.on_device
    of_step, rows = images.step_shapes()
    inputs = Input(of_step, split=in_batches, stacked=in_batches), Input(rows, split=True, stacked=True)
    key, epoch = Input(template.data_key, stacked=True), Input(jax.ShapeDtypeStruct((), jnp.int32), split=None)
    step = program.step if method.mixture.has_alphas else program.weights_step
    batch = tuple(Input(shapes, split=True) for shapes in images.evaluation_shapes())
    programs = {
        "init": Program(program.init, (Input(SEED, split=None),)),
        "rows": Program(program.rows, (key, epoch)),
        "step": Program(step, (state, *inputs), "batch", donate=True),
        "evaluate": Program(program.evaluate, (state, *batch), "batch", needed_for_first_step=False),
    }
    if method.mixture.has_alphas and not method.always_moves_alphas:
        programs["weights_step"] = Program(program.weights_step, (state, *inputs), "batch", donate=True)
    programs |= programs_of_several(programs, steps_per_call, (None, 1))
    if scores:
        tables = Input(_table_shapes(space), stacked=True)
        programs["score"] = Program(program.score, (state, tables, *batch), "batch", needed_for_first_step=False)
    if restarts:
        programs["restart"] = Program(program.restart, (state,), "batch", needed_for_first_step=False)
    for name in measured:
        measure = program.measures[name]
        programs[name] = Program(measure, (state, *inputs), "batch", needed_for_first_step=False)
    return programs


def _table_shapes(space: SearchSpace) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a mixture's weights of the operations."""
    return {kind: jax.ShapeDtypeStruct((space.num_edges, space.width(kind)), jnp.float32) for kind in space.kinds}


def hypergradient_by_name(name: Hypergradient, virtual_optimizer: Any, **series: Any) -> bilevel.HypergradientFn:
    """The estimator of this name, with the optimiser of the virtual step, and `terms` and `at` of a series."""
    if name == "neumann":
        return bilevel.neumann(**series, virtual_optimizer=virtual_optimizer)
    if name == "first_order":
        return bilevel.first_order()
    if name == "finite_difference":
        return bilevel.finite_difference(virtual_optimizer=virtual_optimizer)
    return bilevel.exact(virtual_optimizer=virtual_optimizer)

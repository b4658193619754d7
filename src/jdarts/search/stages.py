"""The stages of a search: which settings the next one has, and with which state it starts."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from jdarts import checkpoint, data
from jdarts.data.streamed.dataset import LargeDataset
from jdarts.errors import InputError
from jdarts.methods.pruning import prune_alphas, without_weakest
from jdarts.methods.widening import widened
from jdarts.relaxation import Alphas
from jdarts.runs.devices import Devices
from jdarts.runs.folder import CONFIG, RunFolder
from jdarts.runs.stage_options import EdgeOperations
from jdarts.search.building import search_task
from jdarts.search.config import SearchConfig
from jdarts.search.program import SearchState
from jdarts.search.task import SearchTask
from jdarts.space import CELL_KINDS


def next_stage(config: SearchConfig, before: SearchConfig | None, alphas: Alphas) -> SearchConfig:
    """The settings of the stage after another one.

    Args:
      config: the settings of the whole search.
      before: those of the stage that has ended; None for the first stage.
      alphas: the alphas at its end.

    Returns:
      Settings of a single run.
    """
    if before is None:
        return config.of_stage(1)
    return config.of_stage(before.staging.stage + 1, operations_after(before, alphas))


def operations_after(stage: SearchConfig, alphas: Alphas) -> EdgeOperations:
    """The operations that a stage leaves to the next one on every edge, by kind of cell.

    Args:
      stage: the settings of the stage.
      alphas: the alphas at its end.

    Raises:
      InputError: alphas of another space.
    """
    staging, space = stage.staging, stage.search_space
    place = staging.stage - 1
    if staging.stages == "p_darts":
        strengths = stage.search_method().mixture.strengths(alphas, space)
        kept = without_weakest(strengths, space, staging.dropped_operations[place])
        return [[list(names) for names in kept.operations(kind)] for kind in CELL_KINDS]
    _, masks = prune_alphas(alphas, staging.masks(space), staging.kept_operations[place])
    return [
        [
            [name for name, on in zip(names, row) if on]
            for names, row in zip(space.operations(kind), masks.get(kind, ()))
        ]
        for kind in CELL_KINDS
    ]


def stage_task(
    stage: SearchConfig, before: SearchConfig | None, dataset: data.ImageDataset | LargeDataset, devices: Devices
) -> SearchTask:
    """Builds the task of a stage.

    Args:
      stage: the settings of the stage.
      before: those of the stage before it; None for the first stage.
      dataset: the images.
      devices: those that share a batch.

    Raises:
      InputError: images that do not fit the settings.
    """
    task, staging = search_task(stage, dataset, devices), stage.staging
    earlier = None
    if before is not None and staging.stages == "drnas":
        earlier = before, search_task(before, dataset, devices).template

    def start(fresh: SearchState) -> SearchState:
        if earlier is None:
            return fresh
        settings, template = earlier
        old = devices.load(_last_checkpoint(settings, task.steps_per_epoch), template)
        return devices.replicate(continued(old, fresh, stage))

    return dataclasses.replace(
        task,
        seed=stage_seed(stage),
        start=start,
        description=f"stage {staging.stage} of {staging.count}: {task.description}",
    )


def stage_seed(stage: SearchConfig) -> np.uint32:
    """The seed of a stage; that of the first is the search's."""
    seed, number = stage.run.seed, stage.staging.stage
    return np.uint32(seed) if number == 1 else np.random.SeedSequence([seed, number]).generate_state(1)[0]


def continued(old: SearchState, fresh: SearchState, stage: SearchConfig) -> SearchState:
    """DrNAS: the state before the first step of a stage.

    Weights, running statistics and momentum are widened. Alphas that are masked are 0. Both optimisers continue; batches
    and draws are those of a new run.

    Args:
      old: the state at the end of the stage before.
      fresh: a random state of the stage.
      stage: the settings of the stage.
    """
    was, new = old.bilevel, fresh.bilevel
    seed = int(stage_seed(stage))

    def wider(tree: Any, like: Any) -> Any:
        return widened(tree, like, seed=seed)

    vector, as_tree = ravel_pytree(was.weights)

    def has_tree(entry: Any) -> bool:
        return jax.tree.structure(entry) == jax.tree.structure(was.weights)

    def momentum(entry: Any) -> Any:
        """The part of an optimiser's state that has a number for each weight, wider; other parts as they are."""
        if has_tree(entry):
            return wider(entry, new.weights)
        if np.shape(entry) != vector.shape:
            return entry
        return ravel_pytree(wider(as_tree(entry), new.weights))[0]

    masks = stage.staging.masks(stage.search_space)
    alphas = was.alphas
    if masks is not None:
        alphas = {kind: np.where(masks[kind], table, np.zeros((), table.dtype)) for kind, table in alphas.items()}
    return dataclasses.replace(
        fresh,
        multipliers=old.multipliers,
        bilevel=dataclasses.replace(
            new,
            weights=wider(was.weights, new.weights),
            alphas=alphas,
            model_state=wider(was.model_state, new.model_state),
            weight_opt_state=jax.tree.map(momentum, was.weight_opt_state, is_leaf=has_tree),
            alpha_opt_state=was.alpha_opt_state,
        ),
    )


def check_folder(config: SearchConfig) -> None:
    """Checks, before the first stage, that the folder of the last one is free, or belongs to this search.

    Args:
      config: the settings of the whole search.

    Raises:
      InputError: it is not, or it holds the last stage alone.
    """
    staging, folder = config.staging, RunFolder(config.folder)
    operations = None
    if (folder.path / CONFIG).is_file():
        operations = folder.settings().get("edge_operations")
    folder.check(config.of_stage(staging.count, operations).to_json())
    for number in range(1, staging.count):
        earlier = config.of_stage(number).folder
        if (folder.path / CONFIG).is_file() and not (earlier / CONFIG).is_file():
            raise InputError(
                f"{folder.path} has begun its last stage, but {earlier} is missing, on which it depends; put it back, or "
                "choose another --run-dir"
            )


def _last_checkpoint(stage: SearchConfig, steps_per_epoch: int) -> checkpoint.Checkpoint:
    folder, steps = RunFolder(stage.folder), stage.loop.epochs * steps_per_epoch
    try:
        return checkpoint.read(checkpoint.path_of(folder.checkpoints, steps))
    except InputError as error:
        raise InputError(
            f"stage {stage.staging.stage} has ended, and the next one starts with its last checkpoint: {error}; put it back, "
            "or choose another --run-dir"
        ) from None

"""The search in the user's own network with the user's own task."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jdarts.errors import InputError
from jdarts.methods.stopping import stopping_rule
from jdarts.nets.counts import count_weights
from jdarts.nets.initial import shapes_of
from jdarts.network_tasks.batches import with_examples
from jdarts.network_tasks.calling import class_name
from jdarts.network_tasks.reading import COUNT, TaskBatches, TaskData
from jdarts.network_tasks.settings import (
    check_single_steps,
    check_unread,
    image_settings,
    read_settings,
    with_task,
)
from jdarts.network_tasks.task import NetworkTask
from jdarts.runs.batched import at_once
from jdarts.runs.devices import Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.programs import ByIdentity
from jdarts.runs.task import SEED, Evaluation, Functions, Input, Program
from jdarts.search.budgets import SearchBudget
from jdarts.search.building import steps_from_config
from jdarts.search.config import SearchConfig
from jdarts.search.own_budget import own_budget
from jdarts.search.own_network import OwnNetwork, own_network
from jdarts.search.own_task import OF_CELLS, NetworkSearchTask
from jdarts.search.program import SearchState
from jdarts.search.task_program import TaskProgram, task_program

_OF_IMAGES = image_settings() | {"train_fraction", "alpha_fraction"}


class TaskSearch:
    """A search with a task: its settings, and what builds it.

    Args:
      config: the settings.
      network: a network with choices.
      task: loss, metrics and batches.

    Attributes:
      config: the settings, with the name of the task and the size of its batches.

    Raises:
      InputError: settings of images, or data that cannot be read.
    """

    def __init__(self, config: SearchConfig, network: object, task: NetworkTask) -> None:
        if task.valid is None:
            raise InputError("the task has no valid, which trains the alphas in a search; give it batches")
        usual = SearchConfig(method=config.method)
        self._network, self._task, self._data = network, task, TaskData(task)
        self.config = with_task(config, usual, task, self._data)
        check_single_steps(config)
        check_unread(self.config, usual, _OF_IMAGES, "the batches are those of the task")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data."""
        return self.settings_of(self.config)

    def settings_of(self, config: SearchConfig) -> dict[str, Any]:
        """The same of a configuration that differs in its seed."""
        return read_settings(config, {*_OF_IMAGES, *OF_CELLS})

    @functools.cached_property
    def own(self) -> OwnNetwork:
        """The network as the search sees it."""
        skips = self.config.search_method().mixture.skips_unused
        return own_network(self._network, self._inputs, skips_unused=skips)[0]

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data and the network of the run."""
        return {**self._data.fingerprint, "network": self.own.identity}

    @functools.cached_property
    def _inputs(self) -> tuple[Any, ...]:
        """Shapes and types of the network's arguments."""
        return jax.eval_shape(self._task.parts, self._data.train.shapes)[0]

    def _budget(self) -> SearchBudget | None:
        one = with_examples(self._inputs, 1)
        return own_budget(self.config, self.own, self.config.search_method().mixture, one)

    def on(self, devices: Devices, *, seeds: Sequence[int] | None = None) -> "BatchSearchTask":
        """The task of the run on devices, or of the runs of several seeds at once."""
        config, data, own = self.config, self._data, self.own
        epoch_steps = EpochSteps.of_one_length(data.steps_per_epoch)
        budget = self._budget()
        program = task_program(
            own,
            self._task,
            steps_from_config(config, epoch_steps),
            data.train.shapes,
            penalties=() if budget is None else budget.penalised,
            synchronised=config.norm.batch_statistics == "synchronised",
            microbatches=config.microbatches,
        )
        template = shapes_of(program.init, SEED)
        rule, method = stopping_rule(config.stop), config.search_method()
        measured_every = config.guards.every(rule)
        settings = json.dumps({**self.settings, "seed": None, "stop": None}, sort_keys=True)
        weights = count_weights(template.bilevel.weights)
        of_seeds = [config.run.seed] if seeds is None else seeds
        reads: Any = TaskBatches(data, devices, of_seeds, stacked=seeds is not None)
        evaluate = program.evaluate if seeds is None else jax.vmap(program.evaluate, in_axes=(0, None, None))
        space: Any = own.space
        shown = (f"{part}/{name}" for part in ("train", "valid") for name in program.names)
        task = BatchSearchTask(
            unit="examples",
            shown=(*shown, "learning_rate", "alphas/entropy"),
            images=reads,
            data=data,
            names=program.names,
            own=own,
            space=space,
            edges_per_node=config.edges_per_node,
            method=method,
            select=config.select,
            measured_every=measured_every,
            options=config.loop,
            seed=np.uint32(config.run.seed),
            fingerprint=self.fingerprint(),
            epoch_steps=epoch_steps,
            units_per_step=data.train.size,
            template=template,
            description=(
                f"searching in {class_name(own.network)} on {config.data.dataset}: {len(own.choices)} choices, {weights:,} "
                f"weights, {data.steps_per_epoch:,} batches of {data.train.size} in an epoch; loss {self._task.loss_name}, "
                f"hypergradient {config.hypergradient}"
            ),
            key=(
                ByIdentity(self._network),
                ByIdentity(self._task),
                settings,
                (*measured_every, *template.controls),
                devices.key,
            ),
            programs=_programs(
                program, data, template, moves_always=method.always_moves_alphas, measured=measured_every
            ),
            evaluate=jax.jit(evaluate),
            devices=devices,
            stopping=rule,
            budget=budget,
        )
        return task if seeds is None else at_once(task, seeds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchSearchTask(NetworkSearchTask):
    """A search in the user's own network with the user's own task.

    Attributes:
      data: the data of the task; `images` reads them.
      names: of the loss and of the metrics.
      evaluate: scores a batch of any size.
    """

    data: TaskData
    names: tuple[str, ...]
    evaluate: Callable[..., Any]

    def evaluations(self, functions: Functions, state: SearchState) -> Sequence[Evaluation]:
        """Loss and metrics on the alphas' data, with running statistics."""
        reads: Any = self.images
        valid: Any = self.data.valid
        evaluate = functools.partial(self.evaluate, state)
        compiled = functools.partial(functions["evaluate"], state)
        names = [f"evaluation/{name}" for name in self.names]
        return (reads.evaluation("evaluating", valid, names, evaluate, compiled, valid.shapes),)


def _programs(
    program: TaskProgram, data: TaskData, template: SearchState, *, moves_always: bool, measured: Iterable[str]
) -> dict[str, Program]:
    assert data.valid is not None
    state = Input(template)
    inputs = tuple(Input(each.shapes, split=True, stacked=each.takes_seed) for each in (data.train, data.valid))
    programs = {
        "init": Program(program.init, (Input(SEED, split=None),)),
        "step": Program(program.step, (state, *inputs), "batch", donate=True),
        "evaluate": Program(
            program.evaluate,
            (state, Input(data.valid.shapes, split=True), Input(COUNT)),
            "batch",
            needed_for_first_step=False,
        ),
    }
    if not moves_always:
        programs["weights_step"] = Program(program.weights_step, (state, *inputs), "batch", donate=True)
    for name in measured:
        programs[name] = Program(program.measures[name], (state, *inputs), "batch", needed_for_first_step=False)
    return programs

"""Several searches that differ in their seeds, as one run: one vmapped step, a folder for each."""

import contextlib
import functools
import shutil
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import checkpoint, data
from jdarts.errors import InputError
from jdarts.report.metrics import METRICS_FILE, read_metrics
from jdarts.runs import CompiledPrograms, EpochRun, Interruption, RunFolder, processes
from jdarts.runs.devices import Devices, check_share
from jdarts.runs.memory import exhaustion_explained, start_lines
from jdarts.runs.protocols import Log
from jdarts.runs.settings import named_after
from jdarts.runs.start import check_finished
from jdarts.search import summary
from jdarts.search.config import SearchConfig
from jdarts.search.loop import SearchRun, memory_savings
from jdarts.search.step import Images, Rows, SearchState
from jdarts.search.summary import SearchResult, SeedsSummary, Summary


def search_seeds(
    config: SearchConfig,
    *,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> tuple[SearchResult, ...]:
    """Runs the searches of several seeds at once, each with the result that it has alone, up to rounding.

    Each folder is that of the search alone, so that either way of running goes on with what the other has begun.

    Args:
      config: the settings, with `seeds`.
      dataset: as for `search`.
      stream: as for `search`.
      programs: as for `search`.

    Returns:
      The results, in the order of the seeds.

    Raises:
      InputError: as for `search`, or searches that have come to different steps.
      Interrupted: as for `search`.
    """
    config.check()
    config = named_after(config, dataset, data.ImageDataset)
    with processes.ending_together():
        processes.check_same(config)
        return _search_seeds(config, dataset, stream if processes.leads() else processes.silent(), programs)


def _search_seeds(
    config: SearchConfig, dataset: data.ImageDataset | None, stream: TextIO | None, programs: CompiledPrograms | None
) -> tuple[SearchResult, ...]:
    every = config.of_each_seed()
    folders = [RunFolder(each.folder) for each in every]
    for folder, each in zip(folders, every):
        folder.check(each.to_json())
    images = functools.cache(lambda: dataset or data.load(config.dataset, config.data_dir))
    finished: dict[Path, Summary] = {}
    remarks: list[str] = []
    for folder, each in zip(folders, every):
        if folder.has_ended:
            remarks += check_finished(folder, each.to_json(), lambda: images().fingerprint)
            finished[folder.path] = summary.read(folder)
    for path in finished:
        print(f"{path} has finished", file=stream)
    print(*remarks, sep="\n", end="\n" if remarks else "", file=stream)
    left = [(each, folder) for each, folder in zip(every, folders) if folder.path not in finished]
    if not left:
        found = SeedsSummary(tuple(finished[folder.path] for folder in folders))
        print(*found.lines(), sep="\n", file=stream)
        return found.result
    with Interruption() as interruption, exhaustion_explained():
        with interruption.stoppable():
            devices = _devices(config, len(left))
            runs: list[SearchRun] = []
            for each, folder in left:
                shared = runs[0].images if runs else None
                runs.append(SearchRun(each, images(), devices, folder, interruption, stream, None, images=shared))
            together = _SeedsRun(config, runs, finished, devices, interruption, stream, programs)
            together.check_size()
            processes.check_same_data(together.fingerprint)
        with contextlib.ExitStack() as stack:
            for each, folder in left:
                stack.enter_context(folder.taken(each.to_json(), together.fingerprint))
            stack.enter_context(exhaustion_explained())
            return together.go()


def _devices(config: SearchConfig, left: int) -> Devices:
    """Those that share so many searches; one of each process where all cannot do so equally, as some seeds have finished."""
    devices = Devices(config.devices)
    if left % devices.count:
        devices = Devices(1)
    check_share(left, devices.count, "--seeds")
    return devices


class _SeedsRun(EpochRun[SearchState]):
    """Searches whose states are stacked: all leaves, metrics and evaluations have them as their first axis."""

    noun = SearchRun.noun
    shown = SearchRun.shown

    def __init__(
        self,
        config: SearchConfig,
        runs: Sequence[SearchRun],
        finished: Mapping[Path, Summary],
        devices: Devices,
        interruption: Interruption,
        stream: TextIO | None,
        programs: CompiledPrograms | None,
    ) -> None:
        self._config = config
        self._runs = runs
        self._finished = finished
        self._devices = devices
        self._images = runs[0].images
        self._checkpoints: list[checkpoint.Checkpoint] = []
        self._too_early: list[checkpoint.Checkpoint] = []
        folder = RunFolder(runs[0].folder.path.parent)
        steps = self._images.steps_per_epoch
        super().__init__(
            config,
            folder,
            interruption,
            fingerprint=self._images.fingerprint,
            steps_per_epoch=steps,
            stream=stream,
            programs=programs,
        )

    def shapes(self) -> SearchState:
        return jax.eval_shape(jax.vmap(self._runs[0].program.init), self._seeds())

    def _seeds(self) -> np.ndarray:
        return np.array([run.config.seed for run in self._runs], np.uint32)

    def start(self) -> SearchState:
        return self.functions["init"](self._seeds())

    def opening(self, template: SearchState) -> str:
        seeds = ", ".join(str(run.config.seed) for run in self._runs)
        return f"{len(self._runs)} searches at once, seeds {seeds}: {self._runs[0].opening(self._runs[0].template)}"

    def program_key(self) -> Hashable:
        return len(self._runs), self._runs[0].program_key()

    def lowered(self, template: SearchState) -> dict[str, jax.stages.Lowered]:
        program, split = self._runs[0].program, not self._images.on_device
        state = self._devices.shapes(template, split=True)
        images, rows = self._images.step_shapes(runs=len(self._runs))
        images, rows = self._devices.shapes(images, split=split), self._devices.shapes(rows, split=True)
        batch = self._devices.shapes(self._images.evaluation_shapes(), split=False)
        step = self._devices.runs_step(program.step, stacked=(split, True), donate=True)
        evaluate = self._devices.runs_step(program.evaluate, stacked=(False, False, False))
        return {
            # One after the other: a vmapped program that draws so many arrays takes the compiler minutes.
            "init": self._devices.split_results(lambda seeds: jax.lax.map(program.init, seeds)).lower(self._seeds()),
            "rows": self._devices.everywhere(self._rows).lower(state.data_key, jax.ShapeDtypeStruct((), jnp.int32)),
            "one": self._devices.everywhere(_one).lower(state, jax.ShapeDtypeStruct((), jnp.int32)),
            "step": step.lower(state, images, rows),
            "evaluate": evaluate.lower(state, *batch),
        }

    def compiler_options(self) -> dict[str, str | bool]:
        return self._runs[0].compiler_options()

    def memory(self) -> list[str]:
        savings = memory_savings(self._config, 1)
        return start_lines(self.functions["step"], savings, devices=self._devices.own)

    def _rows(self, data_keys: jax.Array, epoch: Any) -> Rows:
        return jax.vmap(self._runs[0].program.rows, in_axes=(0, None))(data_keys, epoch)

    def inputs(self, state: SearchState, epoch: int, first: int) -> Iterator[tuple[Images, Rows]]:
        rows = self.functions["rows"](state.data_key, np.int32(epoch))
        if not self._images.on_device or not processes.alone():
            rows = jax.device_get(rows)
        for place in range(first, self.steps_per_epoch):
            yield self._images.step_inputs(rows, place, of_runs=True)

    def evaluate(self, state: SearchState, epochs_ended: int) -> dict[str, Any]:
        """Loss and accuracy of each search on the alphas' half, `[runs]`."""

        def function(*batch: Any) -> Any:
            return self.functions["evaluate"](state, *self._devices.whole(batch))

        with self.display.pause("evaluating"):
            batches = self._images.evaluation_batches()
            losses, accuracies = self.means(function, batches, state=state, epochs_ended=epochs_ended)
        return {"evaluation/loss": losses, "evaluation/accuracy": accuracies}

    def newest(self, skipped: list[str]) -> checkpoint.Checkpoint | None:
        """The newest checkpoints of one step; that of the first search stands for all."""
        found = [run.newest(skipped) for run in self._runs]
        newest = [each.step if each else 0 for each in found]
        # Ended between the checkpoints of one step: the ones before it are there too.
        while len(steps := {each.step if each else 0 for each in found}) > 1 and min(steps) > 0:
            found = [self._up_to(min(steps), run, each, skipped) for run, each in zip(self._runs, found)]
        self._checkpoints = [each for each in found if each]
        self._too_early = []
        if 0 < len(self._checkpoints) < len(self._runs):
            if not self._stopped_between_first_checkpoints():
                raise self._apart(newest)
            self._too_early, self._checkpoints = self._checkpoints, []
            skipped += [f"checkpoint {each.path} has no counterpart of every seed" for each in self._too_early]
        return self._checkpoints[0] if self._checkpoints else None

    def _up_to(
        self, step: int, run: SearchRun, found: checkpoint.Checkpoint | None, skipped: list[str]
    ) -> checkpoint.Checkpoint | None:
        if found is None or found.step <= step:
            return found
        return checkpoint.newest(run.folder.checkpoints, skipped, up_to=step)

    def _stopped_between_first_checkpoints(self) -> bool:
        """Whether the searches have run as one up to their first checkpoint: their logs then have the same steps."""
        first, *others = (_logged_steps(run) for run in self._runs)
        once = all(len(checkpoint.steps(run.folder.checkpoints)) <= 1 for run in self._runs)
        return once and bool(first) and all(steps == first for steps in others)

    def _apart(self, steps: Sequence[int]) -> InputError:
        told = ", ".join(f"seed {run.config.seed} step {step:,}" for run, step in zip(self._runs, steps))
        return InputError(
            f"the searches have come to different steps ({told}) and cannot go on as one; go on with each by --seed, or "
            "choose another --run-dir"
        )

    def check_held(self) -> None:
        for run in self._runs:
            run.check_held()

    def remove_half_written(self) -> None:
        for run in self._runs:
            run.remove_half_written()

    def load(self, template: SearchState) -> SearchState:
        del template
        states = [self._devices.load(each, run.template) for each, run in zip(self._checkpoints, self._runs)]
        return self._devices.split_results(_stacked)(*states)

    @contextlib.contextmanager
    def open_log(self, after_step: int) -> Iterator[Log]:
        # Before the logs are cut, which tell a later process that these belong to nothing.
        if processes.leads():
            for each in self._too_early:
                shutil.rmtree(each.path)
        with contextlib.ExitStack() as stack:
            logs = [stack.enter_context(run.open_log(after_step)) for run in self._runs]
            yield _Logs(logs)

    def check_finite(self, state: SearchState) -> None:
        for run, step in zip(self._runs, processes.fetched(state.not_finite_at)):
            run.refuse_not_finite(int(step))

    def check_record(self, found: checkpoint.Checkpoint) -> None:
        for run, each in zip(self._runs, self._checkpoints):
            run.check_record(each)

    def save(self, state: SearchState, epochs_ended: int) -> Path:
        for run, each in self._each(state):
            run.save(each, epochs_ended)
        return self.folder.path

    def _each(self, state: SearchState) -> Iterator[tuple[SearchRun, SearchState]]:
        """The searches with their own states; they share the clock and the display."""
        for place, run in enumerate(self._runs):
            run.started, run.display = self.started, self.display
            run.latest = self._checkpoints[place] if self._checkpoints else None
            yield run, self.functions["one"](state, np.int32(place))

    def record(self, state: SearchState) -> dict[str, Any]:
        """Nothing: each search writes its own checkpoints."""
        return {}

    def epoch_files(self, state: SearchState, epoch: int, evaluation: Mapping[str, Any]) -> None:
        for place, (run, each) in enumerate(self._each(state)):
            run.epoch_files(each, epoch, _of_one(evaluation, place))

    def close(self, state: SearchState, evaluation: Mapping[str, Any]) -> SeedsSummary:
        found = dict(self._finished)
        for place, (run, each) in enumerate(self._each(state)):
            found[run.folder.path] = run.close(each, _of_one(evaluation, place))
        return SeedsSummary(tuple(found[each.folder] for each in self._config.of_each_seed()))


class _Logs:
    """The metrics files of several searches."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends to each file its search's numbers: `[runs]`, or one that all share."""
        for place, log in enumerate(self._logs):
            log.write(step, _of_one(values, place))

    def write_epoch(self, step: int, values: Mapping[str, Any], number: int) -> None:
        """Appends to each file its search's numbers of an epoch, unless they are there."""
        for place, log in enumerate(self._logs):
            log.write_epoch(step, _of_one(values, place), number)


def _logged_steps(run: SearchRun) -> list[int]:
    if not (run.folder.path / METRICS_FILE).exists():
        return []
    return [record["step"] for record in read_metrics(run.folder.path)]


def _of_one(values: Mapping[str, Any], place: int) -> dict[str, float]:
    return {name: float(value[place] if np.ndim(value) else value) for name, value in values.items()}


def _one(state: SearchState, place: jax.Array) -> SearchState:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, place, keepdims=False), state)


def _stacked(*states: SearchState) -> SearchState:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

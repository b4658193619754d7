"""The devices of a run: how they share its step, and where its arrays are placed."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.parallel import AXIS, check_batch, device_mesh, jit_step, pmap_step, shard_step, vmap_step
from jdarts.runs import processes

Parallel = Literal["jit", "pmap", "shard"]
BatchStatistics = Literal["synchronised", "per_device"]


#: With 512, the threads of a CPU do not all reach XLA's barrier before its timeout (jax 0.10).
MAX_ON_CPU = 256


class Devices:
    """The devices that share a run's batches.

    Args:
      count: number of devices of each process.
      parallel: how they share a step.

    Attributes:
      count: number of devices of all processes.
      local_count: number of devices of this process.
      parallel: how they share a step.

    Raises:
      InputError: more devices than there are, or than can work together.
    """

    def __init__(self, count: int = 1, parallel: Parallel = "shard") -> None:
        if count > MAX_ON_CPU and jax.default_backend() == "cpu":
            raise InputError(
                f"--devices is {count}, and XLA ends the process where more than {MAX_ON_CPU} devices of a CPU synchronise; "
                f"give {MAX_ON_CPU} or less"
            )
        self.parallel = parallel
        self.local_count = count
        self.count = count * jax.process_count()
        self._mesh = None
        if not processes.is_single_process():
            self._mesh = device_mesh(_of_each_process(count))
        elif count > 1:
            self._mesh = device_mesh(count)

    @property
    def key(self) -> tuple[Any, ...]:
        """What compiled functions depend on: a key for caches."""
        return self.count, self.parallel

    def step(self, step: Callable[..., Any], *, split: Sequence[bool], donate: bool = False) -> Any:
        """A compiled function of a replicated state and of inputs that are split or replicated.

        Args:
          step: `(state, *inputs, axis_name)`; its results are the same on all devices.
          split: for each input whether it is split over the devices.
          donate: whether the state's memory may be reused.
        """
        if self._mesh is None:
            return jit_step(step, donate=donate)
        if self.parallel == "pmap":
            return pmap_step(step, self.count, split=split, donate=donate)
        return shard_step(step, self._mesh, split=split, donate=donate)

    def runs_step(self, step: Callable[..., Any], *, stacked: Sequence[bool], donate: bool = False) -> Any:
        """A compiled function of the stacked states of several runs, placed by `split`: each device computes some of them.

        Args:
          step: `(state, *inputs, axis_name)` to results of one run.
          stacked: for each input whether its first axis is that of the runs.
          donate: as for `step`.
        """
        return vmap_step(step, self._mesh or 1, stacked=stacked, donate=donate)

    def replicated(self, function: Callable[..., Any], *, donate: bool = False) -> Any:
        """A compiled function with replicated results; `donate` as for `step`."""
        donated = (0,) if donate else ()
        if self._mesh is None:
            return jax.jit(function, donate_argnums=donated)
        return jax.jit(function, donate_argnums=donated, out_shardings=self._sharding(split=False))

    def split_results(self, function: Callable[..., Any]) -> Any:
        """A compiled function whose results are split over the devices by their first axes."""
        return jax.jit(function) if self._mesh is None else jax.jit(function, out_shardings=self._sharding(split=True))

    def replicate(self, tree: Any) -> Any:
        """Places the whole arrays on every device."""
        return self._placed(tree, split=False)

    def split(self, tree: Any) -> Any:
        """Splits the arrays over the devices by their first axes."""
        return self._placed(tree, split=True)

    def shapes(self, tree: Any, *, split: bool) -> Any:
        """Shapes and types with the sharding of `split` or `replicate`."""
        if self._mesh is None:
            return tree
        place = self._sharding(split=split)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)

    def batch_rows(self, count: int) -> jax.Array:
        """Rows of a batch's images within each device's share, int32 `[count]`, split."""
        return self.split(self.share(np.tile(np.arange(count // self.count, dtype=np.int32), self.count)))

    def share(self, batch: np.ndarray) -> np.ndarray:
        """This process's share of a batch, as `split` takes it."""
        if processes.is_single_process():
            return batch
        size = len(batch) // jax.process_count()
        return batch[jax.process_index() * size :][:size]

    def load(self, saved: checkpoint.Checkpoint, template: Any) -> Any:
        """A checkpoint's arrays, replicated."""
        return checkpoint.load(saved, template, None if self._mesh is None else self._sharding(split=False))

    def _placed(self, tree: Any, *, split: bool) -> Any:
        if self._mesh is None:
            return jax.device_put(tree)
        place = self._sharding(split=split)
        if processes.is_single_process():
            return jax.device_put(tree, place)
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(place, np.asarray(leaf)), tree)

    def _sharding(self, *, split: bool) -> NamedSharding:
        assert self._mesh is not None
        return NamedSharding(self._mesh, P(AXIS) if split else P())


def _of_each_process(count: int) -> list[Any]:
    found: list[Any] = []
    for process in range(jax.process_count()):
        own = [device for device in jax.devices() if device.process_index == process]
        if len(own) < count:
            raise InputError(f"--devices is {count}, and process {process} has {len(own)} devices; ask for fewer")
        found += own[:count]
    return found


def check_wrapper(devices: int, parallel: Parallel) -> None:
    """Raises an `InputError` for less than one device, or for several devices with a wrapper that is for one."""
    _check_count(devices)
    if parallel == "jit" and devices > 1:
        raise InputError(f"--parallel jit is for one device, and --devices is {devices}; give pmap or shard")


def check_share(count: int, devices: int, option: str) -> None:
    """Raises an `InputError` if the devices cannot share a count, which an option sets, equally."""
    _check_count(devices)
    check_batch(count, devices, option)


def _check_count(devices: int) -> None:
    if devices < 1:
        raise InputError(f"--devices is {devices}; give 1 or more")


def provide_cpu_devices(count: int) -> None:
    """Gives a process that computes on CPUs this number of devices, unless its environment sets the number.

    Call it before JAX uses a device. It affects only CPUs.
    """
    is_set = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if count > 1 and not is_set and jax.config.values["jax_num_cpu_devices"] == -1:
        jax.config.update("jax_num_cpu_devices", count)

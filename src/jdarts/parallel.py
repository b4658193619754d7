"""Compiles a pure step for one device, `jax.pmap` or a `jax.sharding.Mesh` under `jax.jit`, with the same result.

A step is `step(state, *inputs, axis_name) -> (state, metrics)`, such as `bilevel_step` with its losses and optimisers bound.
Under `pmap_step` and `shard_step` each device gets the whole state and an equal share of each input. The step averages losses,
gradients, products, metrics and model state over `axis_name`, so that the devices agree.

The network decides on batch statistics. With `axis_name=AXIS` they are synchronised, that is, computed over the whole batch:
any number of devices gives the numbers of one. Without it each device normalises by its own share, as data parallelism in the
reference implementation does. The running statistics are then the mean over the devices; their variances leave out the
differences between the means of the shares.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jdarts.errors import InputError

#: Name of the mapped axis over which a step's batch is split.
AXIS = "devices"

StepFn = Callable[..., tuple[Any, Any]]


def jit_step(step: StepFn, *, donate: bool = False) -> Any:
    """Compiles a step for one device.

    Args:
      step: `(state, *inputs, axis_name) -> (state, metrics)`; it gets `axis_name=None`.
      donate: whether the new state may reuse the memory of the old one, which is invalid afterwards.

    Returns:
      The step without `axis_name`, under `jax.jit`.
    """
    return jax.jit(functools.partial(step, axis_name=None), donate_argnums=(0,) if donate else ())


def pmap_step(
    step: StepFn, devices: int | Sequence[Any], *, split: Sequence[bool] | None = None, donate: bool = False
) -> Any:
    """Compiles a step for several devices with `jax.pmap`.

    The state is an ordinary pytree before and after: no leading axis of devices, nothing to replicate.

    Args:
      step: `(state, *inputs, axis_name) -> (state, metrics)`; it gets `axis_name=AXIS` and, on each device, its share of the
        inputs. Every output must be the same on all devices.
      devices: the number of devices, or a list of them.
      split: for each input, whether its leaves are split over the devices along their first axes; each device gets the whole
        of other inputs. None splits all.
      donate: as for `jit_step`.

    Returns:
      The step without `axis_name`, under `jax.jit`: it takes whole batches.

    Raises:
      InputError: more devices than exist, or, in a call, a batch that they do not divide.
    """
    chosen = chosen_devices(devices)

    def step_all(state: Any, *inputs: Any) -> tuple[Any, Any]:
        shared = _split_flags(split, inputs)
        parts = [_in_parts(batch, len(chosen)) if flag else batch for batch, flag in zip(inputs, shared)]

        def device_step(place: jax.Array, state: Any, *parts: Any) -> tuple[Any, Any]:
            del place
            return step(state, *parts, axis_name=AXIS)

        # `jax.pmap` needs at least one split input: the indices of the devices.
        mapped = jax.pmap(
            device_step,
            axis_name=AXIS,
            in_axes=(0, None, *(0 if flag else None for flag in shared)),
            out_axes=None,
            devices=chosen,
        )
        return mapped(jnp.arange(len(chosen), dtype=jnp.int32), state, *parts)

    return jax.jit(step_all, donate_argnums=(0,) if donate else ())


def shard_step(step: StepFn, mesh: int | Mesh, *, split: Sequence[bool] | None = None, donate: bool = False) -> Any:
    """Compiles a step for the devices of a mesh: `jax.shard_map` under `jax.jit`.

    The mapping is explicit because the partitioner of a plain `jit` cannot split native kernels, and would gather whole batches
    of feature maps for them.

    Args:
      step: as for `pmap_step`.
      mesh: a mesh with an axis named `AXIS`, or the number of devices of one.
      split: as for `pmap_step`.
      donate: as for `jit_step`.

    Returns:
      The step without `axis_name`, under `jax.jit`: it takes whole batches with any placement.

    Raises:
      InputError: a mesh without that axis, more devices than exist, or, in a call, a batch that they do not divide.
    """
    mesh = _checked_mesh(mesh)

    def step_all(state: Any, *inputs: Any) -> tuple[Any, Any]:
        shared = _split_flags(split, inputs)
        for each, flag in zip(inputs, shared):
            if flag:
                _check_divides(each, mesh.shape[AXIS])
        # Without the check of varying axes, each device has its own gradients of replicated weights, and the step averages
        # them. With it, they would be summed already.
        mapped = jax.shard_map(
            functools.partial(step, axis_name=AXIS),
            mesh=mesh,
            in_specs=(P(), *(P(AXIS) if flag else P() for flag in shared)),
            out_specs=P(),
            check_vma=False,
        )
        return mapped(state, *inputs)

    return jax.jit(step_all, donate_argnums=(0,) if donate else ())


def vmap_step(
    step: StepFn,
    mesh: int | Mesh = 1,
    *,
    stacked: Sequence[bool] | None = None,
    at_once: int | None = None,
    donate: bool = False,
) -> Any:
    """Compiles one step of several independent runs, such as searches that differ in their seeds.

    Args:
      step: as for `pmap_step`; it gets `axis_name=None`.
      mesh: the devices that share the runs: a mesh with an axis named `AXIS`, or the number of devices of one.
      stacked: for each input, whether its leaves have the runs as their first axes, as the state's have; the runs share other
        inputs. None: all inputs are stacked.
      at_once: largest number of a device's runs to vmap; groups of equal size run one after another, in the memory of one. None
        vmaps all.
      donate: as for `jit_step`.

    Returns:
      The step without `axis_name`, under `jax.jit`; state and metrics have the runs as their first axis.

    Raises:
      InputError: a mesh without that axis, more devices than exist, `at_once` below 1, or, in a call, a number of runs that the
        devices do not divide.
    """
    mesh = _checked_mesh(mesh)
    if at_once is not None and at_once < 1:
        raise InputError(f"{at_once} runs at once; give 1 or more")

    def step_all(state: Any, *inputs: Any) -> tuple[Any, Any]:
        flags = _split_flags(stacked, inputs)
        mapped = _mapped_over_runs(functools.partial(step, axis_name=None), (True, *flags), at_once)
        if mesh.size > 1:
            check_batch(jax.tree.leaves(state)[0].shape[0], mesh.shape[AXIS], "a set of runs")
            specs = (P(AXIS), *(P(AXIS) if flag else P() for flag in flags))
            mapped = jax.shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)
        return mapped(state, *inputs)

    return jax.jit(step_all, donate_argnums=(0,) if donate else ())


def device_mesh(devices: int | Sequence[Any]) -> Mesh:
    """A mesh with one axis, `AXIS`, over a number of devices or a list of them.

    Raises:
      InputError: more devices than exist.
    """
    return Mesh(np.array(chosen_devices(devices)), (AXIS,))


def chosen_devices(devices: int | Sequence[Any]) -> list[Any]:
    """The first devices of the default backend, or those in the list.

    Raises:
      InputError: fewer than one, or more than exist.
    """
    if not isinstance(devices, int):
        return list(devices)
    present = jax.devices()
    if devices < 1:
        raise InputError(f"{devices} devices; give 1 or more")
    if devices > len(present):
        kind = present[0].platform.upper()
        mend = "; on CPUs, JAX_NUM_CPU_DEVICES=N makes N" if kind == "CPU" else ""
        raise InputError(f"{devices} devices were asked for, and {len(present)} {kind} present; ask for fewer{mend}")
    return present[:devices]


def check_batch(size: int, devices: int, what: str = "a batch") -> None:
    """Checks that a batch divides into equal shares.

    Args:
      size: examples of a batch.
      devices: number of devices.
      what: the batch's name in the message.

    Raises:
      InputError: it does not.
    """
    if size % devices:
        below, above = size // devices * devices, -(-size // devices) * devices
        sizes = f"{below} or {above}" if below else str(above)
        raise InputError(f"{what} of {size} does not divide into equal shares for {devices} devices; give {sizes}")


def share(tree: Any, axis_name: str | None, *, axis: int = 0) -> Any:
    """A device's share of arrays that every device has whole, split as `shard_step` and `pmap_step` split inputs.

    Args:
      tree: the arrays.
      axis_name: the mapped axis; None gives the whole arrays.
      axis: the axis of the arrays that is split.

    Raises:
      InputError: the axis does not divide into equal shares.
    """
    if axis_name is None:
        return tree
    devices = device_count(axis_name)

    def part(leaf: jax.Array) -> jax.Array:
        check_batch(leaf.shape[axis], devices)
        size = leaf.shape[axis] // devices
        return jax.lax.dynamic_slice_in_dim(leaf, share_offset(size, axis_name), size, axis)

    return jax.tree.map(part, tree)


def padded_share(part: jax.Array, axis_name: str | None) -> jax.Array:
    """A device's share along the first axis, padded with zeros: the sum over the devices is the whole array.

    On one device it is the array itself. So a share is part of a sum that is computed anyway, and needs no separate gather.
    """
    if axis_name is None:
        return part
    size = part.shape[0]
    whole = jnp.zeros((size * device_count(axis_name), *part.shape[1:]), part.dtype)
    return jax.lax.dynamic_update_slice_in_dim(whole, part, share_offset(size, axis_name), 0)


def mean_over(tree: Any, axis_name: str | None) -> Any:
    """The mean over the devices; on one device the arrays themselves."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def sum_over(tree: Any, axis_name: str | None) -> Any:
    """The sum over the devices; on one device the arrays themselves."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def device_count(axis_name: str | None) -> int:
    """The number of devices."""
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def share_offset(size: int, axis_name: str | None) -> jax.Array | int:
    """The start of a device's share along the whole axis, for shares of `size`."""
    return 0 if axis_name is None else jax.lax.axis_index(axis_name) * size


def device_key(key: jax.Array, axis_name: str | None) -> jax.Array:
    """A different key for each device; on one device the key itself."""
    return key if device_count(axis_name) == 1 else jax.random.fold_in(key, jax.lax.axis_index(axis_name))


def _mapped_over_runs(step: Callable[..., Any], stacked: Sequence[bool], at_once: int | None) -> Callable[..., Any]:
    """The step of all runs, along the first axes of stacked arguments, in vmapped groups one after another."""

    def step_all(*arguments: Any) -> Any:
        runs = jax.tree.leaves(arguments[0])[0].shape[0]
        size = next(n for n in range(min(at_once or runs, runs), 0, -1) if runs % n == 0)
        vmapped = jax.vmap(step, in_axes=tuple(0 if flag else None for flag in stacked)) if size > 1 else step
        if size == runs > 1:
            return vmapped(*arguments)
        grouped = (runs // size, size) if size > 1 else (runs,)
        own = [each for each, flag in zip(arguments, stacked) if flag]

        def step_group(group: Sequence[Any]) -> Any:
            left = iter(group)
            return vmapped(*(next(left) if flag else each for each, flag in zip(arguments, stacked)))

        results = jax.lax.map(step_group, jax.tree.map(lambda leaf: leaf.reshape(*grouped, *leaf.shape[1:]), own))
        return jax.tree.map(lambda leaf: leaf.reshape(runs, *leaf.shape[len(grouped) :]), results)

    return step_all


def _checked_mesh(mesh: int | Mesh) -> Mesh:
    mesh = device_mesh(mesh) if isinstance(mesh, int) else mesh
    if AXIS not in mesh.axis_names:
        raise InputError(f"the mesh has the axes {', '.join(mesh.axis_names)}; one of them must be named {AXIS!r}")
    return mesh


def _split_flags(split: Sequence[bool] | None, inputs: Sequence[Any]) -> Sequence[bool]:
    if split is None:
        return [True] * len(inputs)
    if len(split) != len(inputs):
        raise InputError(f"{len(split)} flags for {len(inputs)} inputs; give one for each input")
    return split


def _check_divides(tree: Any, devices: int) -> None:
    for leaf in jax.tree.leaves(tree):
        check_batch(leaf.shape[0], devices)


def _in_parts(tree: Any, devices: int) -> Any:
    _check_divides(tree, devices)
    return jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), tree)

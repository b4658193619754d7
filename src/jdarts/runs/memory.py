"""The memory of a compiled step, by XLA's plan, and the memory of the device or the machine."""

import contextlib
import math
import resource
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from jdarts.errors import InputError
from jdarts.files.machine_memory import available_bytes

#: An option of the command line, and about what share of a step's temporary memory is left with it.
MemoryOption = tuple[str, float]


class StepMemory(NamedTuple):
    """Memory of one step on one device, in bytes.

    Attributes:
      persistent: state, images and metrics, which exist before or after the step.
      temporary: arrays within the step, feature maps above all.
    """

    persistent: int
    temporary: int

    @property
    def total(self) -> int:
        """The sum of both."""
        return self.persistent + self.temporary


def step_memory(compiled: Any) -> StepMemory | None:
    """XLA's plan for the memory of a compiled step; None if it gives none.

    It leaves out the allocations of native kernels and the waste of the runtime.
    """
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    # The new state takes the place of the old one.
    persistent = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return StepMemory(persistent, plan.temp_size_in_bytes)


def available_memory() -> int | None:
    """Bytes of one device, or on CPUs the bytes that the machine has available; None if unknown."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    return available_bytes()


def check_state_fits(state: Any, available: int | None) -> None:
    """Checks that a run's state fits in memory, before it is created.

    Args:
      state: shapes and types, a pytree.
      available: available bytes; None if unknown.

    Raises:
      InputError: it does not fit.
    """
    need = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    if available is not None and need > available:
        raise InputError(
            f"weights, optimiser and statistics take {format_bytes(need)}, and {format_bytes(available)} are available; give a "
            f"smaller network: {_SMALLER}"
        )


@contextlib.contextmanager
def out_of_memory_as_input_error() -> Iterator[None]:
    """Surrounds work that may run out of memory.

    Raises:
      InputError: the work ran out of memory; the message names the settings to lower.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if not isinstance(error, MemoryError) and not text.startswith("RESOURCE_EXHAUSTED"):
            raise
        raise InputError(f"out of memory ({text[:160]}); give a smaller --batch-size, or {_SMALLER}") from error


_SMALLER = "lower --channels, --cells or --nodes, of a language model --width or --vocabulary"


def format_bytes(size: float) -> str:
    """An amount of memory: `640 MB`, `3.2 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.{0 if size >= 1e7 else 1}f} MB"


def step_memory_lines(need: StepMemory | None, memory_options: Iterable[MemoryOption], *, devices: int) -> list[str]:
    """The lines on a compiled step's memory that a run shows at its start; none without XLA's plan.

    Args:
      need: memory of the step on one device; None without XLA's plan.
      memory_options: options that the run does not use and that would save memory.
      devices: number of this machine's devices that take part in the step.
    """
    if need is None:
        return []
    if jax.default_backend() == "cpu":
        need = StepMemory(devices * need.persistent, devices * need.temporary)
    return memory_lines(need, available_memory(), memory_options)


def memory_facts(need: StepMemory | None) -> dict[str, int]:
    """The memory of a run so far, in bytes, as JSON data.

    Args:
      need: memory of its step on one device; None without XLA's plan.

    Returns:
      `persistent` and `temporary` of `StepMemory` on one device, if XLA tells, and `peak`: the most that the first device has
      held, or on CPUs the process.
    """
    facts = {} if need is None else dict(need._asdict())
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        # Linux counts in KiB.
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    else:
        peak = (device.memory_stats() or {}).get("peak_bytes_in_use")
    return facts if peak is None else {**facts, "peak": int(peak)}


def smaller_shares(batch_size: int, devices: int) -> list[MemoryOption]:
    """The options that shrink a device's share of a batch: more devices, if they have separate memory, or a smaller batch.

    Args:
      batch_size: examples of a batch.
      devices: number of devices that share it.
    """
    memory_options: list[MemoryOption] = []
    more = next((n for n in range(devices + 1, jax.device_count() + 1) if batch_size % n == 0), None)
    if more and jax.default_backend() != "cpu" and jax.process_count() == 1:
        memory_options.append((f"--devices {more}", devices / more))
    half = batch_size // 2 // devices * devices
    if half >= 2:
        memory_options.append((f"--batch-size {half}", half / batch_size))
    return memory_options


def cheaper_estimators(hypergradient: str, shares: Mapping[str, float]) -> list[MemoryOption]:
    """The estimators of the hypergradient that need less memory than the present one.

    Args:
      hypergradient: the present one.
      shares: temporary memory by the estimators' names, in any unit.
    """
    used = shares[hypergradient]
    return [(f"--hypergradient {name}", share / used) for name, share in shares.items() if share < used]


def memory_lines(need: StepMemory, available: int | None, memory_options: Iterable[MemoryOption]) -> list[str]:
    """The lines on a step's memory.

    Args:
      need: memory of a step, on all devices that share `available`.
      available: available bytes; None if unknown.
      memory_options: options that would save memory.
    """
    there = "" if available is None else f"; {format_bytes(available)} are available"
    lines = [
        f"memory of a step by XLA's plan: {format_bytes(need.total)}, of which {format_bytes(need.temporary)} for feature maps "
        f"and the like{there}"
    ]
    if available is None or need.total <= available:
        return lines
    lines.append("warning: the step does not fit. These options would help, by estimate:")
    for option, left in memory_options:
        total = need.persistent + left * need.temporary
        fits = "fits" if total <= available else "alone does not fit"
        lines.append(
            f"  {option}: saves about {format_bytes(need.total - total)}, leaves {format_bytes(total)}, which {fits}"
        )
    return lines

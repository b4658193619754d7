"""What a compiled step needs of the memory, as XLA has planned it, and what the device or the machine has."""

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jdarts.errors import InputError

#: An option of the command line, and the share of a step's passing memory that it leaves, about.
Saving = tuple[str, float]


class StepMemory(NamedTuple):
    """Memory of one step on one device, in bytes.

    Attributes:
      lasting: what lies there before or after the step: state, images, metrics.
      passing: what the step needs on its way, feature maps above all.
    """

    lasting: int
    passing: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.lasting + self.passing


def step_memory(compiled: Any) -> StepMemory | None:
    """What XLA has planned for a compiled step; None where it does not tell.

    What native kernels allocate for themselves is not in it, nor what the runtime wastes.
    """
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    # The new state takes the place of the old one.
    lasting = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return StepMemory(lasting, plan.temp_size_in_bytes)


def available_memory() -> int | None:
    """Bytes of one device, or on CPUs those that the machine has left; None where nobody tells."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("bytes_limit")
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def check_state_fits(state: Any, available: int | None) -> None:
    """Checks, before anything is made, that a run's state is not larger than the memory.

    Args:
      state: shapes and types, a pytree.
      available: bytes that are there, if that is known.

    Raises:
      InputError: it is larger.
    """
    need = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    if available is not None and need > available:
        raise InputError(
            f"weights, optimiser and statistics take {in_words(need)}, and {in_words(available)} are there; give a smaller "
            f"network: {_SMALLER}"
        )


@contextlib.contextmanager
def exhaustion_explained() -> Iterator[None]:
    """Work that may need more memory than there is.

    Raises:
      InputError: in place of the error that then comes, with what to lower.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        text = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if not isinstance(error, MemoryError) and not text.startswith("RESOURCE_EXHAUSTED"):
            raise
        raise InputError(
            f"the memory does not suffice ({text[:160]}); give a smaller --batch-size, or {_SMALLER}"
        ) from error


_SMALLER = "lower --channels, --cells or --nodes, of a language model --width or --vocabulary"


def in_words(size: float) -> str:
    """An amount of memory: `640 MB`, `3.2 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.{0 if size >= 1e7 else 1}f} MB"


def start_lines(step: Any, savings: Iterable[Saving], *, devices: int) -> list[str]:
    """What a run says of its compiled step's memory at the start; nothing where XLA does not tell.

    Args:
      step: the compiled step.
      savings: options that the run does not use, and that would help where the memory is too small.
      devices: how many of this machine take part in the step.
    """
    need = step_memory(step)
    if need is None:
        return []
    if jax.default_backend() == "cpu":
        need = StepMemory(devices * need.lasting, devices * need.passing)
    return memory_lines(need, available_memory(), savings)


def saved_by_sharing(batch_size: int, devices: int) -> list[Saving]:
    """What helps every step: a smaller batch, or more devices to share it, where they have memory of their own.

    Args:
      batch_size: examples of a batch.
      devices: how many share it.
    """
    savings: list[Saving] = []
    more = next((n for n in range(devices + 1, jax.device_count() + 1) if batch_size % n == 0), None)
    if more and jax.default_backend() != "cpu" and jax.process_count() == 1:
        savings.append((f"--devices {more}", devices / more))
    half = batch_size // 2 // devices * devices
    if half >= 2:
        savings.append((f"--batch-size {half}", half / batch_size))
    return savings


def saved_by_estimator(hypergradient: str, shares: Mapping[str, float]) -> list[Saving]:
    """What estimators of the hypergradient save that need less.

    Args:
      hypergradient: the one that is used.
      shares: passing memory by the estimators' names, in any unit.
    """
    used = shares[hypergradient]
    return [(f"--hypergradient {name}", share / used) for name, share in shares.items() if share < used]


def memory_lines(need: StepMemory, available: int | None, savings: Iterable[Saving]) -> list[str]:
    """What is said of a step's memory.

    Args:
      need: of a step, on all devices that share `available`.
      available: bytes that are there, if that is known.
      savings: options that would help.
    """
    there = "" if available is None else f"; {in_words(available)} are there"
    lines = [
        f"memory of a step by XLA's plan: {in_words(need.total)}, of which {in_words(need.passing)} for feature maps and the "
        f"like{there}"
    ]
    if available is None or need.total <= available:
        return lines
    lines.append("warning: the step does not fit. What would help, by estimate:")
    for option, left in savings:
        total = need.lasting + left * need.passing
        fits = "fits" if total <= available else "does not fit alone"
        lines.append(f"  {option}: saves about {in_words(need.total - total)}, leaves {in_words(total)}, which {fits}")
    return lines

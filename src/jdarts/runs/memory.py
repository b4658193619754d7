"""What a compiled step needs of the memory, as XLA has planned it, and what the device or the machine has."""

from pathlib import Path
from typing import Any, NamedTuple

import jax


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


def in_words(size: float) -> str:
    """An amount of memory: `640 MB`, `3.2 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.{0 if size >= 1e7 else 1}f} MB"


def memory_lines(need: StepMemory, available: int | None, savings: list[tuple[str, float]]) -> list[str]:
    """What a run says of its step's memory at the start.

    Args:
      need: of a step, on all devices that share `available`.
      available: bytes that are there, if that is known.
      savings: options that would help, each with the share of `passing` that it leaves.
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
        lines.append(f"  {option}: saves {in_words(need.total - total)}, leaves {in_words(total)}, which {fits}")
    return lines

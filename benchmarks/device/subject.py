"""The process of one part: `python -m device.subject PART FLAGS`.

It prepares the part, prints a line `READY` with what it noticed, waits for a line on its standard input, measures, and prints a
line `FACTS`. A refusal is a line `REFUSED` with the reason.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jdarts.errors import InputError

from .measured import ceilings, device_facts, timed
from .parts import Part

#: Of a search's steps.
_SEARCH_SECONDS = 40.0
READY, FACTS, REFUSED = "READY ", "FACTS ", "REFUSED "


def main() -> None:
    """Serves the part that is the first argument; the second is JSON with `quick`, `seconds` and `fixtures`."""
    part, flags = Part.from_json(sys.argv[1]), json.loads(sys.argv[2])
    start = time.perf_counter()
    try:
        facts, measure = prepare(part, **flags)
    except InputError as error:
        print(REFUSED + str(error), flush=True)
        return
    print(READY + json.dumps({**facts, "ready_s": time.perf_counter() - start}), flush=True)
    if sys.stdin.readline():
        print(FACTS + json.dumps(measure()), flush=True)


def prepare(
    part: Part, *, quick: bool, seconds: float, fixtures: str | None
) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    """Prepares a part.

    Args:
      part: what to measure.
      quick: whether the ceilings are of small arrays, and a search is measured for no more seconds than others.
      seconds: of steps, for each time.
      fixtures: a folder of reference numbers.

    Returns:
      What was noticed, and a function that measures.
    """
    if part.is_torch:
        return _prepare_torch(part, seconds)
    import jax

    from . import programs

    if part.kind == "ceilings":
        return device_facts(), lambda: ceilings(quick=quick)
    jax.config.update("jax_default_matmul_precision", programs.MATMUL_PRECISION[part.precision])
    if part.kind == "fixtures":
        from .fixtures import prepare_fixtures

        assert fixtures is not None
        return {}, prepare_fixtures(Path(fixtures))
    if part.kind == "against_cpu":
        from .against_cpu import prepare_comparison

        return {}, prepare_comparison(quick=quick)
    if part.kind == "search":
        from .whole_search import prepare_search

        facts, measure_search = prepare_search(part)
        return facts, lambda: measure_search(seconds if quick else _SEARCH_SECONDS)
    ways = {"seeds": programs.prepare_seeds, "recurrent": programs.prepare_recurrent}
    ready = ways.get(part.kind, programs.prepare_step)(part)

    def measure() -> dict[str, Any]:
        found = timed(ready.take, ready.wait, seconds=seconds)
        found |= {name: found[name] / part.steps_per_call for name in found if name.endswith("_s")}
        found["peak_bytes"] = programs.peak_bytes()
        if part.kind in ("step", "again"):
            found |= _profiled(ready, part.steps_per_call)
        return found

    return ready.facts, measure


def _profiled(ready: Any, steps_per_call: int) -> dict[str, Any]:
    """The kernels of a few steps; why there are none, if the profiler fails, since the times are worth more."""
    from .profile import longest_kernels

    try:
        return longest_kernels(ready.take, ready.wait, steps_per_call=steps_per_call)
    except (RuntimeError, OSError, StopIteration) as error:
        return {"profile_error": str(error)[:300]}


def _prepare_torch(part: Part, seconds: float) -> tuple[dict[str, Any], Callable[[], dict[str, Any]]]:
    if importlib.util.find_spec("torch") is None:
        raise InputError("PyTorch is not installed")
    from . import torch_parts

    prepared = torch_parts.prepare_torch if part.kind == "torch" else torch_parts.prepare_recurrent
    take, wait = prepared(part)
    return {}, lambda: timed(take, wait, seconds=seconds) | torch_parts.facts()


if __name__ == "__main__":
    main()

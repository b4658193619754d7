"""`jdarts bench`: the steps of a search, of jdarts and of PyTorch side by side. The benchmarks are in a checkout alone."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import jdarts
from jdarts.command import run_command
from jdarts.errors import InputError

_FOLDER = Path(jdarts.__file__).resolve().parents[2] / "benchmarks"


def main() -> None:
    """Runs `benchmarks/run.py` of the checkout with the command's options.

    Raises:
      InputError: this jdarts is no checkout, or as the benchmark.
    """
    benchmark().main()


def benchmark() -> Any:
    """The module `benchmarks/run.py`.

    Raises:
      InputError: this jdarts is no checkout.
    """
    path = _FOLDER / "run.py"
    spec = importlib.util.spec_from_file_location("jdarts_benchmark", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(
            f"the benchmarks are in a checkout of jdarts, and {_FOLDER} is not there; clone the repository and run it there "
            "(make setup, then jdarts bench)"
        )
    if str(_FOLDER) not in sys.path:
        sys.path.insert(0, str(_FOLDER))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    run_command(main)

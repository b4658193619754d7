"""The benchmark of the methods' steps."""

from types import SimpleNamespace
from typing import Any

import methods
from harness.clock import Seconds


def step(used, size) -> Any:
    """A step of which the compilation took so much processor time, and that asks for so many MiB."""
    facts = {"trace_s": 1.0, "compile_s": 1.0, "temporary_bytes": size * 2**20}
    return SimpleNamespace(compilation=SimpleNamespace(facts=lambda: facts), compilation_used=used)


def test_multiples_of_plain_darts_are_of_the_same_round_and_of_processor_time():
    times = {
        "darts": [Seconds(0.4, 0.5), Seconds(0.8, 0.5), Seconds(0.4, 0.5)],
        "gdas": [Seconds(0.2, 0.6), Seconds(0.4, 0.6), Seconds(0.4, 0.6)],
    }
    table = methods.methods_table({"darts": step(10.0, 100), "gdas": step(12.0, 50)}, times)
    *_, plain, other = table.splitlines()
    assert plain.split(" | ")[2::2] == ["1.00", "1.00", "1.00", "1.00 |"]
    assert other.split(" | ")[2::2] == ["0.50", "1.20", "1.20", "0.50 |"]

"""experiments/compare_cells.py: what it refuses before it reads a text."""

import importlib.util
import sys
from pathlib import Path

import command_line
import pytest

FILE = Path(__file__).resolve().parents[1] / "experiments" / "compare_cells.py"
SPEC = importlib.util.spec_from_file_location("compare_cells", FILE)
assert SPEC is not None and SPEC.loader is not None
MODULE = sys.modules["compare_cells"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)

command = command_line.fixture(MODULE.main, "compare_cells")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--steps 99999999999999999999", "--steps is 99999999999999999999; give a number from 1 to 10000000"),
        ("--steps 0", "--steps is 0; give 1 or more"),
        ("--width 100000000", "--width is 100000000; give a number from 1 to 100000"),
        ("--learning-rate nan", "--learning-rate is nan; give a number above 0"),
        ("--evaluations 9 --steps 8", "--evaluations is 9 in 8 steps; give 8 or less"),
        ("--seeds -1", "--seeds is -1; give 0 or more"),
        ("--seeds 4294967296", "--seeds is 4294967296; give a number below 2^32"),
        ("--seeds", "--seeds names none; give one or more, such as 0 1 2"),
        ("--table .", "--table . is a folder; give a file in it"),
        ("--dataset ../x", "--dataset is '../x'; give the name of a data set, not a path or an empty text"),
    ],
)
def test_wrong_values(words, message, command):
    assert command(*words.split()) == (2, "", f"error: {message}\n")

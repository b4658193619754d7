"""experiments/nasbench201.py: the sizes of its networks, and what it refuses."""

import importlib.util
import itertools
import random
import sys
from pathlib import Path

import command_line
import pytest

FILE = Path(__file__).resolve().parents[1] / "experiments" / "nasbench201.py"
SPEC = importlib.util.spec_from_file_location("nasbench201", FILE)
assert SPEC is not None and SPEC.loader is not None
MODULE = sys.modules["nasbench201"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)

pytestmark = pytest.mark.usefixtures("standard_promotion")

command = command_line.fixture(MODULE.main, "nasbench201")
NAMES = [MODULE.edge_name(*edge) for edge in MODULE.EDGES]


def counted(choices, channels, cells, classes):
    """The number of weights, written out."""
    total = 3 * 9 * channels + 2 * channels
    for stage in range(3):
        width = channels * 2**stage
        sizes = {"nor_conv_1x1": width**2 + 2 * width, "nor_conv_3x3": 9 * width**2 + 2 * width}
        total += cells * sum(sizes.get(name, 0) for name in choices.values())
        if stage:
            half = width // 2
            total += half * width + 9 * half * width + 2 * width + 9 * width**2 + 2 * width
    return total + 8 * channels + 4 * channels * classes + classes


def test_the_published_sizes():
    smallest, largest = dict.fromkeys(NAMES, "skip_connect"), dict.fromkeys(NAMES, "nor_conv_3x3")
    assert MODULE.weights_of_cell(smallest) == 73_306
    assert MODULE.weights_of_cell(largest) == 1_531_546
    sizes = [counted(dict(zip(NAMES, cell)), 16, 5, 10) for cell in itertools.product(MODULE.OPERATIONS, repeat=6)]
    assert (len(sizes), min(sizes), max(sizes)) == (15_625, 73_306, 1_531_546)


def test_random_cells_are_counted_right():
    drawn = random.Random(0)
    for _ in range(4):
        choices = {name: drawn.choice(MODULE.OPERATIONS) for name in NAMES}
        assert MODULE.weights_of_cell(choices, channels=4, cells=1) == counted(choices, 4, 1, 10)
        assert MODULE.cell_from_text(MODULE.text_of(choices)) == choices


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "0"), "--steps is 0; give 1 or more"),
        (
            ("--cell", "|none~0|"),
            "--cell is '|none~0|'; give a text such as |none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        ),
        (
            ("--cell", "|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|"),
            "--cell has the operation 'conv'; give none, skip_connect, nor_conv_1x1, nor_conv_3x3, avg_pool_3x3",
        ),
    ],
)
def test_wrong_values(words, message, command):
    assert command(*words) == (2, "", f"error: {message}\n")

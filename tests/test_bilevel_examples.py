"""The examples of bilevel problems that are no architecture."""

import contextlib
import dataclasses
import importlib
import sys
from pathlib import Path

import jax
import pytest

import jdarts

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "bilevel"
#: Fewer steps than the examples take, and what must be true after them.
EXAMPLES = {
    "weight_decay": (300, lambda found: found["error"] < 0.7 * found["single"]),
    "label_noise": (
        250,
        lambda found: found["learned"] > found["equal"] + 0.03 and found["wrong"] < 0.3 < 0.4 < found["right"],
    ),
    "learned_loss": (600, lambda found: found["error"] < 0.2 * found["squares"] and found["shape"] < 1),
    "augmentation": (
        200,
        lambda found: found["learned"] > found["plain"] + 0.05 and found["shift"] > 0.5 > found["noise"],
    ),
    "initialisation": (400, lambda found: found["error"] < 0.5 * found["before"]),
}
#: Sizes below the examples' own.
SIZES = {"augmentation": {"TRAIN": 120}, "initialisation": {"INNER": 2, "HYPERGRADIENT": jdarts.unrolled(2)}}


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("example", "digits", *EXAMPLES):
        sys.modules.pop(name, None)


@contextlib.contextmanager
def as_for_users():
    """JAX with the settings that it has by itself."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"), jax.enable_x64(False):
        yield


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_solves_its_problem(example, name, tmp_path, monkeypatch):
    module = example(name)
    for size, value in SIZES.get(name, {}).items():
        monkeypatch.setattr(module, size, value)
    steps, solved = EXAMPLES[name]
    with as_for_users():
        outcome = module.solve(dataclasses.replace(module.CONFIG, steps=steps))
        example("jdarts.report.drawing").save_figure(
            lambda: example("example").picture(outcome), tmp_path / "picture.svg"
        )
    assert solved(outcome.numbers), outcome.numbers
    assert "{" not in outcome.text.format(**outcome.numbers)
    assert (tmp_path / "picture.svg").read_text().rstrip().endswith("</svg>")


def test_every_example_is_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == {"example", "digits", *EXAMPLES}


@pytest.fixture
def run(example, monkeypatch, capsys):
    def run(*arguments):
        module = example("learned_loss")
        monkeypatch.setattr(sys, "argv", ["learned_loss.py", *arguments])
        with as_for_users(), pytest.raises(SystemExit) as ended:
            example("example").run_example(module.solve, module.CONFIG, module.__doc__)
        return ended.value.code, *capsys.readouterr()

    return run


def test_an_example_is_a_command(run, tmp_path):
    code, out, err = run("--steps", "3", "--out", str(tmp_path / "new" / "picture.png"))
    assert code == 0, err
    assert out.splitlines()[-1] == f"wrote {tmp_path / 'new' / 'picture.png'}"
    assert (tmp_path / "new" / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "0"], "--steps is 0"),
        (["--out", "picture.txt"], "its suffix is '.txt'; give .svg, .png or .pdf"),
    ],
)
def test_a_wrong_argument_is_refused(run, arguments, words):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err

"""What the examples share: their settings, their command and the look of their pictures."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn

import jax
import tyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import jdarts
from jdarts.command import run_command
from jdarts.report.drawing import check_suffix, save_figure
from jdarts.runs.bounds import Bounds
from jdarts.runs.settings import Settings

#: Okabe and Ito's colours.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#888888"


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    """Settings of an example.

    Attributes:
      out: the picture; .svg, .png or .pdf.
      steps: bilevel steps.
      seed: of the data and of the start.
    """

    out: Path
    steps: Annotated[int, Bounds(1, 1_000_000)]
    seed: Annotated[int, Bounds(0, 2**31 - 1)] = 0


def settings(name: str, steps: int) -> Config:
    """The settings of an example of this name."""
    return Config(out=Path(f"runs/bilevel/{name}.png"), steps=steps)


class Outcome(NamedTuple):
    """The result of an example.

    Attributes:
      text: for the terminal, with the names of numbers in braces.
      numbers: by name.
      draw: fills the two axes of the picture.
    """

    text: str
    numbers: dict[str, float]
    draw: Callable[[Axes, Axes], None]


def bilevel_steps(state: Any, train: Any, valid: Any, steps: int, measure: Callable[[Any], Any], **parts: Any) -> Any:
    """Takes bilevel steps as one program: the last state, and what `measure` makes of the state after each."""

    def step(state: jdarts.BilevelState, nothing: None) -> tuple[jdarts.BilevelState, Any]:
        state, _ = jdarts.bilevel_step(state, train, valid, **parts)
        return state, measure(state)

    return jax.jit(lambda state: jax.lax.scan(step, state, length=steps))(state)


def lines(axes: Axes, curves: dict[str, tuple[Any, str]], **titles: Any) -> None:
    """Draws curves by their names, each with its colour."""
    for name, (values, colour) in curves.items():
        axes.plot(values, color=colour, label=name)
    axes.set(xlabel="bilevel step", **titles)


def run_example(solve: Callable[[Config], Outcome], default: Config, description: str | None) -> NoReturn:
    """Runs an example as a command: solves the problem, prints the result and writes the picture."""

    def main() -> None:
        config = tyro.cli(Config, default=default, description=description)
        config.check()
        check_suffix(config.out)
        outcome = solve(config)
        print(outcome.text.format(**outcome.numbers))
        save_figure(lambda: picture(outcome), config.out)
        print(f"wrote {config.out}")

    run_command(main)


def picture(outcome: Outcome) -> Figure:
    """The picture of an outcome."""
    figure = Figure(figsize=(10.4, 3.9), facecolor="white", layout="constrained")
    axes = figure.subplots(1, 2)
    outcome.draw(*axes)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        if each.get_legend_handles_labels()[0]:
            each.legend()
    return figure

"""The bilevel problem of the paper's Figure 2: where DARTS ends depends on the virtual step ξ.

Source: Liu, Simonyan and Yang, DARTS, ICLR 2019, section 2.3 and Figure 2.

  minimise over α   L_val(w*(α), α),   L_val = αw − 2α + 1,
  where w*(α) minimises                L_train = w² − 2αw + α².

The training loss is least where w = α; there L_val = (α − 1)², so the solution is α = w = 1. Both real steps are plain
gradient descent from (α, w) = (2, −2); the virtual step has a separate length ξ.

Expected, with the hypergradient −4 + 12ξ at the start and the end at α = w = 2 / (1 + 2ξ):

  ξ                       0 (first order)    0.25     0.5     0.7
  hypergradient           −4                 −1       2       4.4
  α = w at the end        2                  1.3333   1       0.8333

So ξ = 0.5 finds the solution, for there one virtual step leads to w*(α) exactly.

Time: seconds on a CPU. Writes trajectories.png and trajectories.svg.

Command:  python experiments/toy_bilevel.py               (or: make toy)
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from matplotlib.figure import Figure

import jdarts
from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.report.drawing import save_figure
from jdarts.runs.bounds import POSITIVE, Bounds
from jdarts.runs.settings import Settings

ALPHA, WEIGHT = 2.0, -2.0
SOLUTION = 1.0
#: Okabe and Ito's colours, in the order of the virtual steps.
COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#8A4F7D", "#009E73", "#444444")

Batch = Literal["train", "valid"]


@dataclasses.dataclass(frozen=True)
class ToyConfig(Settings):
    """Settings of the experiment.

    Attributes:
      out: Folder of the pictures.
      steps: Bilevel steps of each run.
      learning_rate: Length of the real steps, of w and of α.
      virtual_steps: Lengths ξ of the virtual step, one run each; 0 is the first-order approximation.
    """

    out: Path = Path("runs/toy_bilevel")
    steps: Annotated[int, Bounds(1, 10_000_000)] = 2000
    learning_rate: Annotated[float, POSITIVE] = 0.02
    virtual_steps: tuple[float, ...] = (0.0, 0.25, 0.5, 0.7)

    def __post_init__(self) -> None:
        self.check()
        if not self.virtual_steps or not all(xi >= 0 for xi in self.virtual_steps):
            raise InputError(f"--virtual-steps is {self.virtual_steps}; give one or more numbers of 0 or more")


CONFIG = ToyConfig()


def toy_loss(
    weight: jax.Array, alpha: jax.Array, model_state: tuple[()], batch: Batch, key: jax.Array
) -> tuple[jax.Array, tuple[tuple[()], dict[str, jax.Array]]]:
    """The loss of the problem, in the form that `jdarts.bilevel_step` takes.

    Args:
      weight: `w`, a scalar.
      alpha: `α`, a scalar.
      model_state: empty.
      batch: which of the two losses.
      key: not used.

    Returns:
      The loss, the model state and no metrics.
    """
    del key
    if batch == "train":
        return weight**2 - 2 * alpha * weight + alpha**2, (model_state, {})
    return alpha * weight - 2 * alpha + 1, (model_state, {})


def estimator(xi: float) -> jdarts.HypergradientFn:
    """The exact hypergradient with a virtual step of length ξ."""
    return jdarts.exact(virtual_optimizer=optax.sgd(xi)) if xi else jdarts.first_order()


def descend(hypergradient: jdarts.HypergradientFn, *, steps: int, learning_rate: float) -> np.ndarray:
    """Runs the problem from its start.

    Args:
      hypergradient: the estimator.
      steps: number of bilevel steps `T`.
      learning_rate: length of the real steps.

    Returns:
      `[T + 1, 2]`, α and w before the first and after each step.
    """
    optimizer = optax.sgd(learning_rate)
    step = functools.partial(
        jdarts.bilevel_step,
        train_batch="train",
        valid_batch="valid",
        loss_fn=toy_loss,
        weight_optimizer=optimizer,
        alpha_optimizer=optimizer,
        hypergradient=hypergradient,
    )
    start = jdarts.init_state(
        jax.random.key(0),
        jnp.full((), WEIGHT),
        jnp.full((), ALPHA),
        weight_optimizer=optimizer,
        alpha_optimizer=optimizer,
    )

    def advance(state: jdarts.BilevelState, _: None) -> tuple[jdarts.BilevelState, jax.Array]:
        return step(state)[0], jnp.stack([state.alphas, state.weights])

    end, path = jax.lax.scan(advance, start, length=steps)
    return np.vstack([path, jnp.stack([end.alphas, end.weights])])


def table(paths: Mapping[float, np.ndarray], learning_rate: float) -> str:
    """One line for each ξ: the hypergradient at the start, the end, and the end that theory predicts."""
    lines = ["   ξ   hypergradient at the start   α at the end   w at the end   2/(1+2ξ)"]
    for xi, path in paths.items():
        gradient = (path[0, 0] - path[1, 0]) / learning_rate
        alpha, weight = path[-1]
        lines.append(f"{xi:4.2f} {gradient:28.4f} {alpha:14.4f} {weight:14.4f} {2 / (1 + 2 * xi):10.4f}")
    return "\n".join(lines)


def figure_of(paths: Mapping[float, np.ndarray]) -> Figure:
    """The trajectories in the plane of α and w, over the contours of the validation loss."""
    left, right, low, high = -1.2, 3.6, -2.4, 3.4
    figure = Figure(figsize=(6.2, 7.0), facecolor="white", layout="constrained")
    axes = figure.add_subplot(aspect="equal")
    alphas, weights = np.meshgrid(np.linspace(left, right, 97), np.linspace(low, high, 97))
    losses = alphas * weights - 2 * alphas + 1
    # Levels between the whole numbers leave out the saddle at (0, 2), where the loss is 1.
    contours = axes.contour(alphas, weights, losses, np.arange(-13.5, 7), colors="#D0D0D0", linewidths=0.7)
    contours.set_linestyle("solid")
    axes.clabel(contours, np.arange(-13.5, 7, 2), fontsize=7, colors="#888888")
    diagonal = [max(left, low), min(right, high)]
    axes.plot(diagonal, diagonal, color="black", linestyle="--", linewidth=1.2, label="w = α, least training loss")
    for (xi, path), colour in zip(paths.items(), COLOURS * len(paths)):
        name = f"ξ = {xi:g}" if xi else "ξ = 0, first order"
        axes.plot(*path.T, color=colour, linewidth=1.8, label=f"{name}: α ends at {path[-1, 0]:.2f}")
        axes.plot(*path[-1], color=colour, marker="o", markersize=7, markeredgecolor="white", zorder=4)
    axes.plot(ALPHA, WEIGHT, "ks", markersize=7, zorder=4, label="start (2, −2)")
    axes.plot(SOLUTION, SOLUTION, "ko", markersize=14, markeredgewidth=1.6, fillstyle="none", label="solution (1, 1)")
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.set_xlabel("architecture parameter α")
    axes.set_ylabel("weight w")
    axes.set_title("Paths of DARTS over the validation loss αw − 2α + 1", fontsize=11, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, loc="upper left", framealpha=1, edgecolor="#D0D0D0", borderpad=0.8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the experiment with the given arguments, by default those of the process."""
    config = tyro.cli(ToyConfig, default=CONFIG, args=arguments, description=__doc__)
    paths = {
        xi: descend(estimator(xi), steps=config.steps, learning_rate=config.learning_rate)
        for xi in config.virtual_steps
    }
    if not all(np.all(np.isfinite(path)) for path in paths.values()):
        raise InputError(f"a run diverged; lower --learning-rate {config.learning_rate:g} or --virtual-steps")
    print(table(paths, config.learning_rate))
    for suffix in ("png", "svg"):
        path = config.out / f"trajectories.{suffix}"
        save_figure(lambda: figure_of(paths), path)
        print(f"wrote {path}")


if __name__ == "__main__":
    run_command(main)

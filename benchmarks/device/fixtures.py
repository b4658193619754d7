"""The supernet on this device against the reference implementation's numbers, in float32 with products of full precision."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jdarts
from jdarts.bilevel import Problem
from jdarts.optim import weight_optimizer
from jdarts.search.step import supernet_loss
from jdarts.xla.trees import as_in_state

_TESTS = Path(__file__).resolve().parents[2] / "tests"


def prepare_fixtures(folder: Path) -> Callable[[], dict[str, Any]]:
    """Compiles logits, loss, gradients and both hypergradients of the file `search_c4_l4.npz` below a folder.

    Returns:
      A function that gives the largest error of each as a share of the largest number of its array.
    """
    # Reading the files is the tests' business, and what they have for it lies there.
    sys.path.append(str(_TESTS))
    from search_fixtures import read_case  # pyright: ignore[reportMissingImports]
    from torch_layout import stacked_statistics  # pyright: ignore[reportMissingImports]

    case = read_case(next(folder.rglob("search_c4_l4.npz")), "float32")
    model, ours = case.network(), case.ours
    hyper = {name: float(value) for name, value in case.arrays("hyper/").items()}
    unclipped = weight_optimizer(
        hyper["eta"], clip=None, momentum=hyper["momentum"], weight_decay=hyper["weight_decay"]
    )
    loss_fn = supernet_loss(model)
    weights, alphas = ours(case.params("weights/")), ours(case.alphas("alphas"))
    statistics = ours(stacked_statistics(case.arrays("weights/"), case.space, case.cells))
    momentum = as_in_state(ours(case.params("momentum/")))
    train, valid = case.batch("train"), case.batch("valid")
    import optax

    opt_state = optax.tree.set(unclipped.init(weights), trace=momentum)

    def everything(weights: Any, alphas: Any) -> dict[str, Any]:
        def value(batch: Any, weights: Any, alphas: Any) -> Any:
            return loss_fn(weights, alphas, statistics, batch, jax.random.key(0))[0]

        problem = Problem(
            weights=weights,
            alphas=alphas,
            train_loss=lambda weights, alphas: value(train, weights, alphas),
            valid_loss=lambda weights, alphas: (value(valid, weights, alphas), {}),
            weight_optimizer=unclipped,
            weight_opt_state=opt_state,
            average=lambda tree: tree,
        )
        loss, (of_weights, of_alphas) = jax.value_and_grad(problem.train_loss, argnums=(0, 1))(weights, alphas)
        variables = {"params": weights, "batch_stats": statistics}
        return {
            "logits": model.apply(variables, train[0], alphas, train=True, mutable=["batch_stats"])[0],
            "loss": loss,
            "gradient of the weights": of_weights,
            "gradient of the alphas": of_alphas,
            "first order": jdarts.first_order()(problem).gradient,
            "exact": jdarts.exact(virtual_optimizer=unclipped)(problem).gradient,
        }

    expected = {
        "logits": case.file["train/logits"],
        "loss": case.file["train/loss"],
        "gradient of the weights": case.params("train/grad_weights/"),
        "gradient of the alphas": case.alphas("train/grad_alphas"),
        "first order": case.alphas("first_order"),
        "exact": case.alphas("second_order_exact"),
    }
    compiled = jax.jit(everything).lower(weights, alphas).compile()

    def measure() -> dict[str, Any]:
        found = jax.device_get(compiled(weights, alphas))
        return {"errors": {name: largest_error(found[name], value) for name, value in expected.items()}}

    return measure


def largest_error(found: Any, expected: Any) -> float:
    """The largest error of any array as a share of its largest number; tiny arrays beside the tree's largest number."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(expected)]
    floor = 1e-6 * max(np.abs(leaf).max() for leaf in leaves)
    pairs = zip(jax.tree.leaves(found), leaves, strict=True)
    return max(float(np.abs(np.asarray(ours) - leaf).max() / max(np.abs(leaf).max(), floor)) for ours, leaf in pairs)

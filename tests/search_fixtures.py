"""Files of the reference implementation's numbers for convolutional search networks."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from torch_layout import stacked_params

import jdarts
from jdarts.bilevel import Problem
from jdarts.nets.supernet import Supernet

#: Largest difference allowed, as a share of the array's largest value.
TOLERANCE = {"float64": 1e-8, "float32": 1e-3}
KINDS = ("normal", "reduce")


class Case(NamedTuple):
    """One file, its network, and what our functions make of it."""

    file: Any
    dtype: str
    space: jdarts.SearchSpace
    cells: int
    found: Any

    def arrays(self, prefix):
        return {name.removeprefix(prefix): self.file[name] for name in self.file.files if name.startswith(prefix)}

    def params(self, prefix):
        """Arrays by PyTorch name as a tree of our parameters."""
        return stacked_params(self.arrays(prefix), self.space, self.cells)

    def ours(self, tree):
        """The tree as arrays of the case's type."""
        return jax.tree.map(lambda a: jnp.asarray(np.asarray(a, self.dtype)), tree)

    def batch(self, part):
        images = self.ours(self.file[f"{part}/x"].transpose(0, 2, 3, 1))
        return images, jnp.asarray(self.file[f"{part}/y"], jnp.int32)

    def network(self):
        return Supernet(
            self.space,
            channels=self.file["weights/stem.0.weight"].shape[0] // 3,
            cells=self.cells,
            classes=self.file["weights/classifier.weight"].shape[0],
            dtype=jnp.dtype(self.dtype),
        )

    def alphas(self, prefix):
        return {kind: self.file[f"{prefix}/{kind}"] for kind in KINDS}

    def check(self, found, expected, *, tolerance=None):
        """Every array to a share of its own largest value; tiny arrays beside the largest of the tree to that."""
        tolerance = tolerance or TOLERANCE[self.dtype]
        leaves = jax.tree.leaves_with_path(expected)
        floor = 1e-6 * max(np.abs(value).max() for _, value in leaves)
        wrong = {}
        for (path, value), ours in zip(leaves, jax.tree.leaves(found), strict=True):
            error = np.abs(np.asarray(ours) - value).max() / max(np.abs(value).max(), floor)
            if not error <= tolerance:
                wrong[jax.tree_util.keystr(path)] = float(error)
        assert not wrong, f"relative errors above {tolerance}: {wrong}"


def problem_on(train, valid, loss, weights, alphas, optimizer, opt_state):
    """The problem of a step on two batches, with `loss(batch, weights, alphas)` as a scalar."""
    return Problem(
        weights=weights,
        alphas=alphas,
        train_loss=functools.partial(loss, train),
        valid_loss=lambda weights, alphas: (loss(valid, weights, alphas), {}),
        weight_optimizer=optimizer,
        weight_opt_state=opt_state,
        average=lambda tree: tree,
    )


def read_case(path, dtype):
    file = np.load(path)
    nodes = next(n for n in range(1, 20) if n * (n + 3) // 2 == file["alphas/normal"].shape[0])
    cells = 1 + max(int(name.split(".")[1]) for name in file.files if name.startswith("weights/cells."))
    return Case(file, dtype, jdarts.uniform_space(nodes=nodes), cells, None)

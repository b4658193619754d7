"""The cell of DARTS with a `Choice` on every edge has the numbers of the plain network."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import plain_supernet as plain
from flax import traverse_util
from test_plain_supernet import assert_agree, small_network, uniform_space

import jdarts
from jdarts.choice.slots import ChoiceAlphas, ChoiceSpec, Place


class Plain(nn.Module):
    """A part of the plain network as a module, with its names of weights and running statistics."""

    function: Any

    @nn.compact
    def __call__(self, *inputs):
        variables = {**self.variables.get("params", {}), **self.variables.get("batch_stats", {})}
        output, statistics = self.function(*inputs, variables, train=True)
        for name, value in statistics.items():
            self.put_variable("batch_stats", name, value)
        return output


def operation(name, stride):
    return Plain(lambda x, weights, train: plain.operation(name, x, weights, stride=stride, train=train))


class EdgeByEdge(nn.Module):
    """The search network; the cells of a kind share the alphas of each edge by its name."""

    space: Any
    layers: int

    @nn.compact
    def __call__(self, images):
        def stem(x, weights, train):
            return plain.batch_norm(plain.conv(x, weights["0.weight"]), plain.below(weights, "1."), train=train)

        def renamed(x, weights, train):
            output, new = stem(x, weights, train)
            return output, plain.named("1.", new)

        s0 = s1 = Plain(renamed, name="stem")(images)
        reductions = plain.reduction_cells(self.layers)
        for number in range(self.layers):
            s0, s1 = s1, self.cell(number, s0, s1, number in reductions, number - 1 in reductions)
        return Plain(lambda x, w, train: (x @ w["weight"].T + w["bias"][None], {}), name="classifier")(
            jnp.mean(s1, axis=(1, 2))
        )

    def cell(self, number, s0, s1, reduction, reduction_before):
        kind = "reduce" if reduction else "normal"
        first = plain.factorized_reduce if reduction_before else plain.relu_conv_bn
        states = [Plain(first, name=f"cells.{number}.preprocess0")(s0)]
        states.append(Plain(plain.relu_conv_bn, name=f"cells.{number}.preprocess1")(s1))
        edge = 0
        for _ in range(self.space.nodes):
            total = jnp.zeros(())
            for source, state in enumerate(states):
                names = getattr(self.space, kind)[edge]
                stride = plain.edge_stride(source, reduction=reduction)
                candidates = {name: operation(name, stride) for name in names}
                choice = jdarts.Choice(candidates, shared=f"{kind}{edge:02}", name=f"cells.{number}._ops.{edge}")
                output = choice(state)
                total = output if not source else total + output
                edge += 1
            states.append(total)
        return jnp.concatenate([states[i] for i in self.space.concat], axis=-1)


def as_tree(flat, space, layers):
    """Arrays by PyTorch name as variables of `EdgeByEdge`."""
    tree = {}
    for name, array in flat.items():
        parts = name.split(".")
        if parts[0] == "cells" and parts[2] == "_ops":
            kind = "reduce" if int(parts[1]) in plain.reduction_cells(layers) else "normal"
            operation_name = getattr(space, kind)[int(parts[3])][int(parts[5])]
            path = (".".join(parts[:4]), operation_name, ".".join(parts[6:]))
        else:
            depth = 3 if parts[0] == "cells" else 1
            path = (".".join(parts[:depth]), ".".join(parts[depth:]))
        tree[path] = array
    return traverse_util.unflatten_dict(tree)


def edge_alphas(tables, space, layers):
    """The rows of both tables of alphas as those of the choices."""
    kinds = ["reduce" if i in plain.reduction_cells(layers) else "normal" for i in range(layers)]
    return {
        f"{kind}{edge:02}": ChoiceAlphas(
            table[edge],
            ChoiceSpec("candidates", names, shared=f"{kind}{edge:02}"),
            tuple(Place((f"cells.{i}._ops.{edge}",), ()) for i, each in enumerate(kinds) if each == kind),
        )
        for kind, table in tables.items()
        for edge, names in enumerate(getattr(space, kind))
    }


def test_the_cell_of_darts_edge_by_edge_is_that_of_the_plain_network():
    """Cells of both kinds; the plain network has the reference implementation's numbers."""
    space = uniform_space(("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3"), nodes=2)
    layers = 3
    weights, alphas, images = small_network(space, layers=layers)
    labels = jnp.asarray([0, 2, 1])
    running = {name: array for name, array in weights.items() if plain.is_running_statistic(name)}
    trained = {name: array for name, array in weights.items() if name not in running}
    network = EdgeByEdge(space, layers)
    statistics = {"batch_stats": as_tree(running, space, layers)}
    loss_fn = jdarts.network_loss(network)

    def loss(trained, tables):
        weights, alphas = as_tree(trained, space, layers), edge_alphas(tables, space, layers)
        value, (after, _) = loss_fn(weights, alphas, statistics, (images, labels), jax.random.key(0))
        return value, after["batch_stats"]

    def expected(trained, tables):
        logits, after = plain.forward(trained | running, tables, images, space=space, train=True)
        return plain.cross_entropy(logits, labels), as_tree(after, space, layers)

    (value, after), (of_weights, of_alphas) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(trained, alphas)
    (plain_value, plain_after), by_plain = jax.value_and_grad(expected, argnums=(0, 1), has_aux=True)(trained, alphas)
    np.testing.assert_allclose(value, plain_value, rtol=1e-8)
    chex.assert_trees_all_close(after, plain_after, rtol=1e-8)
    assert_agree(of_weights, by_plain[0], 1e-8)
    assert_agree(of_alphas, by_plain[1], 1e-8)

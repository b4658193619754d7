"""The two networks of GDAS in plain operations: that for the NASNet space, and that of NAS-Bench-201.

Names and layouts of weights are the authors' (PyTorch), such as `cells.0.edges.1<-0._ops.2.op_a.op.1.weight`; images are
NHWC. Batch norms have the statistics of the batch. A network sees the mixture as the numbers that multiply the operations of an
edge, and the chosen operation of each edge as a static number, since no other is evaluated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from plain_supernet import avg_pool_3x3, batch_norm, below, conv, max_pool_3x3

Weights = dict[str, Any]
Chosen = Sequence[int]


def _convolution(x: jax.Array, weights: Weights, name: str, *, stride: int = 1, dilation: int = 1) -> jax.Array:
    found = conv(x, weights[f"{name}.weight"], stride=stride, dilation=dilation)
    bias = weights.get(f"{name}.bias")
    return found if bias is None else found + bias[None, None, None, :]


def _norm(x: jax.Array, weights: Weights, name: str) -> jax.Array:
    return batch_norm(x, below(weights, f"{name}."), train=True)[0]


def _relu_conv_norm(x: jax.Array, weights: Weights, *, stride: int = 1) -> jax.Array:
    return _norm(_convolution(jax.nn.relu(x), weights, "op.1", stride=stride), weights, "op.2")


def _separable(x: jax.Array, weights: Weights, *, stride: int, dilation: int) -> jax.Array:
    deep = _convolution(jax.nn.relu(x), weights, "op.1", stride=stride, dilation=dilation)
    return _norm(_convolution(deep, weights, "op.2"), weights, "op.3")


def _reduced(x: jax.Array, weights: Weights) -> jax.Array:
    x = jax.nn.relu(x)
    shifted = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
    halves = [_convolution(each, weights, f"convs.{n}", stride=2) for n, each in enumerate((x, shifted))]
    return _norm(jnp.concatenate(halves, axis=-1), weights, "bn")


def _operation(name: str, x: jax.Array, weights: Weights, *, stride: int) -> jax.Array:
    match name:
        case "none":
            return jnp.zeros_like(x[:, ::stride, ::stride])
        case "skip_connect":
            return x if stride == 1 else _reduced(x, weights)
        case "avg_pool_3x3":
            return avg_pool_3x3(x, stride)
        case "max_pool_3x3":
            return max_pool_3x3(x, stride)
        case "nor_conv_1x1" | "nor_conv_3x3":
            return _relu_conv_norm(x, weights, stride=stride)
        case "dil_sepc_3x3" | "dil_sepc_5x5":
            return _separable(x, weights, stride=stride, dilation=2)
    first = _separable(x, below(weights, "op_a."), stride=stride, dilation=1)
    return _separable(first, below(weights, "op_b."), stride=1, dilation=1)


def nasnet(
    images: jax.Array,
    weights: Weights,
    hard: Mapping[str, jax.Array],
    chosen: Mapping[str, Chosen],
    *,
    operations: Sequence[str],
    reductions: Sequence[bool],
    nodes: int,
) -> jax.Array:
    """The logits of the network for the NASNet space: the chosen operation of an edge times its entry of `hard`."""
    x = _norm(_convolution(images, weights, "stem.0"), weights, "stem.1")
    before, last = x, x
    for number, reduction in enumerate(reductions):
        own, kind = below(weights, f"cells.{number}."), "reduce" if reduction else "normal"
        states = []
        for place, state in enumerate((before, last)):
            first = below(own, f"preprocess{place}.")
            states.append(_reduced(state, first) if "bn.running_mean" in first else _relu_conv_norm(state, first))
        edge = 0
        for node in range(nodes):
            total = jnp.zeros(())
            for source in range(2 + node):
                index = chosen[kind][edge]
                stride = 2 if reduction and source < 2 else 1
                of_edge = below(own, f"edges.{node}<-{source}._ops.{index}.")
                y = _operation(operations[index], states[source], of_edge, stride=stride)
                total = total + y * hard[kind][edge, index]
                edge += 1
            states.append(total)
        before, last = last, jnp.concatenate(states[2:], axis=-1)
    return _classified(last, weights)


def nas_bench_201(
    images: jax.Array,
    weights: Weights,
    hard: jax.Array,
    chosen: Chosen,
    *,
    operations: Sequence[str],
    blocks: Sequence[bool],
    nodes: int = 4,
) -> jax.Array:
    """The logits of the network of NAS-Bench-201, where the entries of `hard` that are not chosen are added to an edge's output.

    `blocks` says which cells are residual blocks with a stride of 2.
    """
    x = _norm(_convolution(images, weights, "stem.0"), weights, "stem.1")
    for number, is_block in enumerate(blocks):
        own = below(weights, f"cells.{number}.")
        if is_block:
            inner = _relu_conv_norm(x, below(own, "conv_a."), stride=2)
            batch, height, width, channels = x.shape
            pooled = x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))
            shortcut = _convolution(pooled, own, "downsample.1")
            x = shortcut + _relu_conv_norm(inner, below(own, "conv_b."))
            continue
        states, edge = [x], 0
        for node in range(1, nodes):
            total = jnp.zeros(())
            for source in range(node):
                index = chosen[edge]
                y = _operation(
                    operations[index], states[source], below(own, f"edges.{node}<-{source}.{index}."), stride=1
                )
                others = sum(hard[edge, k] for k in range(len(operations)) if k != index)
                total = total + y * hard[edge, index] + others
                edge += 1
            states.append(total)
        x = states[-1]
    return _classified(x, weights)


def _classified(x: jax.Array, weights: Weights) -> jax.Array:
    pooled = jax.nn.relu(_norm(x, weights, "lastact.0")).mean((1, 2))
    return pooled @ weights["classifier.weight"].T + weights["classifier.bias"][None]

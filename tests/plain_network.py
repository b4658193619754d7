"""The discrete networks of DARTS, edge by edge: the specification that the product is tested against.

Weights are a flat dict with PyTorch `state_dict` names and layouts, as in `plain_supernet`, whose layers are used here.
"""

from typing import Any

import jax
import jax.numpy as jnp
from plain_supernet import (
    avg_pool_3x3,
    batch_norm,
    below,
    conv,
    dil_conv,
    factorized_reduce,
    max_pool_3x3,
    named,
    relu_conv_bn,
    sep_conv,
)


def edge(name, x, weights, *, stride, train):
    """One operation of a discrete cell: [B, H, W, C] to its output and new statistics."""
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        return (max_pool_3x3 if name == "max_pool_3x3" else avg_pool_3x3)(x, stride), {}
    if name == "skip_connect":
        return (x, {}) if stride == 1 else factorized_reduce(x, weights, train=train)
    if name.startswith("sep_conv"):
        return sep_conv(x, weights, stride=stride, train=train)
    if name.startswith("dil_conv"):
        return dil_conv(x, weights, stride=stride, train=train)
    # Two full convolutions, the first along the width, each with the stride in its own direction alone.
    x = conv(jax.nn.relu(x), weights["1.weight"])[:, :, ::stride]
    x = conv(x, weights["2.weight"])[:, ::stride]
    y, new = batch_norm(x, below(weights, "3."), train=train)
    return y, named("3.", new)


def cell(genotype, kind, before, last, weights, factors, *, halved, train):
    """One cell; `factors` [edges, B] multiply the outputs of all edges but identities, or None."""
    older = factorized_reduce if halved else relu_conv_bn
    s0, new0 = older(before, below(weights, "preprocess0."), train=train)
    s1, new1 = relu_conv_bn(last, below(weights, "preprocess1."), train=train)
    statistics = named("preprocess0.", new0) | named("preprocess1.", new1)
    states, position = [s0, s1], 0
    for node in genotype.nodes(kind):
        total: Any = 0.0
        for name, source in node:
            stride = 2 if kind == "reduce" and source < 2 else 1
            prefix = f"_ops.{position}."
            y, new = edge(name, states[source], below(weights, prefix), stride=stride, train=train)
            if factors is not None and not (name == "skip_connect" and stride == 1):
                y = y * factors[position][:, None, None, None]
            total, position = total + y, position + 1
            statistics |= named(prefix, new)
        states.append(total)
    return jnp.concatenate([states[i] for i in getattr(genotype, f"{kind}_concat")], axis=-1), statistics


def convolution(x, weights, layer, norm, *, stride, train):
    x, new = batch_norm(conv(x, weights[f"{layer}.weight"], stride=stride), below(weights, f"{norm}."), train=train)
    return x, named(f"{norm}.", new)


def forward(weights, images, *, genotype, stem, cells, factors=None, train):
    """Logits and all new statistics. The auxiliary head is left out: the reference's numbers cover it."""
    if stem == "cifar":
        last, statistics = convolution(images, weights, "stem.0", "stem.1", stride=1, train=train)
        before, halved = last, False
    else:
        x, first = convolution(images, weights, "stem0.0", "stem0.1", stride=2, train=train)
        before, second = convolution(jax.nn.relu(x), weights, "stem0.3", "stem0.4", stride=2, train=train)
        last, third = convolution(jax.nn.relu(before), weights, "stem1.1", "stem1.2", stride=2, train=train)
        statistics, halved = first | second | third, True
    start = 0
    for index in range(cells):
        kind = "reduce" if index in (cells // 3, 2 * cells // 3) else "normal"
        stop = start + len(getattr(genotype, kind))
        own = None if factors is None else factors[start:stop]
        prefix = f"cells.{index}."
        out, new = cell(genotype, kind, before, last, below(weights, prefix), own, halved=halved, train=train)
        before, last, halved, start = last, out, kind == "reduce", stop
        statistics |= named(prefix, new)
    features = jnp.mean(last, axis=(1, 2))
    return features @ weights["classifier.weight"].T + weights["classifier.bias"][None], statistics

"""The convolutional search network of DARTS, edge by edge: the specification the product is tested against.

Liu, Simonyan, Yang, ICLR 2019, as the authors' code has it (section numbers below are those of the paper).
Weights are a flat dict from PyTorch ``state_dict`` names to arrays in PyTorch layout (convolutions
[out, in / groups, height, width], linear [out, in]); running statistics of batch normalisation are among
them. Activations are NHWC. A function that normalises returns its output and the new running statistics,
under names relative to the weights it was given.

Made to be run eagerly: a mixed operation is one program for all edges of the same operations and shapes, while the whole
network takes minutes to compile.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Weights = Mapping[str, Any]
Statistics = dict[str, Array]


class Space(Protocol):
    """Candidate operations of the two cell types.

    ``normal`` and ``reduce`` hold per edge the tuple of its operation names. Edges are in the order node 0
    from states 0, 1; node 1 from states 0, 1, 2; … States 0 and 1 are the cell's inputs, state 2 + i is
    node i. ``concat`` lists the states that make up the cell's output.
    """

    @property
    def normal(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def reduce(self) -> tuple[tuple[str, ...], ...]: ...
    @property
    def nodes(self) -> int: ...
    @property
    def concat(self) -> tuple[int, ...]: ...


@dataclasses.dataclass(frozen=True)
class Options:
    """What mixed edges do beside the sum of their operations; the defaults are DARTS.

    An edge's place counts the edges that leave the same stage (both inputs of the cell, or one node) by source,
    then by target.
    """

    #: PC-DARTS: operations see the first of so many parts of the channels.
    partial_channels: int = 1
    #: DARTS-: ``none``, ``skip`` or ``conv``, and its factor.
    auxiliary_skip: str = "none"
    auxiliary_weight: Any = 1.0
    #: P-DARTS: (place, shape of the map) to factors [B, H, W, C] of skip connections of stride 1.
    skip_factors: Callable[[int, tuple[int, ...]], Array] | None = None
    #: Drop path: (place, images) to factors [B] of whole edges.
    path_factors: Callable[[int, int], Array] | None = None
    #: Whether operations of share 0 are not evaluated, so that their running statistics stay.
    skips_unused: bool = False
    #: Whether the alphas are the shares themselves, without a softmax.
    given_shares: bool = False


# ---- layers


def conv(x: Array, weight: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Convolution without bias; padding keeps the size at stride 1. With weights [C, 1, …] each channel has its own."""
    if weight.shape[1] == 1 < x.shape[-1]:
        return depthwise_conv(x, weight, stride=stride, dilation=dilation)
    height, width = weight.shape[2:]
    pad_height, pad_width = dilation * (height // 2), dilation * (width // 2)
    return lax.conv_general_dilated(
        x,
        weight,
        window_strides=(stride, stride),
        padding=((pad_height, pad_height), (pad_width, pad_width)),
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "OIHW", "NHWC"),
    )


@partial(jax.jit, static_argnames=("stride", "dilation"))
def depthwise_conv(x: Array, weight: Array, *, stride: int, dilation: int) -> Array:
    """The sum of shifted images times their taps; XLA's grouped convolutions of float64 numbers take long on a CPU."""
    height, width = x.shape[1:3]
    size = weight.shape[2]
    pad = dilation * (size // 2)
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    shifts = range(0, dilation * size, dilation)
    rows = jnp.stack([padded[:, shift : shift + height : stride] for shift in shifts])
    windows = jnp.stack([rows[:, :, :, shift : shift + width : stride] for shift in shifts])
    return jnp.einsum("jibhwc,cij->bhwc", windows, weight[:, 0])


@partial(jax.jit, static_argnames="train")
def batch_norm(x: Array, weights: Weights, *, train: bool) -> tuple[Array, Statistics]:
    """Batch normalisation, affine if there are ``weight`` and ``bias``.

    The running average takes 0.1 of the batch's mean and *unbiased* variance; the normalisation takes the
    biased one.
    """
    running_mean, running_var = weights["running_mean"], weights["running_var"]
    if train:
        count = x.shape[0] * x.shape[1] * x.shape[2]
        mean = jnp.mean(x, axis=(0, 1, 2))
        var = jnp.mean(jnp.square(x - mean[None, None, None, :]), axis=(0, 1, 2))
        running_mean = 0.9 * running_mean + 0.1 * mean
        running_var = 0.9 * running_var + 0.1 * var * (count / (count - 1))
    else:
        mean, var = running_mean, running_var
    y = (x - mean[None, None, None, :]) / jnp.sqrt(var + 1e-5)[None, None, None, :]
    if "weight" in weights:
        y = y * weights["weight"][None, None, None, :] + weights["bias"][None, None, None, :]
    return y, {"running_mean": running_mean, "running_var": running_var}


def windows_3x3(x: Array, stride: int, fill: float) -> Array:
    """The nine values under a 3×3 window at padding 1 with ``fill``: [9, B, H / stride, W / stride, C]."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    shifts = [(row, column) for row in range(3) for column in range(3)]
    return jnp.stack([padded[:, r : r + height : stride, c : c + width : stride] for r, c in shifts])


@partial(jax.jit, static_argnames="stride")
def max_pool_3x3(x: Array, stride: int) -> Array:
    """3×3 maximum; of equal values the first, in reading order, gets the gradient."""
    padding = ((0, 0), (1, 1), (1, 1), (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


@partial(jax.jit, static_argnames="stride")
def avg_pool_3x3(x: Array, stride: int) -> Array:
    """3×3 mean over the places inside the image; padding is not counted."""
    inside = windows_3x3(jnp.ones_like(x), stride, 0.0)
    return jnp.sum(windows_3x3(x, stride, 0.0), axis=0) / jnp.sum(inside, axis=0)


# ---- names


def below(weights: Weights, prefix: str) -> dict[str, Any]:
    """The entries whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def named(prefix: str, statistics: Statistics) -> Statistics:
    """The same entries with the prefix before their names."""
    return {prefix + name: value for name, value in statistics.items()}


# ---- operations


@partial(jax.jit, static_argnames="train")
def relu_conv_bn(x: Array, weights: Weights, *, train: bool) -> tuple[Array, Statistics]:
    """ReLU, 1×1 convolution, BN."""
    y, new = batch_norm(conv(jax.nn.relu(x), weights["op.1.weight"]), below(weights, "op.2."), train=train)
    return y, named("op.2.", new)


@partial(jax.jit, static_argnames="train")
def factorized_reduce(x: Array, weights: Weights, *, train: bool) -> tuple[Array, Statistics]:
    """ReLU, two 1×1 convolutions of stride 2 that read the even and the odd places of the diagonal, BN."""
    x = jax.nn.relu(x)
    even = conv(x, weights["conv_1.weight"], stride=2)
    odd = conv(x[:, 1:, 1:], weights["conv_2.weight"], stride=2)
    y, new = batch_norm(jnp.concatenate([even, odd], axis=-1), below(weights, "bn."), train=train)
    return y, named("bn.", new)


def sep_conv(x: Array, weights: Weights, *, stride: int, train: bool) -> tuple[Array, Statistics]:
    """Twice: ReLU, depthwise convolution, 1×1 convolution, BN. The stride is the first depthwise one's."""
    statistics: Statistics = {}
    for depthwise, pointwise, norm, s in (
        ("op.1.", "op.2.", "op.3.", stride),
        ("op.5.", "op.6.", "op.7.", 1),
    ):
        x = conv(jax.nn.relu(x), weights[depthwise + "weight"], stride=s)
        x = conv(x, weights[pointwise + "weight"])
        x, new = batch_norm(x, below(weights, norm), train=train)
        statistics |= named(norm, new)
    return x, statistics


def dil_conv(x: Array, weights: Weights, *, stride: int, train: bool) -> tuple[Array, Statistics]:
    """Once: ReLU, depthwise convolution of dilation 2, 1×1 convolution, BN."""
    x = conv(jax.nn.relu(x), weights["op.1.weight"], stride=stride, dilation=2)
    x = conv(x, weights["op.2.weight"])
    x, new = batch_norm(x, below(weights, "op.3."), train=train)
    return x, named("op.3.", new)


@partial(jax.jit, static_argnames=("name", "stride", "train"))
def operation(name: str, x: Array, weights: Weights, *, stride: int, train: bool) -> tuple[Array, Statistics]:
    """One candidate operation in its search form (BN not affine; BN after the pools).

    Args:
        name: of the operation; ``noise`` counts as its mean, zero.
        x: [B, H, W, C].
        weights: of this operation alone, named from ``op.1.weight`` or the like.
        stride: 1 or 2.
        train: normalise with batch statistics instead of running statistics.

    Returns:
        [B, H / stride, W / stride, C] and the new running statistics.
    """
    match name:
        case "none" | "noise":
            return jnp.zeros_like(x[:, ::stride, ::stride]), {}
        case "max_pool_3x3" | "avg_pool_3x3":
            pool = max_pool_3x3 if name == "max_pool_3x3" else avg_pool_3x3
            y, new = batch_norm(pool(x, stride), below(weights, "1."), train=train)
            return y, named("1.", new)
        case "skip_connect" if stride == 1:
            return x, {}
        case "skip_connect":
            return factorized_reduce(x, weights, train=train)
        case "sep_conv_3x3" | "sep_conv_5x5" | "sep_conv_7x7":
            return sep_conv(x, weights, stride=stride, train=train)
        case "dil_conv_3x3" | "dil_conv_5x5":
            return dil_conv(x, weights, stride=stride, train=train)
    raise ValueError(f"unknown operation {name!r}")


@jax.jit
def max_pool_2x2(x: Array) -> Array:
    """2×2 maximum; of equal values the first, in reading order, gets the gradient."""
    windows = jnp.stack([x[:, r::2, c::2] for r in range(2) for c in range(2)])
    return jnp.take_along_axis(windows, jnp.argmax(windows, axis=0, keepdims=True), axis=0)[0]


def channel_shuffle(x: Array, groups: int) -> Array:
    """Output channel c · groups + g is input channel g · (C / groups) + c."""
    size = x.shape[-1] // groups
    return x[..., np.array([g * size + c for c in range(size) for g in range(groups)])]


def auxiliary_skip(x: Array, weights: Weights, *, kind: str, stride: int, train: bool) -> tuple[Array, Statistics]:
    """The additional skip connection of DARTS-."""
    if stride == 2:
        return factorized_reduce(x, weights, train=train)
    return (conv(x, weights["weight"]) if kind == "conv" else x), {}


def mixed_operation(
    x: Array,
    weights: Weights,
    alphas: Array,
    names: tuple[str, ...],
    *,
    stride: int,
    train: bool,
    share: Any = 1.0,
    place: int = 0,
    options: Options = Options(),
) -> tuple[Array, Statistics]:
    """Σ_k softmax(α)_k · op_k(x), Eq. 2, over the edge's own operations: the first columns of α [O].

    Options change it as they say; ``share`` multiplies the whole edge.
    """
    seen = (*x.shape[:-1], x.shape[-1] // options.partial_channels)
    skips = options.skip_factors(place, seen) if options.skip_factors and train and stride == 1 else None
    paths = options.path_factors(place, x.shape[0]) if options.path_factors and train else None
    # With options its operations are programs alone, which many options share.
    mixed = _mixed_as_one_program if options == Options() else _mixed
    return mixed(x, weights, alphas, share, skips, paths, tuple(names), stride=stride, train=train, options=options)


def _mixed(
    x: Array,
    weights: Weights,
    alphas: Array,
    share: Any,
    skips: Array | None,
    paths: Array | None,
    names: tuple[str, ...],
    *,
    stride: int,
    train: bool,
    options: Options,
) -> tuple[Array, Statistics]:
    """The mixed operation with its factors of skip connections [B, H, W, C] and of the edge [B]."""
    shares = alphas[: len(names)] if options.given_shares else jax.nn.softmax(alphas[: len(names)])
    seen = x.shape[-1] // options.partial_channels
    x, rest = x[..., :seen], x[..., seen:]
    total = jnp.zeros_like(x[:, ::stride, ::stride])
    statistics: Statistics = {}
    for k, name in enumerate(names):
        own = below(weights, f"_ops.{k}.")
        if options.skips_unused and shares[k] == 0:
            statistics |= {f"_ops.{k}.{n}": value for n, value in own.items() if is_running_statistic(n)}
            continue
        y, new = operation(name, x, own, stride=stride, train=train)
        if name == "skip_connect" and skips is not None:
            y = y * skips
        total = total + shares[k] * y
        statistics |= named(f"_ops.{k}.", new)
    if options.auxiliary_skip != "none":
        own = below(weights, "auxiliary_op.")
        y, new = auxiliary_skip(x, own, kind=options.auxiliary_skip, stride=stride, train=train)
        total = total + options.auxiliary_weight * y
        statistics |= named("auxiliary_op.", new)
    if options.partial_channels > 1:
        rest = max_pool_2x2(rest) if stride == 2 else rest
        total = channel_shuffle(jnp.concatenate([total, rest], axis=-1), options.partial_channels)
    if paths is not None:
        total = total * paths[:, None, None, None]
    return share * total, statistics


#: Compiled once for all edges of equal operations and shapes.
_mixed_as_one_program = partial(jax.jit, static_argnames=("names", "stride", "train", "options"))(_mixed)


# ---- cells and network


def edge_stride(source: int, *, reduction: bool) -> int:
    """Edges from the two inputs of a reduction cell have stride 2, all others 1."""
    return 2 if reduction and source < 2 else 1


def reduction_cells(layers: int) -> set[int]:
    """The cells at one and two thirds of the depth (section 3.1)."""
    return {layers // 3, 2 * layers // 3}


def place_in_stage(source: int, target: int, nodes: int) -> int:
    """The place of an edge from one state to another among those that leave the same stage."""
    return source * nodes + target - 2 if source < 2 else target - source - 1


def cell(
    s0: Array,
    s1: Array,
    weights: Weights,
    alphas: Array,
    edges: tuple[tuple[str, ...], ...],
    *,
    nodes: int,
    concat: tuple[int, ...],
    reduction: bool,
    reduction_before: bool,
    train: bool,
    edge_shares: Array | None = None,
    options: Options = Options(),
) -> tuple[Array, Statistics]:
    """One cell: every node is the sum of the mixed operations on all states before it (Eq. 1 and 2).

    Args:
        s0: output of the cell before the previous one, [B, H, W, C0], or [B, 2H, 2W, C0] if
            ``reduction_before``.
        s1: output of the previous cell, [B, H, W, C1].
        weights: of this cell, named from ``preprocess0…`` and ``_ops.EDGE…``.
        alphas: [E, O]; an edge's own operations have its first columns.
        edges: operation names per edge.
        nodes: number of nodes.
        concat: states that make up the output.
        reduction: whether the cell halves height and width.
        reduction_before: whether the previous cell did.
        train: normalise with batch statistics instead of running statistics.
        edge_shares: [E], of whole edges; 1 by default.
        options: of the edges.

    Returns:
        [B, H', W', C · len(concat)] and the new running statistics.
    """
    preprocess0 = factorized_reduce if reduction_before else relu_conv_bn
    s0, new0 = preprocess0(s0, below(weights, "preprocess0."), train=train)
    s1, new1 = relu_conv_bn(s1, below(weights, "preprocess1."), train=train)
    statistics = named("preprocess0.", new0) | named("preprocess1.", new1)

    states = [s0, s1]
    edge = 0
    for node in range(nodes):
        incoming = []
        for source, state in enumerate(states):
            y, new = mixed_operation(
                state,
                below(weights, f"_ops.{edge}."),
                alphas[edge],
                edges[edge],
                stride=edge_stride(source, reduction=reduction),
                train=train,
                share=1.0 if edge_shares is None else edge_shares[edge],
                place=place_in_stage(source, node + 2, nodes),
                options=options,
            )
            incoming.append(y)
            statistics |= named(f"_ops.{edge}.", new)
            edge += 1
        states.append(sum(incoming[1:], start=incoming[0]))
    return jnp.concatenate([states[i] for i in concat], axis=-1), statistics


def forward(
    weights: Weights,
    alphas: Mapping[str, Array],
    images: Array,
    *,
    space: Space,
    train: bool,
    noise: str | None = None,
    edge_shares: Mapping[str, Array] | None = None,
    options: Options = Options(),
) -> tuple[Array, Statistics]:
    """The relaxed network; channels, layers and classes follow from the weights.

    Args:
        weights: flat dict with PyTorch names and layouts, running statistics included.
        alphas: ``normal`` and ``reduce``, each [E, O]. Column j belongs to the j-th operation of the edge's
            own list; columns beyond a shorter list are not used.
        images: [B, H, W, image channels].
        space: operations per edge.
        train: normalise with batch statistics and move the running ones; otherwise use the running ones.
        noise: ``zero`` lets the operation ``noise`` (standard normal, no weights) count as zero.
        edge_shares: ``normal`` and ``reduce``, each [E]: shares of whole edges; 1 by default.
        options: of the edges.

    Returns:
        Logits [B, classes], and all running statistics under their full names (as given if not ``train``).

    Raises:
        ValueError: if the space has an operation ``noise`` and ``noise`` is not ``zero``, or an unknown
            operation.
    """
    if noise != "zero" and any("noise" in names for names in (*space.normal, *space.reduce)):
        raise ValueError(f"operation 'noise' needs noise='zero', not {noise!r}: this network draws no noise")
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("cells."))
    reductions = reduction_cells(layers)

    s0, s1, statistics = stem_states(images, weights, train=train)
    halved = "stem0.0.weight" in weights
    for i in range(layers):
        kind = "reduce" if i in reductions else "normal"
        output, new = cell(
            s0,
            s1,
            below(weights, f"cells.{i}."),
            alphas[kind],
            space.reduce if kind == "reduce" else space.normal,
            nodes=space.nodes,
            concat=space.concat,
            reduction=i in reductions,
            reduction_before=i - 1 in reductions or (halved and i == 0),
            train=train,
            edge_shares=None if edge_shares is None else edge_shares[kind],
            options=options,
        )
        statistics |= named(f"cells.{i}.", new)
        s0, s1 = s1, output
    pooled = jnp.mean(s1, axis=(1, 2))
    return pooled @ weights["classifier.weight"].T + weights["classifier.bias"][None, :], statistics


#: Convolutions and batch norms of the stem that halves, by their names in PyTorch.
HALVING_STEM = (("stem0.0", "stem0.1"), ("stem0.3", "stem0.4"), ("stem1.1", "stem1.2"))


def stem_states(images: Array, weights: Weights, *, train: bool) -> tuple[Array, Array, Statistics]:
    """Inputs of the first cell, with statistics: one convolution, or three that halve the image (``stem0``, ``stem1``)."""
    if "stem.0.weight" in weights:
        x, new = batch_norm(conv(images, weights["stem.0.weight"]), below(weights, "stem.1."), train=train)
        return x, x, named("stem.1.", new)
    statistics, states, x = {}, [], images
    for kernel, norm in HALVING_STEM:
        x = conv(x if kernel == "stem0.0" else jax.nn.relu(x), weights[f"{kernel}.weight"], stride=2)
        x, new = batch_norm(x, below(weights, f"{norm}."), train=train)
        statistics |= named(f"{norm}.", new)
        states.append(x)
    return states[1], states[2], statistics


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean over the batch of −log softmax(logits)[label]; logits [B, classes], labels [B] integers."""
    log_shares = jax.nn.log_softmax(logits, axis=-1)
    return -jnp.mean(jnp.take_along_axis(log_shares, labels[:, None], axis=-1))


def loss(
    weights: Weights,
    alphas: Mapping[str, Array],
    images: Array,
    labels: Array,
    *,
    space: Space,
    train: bool,
    noise: str | None = None,
) -> Array:
    """Mean cross entropy of ``forward``, a scalar."""
    logits, _ = forward(weights, alphas, images, space=space, train=train, noise=noise)
    return cross_entropy(logits, labels)


# ---- weights


def is_running_statistic(name: str) -> bool:
    """Whether the entry is a running mean or variance, which no gradient trains."""
    return name.endswith((".running_mean", ".running_var"))


def norm_shapes(prefix: str, channels: int) -> dict[str, tuple[int, ...]]:
    """Of a BN without affine weights."""
    return {f"{prefix}.running_mean": (channels,), f"{prefix}.running_var": (channels,)}


def factorized_reduce_shapes(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Of a factorised reduction from ``inputs`` to ``outputs`` channels."""
    half = (outputs // 2, inputs, 1, 1)
    return {"conv_1.weight": half, "conv_2.weight": half} | norm_shapes("bn", outputs)


def relu_conv_bn_shapes(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """Of a 1×1 convolution with BN from ``inputs`` to ``outputs`` channels."""
    return {"op.1.weight": (outputs, inputs, 1, 1)} | norm_shapes("op.2", outputs)


def operation_shapes(name: str, channels: int, stride: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one operation's weights and running statistics, as ``operation`` takes them."""
    pointwise = (channels, channels, 1, 1)
    match name.split("_"):
        case ["none"] | ["noise"]:
            return {}
        case ["max" | "avg", "pool", "3x3"]:
            return norm_shapes("1", channels)
        case ["skip", "connect"]:
            return {} if stride == 1 else factorized_reduce_shapes(channels, channels)
        case ["sep", "conv", "3x3" | "5x5" | "7x7" as size]:
            depthwise = (channels, 1, int(size[0]), int(size[0]))
            first = {"op.1.weight": depthwise, "op.2.weight": pointwise} | norm_shapes("op.3", channels)
            second = {"op.5.weight": depthwise, "op.6.weight": pointwise} | norm_shapes("op.7", channels)
            return first | second
        case ["dil", "conv", "3x3" | "5x5" as size]:
            depthwise = (channels, 1, int(size[0]), int(size[0]))
            return {"op.1.weight": depthwise, "op.2.weight": pointwise} | norm_shapes("op.3", channels)
    raise ValueError(f"unknown operation {name!r}")


def weight_shapes(
    *,
    space: Space,
    channels: int,
    layers: int,
    classes: int,
    image_channels: int = 3,
    options: Options = Options(),
    halving_stem: bool = False,
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights and running statistics of the network."""
    stem = channels if halving_stem else 3 * channels
    names = HALVING_STEM if halving_stem else (("stem.0", "stem.1"),)
    outputs = (channels // 2, channels, channels) if halving_stem else (stem,)
    shapes: dict[str, tuple[int, ...]] = {}
    for (kernel, norm), inputs, width in zip(names, (image_channels, *outputs), outputs):
        shapes |= {f"{kernel}.weight": (width, inputs, 3, 3), f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
        shapes |= norm_shapes(norm, width)
    reductions = reduction_cells(layers)
    channels0 = channels1 = stem
    for i in range(layers):
        if i in reductions:
            channels = 2 * channels
        reduced = i - 1 in reductions or (halving_stem and i == 0)
        preprocess0 = factorized_reduce_shapes if reduced else relu_conv_bn_shapes
        parts = {"preprocess0": preprocess0(channels0, channels)}
        parts["preprocess1"] = relu_conv_bn_shapes(channels1, channels)
        edges = space.reduce if i in reductions else space.normal
        sources = [source for node in range(space.nodes) for source in range(2 + node)]
        for edge, source in enumerate(sources):
            stride = edge_stride(source, reduction=i in reductions)
            seen = channels // options.partial_channels
            for k, name in enumerate(edges[edge]):
                parts[f"_ops.{edge}._ops.{k}"] = operation_shapes(name, seen, stride)
            if options.auxiliary_skip != "none" and stride == 2:
                parts[f"_ops.{edge}.auxiliary_op"] = factorized_reduce_shapes(seen, seen)
            elif options.auxiliary_skip == "conv":
                parts[f"_ops.{edge}.auxiliary_op"] = {"weight": (seen, seen, 1, 1)}
        shapes |= {f"cells.{i}.{part}.{name}": shape for part, own in parts.items() for name, shape in own.items()}
        channels0, channels1 = channels1, channels * len(space.concat)
    return shapes | {"classifier.weight": (classes, channels1), "classifier.bias": (classes,)}


def init_weights(
    rng: np.random.Generator,
    *,
    space: Space,
    channels: int,
    layers: int,
    classes: int,
    image_channels: int = 3,
    options: Options = Options(),
    halving_stem: bool = False,
    dtype: Any,
) -> dict[str, np.ndarray]:
    """Random weights to compare networks with, not to train from; no entry has a neutral value (0 or 1).

    Convolutions and the classifier 0.3 N(0, 1), BN weights 1 + 0.2 N, BN biases 0.2 N, running means 0.1 N,
    running variances 1 + 0.2 |N|.
    """
    shapes = weight_shapes(
        space=space,
        channels=channels,
        layers=layers,
        classes=classes,
        image_channels=image_channels,
        options=options,
        halving_stem=halving_stem,
    )
    norms = ("stem.1", "stem0.1", "stem0.4", "stem1.2")
    weights = {}
    for name, shape in shapes.items():
        normal = rng.standard_normal(shape)
        if name.endswith("running_mean"):
            value = 0.1 * normal
        elif name.endswith("running_var"):
            value = 1 + 0.2 * np.abs(normal)
        elif name in [f"{norm}.weight" for norm in norms]:
            value = 1 + 0.2 * normal
        elif name in [f"{norm}.bias" for norm in norms]:
            value = 0.2 * normal
        else:
            value = 0.3 * normal
        weights[name] = value.astype(dtype)
    return weights


def num_weights(weights: Weights) -> int:
    """Number of scalars that gradients train: everything but running statistics."""
    return sum(int(np.prod(w.shape)) for name, w in weights.items() if not is_running_statistic(name))

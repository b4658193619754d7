"""Weights of the reference implementation, by its names and layouts, as the stacked supernet holds them."""

import numpy as np
import plain_supernet

from jdarts.nets.stages import stages
from jdarts.space import cell_kinds

_SEPARABLE = {"depthwise1": 1, "pointwise1": 2, "depthwise2": 5, "pointwise2": 6}
_DILATED = {"depthwise1": 1, "pointwise1": 2}


def _kernel(name, array):
    """A PyTorch convolution weight `[out, in / groups, kh, kw]` as a depthwise or a pointwise kernel."""
    return array[:, 0].transpose(1, 2, 0) if name.startswith("depthwise") else array[:, :, 0, 0].T


def _operation_weights(flat, prefix, name, stride):
    if name.startswith("sep") or name.startswith("dil"):
        layers = _SEPARABLE if name.startswith("sep") else _DILATED
        return {key: _kernel(key, flat[f"{prefix}.op.{layer}.weight"]) for key, layer in layers.items()}
    if name == "skip_connect" and stride == 2:
        return {key: _kernel(key, flat[f"{prefix}.conv_{i}.weight"]) for key, i in (("even", 1), ("odd", 2))}
    return {}


def _preprocess_weights(flat, prefix):
    weights = {"pointwise1": _kernel("pointwise", flat[f"{prefix}1.op.1.weight"])}
    if f"{prefix}0.conv_1.weight" in flat:
        weights |= {f"{key}0": _kernel(key, flat[f"{prefix}0.conv_{i}.weight"]) for key, i in (("even", 1), ("odd", 2))}
    else:
        weights["pointwise0"] = _kernel("pointwise", flat[f"{prefix}0.op.1.weight"])
    return {name: array[None] for name, array in weights.items()}


def renamed(flat):
    """The arrays with the names of the reference implementation, where P-DARTS has others."""
    return {name.replace(".cell_ops.", "._ops.").replace(".m_ops.", "._ops."): array for name, array in flat.items()}


def _auxiliary_weights(flat, prefix):
    """Of one edge's auxiliary skip connection (DARTS-): a convolution, a factorised reduction or nothing."""
    if f"{prefix}.auxiliary_op.weight" in flat:
        return {"pointwise": _kernel("pointwise", flat[f"{prefix}.auxiliary_op.weight"])}
    if f"{prefix}.auxiliary_op.conv_1.weight" in flat:
        return _operation_weights(flat, f"{prefix}.auxiliary_op", "skip_connect", 2)
    return {}


def _stacked(per_edge):
    return {name: np.stack([weights[name] for weights in per_edge]) for name in per_edge[0]}


def stacked_params(flat, space, cells, *, only=None):
    """Parameters (or gradients, or momentum buffers) named as in PyTorch, as the tree of `Supernet`'s params.

    `only`: the number of a cell, to leave out the others.
    """
    tree: dict = {
        **{
            name: {
                "kernel": flat[f"{kernel}.weight"].transpose(2, 3, 1, 0),
                "norm": {"scale": flat[f"{norm}.weight"][None], "bias": flat[f"{norm}.bias"][None]},
            }
            for name, (kernel, norm) in _stem(flat).items()
        },
        "classifier": {"kernel": flat["classifier.weight"].T, "bias": flat["classifier.bias"]},
    }
    for index, kind in enumerate(cell_kinds(cells)):
        if only not in (None, index):
            continue
        cell = tree[f"cell{index}"] = {"preprocess": _preprocess_weights(flat, f"cells.{index}.preprocess")}
        for number, stage in enumerate(stages(space, kind)):
            stride = 2 if kind == "reduce" and number == 0 else 1
            operations = {}
            for group in stage.operations:
                per_edge = [
                    _operation_weights(flat, f"cells.{index}._ops.{edge}._ops.{column}", group.name, stride)
                    for edge, column in zip(group.edges, group.columns)
                ]
                if per_edge[0]:
                    operations[group.name] = _stacked(per_edge)
            auxiliary = [_auxiliary_weights(flat, f"cells.{index}._ops.{edge.number}") for edge in stage.edges]
            if auxiliary[0]:
                operations["auxiliary_skip"] = _stacked(auxiliary)
            if operations:
                cell[f"stage{number}"] = operations
    return tree


def _stem(flat):
    """Convolution and batch norm in PyTorch of each part of the stem."""
    if any(name.startswith("stem0.") for name in flat):
        return dict(zip(("stem0", "stem1", "stem2"), plain_supernet.HALVING_STEM))
    return {"stem": ("stem.0", "stem.1")}


def stacked_statistics(flat, space, cells, *, only=None, by_edge=False):
    """Running statistics named as in PyTorch, as the tree of `Supernet`'s batch_stats; `only` as above.

    `by_edge`: whether edges have statistics of pools for themselves, as with `skips_unused`.
    """

    def moments(names):
        return {
            "mean": np.stack([flat[f"{name}.running_mean"] for name in names]),
            "variance": np.stack([flat[f"{name}.running_var"] for name in names]),
        }

    tree: dict = {name: {"norm": moments([norm])} for name, (_, norm) in _stem(flat).items()}
    for index, kind in enumerate(cell_kinds(cells)):
        if only not in (None, index):
            continue
        cell = tree[f"cell{index}"] = {}
        older = f"cells.{index}.preprocess0"
        halved = f"{older}.bn.running_mean" in flat
        norms = [f"{older}.bn" if halved else f"{older}.op.2", f"cells.{index}.preprocess1.op.2"]
        cell["preprocess"] = {"norm": moments(norms)}
        for number, stage in enumerate(stages(space, kind)):
            stride = 2 if kind == "reduce" and number == 0 else 1
            middle, last = [], []
            for group in stage.operations:
                if group.name == "noise" or (group.name == "skip_connect" and stride == 1):
                    continue
                edges = list(zip(group.edges, group.columns))
                if "pool" in group.name and not by_edge:  # the same for all edges of a source
                    edges = [edges[group.sources.index(source)] for source in group.distinct_sources]
                prefixes = [f"cells.{index}._ops.{edge}._ops.{column}" for edge, column in edges]
                middle += [f"{prefix}.op.3" for prefix in prefixes if group.name.startswith("sep")]
                end = {"sep": "op.7", "dil": "op.3", "max": "1", "avg": "1", "ski": "bn"}[group.name[:3]]
                last += [f"{prefix}.{end}" for prefix in prefixes]
            auxiliary = [f"cells.{index}._ops.{edge.number}.auxiliary_op.bn" for edge in stage.edges]
            last += [prefix for prefix in auxiliary if f"{prefix}.running_mean" in flat]
            norms = {name: moments(prefixes) for name, prefixes in (("middle", middle), ("last", last)) if prefixes}
            if norms:
                cell[f"stage{number}"] = norms
    return tree

"""Weights of the reference implementation, by its names and layouts, as the stacked supernet holds them."""

import numpy as np

from jdarts.nets.stages import stages
from jdarts.space import cell_kinds

_SEPARABLE = {"depthwise1": 1, "pointwise1": 2, "depthwise2": 5, "pointwise2": 6}
_DILATED = {"depthwise1": 1, "pointwise1": 2}
_NORMS = {"sep": {"middle": "op.3", "last": "op.7"}, "dil": {"last": "op.3"}, "skip": {"last": "bn"}}
_NORMS |= {"max": {"last": "1"}, "avg": {"last": "1"}}


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
    if f"{prefix}.conv_1.weight" in flat:
        return {
            key: _kernel(key, flat[f"{prefix}.conv_{i}.weight"])[None] for key, i in (("even", 1), ("odd", 2))
        }
    return {"pointwise": _kernel("pointwise", flat[f"{prefix}.op.1.weight"])[None]}


def stacked_params(flat, space, cells):
    """Parameters (or gradients, or momentum buffers) named as in PyTorch, as the tree of `Supernet`'s params."""
    tree = {
        "stem": {
            "kernel": flat["stem.0.weight"].transpose(2, 3, 1, 0),
            "scale": flat["stem.1.weight"],
            "bias": flat["stem.1.bias"],
        },
        "classifier": {"kernel": flat["classifier.weight"].T, "bias": flat["classifier.bias"]},
    }
    for index, kind in enumerate(cell_kinds(cells)):
        cell = tree[f"cell{index}"] = {
            f"preprocess{i}": _preprocess_weights(flat, f"cells.{index}.preprocess{i}") for i in (0, 1)
        }
        for number, stage in enumerate(stages(space, kind)):
            stride = 2 if kind == "reduce" and number == 0 else 1
            operations = {}
            for group in stage.operations:
                per_edge = [
                    _operation_weights(flat, f"cells.{index}._ops.{edge}._ops.{column}", group.name, stride)
                    for edge, column in zip(group.edges, group.columns)
                ]
                if per_edge[0]:
                    operations[group.name] = {
                        name: np.stack([weights[name] for weights in per_edge]) for name in per_edge[0]
                    }
            if operations:
                cell[f"stage{number}"] = operations
    return tree


def stacked_statistics(flat, space, cells):
    """Running statistics named as in PyTorch, as the tree of `Supernet`'s batch_stats."""

    def moments(*names):
        return {
            "mean": np.stack([flat[f"{name}.running_mean"] for name in names]),
            "variance": np.stack([flat[f"{name}.running_var"] for name in names]),
        }

    tree = {"stem": {"norm": {key: value[0] for key, value in moments("stem.1").items()}}}
    for index, kind in enumerate(cell_kinds(cells)):
        cell = tree[f"cell{index}"] = {}
        for i in (0, 1):
            prefix = f"cells.{index}.preprocess{i}"
            norm = f"{prefix}.bn" if f"{prefix}.bn.running_mean" in flat else f"{prefix}.op.2"
            cell[f"preprocess{i}"] = {"norm": {key: value[0] for key, value in moments(norm).items()}}
        for number, stage in enumerate(stages(space, kind)):
            stride = 2 if kind == "reduce" and number == 0 else 1
            operations = {}
            for group in stage.operations:
                if group.name == "noise" or (group.name == "skip_connect" and stride == 1):
                    continue
                edges = list(zip(group.edges, group.columns))
                if "pool" in group.name:  # the same for all edges of a source
                    edges = [edges[group.sources.index(source)] for source in group.distinct_sources]
                prefixes = [f"cells.{index}._ops.{edge}._ops.{column}" for edge, column in edges]
                operations[group.name] = {
                    key: moments(*(f"{prefix}.{norm}" for prefix in prefixes))
                    for key, norm in _NORMS[
                        group.name[:3].rstrip("_") if group.name[:4] != "skip" else "skip"
                    ].items()
                }
            if operations:
                cell[f"stage{number}"] = operations
    return tree

"""The plain search network against the reference implementation's numbers and against identities."""

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import plain_supernet as plain
import pytest
from fixtures_folder import REFERENCE_NUMBERS, fixture_files

DARTS_OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
SPACES_FILE = REFERENCE_NUMBERS / "spaces.json"


@dataclass(frozen=True)
class PlainSpace:
    normal: tuple[tuple[str, ...], ...]
    reduce: tuple[tuple[str, ...], ...]
    nodes: int
    concat: tuple[int, ...]


def uniform_space(names, *, nodes, concat=None):
    edges = (tuple(names),) * (nodes * (nodes + 3) // 2)
    return PlainSpace(edges, edges, nodes, concat or tuple(range(2, 2 + nodes)))


@dataclass(frozen=True)
class Reference:
    """One file of reference numbers, as the plain network takes them."""

    numbers: dict
    space: PlainSpace
    sizes: dict
    trained: dict
    running: dict
    alphas: dict

    @property
    def weights(self):
        return self.trained | self.running

    def below(self, prefix):
        return plain.below(self.numbers, prefix)

    def batch(self, which):
        images = jnp.asarray(self.numbers[f"{which}/x"].transpose(0, 2, 3, 1))
        return images, jnp.asarray(self.numbers[f"{which}/y"])

    def loss(self, trained, alphas, which):
        """The loss on a batch, and beside it the logits and the new running statistics."""
        images, labels = self.batch(which)
        logits, running = plain.forward(trained | self.running, alphas, images, space=self.space, train=True)
        return plain.cross_entropy(logits, labels), (logits, running)


@functools.lru_cache(maxsize=1)
def read(path: Path):
    with np.load(path) as file:
        numbers = dict(file)
    weights = {name: jnp.asarray(w) for name, w in plain.below(numbers, "weights/").items()}
    edges, operations = numbers["alphas/normal"].shape
    assert operations == len(DARTS_OPERATIONS), f"{path.name}: the list of {operations} operations is not known"
    nodes = (math.isqrt(9 + 8 * edges) - 3) // 2
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("cells."))
    last_channels = weights[f"cells.{layers - 1}.preprocess1.op.1.weight"].shape[0]
    classes, features = weights["classifier.weight"].shape
    stem_channels, image_channels = weights["stem.0.weight"].shape[:2]
    concatenated = features // last_channels
    return Reference(
        numbers=numbers,
        space=uniform_space(DARTS_OPERATIONS, nodes=nodes, concat=tuple(range(2 + nodes - concatenated, 2 + nodes))),
        sizes={
            "channels": stem_channels // 3,
            "layers": layers,
            "classes": classes,
            "image_channels": image_channels,
        },
        trained={name: w for name, w in weights.items() if not plain.is_running_statistic(name)},
        running={name: w for name, w in weights.items() if plain.is_running_statistic(name)},
        alphas={name: jnp.asarray(a) for name, a in plain.below(numbers, "alphas/").items()},
    )


@functools.lru_cache
def derivatives(path, which):
    """Of the loss on a batch: ((value, (logits, running statistics)), (gradient by weights, gradient by alphas))."""
    reference = read(path)
    # The same programs serve both batches.
    of_both = jax.value_and_grad(reference.loss, argnums=(0, 1), has_aux=True)
    return of_both(reference.trained, reference.alphas, which)


def assert_agree(actual, expected, tolerance=1e-9):
    """Same names; every array within the tolerance relative to its largest entry (if tiny, 1e-6 of all's)."""
    assert actual.keys() == expected.keys()
    largest = max(np.abs(value).max() for value in expected.values())
    for name, value in expected.items():
        scale = max(np.abs(value).max(), 1e-6 * largest)
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=tolerance * scale, err_msg=name)


# ---- the reference implementation's numbers


@pytest.mark.parametrize("path", fixture_files("search_*.npz"))
def test_fixture_names_and_shapes_are_those_of_the_plain_network(path):
    reference = read(path)
    shapes = plain.weight_shapes(space=reference.space, **reference.sizes)
    assert shapes == {name: w.shape for name, w in reference.weights.items()}
    drawn = plain.init_weights(np.random.default_rng(0), space=reference.space, dtype=np.float32, **reference.sizes)
    assert {name: w.shape for name, w in drawn.items()} == shapes
    assert all(w.dtype == np.float32 for w in drawn.values())
    assert plain.num_weights(drawn) == sum(w.size for w in reference.trained.values())


@pytest.mark.parametrize("path", fixture_files("search_*.npz"))
def test_fixture_logits_and_loss(path):
    reference = read(path)
    (loss, (logits, running)), _ = derivatives(path, "train")
    assert_agree({"logits": logits}, {"logits": reference.numbers["train/logits"]})
    np.testing.assert_allclose(loss, reference.numbers["train/loss"], rtol=1e-9)
    assert running.keys() == reference.running.keys()


@pytest.mark.parametrize("path", fixture_files("search_*.npz"))
def test_fixture_training_gradients(path):
    reference = read(path)
    _, (by_weights, by_alphas) = derivatives(path, "train")
    assert_agree(by_weights, reference.below("train/grad_weights/"))
    assert_agree(by_alphas, reference.below("train/grad_alphas/"))


@pytest.mark.parametrize("path", fixture_files("search_*.npz"))
def test_fixture_first_order_gradients(path):
    reference = read(path)
    (loss, _), (_, by_alphas) = derivatives(path, "valid")
    np.testing.assert_allclose(loss, reference.numbers["valid/loss"], rtol=1e-9)
    assert_agree(by_alphas, reference.below("first_order/"))


# ---- counts


def count(space):
    rng = np.random.default_rng(0)
    return plain.num_weights(plain.init_weights(rng, space=space, channels=16, layers=8, classes=10, dtype=np.float32))


def test_count_of_the_darts_space():
    assert count(uniform_space(DARTS_OPERATIONS, nodes=4)) == 1_930_618


@pytest.mark.parametrize("name, expected", [("S1", 405_146), ("S2", 665_466), ("S3", 665_466), ("S4", 624_506)])
def test_counts_of_the_reduced_spaces(name, expected):
    lists = json.loads(SPACES_FILE.read_text())[name]
    normal, reduce = (tuple(tuple(names) for names in lists[kind]) for kind in ("normal", "reduce"))
    assert count(PlainSpace(normal, reduce, 4, (2, 3, 4, 5))) == expected


# ---- identities, without reference numbers

SMALL_OPERATIONS = ("sep_conv_3x3", "skip_connect", "max_pool_3x3", "dil_conv_5x5", "none")


def small_network(space, *, dtype: type = np.float64, layers=2, seed=0):
    """Random weights, architecture and images; one or two layers are reduction cells only."""
    rng = np.random.default_rng(seed)
    weights = plain.init_weights(rng, space=space, channels=2, layers=layers, classes=3, dtype=dtype)
    width = max(len(names) for names in (*space.normal, *space.reduce))
    alphas = {
        kind: jnp.asarray(0.5 * rng.standard_normal((len(space.normal), width)).astype(dtype))
        for kind in ("normal", "reduce")
    }
    images = jnp.asarray(rng.standard_normal((3, 8, 8, 3)).astype(dtype))
    return {name: jnp.asarray(w) for name, w in weights.items()}, alphas, images


def test_running_statistics_after_one_batch():
    rng = np.random.default_rng(1)
    x = 3 + 2 * rng.standard_normal((2, 3, 5, 4))
    before = {"running_mean": rng.standard_normal(4), "running_var": 1 + rng.random(4)}
    y, after = plain.batch_norm(jnp.asarray(x), before, train=True)
    flat = x.reshape(-1, 4)
    expected = (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(after["running_mean"], 0.9 * before["running_mean"] + 0.1 * flat.mean(0))
    np.testing.assert_allclose(after["running_var"], 0.9 * before["running_var"] + 0.1 * flat.var(0, ddof=1))


def halvings_before(norm, layers):
    """How often the images were halved before a batch normalisation; on a cell's edges its own counts."""
    if norm.startswith("stem."):
        return 0
    _, cell, part, *_ = norm.split(".")
    return sum(c < int(cell) or (c == int(cell) and part == "_ops") for c in plain.reduction_cells(layers))


def test_evaluation_with_the_statistics_of_the_batch_is_training():
    space = uniform_space(SMALL_OPERATIONS, nodes=1)
    layers = 2
    weights, alphas, images = jax.device_get(small_network(space, layers=layers))
    batch, size = images.shape[:2]
    forward = jax.jit(functools.partial(plain.forward, space=space), static_argnames="train")
    logits, after = jax.device_get(forward(weights, alphas, images, train=True))
    of_the_batch = {name: (value - 0.9 * weights[name]) / 0.1 for name, value in after.items()}
    for name, value in of_the_batch.items():
        if name.endswith("running_var"):
            places = batch * (size // 2 ** halvings_before(name, layers)) ** 2
            of_the_batch[name] = value * ((places - 1) / places)
    evaluated, unchanged = forward(weights | of_the_batch, alphas, images, train=False)
    np.testing.assert_allclose(evaluated, logits, rtol=1e-9)
    assert_agree(unchanged, of_the_batch, tolerance=0)
    alone, _ = forward(weights | of_the_batch, alphas, images[:1], train=False)
    np.testing.assert_allclose(alone, logits[:1], rtol=1e-9)


@pytest.mark.parametrize("stride", [1, 2])
def test_pools_against_loops(stride):
    x = np.random.default_rng(2).standard_normal((2, 6, 4, 3)) - 5
    places = [(row, column) for row in range(0, 6, stride) for column in range(0, 4, stride)]
    windows = [x[:, max(r - 1, 0) : r + 2, max(c - 1, 0) : c + 2] for r, c in places]
    shape = (2, 6 // stride, 4 // stride, 3)
    largest = np.stack([w.max((1, 2)) for w in windows], axis=1).reshape(shape)
    mean = np.stack([w.mean((1, 2)) for w in windows], axis=1).reshape(shape)
    np.testing.assert_array_equal(plain.max_pool_3x3(jnp.asarray(x), stride), largest)
    np.testing.assert_allclose(plain.avg_pool_3x3(jnp.asarray(x), stride), mean, rtol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "small, large",
    [("sep_conv_3x3", "sep_conv_7x7"), ("sep_conv_5x5", "sep_conv_7x7"), ("dil_conv_3x3", "dil_conv_5x5")],
)
def test_a_larger_filter_with_a_zero_rim_is_the_smaller_one(small, large, stride):
    rng = np.random.default_rng(3)
    x = jnp.asarray(rng.standard_normal((2, 6, 6, 4)))
    weights = {
        name: jnp.asarray(1 + rng.random(shape)) for name, shape in plain.operation_shapes(small, 4, stride).items()
    }
    rim = (int(large[-1]) - int(small[-1])) // 2
    padded = {
        name: jnp.pad(w, ((0, 0), (0, 0), (rim, rim), (rim, rim))) if name in ("op.1.weight", "op.5.weight") else w
        for name, w in weights.items()
    }
    shapes = {name: w.shape for name, w in padded.items()}
    assert shapes == plain.operation_shapes(large, 4, stride)
    expected, _ = plain.operation(small, x, weights, stride=stride, train=True)
    actual, _ = plain.operation(large, x, padded, stride=stride, train=True)
    assert expected.shape == (2, 6 // stride, 6 // stride, 4)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_an_edge_uses_the_columns_of_its_own_list_only():
    long, short = ("none", "skip_connect", "avg_pool_3x3"), ("skip_connect",)
    space = PlainSpace((short, long), (long, short), 1, (2,))
    weights, alphas, images = small_network(space)
    logits, _ = plain.forward(weights, alphas, images, space=space, train=True)
    unused = jnp.asarray([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    moved, _ = plain.forward(weights, alphas | {"reduce": alphas["reduce"] + unused}, images, space=space, train=True)
    np.testing.assert_array_equal(moved, logits)
    used = jnp.asarray([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    moved, _ = plain.forward(weights, alphas | {"reduce": alphas["reduce"] + used}, images, space=space, train=True)
    assert np.abs(moved - logits).max() > 1e-6


def test_a_mixed_operation_is_the_weighted_sum_of_its_operations():
    rng = np.random.default_rng(4)
    x = jnp.asarray(rng.standard_normal((2, 4, 4, 2)))
    weights = {
        f"_ops.{k}.{name}": jnp.asarray(1 + rng.random(shape))
        for k, operation in enumerate(SMALL_OPERATIONS)
        for name, shape in plain.operation_shapes(operation, 2, 2).items()
    }
    one_hot = 200.0 * jnp.eye(len(SMALL_OPERATIONS), dtype=jnp.float64)
    alone = [plain.mixed_operation(x, weights, row, SMALL_OPERATIONS, stride=2, train=True)[0] for row in one_hot]
    for k, operation in enumerate(SMALL_OPERATIONS):
        y, _ = plain.operation(operation, x, plain.below(weights, f"_ops.{k}."), stride=2, train=True)
        np.testing.assert_allclose(alone[k], y, rtol=1e-12, atol=1e-12)
    odds = jnp.log(jnp.arange(1.0, 1 + len(SMALL_OPERATIONS)))
    mixed, _ = plain.mixed_operation(x, weights, odds, SMALL_OPERATIONS, stride=2, train=True)
    expected = sum((k + 1) / 15 * np.asarray(y) for k, y in enumerate(alone))
    np.testing.assert_allclose(mixed, expected, rtol=1e-9, atol=1e-12)


def test_float32_stays_float32():
    space = uniform_space(("skip_connect", "max_pool_3x3", "none"), nodes=1)
    weights, alphas, images = small_network(space, dtype=np.float32, layers=1)
    labels = jnp.asarray([0, 2, 1])
    value_and_grad = jax.value_and_grad(functools.partial(plain.loss, space=space, train=True))
    types = jax.eval_shape(value_and_grad, weights, alphas, images, labels)
    assert {leaf.dtype for leaf in jax.tree.leaves(types)} == {jnp.dtype(np.float32)}


def test_noise_must_be_named_as_zero():
    noisy = uniform_space(("noise", "skip_connect"), nodes=1)
    weights, alphas, images = small_network(noisy)
    with pytest.raises(ValueError, match="noise='zero'"):
        plain.forward(weights, alphas, images, space=noisy, train=True)
    logits, _ = plain.forward(weights, alphas, images, space=noisy, train=True, noise="zero")
    nothing = uniform_space(("none", "skip_connect"), nodes=1)
    expected, _ = plain.forward(weights, alphas, images, space=nothing, train=True)
    np.testing.assert_array_equal(logits, expected)


def test_an_unknown_operation_is_named():
    with pytest.raises(ValueError, match="'conv_9x9'"):
        plain.init_weights(
            np.random.default_rng(0),
            space=uniform_space(("conv_9x9",), nodes=1),
            channels=2,
            layers=2,
            classes=3,
            dtype=np.float32,
        )

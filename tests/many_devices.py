"""Bilevel steps on up to eight devices against one; as a program, what the tests of `jdarts.parallel` read, in JSON."""

import functools
import json
import re
import unittest.mock
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jdarts
from jdarts import optim, parallel
from jdarts.data import Augmentation
from jdarts.language.search import LanguageSearchConfig
from jdarts.language.search.step import search_program
from jdarts.language.train import LanguageTrainConfig
from jdarts.language.train.step import train_program
from jdarts.nets.discrete import cifar_network
from jdarts.nets.layers import Convolution, NormalisedSum
from jdarts.nets.supernet import Supernet, init_alphas
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.norm import Plan
from jdarts.runs.images import Batch
from jdarts.search.step import supernet_loss
from jdarts.space import CELL_KINDS
from jdarts.train import TrainConfig
from jdarts.train.step import Conditions
from jdarts.train.step import train_program as image_train_program

SPACE = jdarts.uniform_space(("none", "dil_conv_3x3"), nodes=1)
BATCH, STEPS = 16, 5
ESTIMATORS = {
    "exact": jdarts.exact(),
    "finite_difference": jdarts.finite_difference(),
    "first_order": jdarts.first_order(),
    "unrolled": jdarts.unrolled(),
}


class MixedLayer(nn.Module):
    """One mixed edge of two depthwise convolutions, on a stem: the supernet's kernels and norms, compiled in no time."""

    axis_name: str | None

    @nn.compact
    def __call__(self, images, alphas, *, train):
        x = Convolution(2, axis_name=self.axis_name, name="stem")(images, train=train)[None]
        kernels = self.param("kernels", nn.initializers.normal(), (1, 2, 3, 3, 2), images.dtype)
        z = depthwise_conv(jax.nn.relu(x), kernels)[0]
        plan = Plan(((0, 0, 0, 0), (0, 1, 0, 0)), (1,), 1, self.axis_name)
        mixed = jnp.sum(jnp.stack([jax.nn.softmax(alphas[kind][0]) for kind in CELL_KINDS]), axis=0)
        (y,) = NormalisedSum(plan)([z], mixed, train=train)
        return nn.Dense(3, param_dtype=images.dtype)(jnp.mean(jax.nn.relu(y[0]), axis=(1, 2)))


def supernet(axis_name, **settings):
    return Supernet(SPACE, channels=2, cells=1, classes=3, axis_name=axis_name, **{"dtype": jnp.float64, **settings})


def optimizers():
    return {
        "weight_optimizer": optim.weight_optimizer(0.1, momentum=0.9, weight_decay=3e-4, clip=1.0),
        "alpha_optimizer": optim.alpha_optimizer(0.1),
    }


def step(network, hypergradient, *, synchronised=True):
    """The pure step of a network, for the wrappers."""

    def bilevel_step(state, train, valid, *, axis_name):
        loss = supernet_loss(network(axis_name if synchronised else None))
        return jdarts.bilevel_step(
            state, train, valid, loss_fn=loss, hypergradient=hypergradient, axis_name=axis_name, **optimizers()
        )

    return bilevel_step


def start(network, seed=0):
    """The state before the first step."""
    keys = jax.random.split(jax.random.key(seed), 3)
    alphas = init_alphas(keys[0], SPACE, jnp.float64)
    images = jnp.zeros((1, 8, 8, 1))
    variables = jax.jit(functools.partial(network(None).init, train=True))(keys[1], images, alphas)
    return jdarts.init_state(keys[2], variables["params"], alphas, variables["batch_stats"], **optimizers())


def batches(steps=STEPS, seed=0):
    """Training and validation batches of the steps."""
    draw = np.random.default_rng(seed)

    def one():
        return jnp.asarray(draw.normal(size=(BATCH, 8, 8, 1))), jnp.asarray(draw.integers(3, size=BATCH), jnp.int32)

    return [(one(), one()) for _ in range(steps)]


def taken(wrapped, state, inputs=None):
    """State after the steps and the last one's metrics; without keys, which no step changes."""
    metrics, start = {}, state
    for each in inputs or batches():
        new, metrics = wrapped(state, *each)
        # Off the devices and back: a state that lies where the last step left it would be another program.
        state = jax.tree.map(lambda old, leaf: old if is_key(old) else jnp.asarray(np.asarray(leaf)), start, new)
    return jax.tree.map(lambda leaf: () if is_key(leaf) else np.asarray(leaf), (state, metrics))


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


VOCABULARY, COLUMNS, ROWS = 20, 8, 25
TEXT = {"batch_size": COLUMNS, "bptt": 3, "width": 8, "dropoute": 0.1, "activation": 0.1, "learning_rate": 1.0}


def text_search(name):
    """Program of a search on text with every kind of dropout, by the name of its estimator."""
    given = {} if name == "unrolled" else {"hypergradient": name}
    config = LanguageSearchConfig(nodes=1, **TEXT, **given)
    sizes = {"vocabulary": VOCABULARY, "rows": (ROWS, ROWS), "steps_per_epoch": 3}
    program = search_program(config, **sizes, dtype=jnp.float64)
    if name != "unrolled":
        return program

    def step(*inputs, axis_name):
        with unittest.mock.patch("jdarts.language.search.step.hypergradient_named", lambda *_, **__: jdarts.unrolled()):
            return program.step(*inputs, axis_name=axis_name)

    return program._replace(step=step)


def started(program):
    """The state before the first step, with sums of the metrics' type."""
    state = jax.jit(program.init)(jnp.uint32(0))
    return state.replace(sums={name: jnp.zeros(()) for name in state.sums})


def text_training():
    return train_program(LanguageTrainConfig(**TEXT), vocabulary=VOCABULARY, rows=ROWS, dtype=jnp.float64)


def image_training():
    """Program of a training on images with a dropped path and random crops."""
    edges = (("dil_conv_3x3", 0), ("max_pool_3x3", 1))
    model = cifar_network(jdarts.Genotype(edges, (2,), edges, (2,)), channels=2, cells=1, classes=3, auxiliary=False)
    seen = {"image_shape": (8, 8, 1), "augmentation": Augmentation(padding=1, cutout=2), "mean": (0.4,), "std": (0.3,)}
    return image_train_program(TrainConfig(), model.clone(dtype=jnp.float64), **seen)


def image_training_differences():
    """Differences of training steps on two devices from those on one, by wrapper, and from a step without dropped paths."""
    program = image_training()

    def step(state, images, labels, rows, drop_path, *, axis_name):
        conditions = Conditions(jnp.float64(0.1), drop_path, jnp.bool(False))
        return program.step(state, Batch(images, labels, rows), conditions, axis_name=axis_name)

    state: Any = program.initial(jax.jit(program.variables)(jax.random.key(0)), jax.random.key(1))
    state = state.replace(sums={name: jnp.zeros(()) for name in state.sums})
    draw = np.random.default_rng(0)
    images = (
        jnp.asarray(draw.integers(256, size=(20, 8, 8, 1)), jnp.uint8),
        jnp.asarray(draw.integers(3, size=20), jnp.int32),
    )
    rows = [jnp.asarray(draw.permutation(20)[:BATCH], jnp.int32) for _ in range(2)]
    inputs = [(*images, each, jnp.float64(0.3)) for each in rows]
    alone = parallel.jit_step(step)
    expected = taken(alone, state, inputs)
    split = (False, False, True, False)
    found = {
        f"image training {name}": difference(taken(wrap(step, 2, split=split), state, inputs), expected)
        for name, wrap in WRAPPERS.items()
    }
    whole = taken(alone, state, [(*images, each, jnp.float64(0.0)) for each in rows])
    found["image training drops"] = difference(whole[0].weights, expected[0].weights)
    return found


def texts(seed=0):
    draw = np.random.default_rng(seed)
    return [jnp.asarray(draw.integers(VOCABULARY, size=(ROWS + TEXT["bptt"], COLUMNS)), jnp.int32) for _ in range(2)]


def difference(found, expected):
    """The largest difference of any two numbers, relative to those above 1."""

    def far(a, b):
        a, b = np.float64(a), np.float64(b)
        with np.errstate(invalid="ignore"):
            apart = np.where(a == b, 0, np.abs(a - b) / np.maximum(1, np.abs(b)))
        return np.max(apart, initial=0)

    assert jax.tree.structure(found) == jax.tree.structure(expected)
    return float(np.max(jax.tree.leaves(jax.tree.map(far, found, expected))))


def collectives(text):
    """How often each collective operation stands in a compiled program."""
    names = re.findall(r" (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(", text)
    return {name: names.count(name) for name in set(names)}


WRAPPERS = {"pmap": parallel.pmap_step, "shard": parallel.shard_step}
#: Estimator, wrapper, devices.
CASES = [("exact", wrapper, devices) for wrapper in WRAPPERS for devices in (1, 2, 8)]
CASES += [(name, *case) for name in ESTIMATORS if name != "exact" for case in (("pmap", 2), ("shard", 8))]
TEXT_ESTIMATORS = [*ESTIMATORS, "reference"]
TEXT_CASES = [("exact", wrapper, devices) for wrapper in WRAPPERS for devices in (2, 8)]
TEXT_CASES += [("first_order", wrapper, devices) for wrapper in WRAPPERS for devices in (1, 2, 8)]
TEXT_CASES += [("finite_difference", "pmap", 2), ("unrolled", "pmap", 2), ("reference", "shard", 8)]


def text_differences():
    """Differences of steps on text from those on one device, by case."""
    found, expected = {}, {}
    programs = {name: text_search(name) for name in TEXT_ESTIMATORS}
    state = started(programs["exact"])
    inputs = [(*texts(), jnp.int32(length)) for length in (3, 1, 3, 2, 3)]
    for name, program in programs.items():
        expected[name] = taken(parallel.jit_step(program.step), state, inputs)
    whole = {"split": (False, False, False)}
    for name, wrapper, devices in TEXT_CASES:
        result = taken(WRAPPERS[wrapper](programs[name].step, devices, **whole), state, inputs)
        found[f"text {name} {wrapper} {devices}"] = difference(result, expected[name])
    # The steps do something: weights, alphas, hidden states and running statistics are others than at the start.
    moved = [expected["exact"][0], jax.tree.map(lambda leaf: () if is_key(leaf) else np.asarray(leaf), state)]
    parts = [
        (s.bilevel.weights, s.bilevel.alphas, s.train.hidden, s.valid.hidden, s.bilevel.model_state) for s in moved
    ]
    found["text moved"] = min(difference(*pair) for pair in zip(*parts))

    program = text_training()
    step = functools.partial(program.step, size=TEXT["bptt"])
    state = started(program)
    inputs = [(texts()[0], jnp.int32(length), jnp.bool(False)) for length in (3, 1, 3)]
    result = taken(parallel.jit_step(step), state, inputs)
    for wrapper in WRAPPERS:
        other = taken(WRAPPERS[wrapper](step, 2, **whole), state, inputs)
        found[f"text training {wrapper}"] = difference(other, result)
    return found


def main():
    found = {}
    state = start(MixedLayer)
    pure = {name: step(MixedLayer, hypergradient) for name, hypergradient in ESTIMATORS.items()}
    expected = {name: taken(parallel.jit_step(each), state) for name, each in pure.items()}
    for name, wrapper, devices in CASES:
        result = taken(WRAPPERS[wrapper](pure[name], devices), state)
        found[f"{name} {wrapper} {devices}"] = difference(result, expected[name])
    own = taken(parallel.shard_step(step(MixedLayer, None, synchronised=False), 8), state)
    found["per device"] = difference(own, expected["exact"])

    state, pure = start(supernet), step(supernet, None)
    expected = taken(parallel.jit_step(pure), state)
    sharded = parallel.shard_step(pure, 8)
    found["supernet shard 8"] = difference(taken(sharded, state), expected)
    found["collectives"] = collectives(sharded.lower(state, *batches(1)[0]).compile().as_text())

    for network, seeds, devices in ((MixedLayer, 4, 2), (supernet, 2, 1)):
        pure = step(network, None)
        states = [start(network, seed) for seed in range(seeds)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        together = taken(parallel.vmap_step(pure, devices, stacked=(False, False)), stacked)
        lanes = [jax.tree.map(lambda leaf, i=i: leaf[i], together) for i in range(seeds)]
        alone = parallel.jit_step(pure)
        far = [difference(lane, taken(alone, state)) for lane, state in zip(lanes, states)]
        found[f"{network.__name__} seeds {devices}"] = max(far)
        found[f"{network.__name__} seeds {devices} apart"] = difference(lanes[0], lanes[1])
    print(json.dumps(found | text_differences() | image_training_differences()))


if __name__ == "__main__":
    for setting, value in (("enable_x64", True), ("numpy_dtype_promotion", "strict"), ("num_cpu_devices", 8)):
        jax.config.update(f"jax_{setting}", value)
    with jax.numpy_dtype_promotion("standard"):
        main()

"""Bilevel steps on up to eight devices against one; as a program, what the tests of `jdarts.parallel` read, in JSON."""

import functools
import gc
import itertools
import json
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from shared_lowering import share_contexts
from state_leaves import is_key, stacked

import jdarts
from jdarts import optim, parallel
from jdarts.data import Augmentation
from jdarts.language.search import LanguageSearchConfig
from jdarts.language.search.step import search_program
from jdarts.language.train import LanguageTrainConfig
from jdarts.language.train.step import train_program
from jdarts.nets.discrete import cifar_network
from jdarts.nets.language import LanguageModel, Masks
from jdarts.nets.language_loss import Segment, language_loss
from jdarts.nets.layers import Convolution, NormalisedSum
from jdarts.nets.supernet import Supernet
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.norm import Plan
from jdarts.relaxation import init_alphas
from jdarts.runs.images import Batch
from jdarts.search.step import supernet_loss
from jdarts.space import CELL_KINDS
from jdarts.train import TrainConfig
from jdarts.train.step import Conditions
from jdarts.train.task import program_from_config
from jdarts.xla.tracing import with_stack_space

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


def optimizers() -> Any:
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


@functools.cache
def shapes_of(network):
    """Shapes of the alphas, and of a network's variables."""

    def variables(key):
        alphas = init_alphas(key, SPACE, jnp.float64)
        return alphas, network(None).init(key, jnp.zeros((1, 8, 8, 1)), alphas, train=True)

    return jax.eval_shape(variables, jax.random.key(0))


def start(network, seed=0):
    """The state before the first step, of random numbers."""
    alphas, variables = shapes_of(network)
    draw = np.random.default_rng(seed)
    weights, alphas = jax.tree.map(lambda leaf: 0.5 * draw.normal(size=leaf.shape), (variables["params"], alphas))
    statistics = jax.tree.map(lambda leaf: draw.uniform(0.5, 1.5, size=leaf.shape), variables["batch_stats"])
    return initial(jax.random.key(seed), weights, alphas, statistics)


initial = jax.jit(functools.partial(jdarts.init_state, **optimizers()))


def batches(steps=STEPS, seed=0):
    """Training and validation batches of the steps."""
    draw = np.random.default_rng(seed)

    def one():
        return draw.normal(size=(BATCH, 8, 8, 1)), draw.integers(3, size=BATCH, dtype=np.int32)

    return [(one(), one()) for _ in range(steps)]


def taken(wrapped, state, inputs=None):
    """State after the steps and the last one's metrics; without keys, which no step changes."""
    metrics, start = {}, state
    for each in inputs or batches():
        new, metrics = wrapped(state, *each)
        # Off the devices: a state that lies where the last step left it would be another program.
        state = jax.tree.map(lambda old, leaf: old if is_key(old) else np.asarray(leaf), start, new)
    return without_keys((state, metrics))


def without_keys(tree):
    """The arrays on the host."""
    return jax.tree.map(lambda leaf: () if is_key(leaf) else np.asarray(leaf), tree)


VOCABULARY, COLUMNS, ROWS = 20, 8, 25
TEXT = {"batch_size": COLUMNS, "bptt": 3, "width": 8, "dropoute": 0.1, "activation": 0.1, "learning_rate": 1.0}
RECURRENT = ("tanh", "identity")


def text_search(name):
    """Program of a search on text with every kind of dropout, by the name of its estimator."""
    config = LanguageSearchConfig(nodes=1, operations=RECURRENT, hypergradient=name, **TEXT)
    return search_program(config, vocabulary=VOCABULARY, rows=(ROWS, ROWS), steps_per_epoch=3, dtype=jnp.float64)


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
    return program_from_config(TrainConfig(), model.clone(dtype=jnp.float64), **seen)


def image_training_differences():
    """Differences of training steps on two devices from those on one, and of one without dropped paths."""
    program = image_training()

    def step(state, images, labels, rows, drop_path, *, axis_name):
        conditions = Conditions(jnp.float64(0.1), drop_path, jnp.bool(False))
        return program.step(state, Batch(images, labels, rows), conditions, axis_name=axis_name)

    state: Any = jax.jit(program.init)(0)
    state = state.replace(sums={name: jnp.zeros(()) for name in state.sums})
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(20, 8, 8, 1), dtype=np.uint8), draw.integers(3, size=20, dtype=np.int32)
    rows = [draw.permutation(20)[:BATCH].astype(np.int32) for _ in range(2)]
    inputs = [(*images, each, np.float64(0.3)) for each in rows]
    alone = parallel.jit_step(step)
    expected = taken(alone, state, inputs)
    split = (False, False, True, False)
    found = {"image training": difference(taken(parallel.shard_step(step, 2, split=split), state, inputs), expected)}
    whole = taken(alone, state, [(*images, each, np.float64(0.0)) for each in rows])
    found["image training drops"] = difference(whole[0].weights, expected[0].weights)
    return found


def texts(seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(VOCABULARY, size=(ROWS + TEXT["bptt"], COLUMNS), dtype=np.int32) for _ in range(2)]


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


#: What compiles a step for several devices; `jit_step` has the steps on one, which all others are compared with.
WRAPPERS = {"pmap": parallel.pmap_step, "shard": parallel.shard_step}
DEVICES = (1, 2, 8)
#: Kind of problem, estimator, wrapper, devices: all of them where a program compiles in no time, some on the real layers, where
#: gradients are clipped and weights decay.
PLAIN_CASES = [("plain", *case) for case in itertools.product(ESTIMATORS, WRAPPERS, DEVICES)]
LAYER_CASES = [
    (kind, *case)
    for kind in ("layer", "cell")
    for case in [
        # The whole network takes exact steps under `shard_step`.
        ("exact", "pmap", 2),
        ("finite_difference", "shard", 2),
        ("first_order", "pmap", 8),
        ("unrolled", "shard", 2),
    ]
    # The text cases take exact steps and finite differences of the same cell, with all that a search draws.
    if kind == "layer" or case[0] not in ("exact", "finite_difference")
]
CASES = PLAIN_CASES + LAYER_CASES
TEXT_CASES = [("exact", "shard", 8), ("exact", "pmap", 2), ("reference", "shard", 2)]


def plain_problem():
    """Start and inputs of the bilevel steps of a network without layers, with statistics of its batch, and the pure steps.

    Its loss has few operations, since most cases are its steps.
    """
    sgd: Any = optax.sgd
    given = {"weight_optimizer": sgd(0.1, momentum=0.9), "alpha_optimizer": sgd(0.1, momentum=0.5)}
    weights = 0.1 * np.random.default_rng(1).normal(size=(64, 3))
    alphas = np.linspace(0.5, 1.5, 3)

    def loss_on(axis_name):
        def loss_fn(weights, alphas, model_state, batch, key):
            images, labels = batch
            features = images.reshape(len(images), -1) @ weights
            mean = jnp.mean(features, axis=0)
            mean = mean if axis_name is None else jax.lax.pmean(mean, axis_name)
            outputs = jnp.sin(alphas * (features - mean))
            loss = jnp.mean(jnp.square(outputs - labels.astype(outputs.dtype)[:, None]))
            return loss, (0.9 * model_state + 0.1 * mean, {"mean": jnp.mean(outputs)})

        return loss_fn

    def pure(hypergradient):
        def bilevel_step(state, train, valid, *, axis_name):
            return jdarts.bilevel_step(
                state,
                train,
                valid,
                loss_fn=loss_on(axis_name),
                hypergradient=hypergradient,
                axis_name=axis_name,
                **given,
            )

        return bilevel_step

    begun = jdarts.init_state(jax.random.key(0), weights, alphas, np.zeros(3), **given)
    return begun, batches(), {name: pure(each) for name, each in ESTIMATORS.items()}


def layer_problem():
    """Start and inputs of the bilevel steps of a mixed layer, and the pure steps by estimator."""
    pure = {name: step(MixedLayer, hypergradient) for name, hypergradient in ESTIMATORS.items()}
    return start(MixedLayer), batches(), pure


def cell_problem():
    """The same for a recurrent cell of one node, which carries its hidden states on."""
    space = jdarts.recurrent_space(RECURRENT, nodes=1)
    model = LanguageModel(space, VOCABULARY, 3, jnp.float64)
    weight_optimizer = optim.recurrent_weight_optimizer(1.0)
    given = {"weight_optimizer": weight_optimizer, "alpha_optimizer": optim.alpha_optimizer(0.1)}
    hidden = np.zeros((COLUMNS, 3))

    def variables(key):
        alphas = init_alphas(key, space, jnp.float64)
        return alphas, model.init(key, texts()[0][:1], hidden, alphas, train=True)

    alphas, shapes = jax.eval_shape(variables, jax.random.key(0))
    draw = np.random.default_rng(1)
    # Large weights, that all gradients are far above rounding.
    weights, alphas = jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), (shapes["params"], alphas))
    statistics = jax.tree.map(lambda leaf: draw.uniform(0.5, 1.5, size=leaf.shape), shapes["batch_stats"])
    begun = jax.jit(functools.partial(jdarts.init_state, **given))(jax.random.key(2), weights, alphas, statistics)
    masks = Masks(output=jnp.asarray(2.0 * draw.integers(2, size=(COLUMNS, 3))))

    def pure(hypergradient):
        def bilevel_step(state, train, valid, *, axis_name):
            begun, *hidden = state
            segments = [Segment(words[:-1], words[1:], h, masks=masks) for words, h in zip((train, valid), hidden)]
            loss = language_loss(model.clone(axis_name=axis_name), axis_name=axis_name)
            new, metrics = jdarts.bilevel_step(
                begun, *segments, loss_fn=loss, hypergradient=hypergradient, axis_name=axis_name, **given
            )
            return (new, metrics.pop("train/hidden"), metrics.pop("valid/hidden")), metrics

        return bilevel_step

    words = [[text[3 * place : 3 * place + 3] for text in texts()] for place in range(STEPS)]
    return (begun, hidden, hidden), words, {name: pure(each) for name, each in ESTIMATORS.items()}


def side_by_side(pure, names):
    """One program of the steps of several estimators, each with its own state."""

    def steps(states, *inputs, axis_name):
        taken = {name: pure[name](states[name], *inputs, axis_name=axis_name) for name in names}
        return {name: new for name, (new, _) in taken.items()}, {name: metrics for name, (_, metrics) in taken.items()}

    return steps


def by_estimator(wrapped, state, names, inputs):
    """State after the steps of each estimator, and the last one's metrics."""
    states, metrics = taken(wrapped, dict.fromkeys(names, state), inputs)
    return {name: (states[name], metrics[name]) for name in names}


@functools.cache
def problem(kind):
    """Start and inputs of a kind's steps, the pure steps by the estimators of its cases, and whether its batches are split."""
    make, split = {"plain": (plain_problem, True), "layer": (layer_problem, True), "cell": (cell_problem, False)}[kind]
    state, inputs, pure = make()
    estimators = {case[1] for case in CASES if case[0] == kind}
    return state, inputs, {name: each for name, each in pure.items() if name in estimators}, split


@functools.cache
def alone(kind):
    """One program of the steps of a kind's estimators on one device."""
    _, _, pure, _ = problem(kind)
    return parallel.jit_step(side_by_side(pure, pure))


def differences():
    """Differences of the steps of all `CASES` from those on one device, and how far these have moved, by case."""
    found = {}
    for kind in ("plain", "layer", "cell"):
        state, inputs, pure, split = problem(kind)
        cases = [case[1:] for case in CASES if case[0] == kind]
        expected = by_estimator(alone(kind), state, pure, inputs)
        for name in pure:
            found[f"{kind} {name} moved"] = least_moved(expected[name][0], without_keys(state))
        for wrapper, devices in dict.fromkeys(case[1:] for case in cases):
            shared = [name for name in pure if (name, wrapper, devices) in cases]
            wrapped = WRAPPERS[wrapper](side_by_side(pure, shared), devices, split=(split, split))
            for name, each in by_estimator(wrapped, state, shared, inputs).items():
                found[f"{kind} {name} {wrapper} {devices}"] = difference(each, expected[name])
    return found


def carried(state):
    """What a step of a search on text changes: the bilevel state and the hidden states."""
    return without_keys((state.bilevel, state.train.hidden, state.valid.hidden))


def least_moved(after, before):
    """The least difference of weights, alphas, running statistics and hidden states from those at the start."""

    def parts(state):
        begun, *hidden = state if isinstance(state, tuple) else (state,)
        return [begun.weights, begun.alphas, begun.model_state, *hidden]

    return min(map(difference, parts(after), parts(before)))


def text_differences():
    """Differences of steps of searches and trainings on text, with all they draw, from those on one device, by case."""
    found, split = {}, (False, False, False)
    programs = {name: text_search(name) for name in ("exact", "reference")}
    state = started(programs["exact"])
    inputs = [(*texts(), np.int32(length)) for length in (3, 1, 3, 2, 3)]
    expected = {name: taken(parallel.jit_step(each.step), state, inputs) for name, each in programs.items()}
    for name, (after, _) in expected.items():
        found[f"text {name} moved"] = least_moved(carried(after), carried(state))
    for name, wrapper, devices in TEXT_CASES:
        wrapped: Any = WRAPPERS[wrapper](programs[name].step, devices, split=split)
        if (name, wrapper) == ("exact", "shard"):
            wrapped = wrapped.lower(state, *inputs[0]).compile()
            found["text collectives"] = collectives(wrapped.as_text())
        found[f"text {name} {wrapper} {devices}"] = difference(taken(wrapped, state, inputs), expected[name])

    program = text_training()
    step = functools.partial(program.step, size=TEXT["bptt"])
    state = started(program)
    inputs = [(texts()[0], np.int32(length), np.bool(False)) for length in (3, 1, 3)]
    result = taken(parallel.jit_step(step), state, inputs)
    wrapped = parallel.shard_step(step, 2, split=split).lower(state, *inputs[0]).compile()
    found["text training"] = difference(taken(wrapped, state, inputs), result)
    found["text training collectives"] = collectives(wrapped.as_text())
    return found


def layer_alone(state):
    """State and metrics after steps of the mixed layer on one device, by estimator."""
    _, inputs, pure, _ = problem("layer")
    return by_estimator(alone("layer"), state, pure, inputs)


def several(network, seeds, devices):
    """First states of runs that differ in their seeds, and state and metrics of each after exact steps of all at once."""
    states = [start(network, seed) for seed in range(seeds)]
    together = taken(parallel.vmap_step(step(network, None), devices, stacked=(False, False)), stacked(states))
    return states, [jax.tree.map(lambda leaf, i=i: leaf[i], together) for i in range(seeds)]


@with_stack_space
def main():
    found = {}
    state = start(MixedLayer)
    own = taken(parallel.shard_step(step(MixedLayer, jdarts.first_order(), synchronised=False), 8), state)
    found["per device"] = difference(own, layer_alone(state)["first_order"])

    states, lanes = several(MixedLayer, 4, 2)
    found["MixedLayer seeds 2"] = max(map(difference, lanes, (layer_alone(state)["exact"] for state in states)))
    found["MixedLayer seeds 2 apart"] = difference(lanes[0], lanes[1])

    states, lanes = several(supernet, 2, 1)
    sharded = parallel.shard_step(step(supernet, None), 8).lower(states[0], *batches(1)[0]).compile()
    found["supernet shard 8 and seeds 1"] = max(map(difference, (taken(sharded, state) for state in states), lanes))
    found["supernet seeds 1 apart"] = difference(lanes[0], lanes[1])
    found["collectives"] = collectives(sharded.as_text())
    print(json.dumps(found | differences() | text_differences() | image_training_differences()))


if __name__ == "__main__":
    for setting, value in (("enable_x64", True), ("numpy_dtype_promotion", "strict"), ("num_cpu_devices", 8)):
        jax.config.update(f"jax_{setting}", value)
    # As in conftest.py.
    share_contexts()
    gc.set_threshold(100_000, 50, 50)
    gc.freeze()
    with jax.numpy_dtype_promotion("standard"):
        main()

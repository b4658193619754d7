"""Options of mixed edges: the stacked supernet against the one that is written edge by edge, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import plain_supernet
import pytest
from torch_layout import stacked_params, stacked_statistics

import jdarts
from jdarts.nets import mixed_stage
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import GIVEN, Mixture, MixtureWeights, init_alphas, softmax_strengths, softmax_weights
from jdarts.space import CELL_KINDS

SEPARABLE, DILATED, SKIP, MAX, AVG = "sep_conv_3x3", "dil_conv_5x5", "skip_connect", "max_pool_3x3", "avg_pool_3x3"

#: Every edge has a skip connection, in another column than its neighbours; lists have several lengths.
SPACE = jdarts.SearchSpace(
    normal=((SKIP, DILATED), ("none", SEPARABLE, SKIP), (MAX, SKIP), (SKIP,), (AVG, SKIP, MAX)),
    reduce=((SKIP, MAX), (DILATED, SKIP), (SEPARABLE, SKIP), ("none", AVG, SKIP), (SKIP, SEPARABLE)),
)
CELLS, IMAGES = 3, 3


def _alphas_with_edges(key, space, dtype):
    edges = {kind: jnp.ones(space.num_edges, dtype) for kind in CELL_KINDS}
    return {"operations": init_alphas(key, space, dtype), "edges": edges}


#: A mixture whose alphas also have factors of whole edges.
WITH_EDGES = Mixture(
    _alphas_with_edges,
    lambda alphas, space, key, controls: MixtureWeights(softmax_weights(alphas["operations"], space), alphas["edges"]),
    softmax_strengths,
)


def factors(number, shape):
    """Numbers that stand for those of a random mask, another set for every place."""
    return jnp.asarray(np.random.default_rng(number).choice([0.0, 1.0, 2.5], size=shape))


def options_of(name):
    """Attributes of the supernet, controls, and options of the plain network."""
    plain = functools.partial(plain_supernet.Options, skip_factors=factors, path_factors=factors)
    off = {"skip_factors": None, "path_factors": None}
    match name:
        case "partial_channels":
            return {"partial_channels": 4}, {}, plain(partial_channels=4, **off)
        case "auxiliary_skip":
            kinds = {"auxiliary_skip": "skip", "auxiliary_weight": 0.7}
            return {"auxiliary_skip": "skip"}, {"auxiliary_weight": 0.7}, plain(**kinds, **off)
        case "auxiliary_convolution":
            kinds = {"auxiliary_skip": "conv", "auxiliary_weight": 0.7}
            return {"auxiliary_skip": "conv"}, {"auxiliary_weight": 0.7}, plain(**kinds, **off)
        case "skip_dropout":
            return {"skip_dropout": True}, {"skip_dropout": 0.5}, plain(path_factors=None)
        case "drop_path":
            return {"drop_path": True}, {"drop_path": 0.5}, plain(skip_factors=None)
        case "unused":
            given = {"skips_unused": True, "given_shares": True}
            return {"skips_unused": True, "mixture": GIVEN}, {}, plain(**given, **off)
    settings = {"partial_channels": 2, "auxiliary_skip": "conv", "skip_dropout": True, "drop_path": True}
    controls = {"auxiliary_weight": 0.7, "skip_dropout": 0.5, "drop_path": 0.5}
    return settings, controls, plain(partial_channels=2, auxiliary_skip="conv", auxiliary_weight=0.7)


NAMES = ("partial_channels", "auxiliary_skip", "auxiliary_convolution", "skip_dropout", "drop_path", "all_at_once")


class Pair:
    """The stacked network and the plain one with the same options and random weights."""

    def __init__(self, name, seed=0):
        draw = np.random.default_rng(seed)
        settings, self.controls, self.options = options_of(name)
        sizes = {"channels": 8, "layers": CELLS, "classes": 3, "image_channels": 1}
        shape = {"space": SPACE, "options": self.options, **sizes}
        self.flat = plain_supernet.init_weights(draw, dtype=np.float64, **shape)
        settings = {"mixture": WITH_EDGES, **settings}
        self.model = Supernet(SPACE, channels=8, cells=CELLS, classes=3, dtype=jnp.float64, **settings)
        self.alphas = {
            "operations": {kind: jnp.asarray(draw.normal(size=(5, SPACE.width(kind)))) for kind in CELL_KINDS},
            "edges": {kind: jnp.asarray(draw.uniform(0.3, 1, size=5)) for kind in CELL_KINDS},
        }
        self.images = jnp.asarray(draw.normal(size=(IMAGES, 8, 8, 1)))
        self.cotangent = jnp.asarray(draw.normal(size=(IMAGES, 3)))
        self.params = jax.tree.map(jnp.asarray, stacked_params(self.flat, SPACE, CELLS))
        by_edge = self.options.skips_unused
        self.statistics = jax.tree.map(jnp.asarray, stacked_statistics(self.flat, SPACE, CELLS, by_edge=by_edge))

    def stacked(self, params, alphas, *, train, **settings):
        variables = {"params": params, "batch_stats": self.statistics}
        return self.model.clone(**settings).apply(
            variables,
            self.images,
            alphas,
            train=train,
            controls=self.controls,
            mutable=["batch_stats"],
            rngs={"noise": jax.random.key(1)} if train else {},
        )

    def plain(self, flat, alphas, *, train):
        return plain_supernet.forward(
            flat,
            alphas["operations"],
            self.images,
            space=SPACE,
            train=train,
            edge_shares=alphas["edges"],
            options=self.options,
        )

    def value(self, params, alphas, **settings):
        logits, changed = self.stacked(params, alphas, train=True, **settings)
        return jnp.sum(jnp.sin(logits) * self.cotangent), (logits, changed["batch_stats"])


@pytest.fixture
def known_masks(monkeypatch):
    """Masks that the plain network knows: another one for every place of a stage."""

    def dropout(key, x, probability):
        return x * jnp.stack([factors(place, x.shape[1:]) for place in range(x.shape[0])])

    def drop_path_factors(key, probability, shape, dtype):
        return jnp.stack([factors(place, shape[1:]) for place in range(shape[0])])

    monkeypatch.setattr(mixed_stage, "dropout", dropout)
    monkeypatch.setattr(mixed_stage, "drop_path_factors", drop_path_factors)


def close(found, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10), found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_training_and_evaluation_are_those_of_the_plain_network(name, known_masks):
    pair = Pair(name)
    frozen = {n: value for n, value in pair.flat.items() if plain_supernet.is_running_statistic(n)}
    moving = {n: jnp.asarray(value) for n, value in pair.flat.items() if n not in frozen}

    def plain(flat, alphas):
        logits, statistics = pair.plain(flat | frozen, alphas, train=True)
        return jnp.sum(jnp.sin(logits) * pair.cotangent), (logits, statistics)

    @jax.jit
    def stacked(params, alphas):
        evaluated, unchanged = pair.stacked(params, alphas, train=False)
        return jax.grad(pair.value, argnums=(0, 1), has_aux=True)(params, alphas), evaluated, unchanged["batch_stats"]

    (grads, (logits, statistics)), evaluated, unchanged = stacked(pair.params, pair.alphas)
    expected, (plain_logits, plain_statistics) = jax.grad(plain, argnums=(0, 1), has_aux=True)(moving, pair.alphas)
    close(logits, plain_logits)
    changed = {n: np.asarray(value) for n, value in plain_statistics.items()}
    close(statistics, stacked_statistics(pair.flat | changed, SPACE, CELLS))
    of_weights = {n: np.asarray(value) for n, value in expected[0].items()}
    close(grads[0], stacked_params(of_weights, SPACE, CELLS))
    close(grads[1], expected[1])
    close(evaluated, pair.plain(pair.flat, pair.alphas, train=False)[0])
    close(unchanged, pair.statistics)


def test_operations_of_factor_0_keep_their_statistics():
    pair = Pair("unused")
    # On every edge one operation alone, on the last edge none.
    one_hot = {
        kind: jnp.stack(
            [jax.nn.one_hot(n % len(names), SPACE.width(kind)) for n, names in enumerate(SPACE.operations(kind))]
        )
        for kind in CELL_KINDS
    }
    pair.alphas = {kind: table.at[-1].set(0) for kind, table in one_hot.items()}
    logits, changed = jax.jit(functools.partial(pair.stacked, train=True))(pair.params, pair.alphas)
    expected, statistics = pair.plain(pair.flat, {"operations": pair.alphas, "edges": None}, train=True)
    close(logits, expected)
    flat = {n: np.asarray(value) for n, value in statistics.items()}
    close(changed["batch_stats"], stacked_statistics(flat, SPACE, CELLS, by_edge=True))
    evaluated, _ = jax.jit(functools.partial(pair.stacked, train=False))(pair.params, pair.alphas)
    close(evaluated, pair.plain(pair.flat, {"operations": pair.alphas, "edges": None}, train=False)[0])

"""Supernets of PC-DARTS, DARTS- and P-DARTS, and of GDAS's chosen operations, against the authors' own numbers."""

import itertools
import json
from typing import Any, NamedTuple

import gdas_networks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fixtures_folder import fixture_files
from torch_layout import renamed, stacked_params, stacked_statistics

import jdarts
from jdarts.methods.mixtures import gumbel_softmax, straight_through
from jdarts.nets.edge_options import EdgeFactors, EdgeOptions
from jdarts.nets.mixed_stage import MixedStage
from jdarts.nets.stages import stages
from jdarts.nets.supernet import Supernet
from jdarts.ops.channel_shuffle import channel_shuffle
from jdarts.relaxation import GIVEN, Mixture, MixtureWeights, init_alphas, softmax_strengths, softmax_weights
from jdarts.space import CELL_KINDS

#: Largest difference allowed, as a share of the array's largest value.
TOLERANCE = 1e-9

each_pcdarts = pytest.mark.parametrize("path", fixture_files("pcdarts*.npz"))
each_dartsminus = pytest.mark.parametrize("path", fixture_files("dartsminus*.npz"))
each_pdarts = pytest.mark.parametrize("path", fixture_files("pdarts*.npz"))
each_gdas = pytest.mark.parametrize("path", fixture_files("gdas*.npz"))


def with_betas(space):
    """PC-DARTS: a softmax over each edge's operations, and one over each node's edges."""

    def edge_weights(betas):
        starts = np.cumsum([0, *range(2, 2 + space.nodes)])
        parts = [jax.nn.softmax(betas[start:end]) for start, end in itertools.pairwise(starts)]
        return jnp.concatenate(parts)

    def weights(alphas, space, key, controls):
        betas = {kind: edge_weights(alphas["betas"][kind]) for kind in CELL_KINDS}
        return MixtureWeights(softmax_weights(alphas["alphas"], space), betas)

    return Mixture(lambda key, space, dtype: init_alphas(key, space, dtype), weights, softmax_strengths)


class Case(NamedTuple):
    """One file, and the network that it is of."""

    file: Any
    prefix: str
    space: jdarts.SearchSpace
    cells: int

    def below(self, prefix):
        found = {name.removeprefix(prefix): array for name, array in self.file.items() if name.startswith(prefix)}
        return renamed(found)

    def params(self, prefix):
        return stacked_params(self.below(prefix), self.space, self.cells)

    def statistics(self, changed=None):
        """Those at the start, or after changes; edges have statistics of pools for themselves, as the authors' do."""
        flat = self.below(f"{self.prefix}weights/") | (self.below(changed) if changed else {})
        return stacked_statistics(flat, self.space, self.cells, by_edge=True)

    def by_kind(self, prefix):
        return {kind: self.file[f"{prefix}/{kind}"] for kind in CELL_KINDS}

    def model(self, **settings):
        """The network."""
        return Supernet(
            self.space,
            channels=self.file[f"{self.prefix}weights/stem.0.weight"].shape[0] // 3,
            cells=self.cells,
            classes=self.file[f"{self.prefix}weights/classifier.weight"].shape[0],
            dtype=jnp.float64,
            skips_unused=True,
            **settings,
        )

    def statistics_after(self, alphas, **settings):
        """The statistics after a forward pass in training."""
        model, x = self.model(**settings), jnp.asarray(self.file["x"].transpose(0, 2, 3, 1))

        @jax.jit
        def passed(params, statistics):
            variables = {"params": params, "batch_stats": statistics}
            return model.apply(variables, x, alphas, train=True, mutable=["batch_stats"])[1]["batch_stats"]

        return passed(self.params(f"{self.prefix}weights/"), self.statistics())

    def program(self, images="", *, evaluates=True, **settings):
        """A function of alphas and controls to the loss in training, its gradients, logits and new statistics.

        `evaluates`: whether to logits in evaluation too.
        """
        model = self.model(**settings)
        x = jnp.asarray(self.file[f"{images}x"].transpose(0, 2, 3, 1))
        labels = jnp.asarray(self.file[f"{images}y"], jnp.int32)

        def loss(params, alphas, statistics, controls):
            variables = {"params": params, "batch_stats": statistics}
            logits, changed = model.apply(variables, x, alphas, train=True, controls=controls, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), (logits, changed)

        @jax.jit
        def everything(params, alphas, statistics, controls):
            trained = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, alphas, statistics, controls)
            (value, (logits, changed)), grads = trained
            found = {"loss": value, "logits": logits, "grads": grads, "statistics": changed["batch_stats"]}
            if evaluates:
                variables = {"params": params, "batch_stats": statistics}
                found["eval"] = model.apply(variables, x, alphas, train=False, controls=controls)
            return found

        params, statistics = self.params(f"{self.prefix}weights/"), self.statistics()
        return lambda alphas, controls: jax.device_get(everything(params, alphas, statistics, controls))


def read(path, prefix="", images="", primitives="primitives", columns=None):
    file = dict(np.load(path))
    names = json.loads(str(file[primitives]))
    if isinstance(names, dict):
        space = jdarts.SearchSpace(normal=names["primitives_normal"], reduce=names["primitives_reduct"])
    elif columns:
        lists: Any = {
            kind: [[name for name, on in zip(names, row) if on] for row in file[f"{columns}/{kind}"]]
            for kind in CELL_KINDS
        }
        space = jdarts.SearchSpace(**lists)
    else:
        edges = file[f"{images}alphas/normal"].shape[0]
        space = jdarts.uniform_space(names, nodes=next(n for n in range(1, 20) if n * (n + 3) // 2 == edges))
    flat = [name for name in file if name.startswith(f"{prefix}weights/cells.")]
    return Case(file, prefix, space, 1 + max(int(name.split("cells.")[1].split(".")[0]) for name in flat))


def check(found, expected):
    """Every array to a share of its largest value; arrays that are tiny beside the largest of the tree to that."""
    leaves = jax.tree.leaves_with_path(expected)
    floor = 1e-6 * max(np.abs(value).max() for _, value in leaves)
    wrong = {}
    for (path, value), ours in zip(leaves, jax.tree.leaves(found), strict=True):
        error = np.abs(np.asarray(ours) - value).max() / max(np.abs(value).max(), floor)
        if not error <= TOLERANCE:
            wrong[jax.tree_util.keystr(path)] = float(error)
    assert not wrong, f"relative errors above {TOLERANCE}: {wrong}"


@each_pcdarts
def test_fixture_partial_channels_and_edge_weights(path):
    case = read(path)
    alphas = {"alphas": case.by_kind("alphas"), "betas": case.by_kind("betas")}
    k = int(case.file["hyper/k"])
    found = case.program(mixture=with_betas(case.space), partial_channels=k)(alphas, {})
    weights = with_betas(case.space).weights(alphas, case.space, None, {})
    check(weights.operations, case.by_kind("mixture"))
    check(weights.edges, case.by_kind("edge_weights"))
    check(found["eval"], case.file["eval/logits"])
    check(found["logits"], case.file["train/logits"])
    check(found["loss"], case.file["train/loss"])
    check(found["grads"][0], case.params("train/grad_weights/"))
    check(found["grads"][1]["alphas"], case.by_kind("train/grad_alphas"))
    check(found["grads"][1]["betas"], case.by_kind("train/grad_betas"))
    check(found["statistics"], case.statistics("after_train_forward/"))


@each_pcdarts
@pytest.mark.parametrize("stride", [1, 2])
def test_fixture_one_edge_with_partial_channels(path, stride):
    """One edge of a cell of one node; the other edge has the factor 0."""
    case = read(path)
    operations = tuple(json.loads(str(case.file["primitives"])))
    space = jdarts.uniform_space(operations, nodes=1)
    names = ("x", "mixture", "output", "cotangent", "grad_x", "grad_mixture")
    edge = {name: jnp.asarray(case.file[f"edge/stride{stride}/{name}"]) for name in names}
    kind, index = ("reduce", 1) if stride == 2 else ("normal", 0)
    # Both edges have the same weights.
    own = case.below(f"edge/stride{stride}/weights/")
    flat = {name: value for name, value in case.below("weights/").items() if "_ops." not in name}
    flat |= {f"cells.{index}._ops.{n}.{name}": value for name, value in own.items() for n in range(2)}
    tree = {
        "params": stacked_params(flat, space, case.cells, only=index)[f"cell{index}"]["stage0"],
        "batch_stats": stacked_statistics(flat, space, case.cells, only=index)[f"cell{index}"]["stage0"],
    }
    options = EdgeOptions(partial_channels=int(case.file["hyper/k"]))
    stage = MixedStage(next(stages(space, kind)), 1, stride, None, options)

    def output(x, mixture):
        states = jnp.stack([x, jnp.zeros_like(x)]).transpose(0, 1, 3, 4, 2)
        one = jnp.asarray([1.0, 0.0])
        factors = EdgeFactors(one[:, None] * mixture[None, :], one)
        (node, _), _ = stage.apply(tree, states, None, factors, train=True, mutable=["batch_stats"])
        return node[0].transpose(0, 3, 1, 2)

    found, pull = jax.vjp(jax.jit(output), edge["x"], edge["mixture"])
    check(found, edge["output"])
    grad_x, grad_mixture = pull(edge["cotangent"])
    check(grad_x, edge["grad_x"])
    check(grad_mixture, edge["grad_mixture"])


@each_pcdarts
def test_fixture_channel_shuffle(path):
    file = np.load(path)
    x = jnp.asarray(file["shuffle/x"].transpose(0, 2, 3, 1))
    shuffled = channel_shuffle(x, int(file["shuffle/groups"]))
    np.testing.assert_array_equal(shuffled.transpose(0, 3, 1, 2), file["shuffle/output"])


@each_dartsminus
def test_fixture_auxiliary_skip_connections(path):
    case = read(path)
    results, first = case.program(auxiliary_skip="skip"), True
    for epoch in case.file["epochs"]:
        prefix = f"epoch{epoch}"
        controls = {"auxiliary_weight": float(case.file[f"{prefix}/beta"])}
        found = results(case.by_kind("alphas"), controls)
        check(found["eval"], case.file[f"{prefix}/eval/logits"])
        check(found["logits"], case.file[f"{prefix}/train/logits"])
        check(found["loss"], case.file[f"{prefix}/train/loss"])
        check(found["grads"][1], case.by_kind(f"{prefix}/train/grad_alphas"))
        if first:
            check(found["grads"][0], case.params(f"{prefix}/train/grad_weights/"))
        first = False


@each_pdarts
def test_fixture_network_with_lists_of_its_own_on_every_edge(path):
    case = read(path, "network/", columns="stage1/on_before")
    found = case.program("network/", evaluates=False)(case.by_kind("stage1/alphas"), {})
    check(found["logits"], case.file["network/logits"])
    check(found["loss"], case.file["network/loss"])
    check(found["grads"][1], case.by_kind("network/grad_alphas"))


@each_gdas
def test_fixture_operations_without_a_share_keep_their_statistics(path):
    """GDAS evaluates the chosen operation of each edge alone."""
    case = read(path, "darts/", "darts/", "darts/primitives")
    hard = case.by_kind("darts/hard")
    found = case.program(evaluates=False, mixture=GIVEN)(hard, {})
    for part in ("chosen", "all"):
        check(found["logits"], case.file[f"darts/{part}/logits"])
        check(found["loss"], case.file[f"darts/{part}/loss"])
        check(found["grads"][0], case.params(f"darts/{part}/grad_weights/"))
    check(found["grads"][1], case.by_kind("darts/all/grad_hard"))
    check({kind: hard[kind] * found["grads"][1][kind] for kind in hard}, case.by_kind("darts/chosen/grad_hard"))
    check(found["statistics"], case.statistics("darts/chosen/after_train_forward/"))
    # Where all are evaluated, all statistics move: no share is exactly 0.
    moved = case.statistics_after({kind: table + 1e-200 for kind, table in hard.items()}, mixture=GIVEN)
    check(moved, case.statistics("darts/all/after_train_forward/"))


def _of_gdas(path, part, network, **shape):
    """The loss of one of GDAS's own networks by alphas and weights, at the file's draw; logits beside it."""
    file = dict(np.load(path))
    weights, slopes = (
        {name.removeprefix(prefix): array for name, array in file.items() if name.startswith(prefix)}
        for prefix in (f"{part}/weights/", f"{part}/grad_weights/")
    )
    kinds = [""] if f"{part}/alphas" in file else [f"/{kind}" for kind in CELL_KINDS]
    alphas, noise, index = (
        {kind.strip("/"): file[f"{part}/{name}{kind}"] for kind in kinds} for name in ("alphas", "gumbel", "index")
    )
    chosen: Any = {kind: tuple(each.tolist()) for kind, each in index.items()}
    images, labels = jnp.asarray(file["x"].transpose(0, 2, 3, 1)), jnp.asarray(file["y"], jnp.int32)

    def loss(alphas, weights):
        hard = {}
        for kind, table in alphas.items():
            mask = np.ones(table.shape, bool)
            hard[kind] = straight_through(gumbel_softmax(table, mask, noise[kind], file["hyper/tau"]))
        operations = json.loads(str(file[f"{part}/space"]))
        given = (hard, chosen) if "" not in hard else (hard[""], chosen[""])
        logits = network(images, weights, *given, operations=operations, **shape)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), logits

    trained = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, logits), (by_alphas, by_weights) = trained(alphas, weights)
    check(logits, file[f"{part}/logits"])
    check(value, file[f"{part}/loss"])
    check(by_alphas, {kind.strip("/"): file[f"{part}/grad_alphas{kind}"] for kind in kinds})
    assert slopes
    largest = max(np.abs(array).max() for array in slopes.values())
    for name, array in slopes.items():
        # The gradient of a bias before a batch norm is 0 but for rounding.
        scale = (
            np.abs(array).max() if name.endswith(".weight") or (".op" not in name and "convs" not in name) else largest
        )
        np.testing.assert_allclose(by_weights[name], array, rtol=0, atol=TOLERANCE * max(scale, 1e-6 * largest))


@each_gdas
def test_fixture_gradients_of_the_chosen_operations_in_the_authors_own_network(path):
    layers, nodes = (int(np.load(path)[f"hyper/{name}"]) for name in ("layers", "nodes"))
    cells = layers // 3
    _of_gdas(path, "nasnet", gdas_networks.nasnet, reductions=_reductions(cells, cells - 1), nodes=nodes)


@each_gdas
def test_fixture_gradients_where_the_numbers_of_other_operations_are_added(path):
    """NAS-Bench-201: the same draw has another gradient, as if an operation that is not chosen returned ones."""
    cells = int(np.load(path)["hyper/nb201_n"])
    _of_gdas(path, "nb201", gdas_networks.nas_bench_201, blocks=_reductions(cells, cells))


def _reductions(before, after):
    """Which cells halve the images: two of them, with `before` other cells at the start and `after` others after each."""
    return [False] * before + 2 * [True, *[False] * after]

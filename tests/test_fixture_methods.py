"""Mixtures, penalties, perturbations and terms of other methods against their authors' own numbers."""

import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fixtures_folder import fixture_files
from torch_layout import stacked_params, stacked_statistics

import jdarts
from jdarts.methods import schedules
from jdarts.methods.correlation import correlation_direction, mean_correlation
from jdarts.methods.freezing import Freezing, operation_scores, operation_weights
from jdarts.methods.mixtures import MIXTURES, chosen_alone, concentrations, gumbel_softmax, straight_through
from jdarts.methods.penalties import divergence, divergences, zero_one, zero_one_absolute
from jdarts.methods.perturbations import adversarial, all_projected, projected
from jdarts.methods.weight_losses import WeightPass, correlated_gradients, each_cell
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import GIVEN, NO_CONTROLS, MixtureWeights
from jdarts.space import cell_kinds

pytestmark = pytest.mark.usefixtures("standard_promotion")

KINDS = ("normal", "reduce")


def each(pattern):
    return pytest.mark.parametrize("path", fixture_files(pattern))


class Case(NamedTuple):
    """One file and the network that it is of."""

    file: Any
    space: jdarts.SearchSpace
    cells: int

    def below(self, prefix):
        return {name.removeprefix(prefix): array for name, array in self.file.items() if name.startswith(prefix)}

    def by_kind(self, prefix):
        return {kind: jnp.asarray(self.file[f"{prefix}/{kind}"]) for kind in KINDS}

    def params(self, prefix):
        """A tree of weights; 0 where the file has none."""
        flat = {name: np.zeros_like(array) for name, array in self.below("weights/").items()}
        return jax.tree.map(jnp.asarray, stacked_params(flat | self.below(prefix), self.space, self.cells))

    @property
    def weights(self):
        return self.params("weights/")

    def loss(self, *, train=True, batch=""):
        """`(weights, mixture) -> (loss, (new statistics, {"logits": logits}))` at given mixture weights."""
        model = Supernet(
            self.space,
            channels=self.file["weights/stem.0.weight"].shape[0] // 3,
            cells=self.cells,
            classes=self.file["weights/classifier.weight"].shape[0],
            dtype=jnp.float64,
            mixture=GIVEN,
            skips_unused=True,
        )
        # DrNAS has another name for the batch norm of a pool.
        flat = {name.replace(".op.1.running", ".1.running"): array for name, array in self.below("weights/").items()}
        # Edges have statistics of pools for themselves, as the authors' do.
        statistics = jax.tree.map(jnp.asarray, stacked_statistics(flat, self.space, self.cells, by_edge=True))
        images = jnp.asarray(self.file[f"{batch}x"].transpose(0, 2, 3, 1))
        labels = jnp.asarray(self.file[f"{batch}y"], jnp.int32)

        def loss(weights, mixture):
            variables = {"params": weights, "batch_stats": statistics}
            logits, changed = model.apply(variables, images, mixture, train=train, mutable=["batch_stats"])
            value = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
            return value, (changed["batch_stats"], {"logits": logits})

        # Under jit all passes share one trace.
        return jax.jit(loss)


def case_of(path):
    file = dict(np.load(path))
    primitives = json.loads(str(file["primitives"]))
    nodes = next(n for n in range(1, 20) if n * (n + 3) // 2 == file["alphas/normal"].shape[0])
    if isinstance(primitives, dict):
        normal, reduce = (tuple(map(tuple, primitives[f"primitives_{kind}"])) for kind in ("normal", "reduct"))
        space = jdarts.SearchSpace(normal=normal, reduce=reduce)
    else:
        space = jdarts.uniform_space(tuple(primitives), nodes=nodes)
    return Case(file, space, int(file["hyper/layers"]))


def close(found, expected, tolerance=1e-9):
    """Each array to a share of its largest value; arrays that are tiny beside the others to that of the largest."""
    found, expected = (list(map(np.asarray, jax.tree.leaves(tree))) for tree in (found, expected))
    largest = max(float(np.max(np.abs(leaf))) for leaf in expected)
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(float(np.max(np.abs(theirs))), 1e-6 * largest)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


class Found(NamedTuple):
    """Loss and logits at a mixture, and the loss's gradients by alphas, mixture and weights."""

    loss: Any
    logits: Any
    alphas: Any
    mixture: Any
    weights: Any


def gradients(case, mixture_of, **settings):
    """A program from alphas to `Found`, at the file's weights."""
    loss = case.loss(**settings)

    @jax.jit
    def compute(alphas, weights):
        mixture, pull = jax.vjp(lambda alphas: mixture_of(alphas), alphas)
        slopes = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (value, (_, metrics)), (by_weights, by_mixture) = slopes(weights, mixture)
        return Found(value, metrics["logits"], pull(by_mixture)[0], by_mixture, by_weights)

    weights = case.weights
    return lambda alphas: compute(alphas, weights)


@each("dartsminus*.npz")
def test_the_weight_of_auxiliary_skip_connections_falls_as_the_authors_have_it(path):
    found = 0
    for name, values in np.load(path).items():
        if not name.startswith("schedule/"):
            continue
        _, decay, settings = name.split("/")
        base, span, start, stop = (part.lstrip("abcdefghijklmnopqrstuvwxyz") for part in settings.split("_"))
        numbers = {"base": float(base), "span": int(span), "start": int(start), "stop": int(stop)}
        schedule = schedules.auxiliary_weight("none" if decay == "None" else decay, **numbers)  # pyright: ignore
        np.testing.assert_allclose(schedules.table(schedule, len(values)), values, rtol=1e-9, atol=1e-12)
        found += 1
    assert found


@each("pdarts*.npz")
def test_the_dropout_of_skip_connections_falls_as_the_authors_have_it(path):
    rates = {name.rpartition("/")[2]: values for name, values in np.load(path).items() if "schedule/skip" in name}
    assert rates
    for rate, values in rates.items():
        found = schedules.table(schedules.skip_dropout(float(rate)), len(values))
        np.testing.assert_allclose(found, values, rtol=1e-9)


@each("fairdarts*.npz")
def test_sigmoids_and_zero_one_penalties(path):
    case = case_of(path)
    sigmoid = MIXTURES["sigmoid"]
    alphas = case.by_kind("alphas")

    def mixture(alphas):
        return sigmoid.weights(alphas, case.space, None, NO_CONTROLS).operations

    close(mixture(alphas), case.by_kind("mixture"))
    value, logits, by_alphas, _, by_weights = jax.device_get(gradients(case, mixture)(alphas))
    close(value, case.file["train/cross_entropy"])
    close(logits, case.file["train/logits"])
    close(by_alphas, case.by_kind("train/grad_alphas"))
    if case.below("train/grad_weights/"):
        close(by_weights, case.params("train/grad_weights/"))
    _, (_, metrics) = jax.jit(case.loss(train=False))(case.weights, mixture(alphas))
    close(metrics["logits"], case.file["eval/logits"])
    for name, penalty in (("l2", zero_one), ("l1", zero_one_absolute)):

        def term(alphas, penalty=penalty):
            return penalty(alphas, mixture(alphas), case.space)

        factor = case.file["hyper/zero_one_weight"]
        penalised, slopes = jax.device_get(jax.jit(jax.value_and_grad(term))(alphas))
        close(penalised, case.file[f"{name}/zero_one"])
        close(value + factor * penalised, case.file[f"{name}/alpha_loss"])
        added = {kind: by_alphas[kind] + factor * slope for kind, slope in slopes.items()}
        close(added, case.by_kind(f"{name}/grad_alphas"))


@each("drnas*.npz")
def test_dirichlet_concentrations_divergences_and_samples(path):
    case = case_of(path)
    alphas = case.by_kind("alphas")

    def term(alphas):
        return case.file["hyper/reg_scale"] * divergence(alphas, {}, case.space)

    @jax.jit
    def terms(alphas):
        return concentrations(alphas, case.space), divergences(alphas, case.space), jax.value_and_grad(term)(alphas)

    concentration, each_divergence, (scaled, slopes) = terms(alphas)
    close(concentration, case.by_kind("concentration"))
    close(each_divergence, case.by_kind("kl"))
    close(scaled, case.file["kl/scaled"])
    close(slopes, case.by_kind("kl/grad_alphas"))
    samples = case.by_kind("train/sample")
    at = gradients(case, lambda samples: samples)
    value, logits, by_samples, _, by_weights = jax.device_get(at(samples))
    close(value, case.file["train/loss"])
    close(logits, case.file["train/logits"])
    close(by_samples, case.by_kind("train/grad_sample"))
    if case.below("train/grad_weights/"):
        close(by_weights, case.params("train/grad_weights/"))
    # The chain rule through the concentrations, with the authors' derivative of a sample.
    factors, samples = jax.device_get((case.by_kind("train/pathwise_factor"), samples))
    slopes = {
        kind: factors[kind] * (by_samples[kind] - np.sum(samples[kind] * by_samples[kind], -1, keepdims=True))
        for kind in KINDS
    }
    pulled = jax.jit(lambda slopes: jax.vjp(lambda alphas: concentrations(alphas, case.space), alphas)[1](slopes)[0])
    close(pulled(slopes), case.by_kind("train/grad_alphas"))
    # A sample of the operations that pruning has left. Those of weight 0 are not evaluated there, and have no slope.
    pruned = jax.device_get(at(case.by_kind("pruned/train/sample")))
    close(pruned.loss, case.file["pruned/train/loss"])
    close(pruned.logits, case.file["pruned/train/logits"])
    masks = case.by_kind("pruned/mask")
    left = {kind: np.where(masks[kind], pruned.mixture[kind], 0) for kind in KINDS}
    close(left, case.by_kind("pruned/train/grad_sample"))


#: From the relaxed weights to those of the chosen operation.
HARD = {"chosen": chosen_alone, "all": straight_through}


@jax.jit
def drawn(alphas, noise, tau):
    """A draw's relaxed weights, and by the name of each function of them: its values, and its pullback."""
    mask = np.ones(alphas.shape, bool)
    hard = {}
    for name, function in HARD.items():
        hard[name] = jax.vjp(
            lambda alphas, function=function: function(gumbel_softmax(alphas, mask, noise, tau)), alphas
        )
    return gumbel_softmax(alphas, mask, noise, tau), hard


@each("gdas*.npz")
def test_gumbel_samples_of_chosen_and_of_all_operations(path):
    file = dict(np.load(path))
    tau = file["hyper/tau"]
    epochs = schedules.table(schedules.temperature(10, 0.1), 250)
    np.testing.assert_allclose(epochs, file["schedule/tau_250_10_0.1"], rtol=1e-12)
    for part in ("darts", "nasnet", "nb201"):
        for kind in ("",) if part == "nb201" else ("/normal", "/reduce"):
            probabilities, hard = drawn(file[f"{part}/alphas{kind}"], file[f"{part}/gumbel{kind}"], tau)
            close(probabilities, file[f"{part}/probs{kind}"])
            for name, (values, _) in hard.items():
                np.testing.assert_allclose(values, file[f"{part}/hard{kind}"], atol=1e-15, err_msg=name)
            np.testing.assert_array_equal(np.argmax(probabilities, -1), file[f"{part}/index{kind}"])
    pulled = jax.jit(lambda pull, slopes: pull(slopes)[0])
    for kind in KINDS:
        _, hard = drawn(file[f"darts/alphas/{kind}"], file[f"darts/gumbel/{kind}"], tau)
        for name, (_, pull) in hard.items():
            found = pulled(pull, file[f"darts/{name}/grad_hard/{kind}"])
            close(found, file[f"darts/{name}/grad_alphas/{kind}"])


@each("sdarts*.npz")
def test_perturbations(path):
    case = case_of(path)
    close(jax.jit(projected)(case.file["projection/before"]), case.file["projection/after"])
    values = schedules.table(schedules.radius(0.3), 50)
    np.testing.assert_allclose(values, case.file["schedule/epsilon_50"], rtol=1e-12)
    mixture, radius = jax.device_get(case.by_kind("mixture")), case.file["hyper/epsilon"]
    before = {kind: mixture[kind] + case.file[f"random/noise/{kind}"] for kind in KINDS}
    moved = jax.device_get(jax.jit(functools.partial(all_projected, space=case.space))(before))
    close(moved, case.by_kind("random/perturbed"))
    close({kind: case.file[f"random/trace_before_projection/{kind}"][-1] for kind in KINDS}, before)
    close({kind: case.file[f"random/trace/{kind}"][-1] for kind in KINDS}, moved)
    evaluated = case.loss(train=False)

    @jax.jit
    def attacked(weights, mixture, noise):
        return adversarial(lambda tables: evaluated(weights, tables)[0], mixture, noise, radius, case.space)

    attack = attacked(case.weights, mixture, case.by_kind("adv/noise"))
    close(attack.losses, case.file["adv/losses"])
    assert bool(attack.reverted) == bool(case.file["adv/reverted"])
    close(attack.trace, case.by_kind("adv/trace"))
    close(attack.before_projection, case.by_kind("adv/trace_before_projection"))
    close(attack.tables, case.by_kind("adv/perturbed"))
    at = gradients(case, lambda tables: tables)
    for name, tables in (("adv", attack.tables), ("random", moved)):
        found = at(tables)
        close(found.loss, case.file[f"{name}/weight_step/loss"])
        close(found.logits, case.file[f"{name}/weight_step/logits"])
        if case.below(f"{name}/weight_step/grad_weights/"):
            close(found.weights, case.params(f"{name}/weight_step/grad_weights/"))


def softmax_of(case):
    """The weights of the operations at the file's alphas."""
    softmax = MIXTURES["softmax"]
    weights = jax.jit(lambda alphas: softmax.weights(alphas, case.space, None, NO_CONTROLS).operations)
    return jax.device_get(weights(case.by_kind("alphas")))


@each("lambdadarts*.npz")
def test_correlated_gradients_of_cells(path):
    case = case_of(path)
    kinds = cell_kinds(case.cells)
    counts = {kind: kinds.count(kind) for kind in KINDS}
    softmax = softmax_of(case)
    loss = case.loss()
    tables = jax.device_get(jax.jit(lambda softmax: each_cell(softmax, counts))(softmax))
    at = gradients(case, lambda tables: tables)
    value, _, by_cells, _, by_weights = jax.device_get(at(tables))
    close(value, case.file["loss"])
    flat = {kind: by_cells[kind].reshape(counts[kind], -1) for kind in KINDS}
    close(flat, case.by_kind("cell_gradients"))
    close(jax.jit(mean_correlation)(by_cells["normal"]), case.file["mean_correlation"])
    close(by_weights, case.params("plain_grad_weights/"))
    strength, smallest = case.file["hyper/lambda"], case.file["hyper/epsilon0"]
    for name, signs in (("corr", False), ("signcorr", True)):
        direct = jax.jit(functools.partial(correlation_direction, signs=signs))
        direction = np.asarray(direct(by_cells["normal"])[0])
        epsilon = smallest / np.linalg.norm(direction)
        close(epsilon, case.file[f"{name}/epsilon"])
        # The authors' perturbation has the cells in their order, with zeros for the reduction cells.
        theirs = case.file[f"{name}/perturbation"]
        normal = np.array([index for index, kind in enumerate(kinds) if kind == "normal"])
        close(epsilon * direction, theirs[normal])
        plus, minus = (
            jax.device_get(at({**tables, "normal": tables["normal"] + sign * epsilon * direction}).weights)
            for sign in (1, -1)
        )
        factor = strength / (2 * epsilon)
        ours = jax.tree.map(lambda w, p, m, factor=factor: w + factor * (m - p), by_weights, plus, minus)
        close(ours, case.params(f"{name}/grad_weights/"), 1e-8)
    # The product's own loss has the same correlation.
    step = weight_pass(loss, MixtureWeights(softmax), counts, case.space, strength)
    correlation = jax.jit(lambda weights: correlated_gradients(step._replace(weights=weights))[1][1]["correlation"])
    close(correlation(case.weights), case.file["mean_correlation"])


def weight_pass(loss, mixture, counts, space, strength):
    """What `correlated_gradients` sees, but for the weights."""
    return WeightPass(
        loss=loss,
        evaluation_loss=lambda weights, mixture: loss(weights, mixture)[0],
        weights=None,
        mixture=mixture,
        cells=counts,
        space=space,
        controls={"correlation": strength},
        key=jax.random.key(0),
        average=lambda tree: tree,
    )


def test_the_gradient_of_correlated_cells_is_that_of_the_definition():
    """On a network with two normal cells."""
    space = jdarts.uniform_space(("avg_pool_3x3", "dil_conv_3x3"), nodes=1)
    model = Supernet(space, channels=2, cells=4, classes=3, dtype=jnp.float64, mixture=GIVEN)
    draw = np.random.default_rng(0)
    images, strength = draw.normal(size=(3, 8, 8, 3)), 0.3
    counts: dict[str, int] = {kind: cell_kinds(4).count(kind) for kind in KINDS}
    one: dict[str, Any] = {kind: draw.uniform(size=(space.num_edges, 2)) for kind in KINDS}
    tables = {kind: np.stack([one[kind]] * counts[kind]) for kind in KINDS}
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, one, train=True))
    params, statistics = (
        jax.tree.map(lambda leaf: draw.normal(size=leaf.shape), shapes[name]) for name in ("params", "batch_stats")
    )

    @jax.jit
    def loss(weights, mixture):
        variables = {"params": weights, "batch_stats": statistics}
        logits, changed = model.apply(variables, images, mixture, train=True, mutable=["batch_stats"])
        return jnp.mean(jnp.sin(logits)), (changed["batch_stats"], {})

    def exact(weights):
        step = weight_pass(loss, MixtureWeights(one), counts, space, strength)
        return correlated_gradients(step._replace(weights=weights))

    def by_definition(weights):
        normal = jax.grad(lambda tables: loss(weights, tables)[0])(tables)["normal"]
        correlation = mean_correlation(normal)
        return loss(weights, tables)[0] - strength * correlation, correlation

    @jax.jit
    def both(weights):
        return [jax.value_and_grad(function, has_aux=True)(weights) for function in (exact, by_definition)]

    ((value, (_, metrics)), found), ((defined, correlation), expected) = both(params)
    close(found, expected)
    close((value, metrics["correlation"]), (defined, correlation))


@each("oles*.npz")
def test_scores_and_frozen_operations(path):
    case = case_of(path)
    names = json.loads(str(case.file["operations"]))
    softmax = softmax_of(case)
    loss = case.loss(batch="valid/")
    valid = dict(operation_weights(jax.jit(jax.grad(lambda weights: loss(weights, softmax)[0]))(case.weights)))
    theirs = dict(operation_weights(case.params("valid_gradient/")))
    close(valid, theirs)
    kept = dict(operation_weights(case.params("kept_train_gradient/")))
    places = _places(case, names)
    rule = Freezing(float(case.file["hyper/threshold"]), every=int(case.file["hyper/every"]))
    valid, kept = jax.device_get((valid, kept))
    scored = jax.jit(lambda gradient: {place: operation_scores(gradient[place], kept[place]) for place in kept})
    for name, gradient in (("score_with_pure_gradient", valid), ("score", jax.tree.map(np.add, valid, kept))):
        scores = jax.device_get(scored(gradient))
        close(np.stack([scores[place][edge] for place, edge in places]), case.file[name])
    state = rule.init(case.weights)
    judged = jax.jit(rule.judged)
    frozen = np.full(len(names), -1)
    for step, row in enumerate(case.file["scores"]):
        scores = {place: np.zeros(total.shape) for place, total in state.totals.items()}
        for (place, edge), score in zip(places, row):
            scores[place][edge] = score
        state = jax.device_get(judged(state, scores))
        now = np.array([bool(state.frozen[place][edge]) for place, edge in places])
        frozen[now & (frozen < 0)] = step
    np.testing.assert_array_equal(frozen, case.file["frozen_in_step"])


def _places(case, names):
    """For each of the authors' operation modules, the place of our weights and the row there."""
    numbered = case.below("weights/")
    for number, name in enumerate(names):
        numbered |= {key: np.full_like(array, number) for key, array in numbered.items() if key.startswith(f"{name}.")}
    found = {}
    for place, tree in operation_weights(stacked_params(numbered, case.space, case.cells)):
        for edge, row in enumerate(jax.tree.leaves(tree)[0]):
            found[int(row.flat[0])] = place, edge
    return [found[number] for number in range(len(names))]

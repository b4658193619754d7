"""The reference implementation's numbers for recurrent networks, in float64, from every file that there is."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fixtures_folder import fixture_files

from jdarts import bilevel, optim
from jdarts.genotype import RecurrentGenotype
from jdarts.nets.language import LanguageModel, Masks
from jdarts.nets.language_loss import Segment, language_loss
from jdarts.space import RECURRENT_PRIMITIVES, recurrent_space

TOLERANCE = 1e-8
MASKS = ("embed_mask", "in_mask", "x_mask", "h_mask", "out_mask")


class Stored:
    """A file of reference numbers, whose inputs are float32 and whose results are taken from the float64 run."""

    def __init__(self, path):
        with np.load(path) as stored:
            self.arrays = dict(stored)

    def given(self, name):
        value = self.arrays[name]
        return jnp.asarray(value, jnp.float64 if value.dtype.kind == "f" else jnp.int32)

    def check(self, name, value):
        expected = self.arrays[f"f64/{name}"]
        assert np.shape(value) == expected.shape or np.size(value) == expected.size, name
        np.testing.assert_allclose(
            np.reshape(value, expected.shape),
            expected,
            rtol=0,
            atol=TOLERANCE * max(1, abs(expected).max()),
            err_msg=name,
        )

    @property
    def nodes(self):
        return sum(name.startswith("param/rnns.0._Ws.") for name in self.arrays)

    @property
    def width(self):
        return self.arrays["param/encoder.weight"].shape[1]

    def weights(self):
        return {
            "embedding": self.given("param/encoder.weight"),
            "bias": self.given("param/decoder.bias"),
            "input": self.given("param/rnns.0._W0"),
            "nodes": jnp.stack([self.given(f"param/rnns.0._Ws.{node}") for node in range(self.nodes)]),
        }

    def check_weights(self, prefix, weights):
        self.check(f"{prefix}encoder.weight", weights["embedding"])
        self.check(f"{prefix}decoder.bias", weights["bias"])
        self.check(f"{prefix}rnns.0._W0", weights["input"])
        for node, matrix in enumerate(weights["nodes"]):
            self.check(f"{prefix}rnns.0._Ws.{node}", matrix)

    def statistics(self):
        return {"mean": jnp.zeros(self.width, jnp.float64), "variance": jnp.ones(self.width, jnp.float64)}

    def segment(self, prefix="", masks=None, hidden=None):
        hidden = self.given(f"{prefix}hidden" if hidden is None else hidden)
        return Segment(self.given(f"{prefix}input"), self.given(f"{prefix}target"), hidden[0], masks=masks or Masks())

    def model(self, searched):
        vocabulary = self.arrays["param/encoder.weight"].shape[0]
        if searched:
            return LanguageModel(recurrent_space(nodes=self.nodes), vocabulary, self.width, jnp.float64)
        nodes = zip(self.arrays["genotype/op"], self.arrays["genotype/pred"])
        recurrent = [(RECURRENT_PRIMITIVES[op], int(source)) for op, source in nodes]
        genotype = RecurrentGenotype(tuple(recurrent), self.arrays["genotype/concat"])
        return LanguageModel(genotype, vocabulary, self.width, jnp.float64)

    def check_run(self, prefix, model, segment, alphas):
        """Everything that one forward and one backward pass give."""
        statistics = self.statistics() if alphas is not None else {}
        weights = self.weights()

        def run(weights, alphas):
            variables = {"params": weights} | ({"batch_stats": statistics} if statistics else {})
            train = alphas is not None
            prediction, changed = model.apply(
                variables,
                segment.tokens,
                segment.hidden,
                alphas,
                train=train,
                masks=segment.masks,
                mutable=["batch_stats"],
            )
            loss, _ = language_loss(model, train=train)(weights, alphas, statistics, segment, jax.random.key(0))
            return loss, (prediction, changed)

        gradient_of = jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))
        (loss, (prediction, changed)), (gradient, of_alphas) = gradient_of(weights, alphas)
        self.check(f"{prefix}loss", loss)
        self.check(f"{prefix}log_prob", jax.nn.log_softmax(prediction.logits))
        self.check(f"{prefix}hiddens", prediction.outputs)
        self.check(f"{prefix}hidden_next", prediction.hidden)
        self.check_weights(f"{prefix}grad/", gradient)
        if alphas is not None:
            self.check(f"{prefix}grad/alphas", of_alphas)
        return prediction, changed


@pytest.mark.parametrize("path", fixture_files("rnn_eval*.npz"))
def test_discrete_cell(path):
    stored = Stored(path)
    stored.check_run("", stored.model(False), stored.segment(), None)


@pytest.mark.parametrize("path", fixture_files("rnn_masks*.npz"))
@pytest.mark.parametrize("run", ["search", "search_all", "cell", "cell_all"])
def test_masks(path, run):
    stored = Stored(path)
    # Discrete cells share the masks of the search cell.
    source = run.replace("cell", "search")
    given = [stored.given(f"{source}/{name}") if f"{source}/{name}" in stored.arrays else None for name in MASKS]
    given = [mask[0] if mask is not None and mask.ndim == 3 else mask for mask in given]
    searched = run.startswith("search")
    segment = stored.segment(masks=Masks(*given), hidden="hidden")
    prediction, _ = stored.check_run(
        f"{run}/", stored.model(searched), segment, stored.given("alphas") if searched else None
    )
    if f"f64/{run}/dropped_hiddens" in stored.arrays:
        stored.check(f"{run}/dropped_hiddens", prediction.dropped)


@pytest.mark.parametrize("path", fixture_files("rnn_search*.npz"))
def test_search_network(path):
    stored = Stored(path)
    model, alphas, segment = stored.model(True), stored.given("alphas"), stored.segment("train/")
    _, changed = stored.check_run("", model, segment, alphas)
    stored.check("bn_running_mean", changed["batch_stats"]["mean"])
    stored.check("bn_running_var", changed["batch_stats"]["variance"])
    prediction: Any = model.apply(
        {"params": stored.weights(), **changed}, segment.tokens, segment.hidden, alphas, train=False
    )
    stored.check("evalmode/log_prob", jax.nn.log_softmax(prediction.logits))
    stored.check("evalmode/hidden_next", prediction.hidden)


def second_order(stored, case, estimator, virtual, stepped):
    """The hypergradient and hidden state of a case, one compiled program for all cases of an estimator."""
    prefix = f"arch/{case}/"
    settings = {name: stored.given(f"{prefix}{name}") for name in ("wdecay", "clip")} | {"eta": stored.given("eta")}
    return _program(_Key(stored), estimator, virtual, stepped)(settings)


class _Key:
    """A file as an argument that caches may compare."""

    def __init__(self, stored):
        self.stored = stored

    def __eq__(self, other):
        return self.stored is other.stored

    def __hash__(self):
        return id(self.stored)


@functools.cache
def _program(key, estimator, virtual, stepped) -> Any:
    stored = key.stored
    model, weights, alphas = stored.model(True), stored.weights(), stored.given("alphas")
    train, valid = stored.segment("train/"), stored.segment("valid/")
    loss_fn = language_loss(model)

    def run(settings):
        chain = optim.recurrent_weight_optimizer(
            settings["eta"], weight_decay=settings["wdecay"], clip=settings["clip"], virtual=virtual
        )
        if not stepped:
            chain = optax.chain(chain, _keep_the_embedding())
        found = {}

        def observing(problem):
            estimate = estimator(virtual_optimizer=chain)(problem)
            found.update(gradient=estimate.gradient, valid_loss=estimate.valid_loss, hidden=estimate.metrics["hidden"])
            return estimate

        adam = optim.alpha_optimizer(3e-3, b1=0.9)
        state = bilevel.init_state(
            jax.random.key(0), weights, alphas, stored.statistics(), weight_optimizer=chain, alpha_optimizer=adam
        )
        new, metrics = bilevel.bilevel_step(
            state,
            train,
            valid,
            loss_fn=loss_fn,
            weight_optimizer=chain,
            alpha_optimizer=adam,
            hypergradient=observing,
        )
        return found | {"alphas": new.alphas, "carried": metrics["valid/hidden"]}

    return jax.jit(run)


def _keep_the_embedding():
    """The slip of the original code: the tied matrix is not stepped, though it takes part in the gradients."""

    @jax.custom_vjp
    def without(updates):
        return updates | {"embedding": jnp.zeros_like(updates["embedding"])}

    without.defvjp(lambda updates: (without(updates), None), lambda _, cotangent: (cotangent,))
    return optax.stateless(lambda updates, _: without(updates))


@pytest.mark.parametrize("path", fixture_files("rnn_search*.npz"))
def test_architecture_step(path, standard_promotion):
    stored = Stored(path)
    cases = sorted({name.split("/")[1] for name in stored.arrays if name.startswith("arch/") and "wdecay" in name})
    assert cases
    for case in cases:
        for variant, stepped in (("ref", False), ("tied", True)):
            found = second_order(stored, case, bilevel.finite_difference, "reference", stepped)
            stored.check(f"arch/{case}/{variant}/grad_alpha", found["gradient"])
            stored.check(f"arch/{case}/{variant}/unrolled_loss", found["valid_loss"])
            stored.check(f"arch/{case}/{variant}/hidden_next", found["carried"])
            if (case, variant) == ("clip025", "ref"):
                stored.check("arch/second_order/alphas_after_adam", found["alphas"])
        for virtual, name in (("constant", "const"), ("exact", "through")):
            found = second_order(stored, case, bilevel.exact, virtual, True)
            stored.check(f"arch/{case}/exact/grad_alpha_{name}_clip", found["gradient"])


@pytest.mark.parametrize("path", fixture_files("rnn_search*.npz"))
def test_first_order(path, standard_promotion):
    stored = Stored(path)
    found = second_order(stored, "clip025", lambda virtual_optimizer: bilevel.first_order(), "exact", True)
    stored.check("arch/first_order/grad_alpha", found["gradient"])
    stored.check("arch/first_order/hidden_next", found["hidden"])
    stored.check("arch/first_order/alphas_after_adam", found["alphas"])

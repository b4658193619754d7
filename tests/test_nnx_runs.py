"""Models of NNX in the run loop: as Linen modules, searched, resumed, on devices, with seeds, trained, loaded again."""

import functools
import io
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from flax import nnx
from small_runs import assert_death_at_a_step_changes_nothing, leave_undrawn, records, user_settings, with_stand_ins

import jdarts
from jdarts.choice import nnx as choices
from jdarts.choice.bridged import bridged
from jdarts.search import SearchConfig, search, search_seeds
from jdarts.train import TrainConfig, train

__all__ = ["undrawn", "user_settings"]
undrawn = with_stand_ins(leave_undrawn)
pytestmark = pytest.mark.usefixtures("undrawn", "user_settings")

DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(48, 3)).astype(np.float32)
TARGETS = (INPUTS[:, 0] * INPUTS[:, 1] > 0).astype(np.int32)
SETTINGS: dict[str, Any] = {"epochs": 2, "log_every": 1, "hypergradient": "first_order"}


#: Uniform weights come from the one draw of a run; others have a program of their own.
Linear = functools.partial(nnx.Linear, kernel_init=nnx.initializers.lecun_uniform())


class Block(nnx.Module):
    def __init__(self, rngs):
        self.inner = choices.Choice({"linear": Linear(4, 4, rngs=rngs), "skip": lambda x: x})

    def __call__(self, x):
        return self.inner(x)


class Model(nnx.Module):
    """A batch norm, a choice inside of another, and alphas that two choices share."""

    def __init__(self, rngs, *, dropout=0.0, inputs=3, outputs=1):
        self.first = Linear(inputs, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        activation = choices.Choice({"tanh": jnp.tanh, "relu": nnx.relu})
        again = choices.Choice({"tanh": jnp.tanh, "relu": nnx.relu}, alphas=activation.alphas)
        self.activations = nnx.List([activation, again])
        self.block = choices.Choice({"block": Block(rngs), "linear": Linear(4, 4, rngs=rngs), "none": None})
        self.last = Linear(4, outputs, rngs=rngs)

    def __call__(self, x):
        x = self.activations[0](self.dropout(self.norm(self.first(x.reshape(len(x), -1)))))
        x = self.last(self.activations[1](x + self.block(x)))
        return x[:, 0] if x.shape[1] == 1 else x


def made(seed=0, **settings) -> Any:
    """A model, of one program."""
    return nnx.jit(lambda: Model(nnx.Rngs(seed), **settings))()


@nnx.jit
def called(model, x):
    """The outputs of a model, by one program."""
    return model(x)


CHOICES = {"activations/0": "relu", "block": "block", "block/candidates/block/inner": "linear"}


def batches(first, last):
    return jdarts.ArrayBatches((INPUTS[first:last], TARGETS[first:last]), 8)


TASK = jdarts.NetworkTask(
    train=batches(0, 24), valid=batches(24, 40), test=batches(40, 48), loss="binary_cross_entropy", name="toy"
)


def run(folder, start=search, network: Any = Model, task: Any = TASK, **changes):
    config = SearchConfig(run_dir=folder, **{**SETTINGS, **changes})
    return small_runs.result_and_text(start, config, network=network, task=task)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, undrawn):
    return run(tmp_path_factory.mktemp("undisturbed") / "run")


@pytest.fixture(scope="module")
def module():
    """The module of a model with dropout, its variables, and the model as its own room joins it."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        model = made(dropout=0.5)
        network = bridged(model)
        variables = jax.jit(lambda key: network.init(key, INPUTS, train=False))(jax.random.key(1))
        return model, network, variables


def test_it_is_the_model_of_nnx(module):
    model, network, variables = module
    graph, weights, alphas, state = choices.split(model, key=jax.random.key(3))
    joined = choices.join(graph, weights, alphas, state)
    joined.eval()
    _, ours, model_state = jdarts.split_variables(variables)
    assert set(ours) == set(alphas) == set(CHOICES) and set(model_state) == {"state"}
    assert [place.path for place in ours["activations/0"].places] == [("activations", "0"), ("activations", "1")]
    ours = {name: each.replace(values=alphas[name].values) for name, each in ours.items()}
    given = jdarts.join_variables(variables["params"], ours, model_state)
    found = jax.jit(lambda given: network.apply(given, INPUTS, train=False))(given)
    np.testing.assert_allclose(found, called(joined, INPUTS), rtol=1e-5)


def test_noise_and_running_statistics_are_those_of_the_mode(module):
    _, network, variables = module

    @jax.jit
    def both(key):
        train = network.apply(variables, INPUTS, train=True, mutable=["state"], rngs={"dropout": key})
        return train, network.apply(variables, INPUTS, train=False, rngs={"dropout": key})

    (first, state), still = both(jax.random.key(1))
    (other, _), same = both(jax.random.key(2))
    (again, _), _ = both(jax.random.key(1))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(still, same)
    assert not np.allclose(first, other)
    moved, before = state["state"]["norm"]["mean"], variables["state"]["norm"]["mean"]
    assert not np.allclose(moved, before)
    assert jax.tree.structure(state["state"]) == jax.tree.structure(variables["state"])


def test_costs_are_those_of_the_decided_model(module):
    model, network, variables = module
    cost = jdarts.choice_costs(network, INPUTS[:1], train=False)["weights"]
    small = choices.decided(model, CHOICES)
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(small, nnx.Param)))
    theirs, kept = jdarts.decided(network, CHOICES, variables, INPUTS, train=False)
    assert cost.of(CHOICES) == count == sum(leaf.size for leaf in jax.tree.leaves(kept["params"]))
    small.eval()
    np.testing.assert_allclose(theirs.apply(kept, INPUTS, train=False), called(small, INPUTS), rtol=1e-5)


def test_a_search_in_its_class_ends_with_choices_that_the_model_takes(undisturbed):
    result, shown = undisturbed
    assert "searching in Model on toy: 3 choices, 69 weights" in shown
    assert set(result.choices) == set(CHOICES)
    whole: Any = jdarts.load_model(made(1), result.folder)
    assert whole.block.alphas.get_value().values.tolist() == result.alphas["block"][0].tolist()
    whole.eval()
    loss, _ = TASK.scores(called(whole, INPUTS[24:40]), TARGETS[24:40])
    assert float(loss) == pytest.approx(result.metrics["loss"], rel=1e-4)
    with pytest.raises(jdarts.InputError, match="the run is of a model with other params than Model; give the model"):
        jdarts.load_model(made(inputs=4), result.folder)


@pytest.mark.parametrize("call", [2, 5])
def test_a_death_on_the_way_is_followed_by_the_same_bits(undisturbed, call, tmp_path):
    assert_death_at_a_step_changes_nothing(run, tmp_path / "run", undisturbed[0].folder, call)


def test_two_devices_give_the_numbers_of_one(undisturbed, tmp_path):
    run(tmp_path / "run", devices=2)
    for found, expected in zip(records(tmp_path / "run"), records(undisturbed[0].folder), strict=True):
        for name in ("train/loss", "epoch/evaluation_loss"):
            assert found.get(name) == pytest.approx(expected.get(name), abs=1e-4)


def test_seeds_at_once_begin_with_weights_of_their_own(undisturbed, tmp_path):
    results, _ = run(tmp_path / "seeds", start=search_seeds, seeds="0,3")
    for found, expected in zip(records(results[0].folder), records(undisturbed[0].folder), strict=True):
        assert found.get("train/loss") == pytest.approx(expected.get("train/loss"), abs=1e-4)
    first, second = (jdarts.load_search(each.folder).variables["params"]["first"]["kernel"] for each in results)
    assert not np.allclose(first, second, atol=1e-2)


def test_a_model_begins_with_its_own_weights(tmp_path):
    """The decided model is trained from the weights that it has, on images too."""
    model = made(inputs=64, outputs=10)
    model.last.bias[...] = jnp.asarray([0.0, 0.0, *range(8)])
    config: Any = {"dataset": "digits", "batch_size": 240, "epochs": 1, "max_weights": 340}
    result, shown = run(tmp_path / "run", network=model, task=None, **config)
    assert "searching in Model on digits: 3 choices" in shown and result.budget["weights"]["cost"] <= 340
    assert result.valid_accuracy is not None
    found = jdarts.load_search(result.folder).variables["params"]["last"]["bias"]
    np.testing.assert_allclose(found, model.last.bias[...], atol=0.2)
    assert not np.array_equal(found, model.last.bias[...])


def test_a_decided_model_is_trained_and_predicts(tmp_path):
    model = made()
    small = choices.decided(model, CHOICES)

    def train_run(folder, network=small, **changes):
        stream = io.StringIO()
        options: Any = {"epochs": 2, "log_every": 1, "learning_rate": 0.1, **changes}
        return (
            train(
                TrainConfig(run_dir=folder, **options),
                network=network,
                task=TASK,
                programs=small_runs.shared_programs,
                stream=stream,
            ),
            stream.getvalue(),
        )

    result, shown = train_run(tmp_path / "run")
    assert re.search(r"training Model on toy: 49 weights", shown) and set(result.test_metrics) == {"loss", "accuracy"}
    trained = jdarts.load_model(small, tmp_path / "run")
    trained.eval()
    np.testing.assert_allclose(jdarts.predictor(small, tmp_path / "run")(INPUTS), called(trained, INPUTS), rtol=1e-4)
    assert_death_at_a_step_changes_nothing(train_run, tmp_path / "again", tmp_path / "run", 3)
    other = choices.decided(model, {**CHOICES, "activations/0": "tanh"})
    with pytest.raises(jdarts.InputError, match="begun with other data: network Model"):
        train_run(tmp_path / "run", network=other)


class Plain(nnx.Module):
    def __init__(self, rngs):
        self.layer = Linear(3, 1, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)[:, 0]


def without_rngs():
    return made()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Plain, "the network has no choices; put a jdarts.Choice into it"),
        (
            without_rngs,
            r"network is 'without_rngs', and without_rngs\(nnx.Rngs\(0\)\) fails .*give a network, or a function",
        ),
        (
            lambda rngs: 3,
            r"network is '<lambda>', and <lambda>\(nnx.Rngs\(0\)\) is no model of NNX; give a network, or a function",
        ),
        (3, "network is 'int'; give a flax.linen module with jdarts.Choice in it, or a model of flax.nnx or its class"),
        (nnx.Linear, r"network is 'Linear', and Linear\(nnx.Rngs\(0\)\) fails"),
    ],
)
def test_what_is_no_model_is_refused(network, message, tmp_path):
    with pytest.raises(jdarts.InputError, match=message):
        run(tmp_path / "run", network=network)
    assert not (tmp_path / "run").exists()


def test_what_is_for_linen_names_what_is_for_nnx():
    message = (
        r"network is 'Plain'; give a flax.linen module; jdarts.choice.nnx.decided decides a model of NNX, and .*bridged"
    )
    for function in (jdarts.choice_costs, lambda model, x: jdarts.decided(model, {}, {}, x)):
        with pytest.raises(jdarts.InputError, match=message):
            function(Plain(nnx.Rngs(0)), INPUTS)  # pyright: ignore[reportArgumentType]


def test_latencies_are_refused(tmp_path):
    with pytest.raises(
        jdarts.InputError, match="Model is a model of NNX, whose candidates cannot be measured one by one"
    ):
        run(tmp_path / "run", max_latency_ms=1.0)

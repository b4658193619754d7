"""The training of the user's own network: from a search to predictions, a death on the way, devices, images, refusals."""

import dataclasses
import functools
import io
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from flax import nnx
from small_runs import assert_death_at_a_step_changes_nothing, leave_undrawn, records, user_settings, with_stand_ins

import jdarts
from jdarts.data import load
from jdarts.nets.counts import count_weights
from jdarts.report.html.advice import advice
from jdarts.report.html.run_data import read_run
from jdarts.search import SearchConfig, search
from jdarts.train import TrainConfig, train

__all__ = ["undrawn", "user_settings"]
undrawn = with_stand_ins(leave_undrawn)
pytestmark = pytest.mark.usefixtures("undrawn", "user_settings")

DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(59, 3)).astype(np.float32)
TARGETS = (INPUTS[:, 0] * INPUTS[:, 1] > 0).astype(np.int32)
SETTINGS = {"epochs": 3, "log_every": 1, "learning_rate": 0.1}


#: Uniform weights come from the one draw of a run; others have a program of their own.
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.lecun_uniform())


class Network(nn.Module):
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(Dense(4)(x))
        x = jdarts.WidthChoice(Dense, (2, 8), name="width")(x)
        x = jdarts.Choice({"tanh": jnp.tanh, "relu": nn.relu}, name="activation")(x)
        return Dense(1)(x)[:, 0]


CHOICES = {"width": "8", "activation": "tanh"}


def batches(first, last, size=8):
    return jdarts.ArrayBatches((INPUTS[first:last], TARGETS[first:last]), size)


def parts(**changes):
    of_data = {"train": batches(0, 27), "valid": batches(27, 47), "test": batches(47, 59)}
    return {**of_data, "loss": "binary_cross_entropy", "name": "toy", **changes}


TASK = jdarts.NetworkTask(**parts())


def decided(choices):
    network = Network()
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(0), INPUTS)
    return jdarts.decided(network, choices, variables, INPUTS, train=False)[0]


@pytest.fixture(scope="module")
def small(user_settings):
    return decided(CHOICES)


def run(folder, network, task=TASK, **changes):
    config = TrainConfig(run_dir=folder, **{**SETTINGS, **changes})
    return small_runs.result_and_text(train, config, network=network, task=task)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small, undrawn):
    return run(tmp_path_factory.mktemp("undisturbed") / "run", small)


def test_a_training_shows_keeps_and_tests_the_best_weights(undisturbed, small):
    result, shown = undisturbed
    assert "training Network on toy: 73 weights, 3 batches of 8 in an epoch; loss binary_cross_entropy" in shown
    assert re.search(r"epoch 3/3 +train loss \S+ +\S+ % +valid loss \S+ +\S+ %", shown)
    assert "best epoch by the validation loss" in shown and "test loss" in shown
    assert set(result.test_metrics) == set(result.valid_metrics) == {"loss", "accuracy"}
    ends = [each for each in records(result.folder) if "epoch/valid_loss" in each]
    assert result.valid_metrics["loss"] == pytest.approx(min(each["epoch/valid_loss"] for each in ends), rel=1e-6)
    assert result.weights == 73 and (result.folder / result.checkpoint).is_dir()
    again, shown = run(result.folder, small)
    assert "has finished" in shown and again == result


def test_the_page_of_a_training_says_how_to_predict(undisturbed):
    result, _ = undisturbed
    data = read_run(result.folder)
    assert data.kind == "training" and "genotype" not in data.settings and "channels" not in data.settings
    found = advice(data)
    assert found.lines[0].startswith("Test loss ") and "accuracy" in found.lines[0]
    assert f'jdarts.predictor(network, "{result.folder}")' in found.next[0]
    assert "jdarts.train.train" in (result.folder / "report.html").read_text()


def test_predictions_are_those_of_the_tested_weights(undisturbed, small):
    result, _ = undisturbed
    predict = jdarts.predictor(small, result.folder)
    right = (predict(INPUTS[47:]) > 0) == TARGETS[47:]
    assert np.mean(right) == pytest.approx(result.test_metrics["accuracy"])
    variables = jdarts.load_variables(result.folder)
    expected = jax.jit(functools.partial(small.apply, train=False))(variables, INPUTS)
    np.testing.assert_allclose(predict(INPUTS), expected, atol=1e-6)
    with pytest.raises(jdarts.InputError, match=r"holds the weights of another network or for other inputs"):
        predict(INPUTS[:, :2])
    with pytest.raises(jdarts.InputError, match=r"network of your own, whose .*; apply it with jdarts\.predictor"):
        jdarts.load(result.folder)
    with pytest.raises(jdarts.InputError, match="is not of a search in a network with choices"):
        jdarts.load_search(result.folder)
    with pytest.raises(jdarts.InputError, match=r"network is 'int'; give a flax\.linen module"):
        jdarts.predictor(3, result.folder)
    with pytest.raises(jdarts.InputError, match=r"the variables have no bias of the model; give those of this model"):
        jdarts.predictor(nnx.Linear(3, 1, rngs=nnx.Rngs(0)), result.folder)(INPUTS)


@pytest.mark.parametrize("call", [2, 6])
def test_a_death_on_the_way_is_followed_by_the_same_bits(undisturbed, small, call, tmp_path):
    of_small = functools.partial(run, network=small)
    assert_death_at_a_step_changes_nothing(of_small, tmp_path / "run", undisturbed[0].folder, call)


def test_two_devices_give_the_numbers_of_one(undisturbed, small, tmp_path):
    result, _ = run(tmp_path / "run", small, devices=2)
    assert result.test_metrics == pytest.approx(undisturbed[0].test_metrics, abs=1e-4)
    for found, expected in zip(records(tmp_path / "run"), records(undisturbed[0].folder), strict=True):
        assert found.get("train/loss") == pytest.approx(expected.get("train/loss"), abs=1e-4)


def test_other_decisions_do_not_resume_a_run(undisturbed):
    other = decided({**CHOICES, "activation": "relu"})
    with pytest.raises(jdarts.InputError, match=r"begun with other data: network Network .* \(now Network "):
        run(undisturbed[0].folder, other)


def test_from_a_search_to_predictions_on_images(tmp_path, undrawn):
    class Classifier(nn.Module):
        @nn.compact
        def __call__(self, images):
            x = Dense(4)(images.reshape(len(images), -1))
            x = jdarts.Choice({"tanh": jnp.tanh, "relu": nn.relu}, name="activation")(x)
            return Dense(10)(x)

    network, common = Classifier(), {"dataset": "digits", "epochs": 1, "batch_size": 240, "padding": 0}
    searched = search(
        SearchConfig(run_dir=tmp_path / "search", hypergradient="first_order", **common),
        network=network,
        stream=io.StringIO(),
    )
    found = jdarts.load_search(searched.folder)
    image = np.zeros((1, 8, 8, 1), np.float32)
    small, variables = jdarts.decided(network, found.choices, found.variables, image)
    stream = io.StringIO()
    result = train(
        TrainConfig(run_dir=tmp_path / "train", validation_fraction=0.2, cutout=0, **common),
        network=small,
        stream=stream,
    )
    assert "training Classifier on digits: 310 weights" in stream.getvalue()
    assert result.weights == count_weights(variables["params"])
    assert set(result.test_metrics) == {"loss", "accuracy"} and result.test_metrics["accuracy"] > 0.15
    predict = jdarts.predictor(small, result.folder)
    assert predict(image).shape == (1, 10)


def test_a_training_on_images_does_not_resume_with_others(tmp_path):
    class Linear(nn.Module):
        @nn.compact
        def __call__(self, images):
            return Dense(10)(images.reshape(len(images), -1))

    def run(dataset):
        config = TrainConfig(run_dir=tmp_path / "run", dataset="digits", epochs=1, batch_size=240, cutout=0)
        train(config, network=Linear(), dataset=dataset, stream=io.StringIO())

    digits = load("digits")
    run(digits)
    run(digits)
    with pytest.raises(jdarts.InputError, match=r"begun with other data: mean .* \(now 0\.5\)"):
        run(dataclasses.replace(digits, mean=(0.5,)))
    images = digits.train.images.copy()
    images[np.random.default_rng((0, 0)).permutation(len(images))[-1]] = 0  # In no batch of the first epoch.
    with pytest.raises(jdarts.InputError, match=r"begun with other data: sha256 \S+ \(now \S+\); give"):
        run(dataclasses.replace(digits, train=dataclasses.replace(digits.train, images=images)))


def test_without_held_out_examples_the_last_weights_are_tested(small, tmp_path):
    task = jdarts.NetworkTask(**parts(valid=None, augment=lambda key, batch: (-batch[0], batch[1])))
    result, shown = run(tmp_path / "run", small, task=task, epochs=1, ema_decay=0.9)
    assert result.tested == "last" and not result.valid_metrics and "test loss" in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"genotype": "DARTS_V1"}, "--genotype is 'DARTS_V1', and the network is your own, without such cells"),
        ({"drop_path": 0.3}, "--drop-path is 0.3, and the network is your own, without such cells; leave it out"),
        ({"cutout": 8}, "--cutout is 8, and the batches are those of the task; leave it out"),
        ({"validation_fraction": 0.1}, "--validation-fraction is 0.1, and the batches are those of the task"),
        ({"batch_size": 4}, "--batch-size is 4, and that of the task is 8; leave it out"),
        ({"devices": 3}, "--batch-size of 8 does not divide into equal shares for 3 devices"),
        ({"network": 3}, "network is 'int'; give a flax.linen module"),
        ({"task": "digits"}, "task is 'str'; give a jdarts.NetworkTask"),
    ],
)
def test_settings_without_effect_are_refused(changes, message, small, tmp_path):
    with pytest.raises(jdarts.InputError, match=message):
        run(tmp_path / "run", **{"network": small, **changes})
    assert not (tmp_path / "run").exists()


def test_a_network_that_fits_no_images_is_refused(small, tmp_path):
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, images):
            return Dense(3)(images.reshape(len(images), -1))

    config = TrainConfig(run_dir=tmp_path / "run", dataset="digits", epochs=1, batch_size=64, cutout=0)
    with pytest.raises(jdarts.InputError, match=r"outputs have shape \(64, 3\) for 64 images; give logits \[B, 10\]"):
        train(config, network=Wide(), stream=io.StringIO())

"""A search in a network of one's own: its result, a death on the way, two devices, methods, and what it refuses."""

import functools
import gc
import weakref

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from small_runs import assert_death_at_a_step_changes_nothing, leave_undrawn, records, user_settings, with_stand_ins

import jdarts
from jdarts.data import load
from jdarts.report import read_metrics
from jdarts.runs import CompiledPrograms
from jdarts.runs.devices import Devices
from jdarts.search import SearchConfig, search
from jdarts.search.own_task import network_task

__all__ = ["undrawn", "user_settings"]
undrawn = with_stand_ins(leave_undrawn)
pytestmark = pytest.mark.usefixtures("undrawn", "user_settings")

SETTINGS = {
    "dataset": "digits",
    "epochs": 2,
    "batch_size": 240,
    "log_every": 1,
    "hypergradient": "first_order",
    # Without augmentation a step compiles sooner.
    "padding": 0,
}
STEPS = 4


#: Uniform weights come from the one draw of a run; others have a program of their own.
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.lecun_uniform())


class Network(nn.Module):
    """A layer with a batch norm, and two choices."""

    axis_name: str | None = None
    classes: int = 10

    @nn.compact
    def __call__(self, images, train):
        x = Dense(4)(images.reshape(len(images), -1))
        x = nn.tanh(nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(x))
        for number in range(2):
            candidates = {"dense": Dense(4), "tanh": jnp.tanh, "none": None}
            x = x + jdarts.Choice(candidates, name=f"block{number}")(x)
        return Dense(self.classes)(x)


NETWORK = Network()


def run(folder, network=NETWORK, **changes):
    config = SearchConfig(run_dir=folder, **{**SETTINGS, **changes})
    return small_runs.result_and_text(search, config, network=network)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, undrawn):
    return run(tmp_path_factory.mktemp("undisturbed") / "run")


def test_a_search_ends_with_choices_and_shows_them_again(undisturbed):
    result, shown = undisturbed
    assert set(result.choices) == {"block0", "block1"} and set(result.choices.values()) <= {"dense", "tanh", "none"}
    assert {name: table.shape for name, table in result.alphas.items()} == {"block0": (1, 3), "block1": (1, 3)}
    assert "searching in Network on digits: 2 choices, 358 weights" in shown
    assert f"block0: {result.choices['block0']} (margin " in shown and "undecided on 2 of 2 choices" in shown
    again, shown = run(result.folder)
    assert again.choices == result.choices and "has finished" in shown
    epochs = [each for each in read_metrics(result.folder) if "epoch/guards_margin" in each]
    assert len(epochs) == 2
    np.testing.assert_array_equal(again.alphas["block0"], result.alphas["block0"])


@pytest.mark.parametrize("call", [2, 3])
def test_a_death_on_the_way_is_followed_by_the_same_bits(undisturbed, call, tmp_path):
    assert_death_at_a_step_changes_nothing(run, tmp_path / "run", undisturbed[0].folder, call)


def test_two_devices_give_the_numbers_of_one(undisturbed, tmp_path):
    result, _ = run(tmp_path / "run", devices=2)
    for name, table in undisturbed[0].alphas.items():
        np.testing.assert_allclose(result.alphas[name], table, rtol=0, atol=1e-5)
    for found, expected in zip(records(tmp_path / "run"), records(undisturbed[0].folder), strict=True):
        assert found.get("train/loss") == pytest.approx(expected.get("train/loss"), abs=1e-4)


def test_a_method_without_cells_searches_on_images_too(tmp_path):
    result, _ = run(tmp_path / "run", method="sdarts_rs", epochs=1, padding=4)
    assert set(result.choices) == {"block0", "block1"}
    assert result.valid_accuracy is not None and np.isfinite(result.valid_accuracy)


def test_the_passes_of_a_step_are_left_to_xla_to_inline(tmp_path):
    # XLA for CPUs has no fast convolutions within calls that stay.
    config = SearchConfig(run_dir=tmp_path, **SETTINGS)
    task = network_task(config, NETWORK, load("digits"), Devices())
    assert "inlineable" not in task.programs["step"].lowered(task.devices).as_text()


def test_shared_programs_keep_the_network_that_they_are_of(tmp_path):
    """Another network may otherwise have its identity, and take its programs."""
    network, programs = Network(), CompiledPrograms()
    found = network_task(SearchConfig(run_dir=tmp_path, **SETTINGS), network, load("digits"), Devices())
    again = network_task(SearchConfig(run_dir=tmp_path, **SETTINGS), network, load("digits"), Devices())
    other = network_task(SearchConfig(run_dir=tmp_path, **SETTINGS), Network(), load("digits"), Devices())
    assert found.key == again.key != other.key
    programs.get(found.key, dict)
    kept = weakref.ref(network)
    del network, found, again
    gc.collect()
    assert kept() is not None


def test_another_network_does_not_resume_a_run(undisturbed):
    class Other(Network):
        pass

    with pytest.raises(jdarts.InputError, match=r"begun with other data: network Network .* \(now Other "):
        run(undisturbed[0].folder, network=Other())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 8}, "--channels is 8, and a network of your own has no such cells; leave it out"),
        (
            {"max_weights": 1000, "budget_channels": 4},
            "--budget-channels is 4, and the bounds are those of the network that your own becomes; leave it out",
        ),
        ({"max_weights": 100}, "the bound is 100 weights, and the smallest network of these choices has 318 weights"),
        ({"seeds": "0-2"}, "--seeds is 0-2; call search_seeds, which searches with all of them at once"),
        ({"network": Network}, r"network is the class Network; give a module of it, such as Network\(\)"),
        ({"network": nn.Dense(10)}, "the network has no choices; put a jdarts.Choice into it"),
        (
            {"network": 3},
            "network is 'int'; give a flax.linen module with jdarts.Choice in it",
        ),
        (
            {"network": Network(classes=3)},
            r"outputs have shape \(1, 3\) for one image; give logits \[B, 10\]",
        ),
    ],
)
def test_what_has_no_place_in_it_is_refused(changes, message, tmp_path):
    with pytest.raises(jdarts.InputError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()

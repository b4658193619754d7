"""A search with the user's own task: its numbers, a death on the way, devices, seeds, and what it refuses."""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from small_runs import assert_death_at_a_step_changes_nothing, leave_undrawn, records, user_settings, with_stand_ins

import jdarts
from jdarts.choice.tables import with_tables
from jdarts.report import read_metrics
from jdarts.report.html.choices import choice_panels
from jdarts.report.html.run_data import read_run
from jdarts.report.html.series import panels
from jdarts.resolve import find_genotype
from jdarts.search import SearchConfig, search, search_seeds

__all__ = ["undrawn", "user_settings"]
undrawn = with_stand_ins(leave_undrawn)
pytestmark = pytest.mark.usefixtures("undrawn", "user_settings")

DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(51, 3)).astype(np.float32)
TARGETS = INPUTS[:, 0] * INPUTS[:, 1]
SETTINGS = {"epochs": 2, "log_every": 1, "hypergradient": "first_order"}


#: Uniform weights come from the one draw of a run; others have a program of their own.
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.lecun_uniform())


class Network(nn.Module):
    """A layer with a batch norm and dropout, and two choices."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train):
        x = nn.BatchNorm(use_running_average=not train, axis_name=self.axis_name)(Dense(4)(x))
        for number in range(2):
            candidates = {"dense": Dense(4), "tanh": jnp.tanh, "none": None}
            x = x + jdarts.Choice(candidates, name=f"block{number}")(x)
        return Dense(1)(x)[:, 0]


def parts(batch_size=8, **kwargs):
    train = jdarts.ArrayBatches((INPUTS[:26], TARGETS[:26]), batch_size)
    valid = jdarts.ArrayBatches((INPUTS[26:], TARGETS[26:]), batch_size)
    metrics = {"mae": lambda outputs, targets: jnp.mean(jnp.abs(outputs - targets))}
    return {"train": train, "valid": valid, "loss": "squared_error", "metrics": metrics, "name": "toy", **kwargs}


NETWORK, TASK = Network(), jdarts.NetworkTask(**parts())


def run(folder, network=NETWORK, task=TASK, start=search, **changes):
    config = SearchConfig(run_dir=folder, **{**SETTINGS, **changes})
    return small_runs.result_and_text(start, config, network=network, task=task)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, undrawn):
    return run(tmp_path_factory.mktemp("undisturbed") / "run")


def test_a_search_shows_and_logs_the_metrics_of_the_task(undisturbed):
    result, shown = undisturbed
    assert "searching in Network on toy: 2 choices, 69 weights, 3 batches of 8 in an epoch; loss squared_error" in shown
    assert re.search(r"epoch 2/2 +train loss \S+ mae \S+ +valid loss \S+ mae .*evaluation loss \S+ mae", shown)
    assert re.search(r"validation loss \S+, mae \S+, of the network with all candidates", shown)
    assert set(result.choices) == {"block0", "block1"} and set(result.metrics) == {"loss", "mae"}
    last = read_metrics(result.folder)[-1]
    assert last["epoch/evaluation_mae"] == pytest.approx(result.metrics["mae"])
    assert {"epoch/train_mae", "epoch/valid_loss", "epoch/guards_margin"} <= last.keys()
    again, shown = run(result.folder)
    assert "has finished" in shown and again.metrics == result.metrics and again.choices == result.choices


def test_an_evaluation_has_the_mean_over_all_examples(undisturbed):
    result, _ = undisturbed
    found = jdarts.load_search(result.folder)
    assert found.choices == result.choices
    with pytest.raises(
        jdarts.InputError, match=r"a network of your own, without cells; give its folder to jdarts\.load_"
    ):
        find_genotype(str(result.folder))
    init = jax.jit(functools.partial(NETWORK.init, train=False))
    _, shapes, _ = jdarts.split_variables(init(jax.random.key(0), INPUTS))
    alphas = jdarts.join_variables({}, with_tables(shapes, jax.tree.map(jnp.asarray, found.alphas)))["alphas"]
    apply: Any = jax.jit(functools.partial(NETWORK.apply, train=False))
    outputs = apply({**found.variables, "alphas": alphas}, INPUTS[26:])
    assert result.metrics["loss"] == pytest.approx(float(np.mean((outputs - TARGETS[26:]) ** 2)), rel=1e-4)


def test_the_page_shows_choices_and_metrics(undisturbed):
    result, _ = undisturbed
    data = read_run(result.folder)
    (block0, block1), found = choice_panels(data), {panel.title: panel for panel in panels(data)}
    assert (block0.title, block1.title) == ("block0", "block1")
    assert [each.name for each in block0.series] == ["dense", "tanh", "none"]
    assert all([epoch for epoch, _ in each.points] == [1, 2] for each in block0.series)
    assert sum(each.points[-1][1] for each in block0.series) == pytest.approx(1, abs=1e-5)
    assert [each.name for each in found["mae"].series] == ["training", "validation step", "evaluation"]
    assert found["Decided choices"].series and found["Entropy of the mixture"].series
    page = (result.folder / "report.html").read_text()
    assert "The choices" in page and f"<td>{result.choices['block0']}</td>" in page
    assert "validation mae" in page and "--train-fraction" not in page and "channels" not in data.settings


@pytest.mark.parametrize("call", [2, 5])
def test_a_death_on_the_way_is_followed_by_the_same_bits(undisturbed, call, tmp_path):
    assert_death_at_a_step_changes_nothing(run, tmp_path / "run", undisturbed[0].folder, call)


def test_two_devices_give_the_numbers_of_one(undisturbed, tmp_path):
    result, _ = run(tmp_path / "run", devices=2)
    for found, expected in zip(records(tmp_path / "run"), records(undisturbed[0].folder), strict=True):
        for name in ("train/mae", "epoch/evaluation_loss"):
            assert found.get(name) == pytest.approx(expected.get(name), abs=1e-4)
    assert result.metrics == pytest.approx(undisturbed[0].metrics, abs=1e-4)


def test_seeds_at_once_are_the_searches_of_each_alone(undisturbed, tmp_path):
    results, shown = run(tmp_path / "seeds", start=search_seeds, seeds="0,3")
    assert [each.folder.name for each in results] == ["seed0", "seed3"]
    assert results[0].metrics == pytest.approx(undisturbed[0].metrics, abs=1e-4)
    for found, expected in zip(records(results[0].folder), records(undisturbed[0].folder), strict=True):
        assert found.get("train/loss") == pytest.approx(expected.get("train/loss"), abs=1e-4)
    # The seeds read the batches in different orders.
    assert records(results[1].folder)[0]["train/loss"] != pytest.approx(records(results[0].folder)[0]["train/loss"])
    assert re.search(r"mae: \S+ to \S+, mean \S+, standard deviation", shown) and "block0: " in shown
    again, shown = run(tmp_path / "seeds", start=search_seeds, seeds="0,3")
    assert "has finished" in shown and again[1].choices == results[1].choices


def test_batches_are_any_pytrees_from_any_iterable(tmp_path):
    batches = [{"x": INPUTS[at : at + 8], "y": TARGETS[at : at + 8]} for at in (0, 8, 16)]
    task = jdarts.NetworkTask(
        train=lambda epoch: iter(batches if epoch else reversed(batches)),
        valid=batches,
        loss=lambda outputs, batch: (jnp.square(outputs - batch["y"]), {"size": jnp.asarray(len(outputs))}),
        inputs=lambda batch: batch["x"],
    )
    result, shown = run(tmp_path / "run", task=task)
    assert "3 batches of 8 in an epoch; loss <lambda>" in shown
    assert result.metrics["size"] == 8


def test_another_task_does_not_resume_a_run(undisturbed):
    other = jdarts.NetworkTask(**parts(valid=jdarts.ArrayBatches((INPUTS, TARGETS), 8)))
    with pytest.raises(jdarts.InputError, match="begun with other data: batches sha256"):
        run(undisturbed[0].folder, task=other)


def test_the_order_of_arrays_follows_from_the_seed_and_the_epoch():
    batches = jdarts.ArrayBatches((INPUTS, TARGETS), 8)
    assert len(batches) == 6
    first, again, other, later = (
        np.concatenate([y for _, y in batches(epoch, seed=seed)]) for epoch, seed in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert len({tuple(each) for each in (first, other, later)}) == 3 and len(set(first)) == 48
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches.in_order()]), TARGETS)


def test_an_epoch_with_fewer_batches_ends_the_run(tmp_path):
    batches = [(INPUTS[at : at + 8], TARGETS[at : at + 8]) for at in (0, 8, 16)]
    task = jdarts.NetworkTask(**parts(train=lambda epoch: iter(batches[epoch:])))
    with pytest.raises(
        jdarts.InputError, match="train gives 2 whole batches in epoch 1, and an epoch has 3 steps; give as many"
    ):
        run(tmp_path / "run", task=task)


def uneven(epoch):
    yield INPUTS[:8], TARGETS[:8]
    yield INPUTS[:4], TARGETS[:4]
    yield INPUTS[:8], TARGETS[:8]


WRONG = {
    "no valid": (dict(valid=None), "the task has no valid, which trains the alphas in a search; give it batches"),
    "a generator": (
        dict(train=((INPUTS, TARGETS) for _ in range(3))),
        "train is 'generator', which can be read once; give a function from the epoch to its batches",
    ),
    "nothing": (dict(valid=[]), "valid gives no batch in epoch 0; give one or more"),
    "a number": (dict(train=3), "train is 3; give a function from the epoch to its batches, a list of batches, or"),
    "no iterable": (dict(train=lambda epoch: 3), "train gives 'int' for an epoch; give an iterable of batches"),
    "texts": (dict(train=[("a", TARGETS)]), "batch 1 of train in epoch 0 holds 'a'; give arrays of numbers"),
    "lengths": (
        dict(train=[(INPUTS[:3], TARGETS[:2])]),
        r"batch 1 of train in epoch 0 has float32\[3, 3\], float32\[2\]; give arrays with the same number of examples",
    ),
    "uneven": (
        dict(train=uneven),
        r"batch 2 of train in epoch 0 has float32\[4, 3\], float32\[4\], and the first one has .*give batches of one shape",
    ),
    "few": (
        dict(steps_per_epoch=9),
        "train has 3 batches of whole size in epoch 0, and steps_per_epoch is 9; give as many",
    ),
    "pair": (dict(train=[INPUTS], valid=[INPUTS]), "a batch is 'ndarray'; give a pair"),
    "loss": (dict(loss="mse"), "the loss is 'mse'; give cross_entropy, binary_cross_entropy, squared_error, or a"),
    "loss of shape": (
        dict(loss="cross_entropy"),
        r"cross_entropy has outputs of shape \(8,\) and targets float32 \(8,\); give logits",
    ),
    "metric": (
        dict(metrics={"each": lambda outputs, targets: outputs}),
        r"the metric each has shape \(8,\); give one number for a batch, such as a mean",
    ),
    "metric's name": (dict(metrics={"loss": len}), "a metric has the name 'loss'; give a word of letters"),
    "name": (dict(name="a/b"), "the name of the task is 'a/b'; give letters, digits"),
    "other example": (
        dict(valid=[(INPUTS[:, :2], TARGETS)]),
        r"a batch of valid has float32\[51, 2\], float32\[51\], and one of train float32\[8, 3\].*; give batches that differ",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_task_is_refused(case, tmp_path):
    changes, message = WRONG[case]
    with pytest.raises(jdarts.InputError, match=message):
        run(tmp_path / "run", task=jdarts.NetworkTask(**parts(**changes)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "digits"}, "--dataset is 'digits', and that of the task is toy; leave it out"),
        ({"batch_size": 16}, "--batch-size is 16, and that of the task is 8; leave it out"),
        ({"cutout": 8}, "--cutout is 8, and the batches are those of the task; leave it out"),
        ({"train_fraction": 0.7}, "--train-fraction is 0.7, and the batches are those of the task; leave it out"),
        ({"channels": 8}, "--channels is 8, and a network of your own has no such cells"),
        ({"devices": 3}, "--batch-size of 8 does not divide into equal shares for 3 devices"),
        ({"task": 3}, "task is 'int'; give a jdarts.NetworkTask"),
        ({"network": None}, "task is given, and no network that it is for"),
    ],
)
def test_settings_without_effect_are_refused(changes, message, tmp_path):
    with pytest.raises(jdarts.InputError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_losses_of_yes_and_no():
    loss, metrics = jdarts.NetworkTask(**parts(loss="binary_cross_entropy", metrics={})).scores(
        jnp.array([2.0, -1.0]), jnp.array([1, 1])
    )
    assert float(loss) == pytest.approx(np.mean(np.log1p(np.exp([-2.0, 1.0]))), rel=1e-6)
    assert float(metrics["accuracy"]) == 0.5
    assert jax.tree.structure(metrics).num_leaves == 1

"""Every method, guard and stopping rule on a network of choices: it works there, or is refused with the reason."""

import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from left_by_death import keep_at, left
from small_runs import assert_same_bits, leave_undrawn, user_settings, with_stand_ins

import jdarts
from jdarts.methods.presets import PRESETS
from jdarts.methods.selection import SHARING
from jdarts.report import Progress, read_metrics
from jdarts.search import SearchConfig, search

__all__ = ["undrawn", "user_settings"]
undrawn = with_stand_ins(leave_undrawn)
pytestmark = pytest.mark.usefixtures("undrawn", "user_settings")

DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(32, 3)).astype(np.float32)
TARGETS = (INPUTS[:, 0] * INPUTS[:, 1]).astype(np.float32)
TASK = jdarts.NetworkTask(
    train=jdarts.ArrayBatches((INPUTS[:16], TARGETS[:16]), 8),
    valid=jdarts.ArrayBatches((INPUTS[16:], TARGETS[16:]), 8),
    loss="squared_error",
    name="toy",
)


#: Uniform weights come from the one draw of a run; others have a program of their own.
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.lecun_uniform())


class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        candidates = {
            "dense": Dense(3),
            "tanh": jnp.tanh,
            "skip": lambda x: x,
        }
        return Dense(1)(jnp.tanh(jdarts.Choice(candidates, name="block")(x)))[:, 0]


NETWORK = Network()
#: What a method has of cells, whose options a user leaves out.
LEFT_OUT: dict[str, dict[str, Any]] = {
    "pc_darts": {"partial_channels": 1, "edge_weights": False},
    "p_darts": {"stages": "none", "skip_dropout": 0.0},
    "darts_minus": {"auxiliary_skip": "none", "auxiliary_decay": "none"},
    "drnas": {"stages": "none", "partial_channels": 1},
    "snas": {"search_drop_path": 0.0},
    "oles": {"freeze_below": None},
    "lambda_darts": {"correlation": 0.0},
    "darts_plus": {"stop": "none"},
}
#: Methods that choose among cells of a supernet, whatever their options are.
REFUSED = {"darts_pt": "perturbation", **{name: name for name in SHARING}}
#: Those that, without what is of cells, are first-order DARTS.
PLAIN = {"pc_darts", "p_darts", "darts_minus", "oles", "lambda_darts", "darts_plus"}
#: Numbers of a preset that two epochs have no room for.
SMALLER: dict[str, dict[str, Any]] = {"drnas": {"alphas_from": 1}, "idarts": {"weight_steps": 2}}


def run(folder, *, network=NETWORK, **changes):
    settings: Any = {"epochs": 2, "log_every": 1, **changes}
    config = SearchConfig(run_dir=folder, **settings)
    return small_runs.result_and_text(search, config, network=network, task=TASK)


@pytest.mark.parametrize("method", sorted(set(PRESETS) - set(REFUSED) - PLAIN - {"darts_es", "darts_ada"}))
def test_a_method_searches(method, tmp_path):
    result, shown = run(tmp_path / "run", method=method, **{**LEFT_OUT.get(method, {}), **SMALLER.get(method, {})})
    assert set(result.choices) == {"block"} and "finished: 2 epochs" in shown
    assert np.isfinite(result.metrics["loss"]) and np.isfinite(result.alphas["block"]).all()
    assert np.abs(result.alphas["block"]).max() > 0


@pytest.mark.parametrize("method", LEFT_OUT)
def test_what_a_method_has_of_cells_is_named_with_what_to_give_instead(method, tmp_path):
    with pytest.raises(jdarts.InputError, match="the network is your own; give ") as refusal:
        run(tmp_path / "run", method=method)
    message, given = str(refusal.value), LEFT_OUT[method]
    if "stop" not in given:
        assert f"--method {method}: " in message
        assert message.endswith("; give " + ", ".join(f"{name}={value!r}" for name, value in given.items()))
    assert not (tmp_path / "run").exists()
    # With that, nothing is left to refuse.
    jdarts.search.own_task.check_own(SearchConfig(method=method, **{**given, **SMALLER.get(method, {})}))


@pytest.mark.parametrize("method", REFUSED)
def test_a_method_that_chooses_among_cells_is_refused_by_its_name(method, tmp_path):
    message = (
        f"--method {method} decides by --select {REFUSED[method]}, which scores cells of a supernet, and the network"
    )
    with pytest.raises(jdarts.InputError, match=message):
        run(tmp_path / "run", method=method)


DECAY: dict[str, Any] = {
    "method": "darts_ada",
    "epochs": 9,
    "hypergradient": "first_order",
    "stop": "adaptive_decay:every=1,first=0,ratio=1e-9,largest=1e-3",
}


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory, undrawn):
    """The result and what it shows. Beside its folder is what a death in the fifth step after the roll-back leaves."""
    folder = tmp_path_factory.mktemp("adaptive") / "run"
    with pytest.MonkeyPatch.context() as patch:
        keep_at(patch, Progress, "step", 17, folder)
        return run(folder, **DECAY)


def test_adaptive_decay_rolls_back_with_more_weight_decay(adaptive):
    result, shown = adaptive
    assert "finished: 9 epochs" in shown and "the search starts again" in shown
    epochs = [each for each in read_metrics(result.folder) if "epoch/guards_eigenvalue" in each]
    decays = [each["epoch/controls_weight_decay"] for each in epochs]
    assert decays[0] == pytest.approx(3e-4) and decays[-1] == pytest.approx(9e-4)


def test_a_death_after_a_roll_back_is_followed_by_the_same_bits(adaptive):
    folder = adaptive[0].folder
    _, shown = run(left(folder), **DECAY)
    assert "after step 4" in shown  # of the second time
    assert_same_bits(left(folder), folder, ["curves.png"])


@pytest.mark.parametrize("stop", ["eigenvalue:every=1,first=0,ratio=1e-9", "stable_ranking:epochs=1"])
def test_rules_that_read_no_cells_stop_a_search(stop, tmp_path):
    brief: dict[str, Any] = {"epochs": 9, "eigenvalue_every": 1, "hypergradient": "first_order"}
    result, shown = run(tmp_path / "run", method="darts_es", stop=stop, **brief)
    assert "the search stops after epoch" in shown and set(result.choices) == {"block"}

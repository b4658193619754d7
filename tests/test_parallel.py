"""One step on one, two and eight devices, compiled in a process of its own that has eight."""

import json

import jax
import jax.numpy as jnp
import many_devices
import numpy as np
import pytest
from small_runs import TESTS, environment, finish
from warm_processes import start

import jdarts
from jdarts import InputError


@pytest.fixture(scope="module")
def found():
    code, out, errors = finish(start([str(TESTS / "many_devices.py")], environment()), seconds=600)
    assert code == 0, errors[-3000:]
    return json.loads(out)


@pytest.mark.parametrize("kind, estimator, wrapper, devices", many_devices.CASES)
def test_five_steps_on_many_devices_are_those_on_one(found, kind, estimator, wrapper, devices):
    assert found[f"{kind} {estimator} {wrapper} {devices}"] < 1e-9 < 1e-4 < found[f"{kind} {estimator} moved"]


def test_so_are_those_of_the_search_network(found):
    """Each of two runs at once on one device takes the steps that it takes alone on eight."""
    assert found["supernet shard 8 and seeds 1"] < 1e-9 < found["supernet seeds 1 apart"]


@pytest.mark.parametrize("estimator, wrapper, devices", many_devices.TEXT_CASES)
def test_so_are_those_of_a_search_on_text(found, estimator, wrapper, devices):
    assert found[f"text {estimator} {wrapper} {devices}"] < 1e-9 < 1e-4 < found[f"text {estimator} moved"]


def test_so_are_steps_of_trainings(found):
    assert found["text training"] < 1e-9
    assert found["image training"] < 1e-9 < 1e-4 < found["image training drops"]


def test_runs_at_once_on_two_devices_are_those_alone(found):
    assert found["MixedLayer seeds 2"] < 1e-9 < found["MixedLayer seeds 2 apart"]


def test_statistics_of_each_device_are_other_numbers(found):
    assert found["per device"] > 1e-3


@pytest.mark.parametrize("step", ["", "text ", "text training "])
def test_nothing_but_sums_travels_between_devices(found, step):
    """No feature map, embedding or hidden state is gathered."""
    assert found[f"{step}collectives"].keys() == {"all-reduce"}


def test_collectives_are_found():
    text = "  %a = f64[2] all-reduce(%x)\n  %b = f64[2] all-gather-start(%x)\n  %c = (f64[2], f64[3]) all-to-all(%x)"
    assert many_devices.collectives(text) == {"all-reduce": 1, "all-gather": 1, "all-to-all": 1}


def mean_step(state, x, *, axis_name):
    mean = jnp.mean(x)
    return state + (mean if axis_name is None else jax.lax.pmean(mean, axis_name)), {"share": jnp.int32(x.shape[0])}


WRAPPERS = [lambda step, **options: jdarts.pmap_step(step, 2, **options)]
WRAPPERS += [lambda step, **options: jdarts.shard_step(step, 2, **options)]
both_wrappers = pytest.mark.parametrize("wrap", WRAPPERS, ids=["pmap", "shard"])


@both_wrappers
def test_inputs_are_split_or_whole(wrap):
    for split, share in ((None, 2), ((True, True), 2), ((False, True), 4)):
        step = wrap(lambda state, x, y, *, axis_name: mean_step(state, x, axis_name=axis_name), split=split)
        state, metrics = step(jnp.zeros(()), jnp.arange(4.0), jnp.arange(4.0))
        assert (float(state), int(metrics["share"])) == (1.5, share)
        assert state.sharding.is_fully_replicated


@pytest.mark.parametrize("at_once, groups_of", [(None, 6), (6, 6), (3, 3), (4, 3), (1, 1)])
def test_runs_may_follow_each_other_in_groups(at_once, groups_of):
    """A primitive's batching rule tells how many runs are vmapped."""
    seen = []

    def step(state, x, shared, *, axis_name):
        assert axis_name is None
        return state + x * watched(shared * state), {"twice": 2 * state}

    @jax.custom_batching.custom_vmap
    def watched(x):
        return jnp.sin(x)

    @watched.def_vmap
    def rule(axis_size, in_batched, x):
        seen.append(axis_size)
        return jnp.sin(x), in_batched[0]

    states, xs = jnp.arange(6.0), jnp.linspace(1.0, 2.0, 6)
    found, metrics = jdarts.vmap_step(step, stacked=(True, False), at_once=at_once)(states, xs, jnp.asarray(0.5))
    np.testing.assert_allclose(found, states + xs * np.sin(0.5 * np.arange(6)), rtol=1e-6)
    np.testing.assert_array_equal(metrics["twice"], 2 * states)
    assert set(seen) == ({groups_of} if groups_of > 1 else set())


def test_no_runs_at_once_are_refused():
    with pytest.raises(InputError, match="0 runs at once; give 1 or more"):
        jdarts.vmap_step(mean_step, at_once=0)


@both_wrappers
def test_the_old_state_is_donated_if_asked(wrap):
    for donate in (False, True):
        state = jnp.zeros(())
        wrap(mean_step, donate=donate)(state, jnp.arange(4.0))
        assert state.is_deleted() == donate


@both_wrappers
def test_a_batch_that_does_not_divide_is_refused(wrap):
    with pytest.raises(InputError, match=r"a batch of 5 .* 2 devices; give 4 or 6"):
        wrap(mean_step)(jnp.zeros(()), jnp.arange(5.0))
    with pytest.raises(InputError, match="2 flags for 1 inputs"):
        wrap(mean_step, split=(True, True))(jnp.zeros(()), jnp.arange(4.0))


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(InputError, match=r"99 devices were asked for, and 2 CPU present.*JAX_NUM_CPU_DEVICES"):
        jdarts.pmap_step(mean_step, 99)
    with pytest.raises(InputError, match="0 devices; give 1 or more"):
        jdarts.shard_step(mean_step, 0)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("rows",))
    with pytest.raises(InputError, match="the mesh has the axes rows"):
        jdarts.shard_step(mean_step, mesh)

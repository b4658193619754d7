"""Latency: measured once for each device, kept in the user's cache, and kept by a search that resumes."""

import datetime
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from small_runs import Died, die_at, newest, user_settings
from small_search import PLAIN, quick, run

import jdarts
from jdarts import checkpoint
from jdarts.budget import Limit, latency, latency_table
from jdarts.budget.counting import Place, target
from jdarts.derivation import sample_genotype
from jdarts.describe.command import main as describe_command
from jdarts.errors import InputError
from jdarts.operations import NONE
from jdarts.space import uniform_space

__all__ = ["quick", "user_settings"]

SPACE = uniform_space((NONE, "skip_connect", "max_pool_3x3", "dil_conv_3x3"), nodes=1)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """What is measured, in order: operations take 1 ms times their length of name and stride, networks take 100 ms."""
    asked = []

    def operation(name, place):
        asked.append((name, place))
        return len(name) * place.stride * 1_000_000

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(latency, "operation_latency", operation)
    monkeypatch.setattr(latency, "network_latency", lambda *_: asked.append("network") or 100_000_000)
    return asked


def test_each_operation_is_measured_once_for_a_device(measured):
    network = target(SPACE, channels=2, cells=3, classes=3, image_size=8)
    cost = latency.latency_cost(SPACE, network)
    assert len(measured) == len(set(measured)) and measured.count("network") == 1
    # The normal cell reads states of 8×8, the reduction cells inputs of 8×8 and 4×4; no node reads a node.
    assert {place for each in measured if each != "network" for place in each[1:]} == {
        Place(2, 8, 1), Place(4, 8, 2), Place(8, 4, 2)
    }  # fmt: skip
    pools = (1 + 2 + 2) * len("max_pool_3x3")
    assert cost.base == (100 - pools) * 1_000_000
    cells = sample_genotype(SPACE, 0)
    normal, reduce = (sum(len(name) for name, _ in cell) for cell in (cells.normal, cells.reduce))
    assert cost.of(cells, SPACE) == (100 - pools + normal + 4 * reduce) * 1_000_000
    before = list(measured)
    assert latency.latency_cost(SPACE, network).of(cells, SPACE) == cost.of(cells, SPACE)
    assert measured == before
    latency.latency_cost(SPACE, target(SPACE, channels=2, cells=4, classes=3, image_size=8))
    assert len(measured) > len(before)


def test_another_device_and_a_damaged_table_are_measured_again(measured, monkeypatch):
    network = target(SPACE, channels=2, cells=3, classes=3, image_size=8)
    latency.latency_cost(SPACE, network)
    once = len(measured)
    table = latency_table.read_table()
    content = json.loads(table.path.read_text())
    assert content["device"] == latency_table.device_words() == table.device
    today = datetime.date.today().isoformat()
    assert (
        {each["date"] for each in content["measured"].values()}
        == {today}
        == {each.date for each in table.entries.values()}
    )
    for content in ("", "{", "[]", '{"measured": {"a": {"nanoseconds": -1, "date": ""}}}', '{"measured": {"a": 1}}'):
        table.path.write_text(content)
        assert latency_table.read_table().entries == {}
    latency.latency_cost(SPACE, network)
    assert len(measured) == 2 * once
    monkeypatch.setattr(latency_table, "device_words", lambda: "another")
    latency.latency_cost(SPACE, network)
    assert len(measured) == 3 * once


def test_a_description_shows_the_table(measured, monkeypatch, capsys):
    cells = str(sample_genotype(SPACE, 0))
    sizes = ["--channels", "2", "--cells", "3", "--classes", "3", "--image-size", "8"]
    monkeypatch.setattr("jdarts.describe.latency.network_latency", lambda *_: 90_000_000)
    for given in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["describe", cells, *sizes, "--latency", *given])
        describe_command()
    text, _, found = capsys.readouterr().out.rpartition("\n{\n")
    found = json.loads("{" + found)["latency"]
    table = latency_table.read_table()
    assert found["device"] == table.device and found["table"] == str(table.path) and found["measured_ms"] == 90
    assert sum(each["times"] for each in found["operations"]) == 3 * 2
    rest = (
        table.entries["cifar network: 2 channels, 3 cells, 3 classes, images 8×8×3: 1 nodes, output of 1"].nanoseconds
        / 1e6
    )
    pools = (1 + 2 + 2) * len("max_pool_3x3")
    of_cells = sum(each["times"] * each["ms"] for each in found["operations"])
    assert found["predicted_ms"] == pytest.approx(rest - pools + of_cells)
    assert f"90 ms for one image, measured now; {found['predicted_ms']:.4g} ms by its operations" in text
    assert table.device in text and str(table.path) in text and datetime.date.today().isoformat() in text


@pytest.mark.parametrize("network", ["search", "ptb"])
def test_latency_of_other_networks_is_refused(network, monkeypatch):
    monkeypatch.setattr("sys.argv", ["describe", "DARTS_V2", "--network", network, "--latency"])
    with pytest.raises(
        InputError,
        match=f"--latency is for networks of convolutional cells that are trained, and this is the {network} network",
    ):
        describe_command()


def test_a_cache_that_cannot_be(measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"latencies cannot be kept: .*; give XDG_CACHE_HOME a folder"):
        latency_table.read_table()


def test_a_search_that_resumes_keeps_its_latencies(measured, quick, tmp_path, monkeypatch):
    settings: dict[str, Any] = {**PLAIN, "max_latency_ms": 165.0, "budget_channels": 2, "budget_cells": 3}
    with monkeypatch.context() as patch:
        die_at(patch, checkpoint, "save", 2)
        with pytest.raises(Died):
            run(tmp_path / "run", **settings)
    first = newest(tmp_path / "run").record["budget"]
    assert Limit.from_json(first["limits"][0], SPACE).most == 165_000_000
    monkeypatch.setattr(latency, "operation_latency", lambda *_: 10**12)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))
    result, shown = run(tmp_path / "run", **settings)
    assert newest(tmp_path / "run").record["budget"] == first
    assert "ms, within the bound of 165 ms" in shown and result.verdict["budget"]["latency"]["most"] == 165_000_000


@pytest.mark.parametrize("name", ["max_pool_3x3", "dil_conv_3x3"])
def test_an_operation_is_measured(name, monkeypatch):
    monkeypatch.setattr(latency, "_SECONDS", 1e-4)
    assert 0 <= latency.operation_latency(name, Place(4, 8, 2)) < 1_000_000_000


class Network(nn.Module):
    """Two choices between the same candidates, which share their alphas, and a choice of inputs."""

    @nn.compact
    def __call__(self, x, train):
        for number in range(2):
            candidates = {"dense": nn.Dense(4), "norm": Norm(), "tanh": jnp.tanh, "none": None}
            x = jdarts.Choice(candidates, shared="both", name=f"block{number}")(x, train=train)
        return jdarts.InputChoice(name="inputs")([x, x * x])


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return nn.BatchNorm(use_running_average=not train)(x)


def test_candidates_are_measured_once_with_their_shapes(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    def latency(operation, variables, x):
        operation(variables, x)
        asked.append(len(jax.tree.leaves(variables)))
        return 1000 * len(asked)

    monkeypatch.setattr("jdarts.choice.latency.repeated_latency", latency)
    monkeypatch.setattr("jdarts.choice.latency.call_latency", lambda call: call().size * 10_000)
    x = jax.ShapeDtypeStruct((1, 4), jnp.float32)
    cost = jdarts.choice_latency(Network(), x, train=False)
    assert asked == [2, 4, 0]
    found = [cost.of({"both": each, "inputs": "0"}) for each in ("dense", "norm", "tanh", "none")]
    # The network with the first candidates took 40,000, its two layers 2,000 of it.
    assert found == [40_000, 42_000, 44_000, 38_000]
    assert jdarts.choice_latency(Network(), x, train=False).of({"both": "norm", "inputs": "0"}) == 42_000
    assert len(asked) == 3
    assert float(cost.expected({"both": jnp.array([0.5, 0.0, 0.0, 0.5])})) == 39_000


class Wide(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jdarts.WidthChoice(nn.Dense, (2, 4), name="hidden")(x)


class Inside(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jdarts.Choice({"network": Deep(), "tanh": jnp.tanh}, name="outer")(x)


class Deep(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jdarts.Choice({"dense": nn.Dense(4), "tanh": jnp.tanh}, name="inner")(x)


@pytest.mark.parametrize(
    ("network", "problem"),
    [(Wide(), "hidden chooses a width"), (Inside(), "outer has choices inside of its candidates")],
)
def test_latencies_that_are_no_sum_are_refused(network, problem):
    with pytest.raises(
        InputError, match=f"latencies cannot be summed over the choices: {problem}.*; bound the multiply-adds"
    ):
        jdarts.choice_latency(network, jax.ShapeDtypeStruct((1, 4), jnp.float32))


def test_a_candidate_is_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(latency, "_SECONDS", 1e-4)
    cost = jdarts.choice_latency(Deep(), jax.ShapeDtypeStruct((1, 4), jnp.float32))
    assert 0 < cost.of({"inner": "dense"}) < 1_000_000_000


class Words(nn.Module):
    @nn.compact
    def __call__(self, words):
        return jdarts.Choice({"embedding": nn.Embed(10, 4), "one_hot": lambda x: jax.nn.one_hot(x, 4)}, name="inner")(
            words
        )


@pytest.mark.parametrize(("network", "of_inputs"), [(Words(), jnp.int32), (Words(), jnp.uint8), (Deep(), jnp.bfloat16)])
def test_inputs_have_any_type(network, of_inputs, standard_promotion, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(latency, "_SECONDS", 1e-4)
    cost = jdarts.choice_latency(network, jax.ShapeDtypeStruct((1, 4), of_inputs))
    (first, *_) = cost.candidates["inner"]
    assert 0 < cost.of({"inner": first}) < 1_000_000_000

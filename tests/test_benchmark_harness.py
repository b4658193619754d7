"""The benchmark's counts against the network itself, its processes, and its places in a file."""

import functools
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import methods
import pytest
import recurrent
import warm_processes
from harness import tables
from harness.choice_cells import EdgeByEdge
from harness.config import COMPARED, GROWTH, BenchmarkConfig
from harness.counts import PASSES, forward_macs, step_bytes, step_flops
from harness.limits import Limits
from harness.rounds import Times, measure
from harness.setup import Setup, Size

import jdarts
from jdarts.errors import InputError
from jdarts.nets.counts import count_weights
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.space import uniform_space

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
TINY = Size(channels=2, cells=1, nodes=1, batch=1, image_size=4)


def test_the_paper_size_network_has_the_known_number_of_multiply_adds():
    assert forward_macs(Size()) == 300_255_744


@pytest.mark.parametrize("size", [Size(4, 8, 4, 2, 32), Size(6, 5, 3, 1, 16), Size(4, 1, 1, 1, 8)])
def test_multiply_adds_are_those_of_a_network_that_runs(size):
    torch = pytest.importorskip("torch")
    from pytorch.network import SearchNetwork, num_edges

    threads, macs = torch.get_num_threads(), 0

    def count(module, inputs, output):
        nonlocal macs
        macs += output[0].numel() * module.weight[0].numel()

    network = SearchNetwork(size.channels, size.cells, size.nodes)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            module.register_forward_hook(count)
    alphas = torch.zeros(num_edges(size.nodes), 8)
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine take most of the time
    with torch.no_grad():
        network(torch.zeros(size.batch, 3, size.image_size, size.image_size), (alphas, alphas))
    torch.set_num_threads(threads)
    assert forward_macs(size) == macs


def test_bytes_of_the_smallest_network_by_hand():
    # One reduction cell of one node, 4 channels, 4×4 to 2×2: an input of an edge has 64 numbers, an output 16.
    stem, preprocess = (3 + 6) * 16, 2 * (6 + 4) * 16
    halves, stays = 64 + 16, 16 + 16
    edge = 2 * (halves + 3 * stays) + 2 * (halves + stays) + 2 * halves + halves + 7 * 16
    numbers = stem + preprocess + 2 * edge + 16 + 16
    assert step_bytes("weight", TINY) == 4 * 3 * numbers
    assert step_bytes("exact", TINY) == 4 * 13 * numbers


def test_the_longer_time_is_the_limit():
    flops, moved = step_flops("weight", TINY), step_bytes("weight", TINY)
    assert Limits(flops / 2, moved / 3).shortest("weight", TINY) == pytest.approx(3)
    assert Limits(flops / 2, moved / 3).bound("weight", TINY) == "memory"
    assert Limits(flops / 5, moved / 3).shortest("weight", TINY) == pytest.approx(5)
    assert Limits(flops / 5, moved / 3).bound("weight", TINY) == "arithmetic"


@pytest.fixture
def quick_processes(tmp_path, monkeypatch):
    """Processes that need not import what they use."""
    monkeypatch.setattr(sys, "executable", str(warm_processes.stand_in(tmp_path / "python")))


def test_processes_take_steps_in_turn(quick_processes, tmp_path):
    programs = tmp_path / "programs"
    setups = [Setup("jdarts", "weight", TINY), Setup("jdarts", "first_order", TINY)]
    environment = {"JAX_COMPILATION_CACHE_DIR": str(programs), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    told = []
    times, facts = measure(setups, rounds=3, environment=environment, tell=told.append)
    assert list(times) == list(facts) == setups
    for setup in setups:
        assert len(times[setup].values) == 3
        assert 0 < times[setup].least <= times[setup].median <= times[setup].most
        assert {"trace_s", "compile_s", "temporary_bytes"} <= set(facts[setup])
        assert facts[setup]["peak_bytes"] >= facts[setup]["ready_bytes"] > 2**20
    assert any(programs.iterdir())
    assert sum("round" in line for line in told) == 3


def test_a_process_that_fails_is_reported_with_its_reason(quick_processes):
    odd = Size(channels=2, cells=2, nodes=1, batch=1, image_size=6)  # 3×3 at the second reduction
    with pytest.raises(InputError, match=r"jdarts/weight .* exit code 1: .*3×3 at the reduction in cell 1"):
        measure([Setup("jdarts", "weight", odd)], rounds=1, environment={}, tell=lambda text: None)


def test_the_steps_table_compares_medians_and_shows_the_limit():
    size = Size()
    limits = Limits(1e15, step_bytes("weight", size) / 0.25)
    times = {
        Setup("jdarts", "weight", size): Times((0.5, 0.4, 1.0)),
        Setup("jdarts", "finite_difference", size): Times((2.0,)),
        Setup("jdarts", "exact", size): Times((1.5,)),
        Setup("pytorch", "weight", size, threads=2): Times((2.0, 1.5, 1.9)),
    }
    lines = tables.steps_table(times, size, limits).splitlines()
    assert lines[2].split("|")[1:] == [
        " weight step ",
        " 0.50 s (0.40 s to 1.00 s) ",
        " 1.90 s (1.50 s to 2.00 s) ",
        " 3.80 ",
        " 0.25 s (memory) ",
        " 50 % ",
        " 13 % ",
        "",
    ]
    assert "0.75 times" in lines[-1]


def test_the_recurrent_table_compares_medians_and_adds_up_compilation():
    times = {
        "pytorch/finite_difference": Times((3.0, 2.0, 2.9)),
        "jdarts/finite_difference": Times((1.0,)),
        "jdarts/exact": Times((1.45,)),
    }
    lines = tables.recurrent_table(times, {"jdarts/exact": 12.5}).splitlines()
    assert lines[2:4] == [
        "| second-order step, finite difference | 1.00 s (1.00 s to 1.00 s) | 2.90 s (2.00 s to 3.00 s) | 2.90 |  |",
        "| second-order step, exact | 1.45 s (1.45 s to 1.45 s) |  |  | 12.5 s |",
    ]
    assert "2.00 times" in lines[-1]


def test_a_growth_table_compares_each_row_with_the_one_before():
    sizes = [Size(batch=batch) for batch in (64, 16)]
    times = {Setup("jdarts", "exact", size): Times((size.batch / 10,)) for size in sizes}
    rows = tables.growth_table(times, "batch", Limits(1e15, 1e15)).splitlines()[2:]
    assert [row.split(",")[0] for row in rows] == ["| 16 | 1.60 s", "| 64 | 6.40 s"]
    assert "×4.00" in rows[1]
    assert "×" not in rows[0]


def test_growth_shows_compilation_and_memory_for_each_size():
    facts = {
        Setup("jdarts", "exact", Size(cells=8)): {"trace_s": 2.5, "compile_s": 10, "peak_bytes": 2.0**30},
        Setup("jdarts", "exact", Size(cells=4)): {"trace_s": 1.25, "compile_s": 5, "peak_bytes": 2.0**29},
        Setup("pytorch", "weight", Size(cells=8)): {"peak_bytes": 3 * 2.0**30},
    }
    rows = tables.growth_costs_table(facts, "cells").splitlines()[2:]
    assert rows == ["| 4 | 6.25 s, 0.50 GiB |  |", "| 8 | 12.5 s, 1.00 GiB | 3.00 GiB |"]


def test_tables_replace_what_is_between_their_markers_and_nothing_else():
    text = "a\n<!-- begin one -->\nold\n<!-- end one -->\nb\n<!-- begin two -->\nkept\n<!-- end two -->\n"
    placed = tables.place(text, {"one": "new"}, Path("F"))
    assert placed == text.replace("old", "new")
    assert tables.place(placed, {"one": "new"}, Path("F")) == placed
    with pytest.raises(InputError, match="begin three"):
        tables.place(text, {"three": "new"}, Path("F"))
    with pytest.raises(InputError, match="end one"):
        tables.place(text.replace("<!-- end one -->", ""), {"one": "new"}, Path("F"))


def test_the_readme_has_a_place_for_every_table():
    config = BenchmarkConfig(growth=tuple(GROWTH))
    text = (BENCHMARKS / "README.md").read_text()
    sections = [*config.sections, recurrent.SECTION, methods.SECTION, "choices"]
    placed = tables.place(text, {name: f"table of {name}" for name in sections}, BENCHMARKS / "README.md")
    assert all(f"table of {name}" in placed for name in sections)


def test_the_network_of_choices_has_the_weights_and_the_choices_of_the_supernet():
    space, images, key = uniform_space(nodes=2), jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32), jax.random.key(0)

    def parts(key, images):
        logits, variables = EdgeByEdge(space, 4, 3, 10).init_with_output(key, images)
        return logits, *jdarts.split_variables(variables)

    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        logits, weights, alphas, _ = jax.eval_shape(parts, key, images)
    supernet = Supernet(space, 4, 3, 10)
    init = functools.partial(supernet.init, train=True)
    expected = jax.eval_shape(init, {"params": key, "noise": key}, images, init_alphas(key, space))
    assert logits.shape == (2, 10) and count_weights(weights) == count_weights(expected["params"])
    assert len(alphas) == 2 * space.num_edges and {each.values.shape for each in alphas.values()} == {(8,)}


def test_only_leaves_the_named_subjects():
    config = BenchmarkConfig(only=("jdarts", "pytorch/weight"))
    assert config.chosen(COMPARED) == [*(("jdarts", step) for step in PASSES), ("pytorch", "weight")]
    assert config.needs_torch
    assert not BenchmarkConfig(only=("jdarts/exact",)).needs_torch


@pytest.mark.parametrize(
    ("script", "options", "complaint"),
    [
        ("run.py", ["--rounds", "0"], "--rounds is 0; give 1 or more"),
        ("run.py", ["--only", "tensorflow"], "--only tensorflow: no such subject"),
        ("run.py", ["--only", "jdarts", "--json", "nowhere/at/all.json"], "there is no folder nowhere/at"),
        ("run.py", ["--only", "jdarts", "--json", "."], "--json . is a folder; give a file in it"),
        ("choices.py", ["--steps", "0"], "--steps is 0; give 1 or more"),
        ("recurrent.py", ["--size.width", "0"], "--size.width is 0; give 1 or more"),
        (
            "recurrent.py",
            ["--subjects", "jdarts/weight"],
            "unknown subject 'jdarts/weight'; known are pytorch/first_order",
        ),
    ],
)
def test_wrong_options_end_with_one_line(script, options, complaint, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    shown, errors = capsys.readouterr()
    assert (ended.value.code, shown) == (2, "")
    assert errors.startswith("error: ")
    assert complaint in errors
    assert len(errors.splitlines()) == 1

"""experiments/run_benchmark.py: confopt's benchmarks, their searches, the one that is kept, and the nine trainings."""

import itertools
import json
from types import SimpleNamespace
from typing import get_args

import command_line
import pytest
import run_benchmark

from jdarts.derivation import sample_genotype
from jdarts.errors import InputError
from jdarts.methods.presets import PRESETS
from jdarts.nets.discrete import init_shapes
from jdarts.zoo import DARTS_V2

#: Methods that do something with normal cells, which the network of a single cell does not have.
OF_NORMAL_CELLS = {
    "lambda_darts": "makes normal cells agree, and a network of --cells 1 has none",
    "darts_plus": "reads the 'normal' cell, and this search has reduce cells",
}

command = command_line.fixture(run_benchmark.main, "run_benchmark")


def test_every_benchmark_searches_with_every_method():
    made = itertools.product(run_benchmark.SUPERNETS, run_benchmark.OPERATIONS)
    assert get_args(run_benchmark.Name) == tuple("bench:" + "-".join(parts) for parts in made)
    for name, method in itertools.product(get_args(run_benchmark.Name), PRESETS):
        narrow = 1 if PRESETS[method].get("partial_channels", 1) > 1 else None
        config = run_benchmark.BenchmarkConfig(name=name, method=method, partial_channels=narrow)
        if "single_cell" in name and method in OF_NORMAL_CELLS:
            with pytest.raises(InputError, match=OF_NORMAL_CELLS[method]):
                config.check()
            continue
        config.check()
        (first, *_) = config.search_configs()
        assert ("skip_connect" in first.operations) == ("no_skip" not in name)
        assert first.staging.stages == "none"


def test_settings_of_a_search_and_a_training():
    config = run_benchmark.BenchmarkConfig(name="bench:deep-all_skip", method="darts:exact", search_epochs=7)
    found = config.search_configs()
    assert [each.run.seed for each in found] == [0, 1, 2]
    assert (found[0].hypergradient, found[0].loop.epochs, found[0].supernet.auxiliary_skip) == ("exact", 7, "skip")
    assert (found[0].size.channels, found[0].size.cells, found[0].nodes) == (7, 18, 4)
    training = config.train_config(str(DARTS_V2), 0.01, 1e-3, config.folder)
    training.check()
    assert (training.size.channels, training.size.cells, training.batches.batch_size) == (7, 18, 512)
    assert (training.rate.learning_rate, training.weights.weight_decay, training.loop.epochs) == (0.01, 1e-3, 300)


def test_the_single_cell_is_a_reduction_cell_of_eight_nodes_with_four_as_its_output():
    config = run_benchmark.BenchmarkConfig(name="bench:single_cell-no_skip")
    config.check()
    space = config.search_configs()[0].search_space
    assert (space.kinds, space.nodes, space.concat) == (("reduce",), 8, (6, 7, 8, 9))
    genotype = sample_genotype(space, 0)
    training = config.train_config(str(genotype), 0.1, 3e-4, config.folder)
    training.check()
    network = training.model(10)
    # confopt: 26 channels, doubled by the reduction, of four nodes.
    assert network.kinds == ("reduce",)
    assert init_shapes(network)["params"]["classifier"]["kernel"].shape == (4 * 2 * 26, 10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--method dartz", "--method is 'dartz'; give darts or"),
        ("--method pc_darts", "18 channels do not divide by partial_channels 4"),
        ("--train-epochs 0", "--train-epochs is 0; give 1 or more"),
    ],
)
def test_wrong_values(words, message, command):
    code, out, errors = command(*words.split())
    assert (code, out) == (2, "")
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1


def test_the_search_with_the_lowest_loss_is_trained_nine_times_and_nothing_is_repeated(monkeypatch, tmp_path):
    seen = []

    def search(config, **_):
        seen.append(("search", config.run.seed))
        config.folder.mkdir(parents=True, exist_ok=True)
        loss = {"step": 1, "time": 0.0, "epoch/number": 1.0, "epoch/evaluation_loss": abs(config.run.seed - 1.0)}
        (config.folder / "metrics.jsonl").write_text(json.dumps(loss) + "\n")
        return SimpleNamespace(folder=config.folder, genotype=DARTS_V2)

    def train(config, **_):
        seen.append(("train", config.rate.learning_rate))
        return SimpleNamespace(weights=7, test_accuracy=config.rate.learning_rate)

    monkeypatch.setattr(run_benchmark, "search", search)
    monkeypatch.setattr(run_benchmark, "train", train)
    config = run_benchmark.BenchmarkConfig(out=tmp_path)
    rows = run_benchmark.run(config, None)  # pyright: ignore[reportArgumentType]
    assert [row["search"] for row in rows] == [1] * 9
    assert len({(row["learning_rate"], row["weight_decay"]) for row in rows}) == 9
    lines = run_benchmark.result_table(rows).splitlines()
    assert lines[-2].startswith("| mean |") and "4.50 ± 4.18" in lines[-2] and lines[-1].startswith("| best |")
    trained = [each for each in seen if each[0] == "train"]
    assert run_benchmark.run(config, None) == rows  # pyright: ignore[reportArgumentType]
    assert [each for each in seen if each[0] == "train"] == trained

"""The protocol: what is chosen and how it is tested, what is shared, and that a killed pipeline ends the same."""

import html
import json
import os
import shutil
import signal
import statistics
import sys

import jax
import pytest
import small_pipeline
import small_runs
from small_pipeline import RUNS, assert_same_end, config, options, quick, run
from small_runs import Died, die_at, finish, read_until, signal_after_step, user_settings

from jdarts import checkpoint, search, train
from jdarts.baselines import BASELINES, darts_architectures, evolution, genotype_of
from jdarts.command import run_command
from jdarts.derivation import sample_genotype
from jdarts.errors import InputError
from jdarts.genotype import parse_genotype
from jdarts.pipeline import Interrupted, PipelineConfig
from jdarts.pipeline.command import main
from jdarts.pipeline.protocol import pipeline
from jdarts.report import Progress
from jdarts.resolve import find_genotype
from jdarts.runs import CompiledPrograms, RunFolder
from jdarts.runs.loop import Loop
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

__all__ = ["quick", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")


class OwnPrograms(CompiledPrograms):
    """Takes no program of other tests, and leaves them its own."""

    def get(self, key, compiled):
        functions = super().get(key, compiled)
        assert small_runs.shared_programs is not None
        small_runs.shared_programs.get(key, lambda: functions)
        return functions


@pytest.fixture(scope="module")
def first(quick, tmp_path_factory):
    """The folder of a pipeline from its start to its end, and what it showed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jdarts.pipeline.protocol.CompiledPrograms", OwnPrograms)
        return folder, run(folder)[1]


@pytest.fixture(scope="module")
def undisturbed(first):
    return first[0]


def test_the_best_by_validation_is_trained_and_tested(undisturbed, monkeypatch):
    monkeypatch.setattr(Loop, "run", lambda *_: pytest.fail("a run was repeated"))
    result, shown = run(undisturbed)
    (arm,) = result.arms
    accuracies = [each.valid_accuracy for each in arm.candidates]
    assert arm.chosen == accuracies.index(max(accuracies))
    assert [each.seed for each in arm.candidates] == [3, 4]
    for each in arm.candidates:
        found = search.search(config(undisturbed).search_config(each.seed - 3), stream=None)
        assert (each.genotype, each.supernet_accuracy) == (found.genotype, found.valid_accuracy)
        assert each.brief is not None and each.brief.test_accuracy is None
    tested = [training.test_accuracy or 0.0 for training in arm.trainings]
    assert (arm.mean, arm.std) == (statistics.fmean(tested), statistics.stdev(tested))
    assert len(set(tested)) == 2
    assert all(training.genotype == arm.genotype for training in arm.trainings)
    assert result.table() in shown
    assert result.table() == (undisturbed / "table.txt").read_text().rstrip("\n")
    page = (undisturbed / "report.html").read_text()
    assert html.escape(result.table()) in page
    assert f"Cells from search: test accuracy {100 * result.arms[0].mean:.2f}" in page
    assert all(f'href="searches/seed{seed}/report.html"' in page for seed in (3, 4))
    assert find_genotype(str(undisturbed)) == arm.genotype == result.genotype


def test_the_table_says_it(undisturbed):
    lines = run(undisturbed)[0].table().splitlines()
    assert lines[0].split() == [
        "cells",
        "seed",
        "supernet",
        "validation",
        "weights",
        "time",
        "test",
        "of",
        "the",
        "chosen",
        "cells",
    ]
    assert [line.split()[:2] for line in lines[1:3]] == [["search", "3"], ["search", "4"]]
    assert sum("±" in line for line in lines[1:3]) == 1
    assert "of 2 full trainings (mean ± standard deviation)" in lines[4]


def test_runs_of_one_kind_are_compiled_once(first):
    parts = first[1].split("\n\n")
    compiled = {part.strip().splitlines()[0]: "compiling" in part for part in parts if "run folder" in part}
    assert len(compiled) == len(RUNS)
    assert [text for text, once in compiled.items() if not once] == [
        "search 2 of 2, seed 4",
        "full training 2 of 2 of the cells chosen from search, seed 4",
    ]


def test_its_parts_are_those_runs_alone(undisturbed, tmp_path):
    """Nothing depends on the process that a run shares with others."""
    settings = config(undisturbed)
    full = settings.full_config((undisturbed / "genotype.txt").read_text(), 1, tmp_path / "alone")
    train.train(full)
    small_runs.assert_same_bits(tmp_path / "alone", undisturbed / RUNS[-1], ["genotype.json"])


def test_deaths_anywhere_change_nothing(undisturbed, tmp_path, monkeypatch):
    """One pipeline dies again and again, each time deeper in it; calls are counted from the death before."""
    folder = tmp_path / "run"
    for owner, name, call, reached in [
        (RunFolder, "write", 1, None),  # before the pipeline's configuration
        (checkpoint, "save", 1, RUNS[0]),  # within the first search
        (checkpoint, "save", 4, RUNS[1]),  # at the end of the second
        (checkpoint, "save", 3, RUNS[2]),  # between a brief training's best and its last checkpoint
        (checkpoint, "save", 6, RUNS[4]),  # within a full training
        (RunFolder, "write_genotype", 3, RUNS[5]),  # the last one, of the pipeline itself
    ]:
        with monkeypatch.context() as patch, pytest.raises(Died):
            die_at(patch, owner, name, call)
            run(folder)
        assert [each for each in RUNS if (folder / each).exists()] == RUNS[: RUNS.index(reached) + 1 if reached else 0]
    assert (folder / RUNS[5] / "summary.json").exists() and not (folder / "genotype.txt").exists()
    run(folder)
    assert_same_end(folder, undisturbed)


def test_a_killed_pipeline_resumes_to_the_same_end(undisturbed, tmp_path):
    folder = tmp_path / "run"
    for shown in ("selection among 2 searches, seed 4", "full training 2 of 2"):
        process = small_runs.start((small_pipeline.__file__,), options(folder))
        read_until(process, shown)
        os.kill(process.pid, signal.SIGKILL)
        code, _, err = finish(process)
        assert (code, err) == (-signal.SIGKILL, "")
    run(folder)
    assert_same_end(folder, undisturbed)


def test_a_signal_saves_and_ends_the_whole(undisturbed, tmp_path, monkeypatch):
    signal_after_step(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(Interrupted):
        run(tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run" / RUNS[1]).exists()
    run(tmp_path / "run")
    assert_same_end(tmp_path / "run", undisturbed)


def test_a_pipeline_whose_configuration_is_gone_stops_before_its_next_run(tmp_path, monkeypatch):
    note = Progress.epoch_end

    def noting(*arguments):
        (tmp_path / "run/config.json").unlink(missing_ok=True)
        note(*arguments)

    monkeypatch.setattr(Progress, "epoch_end", noting)
    with pytest.raises(InputError, match=r"run/config\.json was removed while the run used it"):
        run(tmp_path / "run")
    assert (tmp_path / "run" / RUNS[0] / "summary.json").exists()
    assert not (tmp_path / "run" / RUNS[1]).exists()


def test_random_cells_are_added_to_a_finished_pipeline(undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    result, shown = run(folder, baseline="random", random_cells=2)
    assert "search 1 of 2" not in shown
    found, random = result.arms
    assert (random.name, len(random.candidates), len(random.trainings)) == ("random", 2, 2)
    space = config(folder).search.search_space
    assert [each.genotype for each in random.candidates] == [sample_genotype(space, seed) for seed in (3, 4)]
    assert found.genotype == result.genotype
    assert result.table().count("random: ") == 2
    assert len(PipelineConfig(baseline="random").search_config(0).search_space.edges) == 14
    assert PipelineConfig(baseline="random").num_random_cells == 24


@pytest.mark.parametrize("name", ["evolution", "reinforce"])
def test_a_baseline_learns_from_the_brief_trainings_and_resumes(name, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr("jdarts.pipeline.protocol.POPULATION", 2)
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    result, shown = run(folder, baseline=name, random_cells=3, repeats=2)
    assert "search 1 of 2" not in shown and f"cell 3 of 3 that {name} proposes" in shown
    found, learnt = result.arms
    assert (learnt.name, len(learnt.candidates), len(learnt.trainings)) == (name, 3, 2)
    assert found.genotype == result.genotype and result.table().count(f"{name}: ") == 2
    space = config(folder).search.search_space
    architectures = darts_architectures(space)
    baseline = evolution(2, 3) if name == "evolution" else BASELINES[name]()
    key = jax.random.key(3)
    state = baseline.init(jax.random.fold_in(key, 0), architectures)
    for number, candidate in enumerate(learnt.candidates):
        proposed, state = baseline.propose(architectures, state, jax.random.fold_in(key, number + 1))
        assert genotype_of(architectures, proposed, space) == candidate.genotype
        state = baseline.update(architectures, state, proposed, 100 * candidate.valid_accuracy)
    shutil.rmtree(folder / "selection" / f"{name}5")
    (folder / "summary.json").unlink()
    again, shown = run(folder, baseline=name, random_cells=3, repeats=2)
    assert f"cell 2 of 3 that {name} proposes" not in shown and f"cell 3 of 3 that {name} proposes" in shown
    assert [each.genotype for each in again.arms[1].candidates] == [each.genotype for each in learnt.candidates]
    assert [each.valid_accuracy for each in again.arms[1].candidates] == [
        each.valid_accuracy for each in learnt.candidates
    ]


def test_cells_by_shared_weights_are_added_to_a_finished_pipeline(undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    result, shown = run(folder, baseline="random_sharing", random_cells=6)
    assert "search 1 of 2" not in shown and "supernet of random_sharing 2 of 2, seed 4" in shown
    found, shared = result.arms
    assert (shared.name, len(shared.candidates), len(shared.trainings)) == ("random_sharing", 2, 2)
    assert found.genotype == result.genotype and result.table().count("random_sharing: ") == 2
    for candidate, name in zip(shared.candidates, ("random_sharing-seed3", "random_sharing-seed4")):
        supernet = json.loads((folder / "searches" / name / "summary.json").read_text())
        # Its weights have trained as many steps as those of a search.
        assert supernet["steps"] == json.loads((folder / RUNS[0] / "summary.json").read_text())["steps"]
        assert candidate.supernet_accuracy == supernet["valid_accuracy"] and candidate.brief is not None
    again, shown = run(folder, baseline="random_sharing", random_cells=6)
    assert "supernet" not in shown.split("\n")[0]
    assert again.table() == result.table()


def test_a_supernet_of_shared_weights_is_that_of_the_searches():
    searches = {"method": "pc_darts", "stop": "skip_connections", "epochs": 7, "correlation": 0.0, "channels": 8}
    pipeline = PipelineConfig(search=SearchConfig(**searches), baseline="evolution_sharing", random_cells=50)
    supernet = pipeline.sharing_config(1)
    supernet.check()
    assert (supernet.size.channels, supernet.supernet.partial_channels, supernet.loop.epochs) == (8, 4, 7)
    assert (supernet.batches.batch_size, supernet.rate.learning_rate) == (256, 0.1)
    assert (supernet.methods.edge_weights, supernet.stop, supernet.select) == (False, None, "evolution_sharing")
    assert (supernet.run.seed, supernet.decision.decision_candidates) == (1, 50)
    assert supernet.folder.name == "evolution_sharing-seed1"
    # The budget of a search with decisions after its epochs is that of all its epochs.
    pipeline = PipelineConfig(search=SearchConfig(method="darts_pt"), baseline="random_sharing")
    assert pipeline.sharing_config(0).loop.epochs == 130


def test_supernets_may_choose_the_cells_without_brief_trainings(quick, tmp_path):
    result, shown = run(tmp_path / "run", select_by="supernet", repeats=1)
    assert "selection among" not in shown and not (tmp_path / "run" / "selection").exists()
    (arm,) = result.arms
    accuracies = []
    for candidate, name in zip(arm.candidates, RUNS):
        summary = json.loads((tmp_path / "run" / name / "summary.json").read_text())
        accuracies.append(summary["cells_accuracy"])
        assert candidate.brief is None and candidate.valid_accuracy == summary["cells_accuracy"]
    assert arm.chosen == accuracies.index(max(accuracies))
    assert f"{100 * accuracies[0]:.2f} %" in result.table()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"searches": 0}, "--searches is 0; give 1 or more"),
        (
            {"select_by": "supernet", "baseline": "random"},
            "--select-by supernet has no supernet for the cells of --baseline random; give --select-by brief",
        ),
        ({"baseline": "random_sharing", "random_cells": 0}, "--random-cells is 0; give 1 or more"),
        ({"repeats": 0}, "--repeats is 0; give 1 or more"),
        ({"select_fraction": 0}, "--select-fraction is 0.0; give a number between 0 and 1"),
        ({"search.seed": 1}, "--search.seed has no effect within a pipeline; give --seed"),
        ({"train.test": False}, "--train.test has no effect within a pipeline; each full training is tested, once"),
        ({"train.genotype": "PDARTS"}, "--train.genotype has no effect within a pipeline; the searches find the cells"),
        ({"search.epochs": 0}, "--search.epochs is 0; give 1 or more"),
        ({"dataset": "digitz"}, "there is no image set 'digitz'; did you mean 'digits'? The names are"),
        (
            {"search.batch_size": 1000},
            "--search.batch-size is 1000, but the part of digits that trains the weights has 718",
        ),
        ({"train.batch_size": 1200}, "--train.batch-size is 1200, but 1077 images of digits train; give 1077 or less"),
    ],
)
def test_wrong_values_leave_nothing(changes, message, tmp_path, monkeypatch, capsys):
    given = {**options(tmp_path / "run"), **changes}
    if given.pop("train.test", True) is False:
        monkeypatch.setattr(sys, "argv", ["pipeline", *small_runs.arguments(given), "--train.no-test"])
    else:
        monkeypatch.setattr(sys, "argv", ["pipeline", *small_runs.arguments(given)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_takes_another_data_set(tmp_path, monkeypatch):
    """Its searches and trainings name digits as well; the option changes all of them."""
    monkeypatch.setattr("jdarts.pipeline.command.pipeline", PipelineConfig.check)
    parts = {"search": SearchConfig(dataset="digits"), "train": TrainConfig(dataset="digits")}
    for dataset in ("digits", "cifar10"):
        monkeypatch.setattr(sys, "argv", ["pipeline", "--dataset", dataset, "--run-dir", str(tmp_path / "run")])
        main(PipelineConfig(dataset="digits", **parts))


def test_images_too_small_for_the_network_are_refused_before_the_searches(tmp_path, monkeypatch):
    """The paper's auxiliary head cannot read digits; the real network says so at once."""
    from jdarts.nets.discrete import cifar_network

    monkeypatch.setattr("jdarts.train.config.cifar_network", cifar_network)
    settings = PipelineConfig(dataset="digits", run_dir=tmp_path / "run", repeats=1, searches=1)
    with pytest.raises(InputError, match=r"8×8.*auxiliary"):
        pipeline(settings)
    assert list(tmp_path.iterdir()) == []


def test_other_settings_need_another_folder(undisturbed):
    with pytest.raises(InputError, match=r"--repeats 2 \(now 3\)"):
        run(undisturbed, repeats=3)
    assert parse_genotype((undisturbed / "genotype.txt").read_text())

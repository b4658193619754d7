"""A search that dies anywhere and is started again ends with the bits of an undisturbed one."""

import contextlib
import os
import shutil
import signal
import subprocess
import textwrap

import pytest
from recorded_logs import recorded
from small_runs import (
    Died,
    die_at,
    die_in_turn,
    finish,
    leaves,
    newest,
    read_until,
    records,
    signal_after_step,
    user_settings,
)
from small_search import PLAIN, STEPS, STEPS_PER_EPOCH, assert_same_bits, quick, run, start, undisturbed
from test_search_devices import assert_close

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.report import MetricsLog
from jdarts.report.html.run_data import read_run
from jdarts.runs.folder import RunFolder
from jdarts.search import Interrupted
from jdarts.search.task import SearchTask

__all__ = ["quick", "recorded", "undisturbed", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")
EVERY_STEP = {"checkpoint_minutes": 1e-9}

#: Kills its own process at the chosen call of a function that the search makes: before, in the middle, or after it.
DRIVER = textwrap.dedent("""
    import os, pathlib, shutil, signal, sys
    from small_search import quicken

    from jdarts.command import run_command
    from jdarts.report.metrics import MetricsLog
    from jdarts.search.command import main

    where, count = sys.argv.pop(1), int(sys.argv.pop(1))

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def deadly(function, applies=lambda *a: True, after=False):
        left = [count]
        def replaced(*args, **kwargs):
            if applies(*args):
                left[0] -= 1
                if left[0] == 0 and not after:
                    die()
            value = function(*args, **kwargs)
            if applies(*args) and left[0] == 0 and after:
                die()
            return value
        return replaced

    if where == "before rename":
        pathlib.Path.rename = deadly(pathlib.Path.rename, lambda path, *a: path.name.startswith(".incomplete-"))
    elif where == "before removal":
        shutil.rmtree = deadly(shutil.rmtree, lambda path, *a, **k: pathlib.Path(path).name.startswith("step_"))
    elif where == "after record of epoch":
        MetricsLog.write = deadly(MetricsLog.write, lambda log, step, values: "epoch/number" in values, after=True)
    quicken()
    run_command(main)
""")


def test_kills_within_a_checkpoint_leave_the_run_whole(tmp_path):
    """One run dies at different moments, each time deeper in it."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    folder = tmp_path / "run"
    for where, count in (("before rename", 2), ("before removal", 1), ("after record of epoch", 1)):
        process = start(folder, program=(driver, where, str(count)), **EVERY_STEP, **PLAIN)
        code, _, err = finish(process)
        assert code == -signal.SIGKILL, err
        assert err == ""
    assert list((folder / checkpoint.FOLDER).glob("step_*"))
    _, shown = run(folder, **PLAIN)
    assert "resuming" in shown
    run(tmp_path / "undisturbed", **PLAIN)
    assert_same_bits(folder, tmp_path / "undisturbed")


@pytest.mark.parametrize("hypergradient", ["first_order", "finite_difference"])
def test_every_hypergradient_resumes_to_the_same_bits(hypergradient, tmp_path, monkeypatch):
    run(tmp_path / "straight", hypergradient=hypergradient)
    die_at(monkeypatch, checkpoint, "save", 4)
    with pytest.raises(Died):
        run(tmp_path / "broken", hypergradient=hypergradient, **EVERY_STEP)
    monkeypatch.undo()
    _, shown = run(tmp_path / "broken", hypergradient=hypergradient)
    assert "after step 3" in shown
    assert_same_bits(tmp_path / "broken", tmp_path / "straight")


def test_deaths_between_two_files_lose_and_double_nothing(undisturbed, tmp_path):
    """One search dies again and again, each time further."""
    deaths = [
        (MetricsLog, "write", 1, {}, 0),  # before the first record
        (MetricsLog, "write", STEPS_PER_EPOCH, EVERY_STEP, STEPS_PER_EPOCH - 1),  # before the record of the first epoch
        (RunFolder, "write_genotype", 1, {}, STEPS_PER_EPOCH - 1),  # after that record, before the checkpoint
        (RunFolder, "write_genotype", 3, {}, STEPS),  # all epochs done, nothing of the end written
        (RunFolder, "write", 3, {}, STEPS),  # all written but the summary
    ]
    die_in_turn(tmp_path / "run", run, deaths)
    assert not (tmp_path / "run/summary.json").exists()
    run(tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed)


def test_a_death_before_the_configuration_leaves_a_folder_that_can_be_used(undisturbed, tmp_path, monkeypatch):
    die_at(monkeypatch, RunFolder, "write", 1)
    with pytest.raises(Died):
        run(tmp_path / "run")
    monkeypatch.undo()
    (tmp_path / "run" / ".config.json.incomplete").write_text('{"data')
    run(tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed)


def test_a_signal_saves_after_the_present_step(undisturbed, tmp_path, monkeypatch):
    for after, number in [
        (1, signal.SIGINT),
        (2, signal.SIGTERM),
        (STEPS_PER_EPOCH, signal.SIGINT),
        (STEPS, signal.SIGINT),
    ]:
        with monkeypatch.context() as patch, pytest.raises(Interrupted) as stopped:
            signal_after_step(patch, after, number)
            run(tmp_path / "run")
        assert stopped.value.exit_code == 128 + number
        assert newest(tmp_path / "run").step == after
    _, shown = run(tmp_path / "run")
    assert f"after step {STEPS}" in shown.splitlines()[0]
    assert_same_bits(tmp_path / "run", undisturbed)


def test_a_signal_during_the_evaluation_saves_and_the_epoch_is_ended_later(undisturbed, tmp_path, monkeypatch):
    from jdarts.search.images import SearchImages

    batches = SearchImages.evaluation_batches

    def interrupting(images):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from batches(images)

    monkeypatch.setattr(SearchImages, "evaluation_batches", interrupting)
    with pytest.raises(Interrupted):
        run(tmp_path / "run")
    monkeypatch.undo()
    assert newest(tmp_path / "run").record["epochs_ended"] == 0
    # It dies after the record of the epoch: the checkpoint of the same step, without it, is gone on from once more.
    die_at(monkeypatch, checkpoint, "save", 1)
    with pytest.raises(Died):
        run(tmp_path / "run")
    monkeypatch.undo()
    run(tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed)


def test_a_signal_ends_the_process_with_its_code_and_says_what_was_saved(tmp_path):
    process = start(tmp_path / "run", epochs=100000, checkpoint_minutes=1000, **PLAIN)
    read_until(process, "epoch      1/")
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert code == 143
    found = newest(tmp_path / "run")
    last = out.splitlines()[-1]
    assert last == f"saved {found.path}; run the same command to resume"
    assert err == "stopped by SIGTERM\n"


def test_a_signal_during_the_compilation_ends_the_process_at_once(tmp_path):
    """The compilation of the run's programs is made endless, so that only the signal can end it."""
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import jax, time\n"
        "from jdarts.command import run_command\n"
        "from small_search import quicken\n"
        "from jdarts.search.command import main\n"
        "compiled = jax.stages.Lowered.compile\n"
        "jax.stages.Lowered.compile = lambda self, *options: time.sleep(1000) if options else compiled(self)\n"
        "quicken()\n"
        "run_command(main)\n"
    )
    process = start(tmp_path / "run", program=(driver,), **PLAIN)
    read_until(process, "compiling")
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process, seconds=60)
    assert (code, err) == (130, "stopped by SIGINT\n")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_second_signal_ends_the_process_within_a_step(tmp_path):
    driver = tmp_path / "driver.py"
    driver.write_text(
        "import time\n"
        "from jdarts.command import run_command\n"
        "from small_search import quicken\n"
        "from jdarts.search.command import main\n"
        "from jdarts.search.images import SearchImages\n"
        "def endless(self, rows, steps):\n"
        "    print('in the step', flush=True)\n"
        "    while True:\n"
        "        time.sleep(1)\n"
        "SearchImages.step_inputs = endless\n"
        "quicken()\n"
        "run_command(main)\n"
    )
    process = start(tmp_path / "run", program=(driver,), **PLAIN)
    read_until(process, "in the step")
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.3)
    assert finish(process)[0] == -signal.SIGINT


def unreadable(*_, **__):
    raise InputError("the images are gone")


def test_a_finished_run_is_reported_without_its_data(undisturbed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jdarts.data.load", unreadable)
    result, shown = run(undisturbed)
    assert shown.splitlines()[0] == f"{undisturbed} has finished; another --run-dir or --seed starts another search"
    assert str(result.genotype) in shown
    assert result.folder == undisturbed
    copy = tmp_path / "copy"
    shutil.copytree(undisturbed, copy)
    again, _ = run(copy)
    assert again.genotype == result.genotype
    assert again.folder == copy


def test_a_copied_run_resumes_elsewhere(undisturbed, tmp_path, monkeypatch):
    die_at(monkeypatch, checkpoint, "save", 3)
    with pytest.raises(Died):
        run(tmp_path / "run", **EVERY_STEP)
    monkeypatch.undo()
    shutil.move(tmp_path / "run", tmp_path / "moved")
    run(tmp_path / "moved")
    assert_same_bits(tmp_path / "moved", undisturbed)


def test_a_finished_search_has_its_page(undisturbed):
    data = read_run(undisturbed)
    assert data.problems == () and data.memory.keys() == {"persistent", "temporary", "peak"}
    assert all(epoch.mixture is not None and epoch.genotype is not None for epoch in data.epochs)
    assert "finished" in (undisturbed / "report.html").read_text()


def test_a_live_search_has_its_page_after_every_epoch(undisturbed, tmp_path, monkeypatch):
    pages = []

    def page_of(folder, *, live):
        pages.append((read_run(folder).state, len(read_run(folder).epochs), live))
        return "a page"

    monkeypatch.setattr("jdarts.report.html.pages.page_of", page_of)
    _, shown = run(tmp_path / "run", live=True)
    epochs = STEPS // STEPS_PER_EPOCH
    assert pages == [*(("running", epoch, True) for epoch in range(1, epochs + 1)), ("finished", epochs, False)]
    assert f"page: {tmp_path / 'run/report.html'}" in shown
    assert_same_bits(tmp_path / "run", undisturbed)


def test_images_on_host_and_device_give_the_same_numbers(undisturbed, tmp_path):
    run(tmp_path / "run", images_on="host")
    # XLA fuses the quick network's few operations with the reading of the images, and so rounds otherwise.
    assert_close(tmp_path / "run", undisturbed)


def test_another_seed_gives_other_bits(undisturbed, tmp_path):
    """The comparison above can fail."""
    run(tmp_path / "run", seed=1)
    found, expected = leaves(tmp_path / "run"), leaves(undisturbed)
    assert all(found[place] != expected[place] for place in expected if "alphas" in place and "count" not in place)
    assert records(tmp_path / "run") != records(undisturbed)


@pytest.mark.parametrize(("owner", "name", "call"), [(MetricsLog, "write", 3), (RunFolder, "write_genotype", 2)])
def test_a_resumed_run_logs_what_an_undisturbed_one_does(owner, name, call, recorded, tmp_path, monkeypatch):
    run(tmp_path / "straight", log=("wandb",))
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, owner, name, call)
        with pytest.raises(Died):
            run(tmp_path / "broken", log=("wandb",))
    run(tmp_path / "broken", log=("wandb",))
    straight, broken = recorded["straight"], recorded["broken"]
    assert broken.numbers == straight.numbers
    assert broken.cells == straight.cells
    assert [(epoch, kinds) for _, epoch, _, kinds in broken.cells] == [
        (1, ["normal", "reduce"]),
        (2, ["normal", "reduce"]),
    ]
    assert broken.closed == [True, False]


def test_the_cells_are_drawn_at_epochs_where_they_changed(recorded, tmp_path, monkeypatch):
    first = []
    genotype_of = SearchTask.epoch_genotype
    monkeypatch.setattr(
        SearchTask, "epoch_genotype", lambda task, state: first.append(genotype_of(task, state)) or first[0]
    )
    run(tmp_path / "run", log=("wandb",))
    assert len(first) == 2
    assert [drawn for _, _, drawn, _ in recorded["run"].cells] == [True, False]

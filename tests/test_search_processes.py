"""A search of two processes with two devices each, over the loopback interface."""

import io
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import warm_processes
from small_runs import environment, finish, newest, read_until, user_settings
from small_search import PLAIN, config, quick, run, start
from test_search_devices import FIRST_ORDER, assert_close, undisturbed

from jdarts import InputError
from jdarts.runs.processes import await_listener
from jdarts.search import search_seeds

__all__ = ["quick", "undisturbed", "user_settings"]

IMPATIENT = """
import small_search, jdarts.command, jdarts.runs.processes, jdarts.search.command
jdarts.runs.processes.JOIN_TIMEOUT = 2
jdarts.command.run_command(jdarts.search.command.main)
"""

#: Epochs that are not over before a signal comes.
LONG: Any = {"epochs": 12, **PLAIN}


def coordinator():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def start_both(folder, *, of_second=None, **changes):
    shared = {"coordinator": coordinator(), "num_processes": 2, "devices": 2, **changes}
    first = start(folder, process_id=0, **shared)
    return first, start(folder, process_id=1, **{**shared, **(of_second or {})})


def test_two_processes_find_what_one_finds(undisturbed, tmp_path):
    both = start_both(tmp_path / "run", **FIRST_ORDER)
    (code, out, errors), (second_code, second_out, _) = map(finish, both)
    assert code == 0, errors
    assert second_code == 0
    assert "genotype:" in out
    assert "epoch" not in second_out
    assert_close(tmp_path / "run", undisturbed)


def test_seeds_of_two_processes_find_what_those_of_one_find(quick, tmp_path):
    both = start_both(tmp_path / "run", seeds="0-3", epochs=1, **PLAIN)
    config_of_one = config(tmp_path / "one", seeds="0-3", epochs=1, **PLAIN)
    search_seeds(config_of_one, stream=io.StringIO())
    (code, out, errors), (second_code, second_out, _) = map(finish, both)
    assert code == 0, errors
    assert second_code == 0
    assert "different genotypes:" in out
    assert "seed" not in second_out
    for each in config_of_one.of_each_seed():
        assert_close(tmp_path / "run" / each.folder.name, each.folder)


def test_when_one_is_killed_the_other_ends_and_one_alone_resumes(quick, tmp_path):
    folder = tmp_path / "run"
    both = start_both(folder, **LONG)
    read_until(both[0], "epoch  2")
    both[1].kill()
    killed = time.monotonic()
    code, _, errors = finish(both[0], seconds=60)
    assert time.monotonic() - killed < 60
    assert code not in (0, 2)
    assert "another process of this run has ended" in errors
    both[1].communicate()
    step = newest(folder).step
    assert 5 <= step < 60
    _, shown = run(folder, **LONG)
    assert f"after step {step}" in shown
    assert newest(folder).step == 60


def test_a_signal_to_one_stops_both(quick, tmp_path):
    folder = tmp_path / "run"
    both = start_both(folder, **LONG)
    read_until(both[0], "epoch  2")
    both[1].send_signal(signal.SIGTERM)
    for process in both:
        code, _, errors = finish(process)
        assert code == 128 + signal.SIGTERM
        assert "stopped by SIGTERM" in errors
    assert 5 <= newest(folder).step < 60


def start_impatient(folder, own):
    """One process of two, of which the other does not come."""
    settings: Any = {"coordinator": coordinator(), "num_processes": 2, "process_id": own}
    return start(folder, program=("-c", IMPATIENT), **settings)


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """The folders of runs that are refused, and how their processes end, which all wait at the same time."""
    folders = {
        name: tmp_path_factory.mktemp("refused") / name for name in ("seeds", "settings", "without 0", "without 1")
    }
    started = {
        "seeds": start_both(folders["seeds"], seeds="0-2", devices=1),
        # Records of metrics are where processes meet, though the result does not depend on them.
        "settings": start_both(folders["settings"], of_second={"log_every": 3}),
        "without 0": [start_impatient(folders["without 0"], 1)],
        "without 1": [start_impatient(folders["without 1"], 0)],
    }
    ended = {name: list(map(finish, processes)) for name, processes in started.items()}
    return {name: (folders[name], ended[name]) for name in ended}


def test_seeds_that_the_processes_do_not_share_are_refused(refused):
    folder, both = refused["seeds"]
    for code, _, errors in both:
        assert (code, errors.strip().splitlines()[-1]) == (
            2,
            "error: --seeds of 3 does not divide into equal shares for 2 devices; give 2 or 4",
        )
    assert not folder.exists()


def test_a_process_with_other_settings_is_refused(refused):
    folder, both = refused["settings"]
    for code, _, errors in both:
        assert code == 2
        assert "error: process 1 of 2 was started with other settings than process 0" in errors
    assert not folder.exists()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_process_that_does_not_come(refused, missing):
    _, [(code, _, errors)] = refused[f"without {missing}"]
    assert code == 2
    assert "error: the processes of the run have not connected within 2 s" in errors
    assert "Traceback" not in errors


def test_a_process_connects_when_the_coordinator_listens():
    address = coordinator()
    host, port = address.split(":")
    with socket.socket() as listener:
        listener.bind((host, int(port)))
        threads = ThreadPoolExecutor(1)
        waits = threads.submit(await_listener, address)
        with pytest.raises(TimeoutError):
            waits.result(0.1)
        listener.listen()
        waits.result(30)


@pytest.mark.parametrize("host", ["coordinator.invalid", "a" * 64 + ".b", "a..b"])
def test_no_process_waits_for_a_host_without_an_address(host):
    await_listener(f"{host}:1")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"coordinator": "host:1"}, "--coordinator, --num-processes and --process-id belong together"),
        ({"process_id": 1}, "--coordinator, --num-processes and --process-id belong together"),
        ({"coordinator": "host", "num_processes": 2, "process_id": 0}, "--coordinator is host; .*HOST:PORT"),
        ({"coordinator": "host:1", "num_processes": 2, "process_id": 2}, "--process-id is 2 of 2; give 0 to 1"),
        ({"cluster": True, "process_id": 2}, "--cluster lets JAX find the other processes"),
        ({"cluster": True, "parallel": "pmap"}, "--parallel pmap is for one process; give shard"),
    ],
)
def test_processes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        config(None, **changes).check()


def test_no_cluster_where_there_is_none(tmp_path):
    command = ["-m", "jdarts.search", "--cluster", "--run-dir", str(tmp_path / "run")]
    code, _, errors = finish(warm_processes.start(command, environment()))
    assert code == 2
    assert "error: --cluster: JAX finds no SLURM" in errors

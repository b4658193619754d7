"""The launch scripts: what a person takes as it is runs, here on two processes of this machine."""

import json
import os
import socket
import subprocess
from pathlib import Path

import small_search
import warm_processes
import yaml
from small_runs import TESTS, environment

from jdarts.runs.option_groups import parse
from jdarts.search import SearchConfig

LAUNCH = TESTS.parent / "experiments" / "launch"

SRUN = """#!/bin/bash
# Two tasks on this machine, as srun starts them on two others.
[ "$1" = --kill-on-bad-exit=1 ] && shift
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" > "$TASKS/$task.txt" 2>&1 &
  pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""

#: In place of the interpreter: the quick network's search in place of `-m jdarts.search`.
PYTHON = """#!/bin/bash
[ "$1 $2" = "-m jdarts.search" ] && shift 2
exec {} {} "$@"
"""


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def slurm_job():
    """A job's number, of which JAX makes the port of the first process (61440 and the number modulo 4096): a free one."""
    for number in range(os.getpid(), os.getpid() + 4096):
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", 61440 + number % 4096))
            except OSError:
                continue
            return number
    raise AssertionError("no port is free")


def test_the_slurm_script_searches_with_all_its_tasks(tmp_path):
    executable(tmp_path / "srun", SRUN)
    python = PYTHON.format(warm_processes.stand_in(tmp_path / "fork"), small_search.__file__)
    settings = {**small_search.SETTINGS, **small_search.PLAIN, "epochs": 1, "run_dir": tmp_path / "run"}
    env = environment() | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": str(executable(tmp_path / "python", python)),
        "TASKS": str(tmp_path),
        "SLURM_JOB_ID": str(slurm_job()),
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_STEP_NUM_NODES": "1",
    }
    script = ["bash", str(LAUNCH / "search.slurm"), *small_search.small_runs.arguments(settings)]
    done = subprocess.run(script, capture_output=True, text=True, env=env, timeout=180)
    shown = [(tmp_path / f"{task}.txt").read_text() for task in (0, 1)]
    assert done.returncode == 0, (done.stderr, *shown)
    assert "genotype:" in shown[0]
    assert "epoch" not in shown[1]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == 1


def test_the_slurm_script_asks_for_what_it_says():
    lines = (LAUNCH / "search.slurm").read_text().splitlines()
    asked = dict(
        line.removeprefix("#SBATCH --").split("=", 1) for line in lines if line.startswith("#SBATCH") and "=" in line
    )
    # One process for each GPU.
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    assert subprocess.run(["bash", "-n", str(LAUNCH / "search.slurm")]).returncode == 0


def test_the_kubernetes_job_gives_each_pod_its_place():
    service, job = yaml.safe_load_all((LAUNCH / "search.yaml").read_text())
    spec = job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["sh", "-c"]
    (line,) = container["args"]
    configs = []
    for index in range(spec["completions"]):
        shown = subprocess.run(
            ["sh", "-c", line.replace("exec python", "printf '%s\\n'")],
            capture_output=True,
            text=True,
            check=True,
            env={"JOB_COMPLETION_INDEX": str(index), "PATH": os.environ["PATH"]},
        )
        module, name, *options = shown.stdout.splitlines()
        assert (module, name) == ("-m", "jdarts.search")
        configs.append(parse(SearchConfig(), prog="jdarts.search", arguments=options))
        configs[-1].check()
    assert [config.processes.process_id for config in configs] == [0, 1]
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert {config.processes.coordinator for config in configs} == {f"{job['metadata']['name']}-0.{name}:{port}"}
    assert {config.processes.num_processes for config in configs} == {spec["completions"]}
    assert {config.parallelism.devices for config in configs} == {container["resources"]["limits"]["nvidia.com/gpu"]}
    # Pods find each other by the service, and what they share lies on the volume.
    assert pod["subdomain"] == name
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    (mount,) = container["volumeMounts"]
    assert {volume["name"] for volume in pod["volumes"]} == {mount["name"]}
    assert all(
        Path(mount["mountPath"]) in folder.parents for folder in (configs[0].run.run_dir, configs[0].data.data_dir)
    )

"""The report on the installation and the machine."""

import json
import sys
from importlib import metadata

import jax
import numpy as np
import pytest
from rich.console import Console
from small_runs import run_in_a_process

from jdarts import doctor
from jdarts.doctor import command, numbers
from jdarts.native.build import BuildError
from jdarts.ops.mixing import products_p
from jdarts.xla import plain
from jdarts.xla.platform import compiling_for


@pytest.fixture
def nothing_installed(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    for function in ("version", "requires", "metadata"):
        monkeypatch.setattr(metadata, function, missing)


def by_name(found):
    return {each.name: each for each in found}


def test_packages_are_those_of_pyproject():
    found = by_name(doctor.packages())
    assert found["jax"].text == jax.__version__
    assert {"python", "jdarts", "jaxlib", "flax", "optax", "chex"} <= found.keys()
    assert all(each.state == "good" for each in found.values()), found


def test_a_package_of_a_wrong_version_or_none_is_wrong(monkeypatch):
    version = metadata.version
    versions = {"jax": "0.10.2", "optax": None}

    def changed(name):
        if name in versions and versions[name] is None:
            raise metadata.PackageNotFoundError(name)
        return versions.get(name) or version(name)

    monkeypatch.setattr(metadata, "version", changed)
    found = by_name(doctor.packages())
    assert found["jax"].state == found["optax"].state == "wrong"
    assert found["jax"].text.startswith("0.10.2, and jdarts needs ") and "!=0.10.2" in found["jax"].mend
    assert found["optax"].text == "is missing"
    assert found["flax"].state == "good"


def test_a_source_folder_that_is_not_installed(nothing_installed):
    assert by_name(doctor.packages())["jdarts"].state == "slow"
    assert doctor.extras() == []


def test_devices_and_kernels(monkeypatch):
    found = by_name(doctor.devices())
    assert found["devices"].text.startswith(f"{len(jax.devices())} CPU")
    monkeypatch.setenv("JDARTS_NATIVE", "0")
    (switched_off,) = doctor.native_kernels()
    assert (switched_off.state, "JDARTS_NATIVE" in switched_off.mend) == ("slow", True)
    monkeypatch.delenv("JDARTS_NATIVE")

    def without_compiler():
        raise BuildError("no C++ compiler (c++, g++, clang++) found")

    monkeypatch.setattr("jdarts.doctor.machine.kept_libraries", without_compiler)
    (without,) = doctor.native_kernels()
    assert without.state == "slow" and "no C++ compiler" in without.text and "g++" in without.mend
    monkeypatch.setattr("jdarts.doctor.machine.kept_libraries", lambda: {"images": True, "leaves": False})
    images, leaves = doctor.native_kernels()
    assert images.text == "built" and leaves.text.startswith("not built yet")


def test_kernels_of_a_gpu_need_two_compilers(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JDARTS_NATIVE", raising=False)
    with compiling_for("gpu"):
        monkeypatch.setattr("jdarts.native.gpu.compiler", lambda: None)
        (found,) = doctor.native_kernels()
        assert (found.name, found.state) == ("kernels of GPUs", "good") and found.text.startswith("not built yet")

        def without_nvrtc():
            raise BuildError("no libnvrtc found")

        monkeypatch.setattr("jdarts.native.gpu.compiler", without_nvrtc)
        (found,) = doctor.native_kernels()
        assert found.state == "slow" and "no libnvrtc" in found.text and "jax[cuda13]" in found.mend


def test_a_tpu_has_no_kernels():
    with compiling_for("tpu"):
        (found,) = doctor.native_kernels()
    assert found.state == "good" and "this device runs XLA's operations" in found.text


def test_no_device_is_wrong(monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'cuda': no device\nmore")

    monkeypatch.setattr(jax, "devices", fail)
    (found,) = doctor.devices()
    assert found == ("devices", "Unable to initialize backend 'cuda': no device", "wrong", found.mend)


@pytest.mark.parametrize("platforms", ["cuda", "nonsense"])
def test_the_report_is_whole_without_a_device(platforms, tmp_path):
    variables = {"JAX_PLATFORMS": platforms, "XDG_CACHE_HOME": str(tmp_path)}
    code, shown, errors = run_in_a_process("-m", "jdarts", "doctor", "--json", **variables)
    assert code == 1, errors
    report = json.loads(shown)
    (found,) = report["devices"]
    assert found["state"] == "wrong" and found["text"] and "JAX_PLATFORMS=cpu" in found["mend"]
    assert "without a device" in report["native kernels"][0]["text"]
    (latencies,) = (each["text"] for each in report["caches"] if each["name"] == "latencies")
    assert "without a device" in latencies


def test_caches_are_counted(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert by_name(doctor.caches())["programs"].text == "0 compiled programs, 0.0 MB"
    folder = tmp_path / "jdarts" / "programs"
    folder.mkdir(parents=True)
    (folder / "jit_step-1-cache").write_bytes(bytes(2_000_000))
    (folder.parent / "images.so").write_bytes(bytes(3_000_000))
    found = by_name(doctor.caches())
    assert found["programs"].text == "1 compiled programs, 2.0 MB"
    assert found["other files"].text == "3.0 MB"
    assert "takes its programs from the cache" in found["first step"].text


def test_damaged_data_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert by_name(doctor.data_sets())["prepared sets"].text == f"none in {tmp_path}"
    info = tmp_path / "cifar10" / "3.0.2" / "dataset_info.json"
    info.parent.mkdir(parents=True)
    info.write_text("{")
    found = by_name(doctor.data_sets())["cifar10"]
    assert found.state == "wrong" and "cifar10" in found.mend


def test_the_command(monkeypatch, capsys):
    wrong = doctor.Finding("jax", "is missing", "wrong", "pip install jax")
    monkeypatch.setattr(command, "CHECKS", {"packages": lambda: [doctor.Finding("python", "3.11"), wrong]})
    monkeypatch.setattr("sys.argv", ["jdarts doctor"])
    assert command.main() == 1
    out = capsys.readouterr().out
    assert "python" in out and "→ pip install jax" in out
    monkeypatch.setattr("sys.argv", ["jdarts doctor", "--json"])
    assert command.main() == 1
    assert json.loads(capsys.readouterr().out)["packages"][1]["mend"] == "pip install jax"
    monkeypatch.setattr(command, "CHECKS", {"packages": lambda: [doctor.Finding("python", "3.11")]})
    assert command.main() == 0


def test_a_narrow_terminal_folds_long_lines(capsys):
    long = doctor.Finding("cache", "/a/" + "long" * 30)
    command.show({"caches": [long]}, Console(width=60))
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


def test_the_distance_of_trees():
    expected = {"a": np.array([3.0, 4.0]), "b": np.array([0.0])}
    assert numbers.distance(expected, expected) == 0
    assert numbers.distance({"a": np.array([3.0, 4.5]), "b": np.array([0.0])}, expected) == pytest.approx(0.1)
    # What should be 0 is compared with the longest array.
    assert numbers.distance({"a": np.array([3.0, 4.0]), "b": np.array([1e-6])}, expected) == pytest.approx(0.2)
    assert np.isnan(numbers.distance({"a": np.array([3.0, np.nan]), "b": np.array([0.0])}, expected))


@pytest.mark.parametrize(
    ("distances", "state"),
    [
        ({"loss": 0.0, "gradient of the weights": 3e-6}, "good"),
        ({"loss": 0.0, "gradient of the weights": 0.9}, "wrong"),
        ({"loss": float("nan"), "gradient of the weights": 0.0}, "wrong"),
    ],
)
def test_numbers_that_differ_are_wrong(monkeypatch, distances, state):
    monkeypatch.setattr(numbers, "prepare_distances", lambda network: lambda: distances)
    found = numbers.numbers()
    assert len(found) == 3 and {each.state for each in found} == {state}
    assert all(("JDARTS_NATIVE=0" in each.mend) == (state == "wrong") for each in found)
    assert ("loss" if np.isnan(distances["loss"]) else "gradient of the weights") in found[0].text


def test_a_wrong_function_is_found(monkeypatch, standard_promotion):
    """What the native functions compute is compared with other functions, of which one is wrong here."""
    with jax.enable_x64(False):
        forms = plain._functions[products_p]

        def wrong(*operands, **params):
            return 1.1 * forms.usual(*operands, **params)

        monkeypatch.setitem(plain._functions, products_p, forms._replace(usual=wrong, on={}))
        measured = numbers.prepare_distances(numbers.QUICK_NETWORKS[0])()
    assert max(measured.values()) > 1e-2


def test_numbers_are_computed_where_asked(monkeypatch, capsys):
    monkeypatch.setattr(numbers, "numbers", lambda: [numbers.Finding("a network", "as on the CPU")])
    for arguments, shown in (([], False), (["--compute"], True)):
        monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
        command.main()
        assert ("a network" in capsys.readouterr().out) is shown


def test_nothing_is_computed_without_a_device(monkeypatch):
    report = {"packages": [], "devices": [doctor.Finding("devices", "none", "wrong")]}
    assert command.computed(report)[0].text.startswith("not computed")

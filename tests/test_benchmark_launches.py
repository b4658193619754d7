"""The count of what a step would launch on a device that is not there."""

from types import SimpleNamespace

import jax
import launches
import pytest
from harness import hlo, targets
from harness.compilation import Compilation
from harness.setup import STEP_NAMES, Setup, Size

from jdarts.errors import InputError
from jdarts.xla.platform import compiling_for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], "--batch is 0"),
        (["--step", "shard_exact"], "needs several devices"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--seeds", "4", "--step", "pmap_exact"], "are searches on one device"),
        (["--network", "recurrent", "--step", "weight"], "--network recurrent has the steps first_order"),
        (["--network", "recurrent", "--step", "exact", "--dtype", "bfloat16"], "not exact in bfloat16"),
        (["--text", "no/such/folder/x"], "--text no/such/folder/x: there is no folder"),
        (["--text", "."], "--text . is a folder; give a file in it"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        launches.main(["--target", "h100", *arguments])


@pytest.mark.parametrize(("target", "name"), [("h100", "h100"), ("v5e:2x2", "tpu")])
def test_without_the_plugin_the_message_says_how_to_get_it(monkeypatch, target, name):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=rf"make aot, then use \.venv-aot-{name}/bin/python"):
        launches.main(["--target", target])


def test_flags_of_the_environment_stay(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=there")
    assert targets.environment("h100")["XLA_FLAGS"] == "--xla_dump_to=there --xla_gpu_autotune_level=0"
    assert "XLA_FLAGS" not in targets.environment("v5e:2x2")


def test_the_table_shows_the_most_frequent_kinds_and_sums_up_the_rest():
    kinds = {f"kind{number}": 100 - number for number in range(20)}
    summary = hlo.Summary(
        launches=kinds,
        small=7,
        written=dict.fromkeys(kinds, 10**9),
        moved=2 * 10**9,
        placed=3 * 10**9,
        loops=1,
        in_loops=5,
        all_trips=(1234, 4 * 10**9),
        collectives={"all-reduce": (3, 10**9)},
    )
    program = SimpleNamespace(memory_analysis=lambda: SimpleNamespace(temp_size_in_bytes=5 * 10**9))
    rows = launches.launches_table(Compilation(program, 1.0, 2.0), summary).splitlines()
    assert f"| **launches** | **{sum(kinds.values()):,}** | **20.00 GB** |" in rows
    rest = 20 - launches.SHOWN_KINDS
    counted = sum(list(kinds.values())[-rest:])
    assert f"| … {rest} other kinds | {counted} | {rest}.00 GB |" in rows
    assert "| in the bodies of 1 loops, each counted once | 5 |  |" in rows
    assert "| launches of every trip of the loops | 1,234 | 4.00 GB |" in rows
    assert "| arrays in `all-reduce` | 3 | 1.00 GB |" in rows
    assert "| temporary memory |  | 5.00 GB |" in rows


def test_every_step_has_a_title(monkeypatch):
    monkeypatch.setattr(launches.metadata, "version", lambda _: "0")
    assert STEP_NAMES["exact"] in launches.title(launches.Launches(step="exact"))
    recurrent = launches.Launches(network="recurrent", step="first_order", batch=32, seeds=4)
    assert "4 searches" in launches.title(recurrent) and "segments of 35 words" in launches.title(recurrent)
    assert "`shard_step` on all devices" in launches.title(launches.Launches(target="v5e:2x2", step="shard_exact"))


def test_a_step_is_traced_from_shapes_alone_and_for_other_platforms():
    from harness.jdarts_steps import step_program

    from jdarts.parallel import jit_step

    program = step_program(Setup("jdarts", "weight", Size(2, 1, 1, 2, 4)))
    with jax.enable_x64(False), compiling_for("gpu"):
        shapes = program.shapes()
        traced = jit_step(program.step).trace(*shapes)
        for_tpus, for_gpus = (traced.lower(lowering_platforms=(each,)).as_text() for each in ("tpu", "cuda"))
    assert "jdarts_" not in for_tpus and "stablehlo.convolution" in for_tpus
    assert "@jdarts_gpu_separable_float32" in for_gpus

"""The measurement of an accelerator: its parts, their processes, and its tables."""

import dataclasses
import json
import sys
from collections import Counter

import accelerator
import jax
import jax.numpy as jnp
import pytest
import warm_processes
from device import against_cpu, runner
from device.against_cpu import prepare_comparison
from device.parts import GRAPHS, Part, all_parts, chosen_parts
from device.profile import by_kind, longest_kernels
from device.programs import of_several
from device.report import report, step_floor
from device.runner import Runner, read_records
from harness.counts import step_bytes, step_flops
from harness.setup import Size

from jdarts.doctor.numbers import RecurrentNetwork
from jdarts.errors import InputError

CEILINGS = {
    "part": "ceilings",
    "kind": "ceilings",
    "device": "a card",
    "driver": "1.2",
    "python": "3.12",
    "versions": {"jax": "0.0"},
    "copy_bytes_s": 1e12,
    "float32_flops": 1e12,
    "tf32_flops": 1e13,
    "bfloat16_flops": 1e14,
}


def test_names_are_different_and_come_back_from_text():
    parts = all_parts(fixtures=True)
    assert len({part.name for part in parts}) == len(parts)
    assert [Part.from_json(part.to_json()) for part in parts] == parts


def test_a_beginning_chooses_parts_in_their_order():
    names = [part.name for part in chosen_parts(["torch/weight", "step/exact"])]
    assert names[:2] == ["step/exact/float32/64", "step/exact/tf32/64"]
    assert all(name.startswith(("torch/weight", "step/exact")) for name in names)


def test_native_functions_on_and_off_are_parts_of_jdarts_alone():
    parts = chosen_parts(["ceilings", "step/exact/float32/64", "torch/weight/eager"], ["on", "off"])
    assert [part.name for part in parts] == [
        "ceilings",
        "step/exact/float32/64/native-on",
        "step/exact/float32/64/native-off",
        "torch/weight/eager/tf32/64",
    ]


def test_forms_of_depthwise_convolutions_are_parts_and_reach_the_process(tmp_path):
    chosen = chosen_parts(["ceilings", "step/exact/float32/64", "recurrent/exact"], [], ["usual", "pallas"])
    assert [part.name for part in chosen] == [
        "ceilings",
        "step/exact/float32/64/depthwise-usual",
        "step/exact/float32/64/depthwise-pallas",
        "recurrent/exact",
    ]
    named = [runner._environment(part, tmp_path).get("JDARTS_DEPTHWISE") for part in chosen[1:3]]
    assert named == ["", "pallas"]
    assert all(Part.from_json(part.to_json()) == part for part in chosen)


def test_forms_of_separable_convolutions_are_parts_and_reach_the_process(tmp_path):
    chosen = chosen_parts(["ceilings", "step/exact/float32/64", "recurrent/exact"], [], [], ["parts", "fused"])
    names = ["step/exact/float32/64/separable-parts", "step/exact/float32/64/separable-fused"]
    assert [part.name for part in chosen] == ["ceilings", *names, "recurrent/exact"]
    assert [runner._environment(part, tmp_path)["JDARTS_SEPARABLE"] for part in chosen[1:3]] == ["parts", "fused"]
    assert all(Part.from_json(part.to_json()) == part for part in chosen)


def test_graphs_and_steps_of_a_call_are_parts_and_reach_the_process(tmp_path):
    chosen = chosen_parts(
        ["ceilings", "step/weight/tf32/64", "seeds/first_order/tf32/C16/4"],
        graphs=["usual", "off"],
        steps_per_call=[1, 4],
    )
    assert [part.name for part in chosen] == [
        "ceilings",
        "step/weight/tf32/64/graphs-usual",
        "step/weight/tf32/64/graphs-usual/4-steps-a-call",
        "step/weight/tf32/64/graphs-off",
        "step/weight/tf32/64/graphs-off/4-steps-a-call",
        "seeds/first_order/tf32/C16/4/graphs-usual",
        "seeds/first_order/tf32/C16/4/graphs-off",
    ]
    flags = [runner._environment(part, tmp_path).get("XLA_FLAGS", "") for part in chosen[1:4:2]]
    assert ["command_buffer" in text for text in flags] == [False, True]
    assert all(Part.from_json(part.to_json()) == part for part in chosen)


def test_a_part_that_is_there_already_is_measured_once():
    names = [part.name for part in chosen_parts(["step/exact/tf32/64"], steps_per_call=[4])]
    forms = ["", "graphs-off/", "graphs-concurrent/"]
    assert names == [f"step/exact/tf32/64/{form}4-steps-a-call" for form in forms]


def test_every_way_to_launch_graphs_can_be_chosen(capsys):
    accelerator.main(["--list", "--only", "step/weight/tf32/64", "--graphs", *GRAPHS])
    assert capsys.readouterr().out.split() == [f"step/weight/tf32/64/graphs-{name}" for name in GRAPHS]


def test_patience_multiplies_both_time_limits():
    (part,) = chosen_parts(["ceilings"], patience=3)
    assert (part.prepare_s, part.measure_s) == (180, 120)


def test_quick_runs_every_kind_on_a_tiny_network():
    parts = chosen_parts([], quick=True, fixtures=True)
    assert {part.kind for part in parts} == {part.kind for part in all_parts(fixtures=True)}
    assert all(part.size.channels <= 4 and part.size.image_size == 8 and part.size.cells == 1 for part in parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "steps/exact"], "--only steps/exact: no part begins so"),
        (["--seconds", "0"], "--seconds is 0"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--patience", "0"], "--patience is 0"),
        (["--steps-per-call", "2", "0"], "--steps-per-call 0"),
        (["--tables", "--out", "no/such/file"], "no such file"),
        (["--fixtures", "no/such/folder"], "no file search_c4_l4.npz"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        accelerator.main(arguments)


def test_one_part_from_its_process_to_the_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(warm_processes.stand_in(tmp_path / "python")))
    accelerator.main(["--quick", "--only", "ceilings", "step/weight", "--seconds", "100", "--jobs", "2"])
    lines = [json.loads(line) for line in (tmp_path / "runs" / "accelerator.jsonl").read_text().splitlines()]
    assert [line["part"] for line in lines] == ["ceilings"] * 2 + ["step/weight/float32/4"] * 2
    ceilings, step = (line for line in lines if "error" not in line)
    assert lines[2]["compile_s"] == step["compile_s"]
    assert ceilings["copy_bytes_s"] > 1e8 and ceilings["float32_flops"] > 1e8
    assert 0 < step["min_s"] <= step["median_s"] <= step["max_s"]
    assert step["trace_s"] > 0 and step["compile_s"] > 0 and step["launches"] > 10
    assert any((tmp_path / "runs" / "programs").iterdir())
    printed = capsys.readouterr().out
    assert "| weight step | 4 | float32 |" in printed and "GB/s in a large copy" in printed
    assert "Without a result" not in printed


def test_a_part_that_is_not_ready_in_time_is_a_line_and_no_end(tmp_path):
    flags = {"quick": True, "seconds": 0.1, "fixtures": None}
    out, told = tmp_path / "x.jsonl", []
    slow = dataclasses.replace(chosen_parts(["step/weight"], quick=True)[0], prepare_s=0.1)
    runner = Runner(out, seconds=30, jobs=1, programs=tmp_path / "programs", flags=flags, tell=told.append)
    runner.run([slow])
    records = read_records(out)
    assert "not ready" in records[slow.name]["error"]
    assert "* `step/weight/float32/4`: not ready" in report(records)


def test_a_later_failure_does_not_replace_a_result(tmp_path):
    out = tmp_path / "x.jsonl"
    a, b = {"part": "a", "kind": "step"}, {"part": "b", "kind": "step"}
    records = [{**a, "median_s": 1.0}, {**a, "error": "lost"}, {**b, "error": "lost"}, b]
    out.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_records(out) == {"a": {**a, "median_s": 1.0}, "b": b}


def test_half_a_line_of_a_killed_process_is_no_result_and_none_is_joined_to_it(tmp_path):
    out = tmp_path / "x.jsonl"
    whole = json.dumps({"part": "a", "kind": "step", "median_s": 1.0, "size": {"batch": 4}, "steps": 1}) + "\n"
    flags = {"quick": True, "seconds": 0.1, "fixtures": None}
    without_time = Runner(out, seconds=1, jobs=2, programs=tmp_path / "programs", flags=flags, tell=lambda _: None)
    for end in (len(whole), len(whole) - 1, len(whole) - 2, whole.index(', "steps"'), 4):
        out.write_text(whole + whole[:end])
        assert list(read_records(out)) == ["a"]
        without_time.run([Part("ceilings")])
        assert read_records(out)["a"]["median_s"] == 1.0
        assert read_records(out)["ceilings"]["error"] == "no time left"
        assert out.read_text().startswith(whole + whole[:end].rstrip("\n") + '\n{"part"')


@pytest.mark.parametrize(
    "line", ["[1]", "{}", '{"part": 1, "kind": "step"}', '{"part": "a"}', "# A title", "[" * 10**5]
)
def test_a_file_of_something_else_is_refused_before_anything_is_measured(tmp_path, line):
    out = tmp_path / "x.jsonl"
    out.write_text(json.dumps(CEILINGS) + f"\n{line}\n")
    before = out.read_bytes()
    for arguments in (["--tables"], ["--only", "ceilings"]):
        with pytest.raises(
            InputError, match=r"line 2 of .*x\.jsonl is no result of a part; give another file with --out"
        ):
            accelerator.main([*arguments, "--out", str(out)])
    assert out.read_bytes() == before
    assert not (tmp_path / "programs").exists()


def test_the_floor_of_a_step():
    size = Size(batch=64)
    moved, computed = step_bytes("exact", size) / 1e12, step_flops("exact", size) / 1e12
    assert computed > moved
    assert step_floor("exact", "float32", size, CEILINGS) == (pytest.approx(computed), "arithmetic")
    assert step_floor("exact", "tf32", size, CEILINGS) == (pytest.approx(moved), "memory")
    assert step_floor("exact", "bfloat16", size, CEILINGS) == (pytest.approx(moved / 2), "memory")
    assert step_floor("exact", "tf32", size, {}) is None


def record(part, **facts):
    return {"part": part.name, **json.loads(part.to_json()), **facts}


def test_the_tables_compare_with_pytorch_and_with_one_search():
    times = {"median_s": 0.1, "min_s": 0.1, "max_s": 0.1, "queued_s": 0.09}
    one = Part("step", "first_order", "tf32")
    many = Part("seeds", "first_order", "tf32", seeds=16)
    theirs = Part("torch", "first_order", "tf32")
    records = {
        "ceilings": CEILINGS,
        **{
            part.name: record(part, **{**times, "median_s": seconds})
            for part, seconds in ((one, 0.1), (many, 0.8), (theirs, 0.3))
        },
    }
    text = report(records)
    step = next(line for line in text.splitlines() if line.startswith("| first-order step | 64 | TF32"))
    assert "| 3.00 |" in step
    assert next(line for line in text.splitlines() if "| 16 |" in line).endswith("| 0.50 |")


def test_several_steps_of_a_call_are_told_from_single_ones():
    times = {"median_s": 0.1, "min_s": 0.1, "max_s": 0.1, "queued_s": 0.09}
    parts = [
        Part("step", "exact", "tf32", steps_per_call=4),
        Part("step", "exact", "tf32", graphs="off"),
        Part("seeds", "exact", "tf32", seeds=4),
    ]
    text = report({part.name: record(part, **times) for part in parts})
    assert "| second-order step, exact, 4 steps a call | 64 |" in text
    assert "| second-order step, exact, CUDA graphs off | 64 |" in text
    # No step of one search, alone in its call, is there to compare with.
    assert next(line for line in text.splitlines() if "| 4 |" in line).endswith("|  |")


def test_a_call_of_several_steps_takes_them_all():
    steps = of_several(lambda state, train, valid, *, axis_name=None: (state + train * valid, state), 3)
    state, metrics = jax.jit(steps)(jnp.float32(1), jnp.float32(2), jnp.float32(5))
    assert state == 31
    assert metrics.tolist() == [1, 11, 21]


def test_distances_to_the_cpu(monkeypatch, standard_promotion):
    monkeypatch.setattr(against_cpu, "QUICK_NETWORKS", (RecurrentNetwork(width=4, nodes=1),))
    # As in the processes of the parts.
    with jax.enable_x64(False):
        distances = prepare_comparison(quick=True)()["distances"]
    (found,) = distances.values()
    assert set(found) >= {"loss", "gradient of the weights", "product of second derivatives"}
    assert max(found.values()) < 1e-4
    compared = Part("against_cpu", separable="fused")
    text = report({compared.name: record(compared, distances={"a network": {"loss": 1.5e-7}})})
    assert "**Largest distances to the CPU, separable fused.**" in text and "| a network | 1.5e-07 |" in text


def test_the_projection_of_a_search():
    searched = Part("search", "exact", "tf32")
    facts = {"median_s": 0.1, "steps_taken": 500, "evaluation_s": 6.0, "search_s": 19_500 * 0.1 + 50 * 6}
    text = report({searched.name: record(searched, **facts)})
    assert "from 500 measured steps" in text and "37 min 30 s" in text


def test_the_profile_of_a_program(tmp_path):
    product = jax.jit(lambda x: jnp.tanh(x @ x) @ x)
    results = [jnp.ones((64, 64), jnp.float32)]

    def take():
        results[:] = [product(results[0])]

    found = longest_kernels(take, lambda: jax.block_until_ready(results), steps=4, count=3)
    assert 1 <= len(found["kernels"]) <= 3 and found["kernels"][0]["ms"] >= found["kernels"][-1]["ms"] > 0
    assert found["kernel_ms"] >= sum(each["ms"] for each in found["kernels"]) * 0.999
    assert found["kernels_run"] >= 2


def test_kernels_of_one_kind_differ_in_numbers_alone():
    assert by_kind(Counter({"loop_add_fusion_12": 1, "loop_add_fusion": 2, "dot.3.1": 4, "sm90_gemm_f32": 8})) == {
        "loop_add_fusion": 3,
        "dot": 4,
        "sm90_gemm_f32": 8,
    }


def test_tables_of_an_earlier_file_need_no_measurement(tmp_path, capsys):
    out = tmp_path / "x.jsonl"
    out.write_text(json.dumps(CEILINGS) + "\n")
    accelerator.main(["--tables", "--out", str(out)])
    assert "a card, driver 1.2" in capsys.readouterr().out
    assert out.read_text() == json.dumps(CEILINGS) + "\n"

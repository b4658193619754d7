"""What is read from the text of a compiled program: launches, bytes, loops, collectives."""

from typing import Any

import pytest
from harness import hlo

TEXT = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[64,8]{1,0})->f32[64,8]{1,0}}

%fused_moves (param_0.1: f32[64,8]) -> f32[8,64] {
  %param_0.1 = f32[64,8]{1,0} parameter(0)
  ROOT %transpose.1 = f32[8,64]{1,0} transpose(f32[64,8]{1,0} %param_0.1), dimensions={1,0}
}

%fused_computes (param_0.2: f32[64,8], param_1.2: bf16[]) -> (f32[64,8], bf16[8]) {
  %param_0.2 = f32[64,8]{1,0} parameter(0)
  %param_1.2 = bf16[] parameter(1)
  %tanh.1 = f32[64,8]{1,0} tanh(%param_0.2)
  %broadcast.9 = bf16[8]{0} broadcast(%param_1.2), dimensions={}
  ROOT %tuple.5 = (f32[64,8]{1,0}, bf16[8]{0}) tuple(%tanh.1, %broadcast.9)
}

%fused_updates (param_0.3: f32[100,64], param_1.3: f32[1,64], param_2.3: s32[]) -> f32[100,64] {
  %param_0.3 = f32[100,64]{1,0} parameter(0)
  %param_1.3 = f32[1,64]{1,0} parameter(1)
  %param_2.3 = s32[] parameter(2)
  %zero = s32[] constant(0)
  %negate.1 = f32[1,64]{1,0} negate(%param_1.3)
  ROOT %dynamic-update-slice.1 = f32[100,64]{1,0} dynamic-update-slice(%param_0.3, %negate.1, %param_2.3, %zero)
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.2 = f32[] add(%a, %b)
}

%body (state: (s32[], f32[64,8])) -> (s32[], f32[64,8]) {
  %state = (s32[], f32[64,8]{1,0}) parameter(0)
  %item = f32[64,8]{1,0} get-tuple-element(%state), index=1
  %copy.3 = f32[64,8]{1,0} copy(%item)
  ROOT %tuple.2 = (s32[], f32[64,8]{1,0}) tuple(%copy.3, %copy.3)
}

%condition (state.1: (s32[], f32[64,8])) -> pred[] {
  %state.1 = (s32[], f32[64,8]{1,0}) parameter(0)
  ROOT %compare.1 = pred[] fusion(%state.1), kind=kLoop, calls=%fused_computes
}

%called (p: f32[64,8]) -> f32[64,8] {
  %p = f32[64,8]{1,0} parameter(0)
  ROOT %tanh.7 = f32[64,8]{1,0} tanh(%p)
}

ENTRY %main.9 (x: f32[64,8], b: bf16[]) -> f32[64,8] {
  %x = f32[64,8]{1,0:T(8,128)} parameter(0), metadata={op_name="x"}
  %b = bf16[] parameter(1)
  %bitcast.1 = f32[512]{0} bitcast(%x)
  %fusion.1 = f32[8,64]{1,0:T(8,128)S(1)} fusion(%x), kind=kLoop, calls=%fused_moves, metadata={op_name="jit(step)/transpose"}
  %fusion.2 = (f32[64,8]{1,0}, bf16[8]{0}) fusion(%x, %b), kind=kLoop, calls=%fused_computes
  %update = f32[100,64]{1,0} fusion(%x, %x, %b), kind=kLoop, calls=%fused_updates
  %product = f32[8,8]{1,0} fusion(%x), kind=kCustom, calls=%fused_computes, backend_config={"kind":"__triton_gemm"}
  %custom-call.3 = (f32[64,8]{1,0}, u8[1024]{0}) custom-call(%x), custom_call_target="__cudnn$convForward", window={size=3x3}
  %reduced-start = f32[64,8]{1,0} all-reduce-start(%x), replica_groups={{0,1}}, to_apply=%sum
  %reduced = f32[64,8]{1,0} all-reduce-done(%reduced-start)
  %copy-start.1 = (f32[64,8]{1,0}, f32[64,8]{1,0}, u32[]) copy-start(%x)
  %copy-done.1 = f32[64,8]{1,0} copy-done(%copy-start.1)
  %while.1 = (s32[], f32[64,8]{1,0}) while(%x), condition=%condition, body=%body
  ROOT %call.1 = f32[64,8]{1,0} call(%x), to_apply=%called
}
"""
MAP = 64 * 8


def test_launches_by_kind():
    summary = hlo.summarise(TEXT)
    assert summary.launches == {
        "moving fusion": 1,
        "fusion": 3,  # two of the entry's, one of the loop's condition
        "__triton_gemm": 1,
        "__cudnn$convForward": 1,
        "all-reduce-start": 1,
        "copy-start": 1,
        "copy": 1,
        "tanh": 1,
    }
    assert summary.count == 10


def test_bytes_are_those_of_all_results():
    written = hlo.summarise(TEXT).written
    assert written["moving fusion"] == 4 * MAP
    assert written["__cudnn$convForward"] == 4 * MAP + 1024
    # A tuple of two, an update in place of one row, and the condition's truth value.
    assert written["fusion"] == (4 * MAP + 2 * 8) + 4 * 64 + 1
    # The destination of a copy; its source and its context are not written.
    assert written["copy-start"] == 4 * MAP


@pytest.mark.parametrize(
    ("dtype", "size"), [("pred", 16), ("s8", 16), ("bf16", 32), ("f8e4m3fn", 16), ("f64", 128), ("c64", 128), ("u4", 8)]
)
def test_bytes_of_types(dtype, size):
    text = f"ENTRY %main (x: {dtype}[4,4]) -> {dtype}[4,4] {{\n  ROOT %y = {dtype}[4,4]{{1,0}} negate(%x)\n}}"
    assert hlo.summarise(text).bytes == size


def test_small_launches_are_those_below_the_limit():
    summary = hlo.summarise(TEXT.replace("[64,8]", "[64,400]"))
    large = [launch for launch in hlo.launches(TEXT.replace("[64,8]", "[64,400]")) if launch.bytes >= hlo.SMALL]
    assert summary.small == summary.count - len(large) == 4


def test_moved_bytes_are_those_of_large_arrays_that_nothing_is_computed_for():
    moves = [launch.kind for launch in hlo.launches(TEXT) if launch.moves]
    assert moves == ["moving fusion", "copy-start", "copy"]
    assert hlo.summarise(TEXT, map_numbers=MAP).moved == 3 * 4 * MAP
    assert hlo.summarise(TEXT, map_numbers=MAP + 1).moved == 0


def test_what_is_computed_and_then_transposed_counts_as_placed_alone():
    text = TEXT.replace(
        "ROOT %transpose.1 = f32[8,64]{1,0} transpose(f32[64,8]{1,0} %param_0.1)",
        "%tanh.4 = f32[64,8]{1,0} tanh(%param_0.1)\n  %transpose.1 = f32[8,64]{1,0} transpose(%tanh.4)\n"
        "  ROOT %bitcast.4 = f32[8,64]{1,0} bitcast(%transpose.1)",
    )
    before, after = hlo.summarise(TEXT, map_numbers=MAP), hlo.summarise(text, map_numbers=MAP)
    assert before.placed == before.moved == 3 * 4 * MAP
    assert (after.moved, after.placed) == (2 * 4 * MAP, 3 * 4 * MAP)


def test_an_update_in_place_outside_a_fusion_writes_the_update():
    call = "ROOT %call.1 = f32[64,8]{1,0} call(%x), to_apply=%called"
    update = "%row = f32[1,8]{1,0} slice(%x)\n  ROOT %up = f32[64,8]{1,0} dynamic-update-slice(%x, %row, %b, %b)"
    assert hlo.summarise(TEXT.replace(call, update)).written["dynamic-update-slice"] == 4 * 8


def test_an_update_in_place_may_end_in_another_name_for_its_memory():
    update = "dynamic-update-slice(%param_0.3, %negate.1, %param_2.3, %zero)"
    line = f"ROOT %dynamic-update-slice.1 = f32[100,64]{{1,0}} {update}"
    text = TEXT.replace(line, f"{line[5:]}\n  ROOT %bitcast.8 = f32[6400]{{0}} bitcast(%dynamic-update-slice.1)")
    assert text != TEXT and hlo.summarise(text).written == hlo.summarise(TEXT).written


def test_the_launches_of_a_loop_count_once():
    summary = hlo.summarise(TEXT)
    assert (summary.loops, summary.in_loops) == (1, 2)
    # How often it runs, the compiler has not told.
    assert summary.all_trips == (summary.count, summary.bytes)


def test_every_trip_of_a_loop_counts_where_the_compiler_tells_them():
    known = 'body=%body, backend_config={"known_trip_count":{"n":"35"},"known_init_step":{"init":"0"}}'
    summary = hlo.summarise(TEXT.replace("body=%body", known))
    assert summary.count == hlo.summarise(TEXT).count
    assert summary.all_trips[0] == summary.count + 34 * 2
    assert summary.all_trips[1] > summary.bytes + 34 * 4 * MAP


def test_collectives_with_their_bytes():
    assert hlo.summarise(TEXT).collectives == {"all-reduce": (1, 4 * MAP)}


def test_the_origin_of_a_launch():
    assert hlo.launches(TEXT)[0].origin == "jit(step)/transpose"


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        hlo.parse("HloModule nothing")


def test_a_real_program():
    import jax
    import jax.numpy as jnp

    def function(x):
        return jax.lax.fori_loop(0, 5, lambda _, x: jnp.tanh(x @ x), x).T

    text: Any = jax.jit(function).lower(jax.ShapeDtypeStruct((32, 32), "float32")).compile().as_text()
    summary = hlo.summarise(text, map_numbers=32 * 32)
    assert summary.loops == 1 and summary.in_loops > 0
    assert summary.all_trips[0] >= summary.count + 4 * 1
    assert 0 < summary.count < 30
    assert summary.bytes >= 3 * 4 * 32 * 32

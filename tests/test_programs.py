import gc
import io
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import run_in_a_process

from jdarts.report import Progress
from jdarts.runs.context import Context
from jdarts.runs.interruption import Interrupted, Interruption
from jdarts.runs.loop import Loop
from jdarts.runs.programs import CompiledPrograms, Compiler
from jdarts.xla.tracing import with_stack_space, without_garbage_collection


class Traced:
    """Stands for a traced program: its compiler waits for a permit, and fails with an error if there is one."""

    def __init__(self, name="", *, error=None, log=None):
        self.name, self.error, self.log = name, error, [] if log is None else log
        self.permit = threading.Event()

    def compile(self, options):
        assert self.permit.wait(60)
        self.log.append((self.name, options))
        if self.error:
            raise self.error
        return Compiled(self.name)


class Compiled:
    """Stands for a compiled program of which XLA has no plan."""

    def __init__(self, name):
        self.name = name

    def __call__(self, *args):
        return (self.name, *args)

    def memory_analysis(self):
        return None


def test_programs_are_compiled_in_the_order_in_which_they_are_added_while_the_caller_goes_on():
    log = []
    traced = [Traced(name, log=log) for name in "abc"]
    with Compiler({"option": True}) as compiler:
        programs = [compiler.add(each) for each in traced]
    traced[2].permit.set()
    assert not programs[2].is_done(seconds=0.05)
    traced[1].permit.set()
    traced[0].permit.set()
    assert programs[2](1, 2) == ("c", 1, 2)
    assert log == [(name, {"option": True}) for name in "abc"]
    assert all(program.is_done(seconds=0) for program in programs)


def test_an_error_of_the_compiler_is_raised_where_the_program_is_called_and_the_next_is_compiled():
    bad, good = Traced("bad", error=MemoryError("RESOURCE_EXHAUSTED")), Traced("good")
    with Compiler({}) as compiler:
        programs = [compiler.add(bad), compiler.add(good)]
    bad.permit.set()
    good.permit.set()
    with pytest.raises(MemoryError, match="RESOURCE_EXHAUSTED"):
        programs[0]()
    assert programs[1]() == ("good",)


def test_the_interpreter_ends_after_its_compiler():
    script = (
        "import sys, time\n"
        "from jdarts.runs.programs import Compiler\n"
        "class Traced:\n"
        "    def compile(self, options):\n"
        "        time.sleep(1)\n"
        "        print('compiled', flush=True)\n"
        "with Compiler({}) as compiler:\n"
        "    compiler.add(Traced())\n"
        "sys.exit(2)\n"
    )
    assert run_in_a_process("-c", script) == (2, "compiled\n", "")


def test_an_error_ends_the_compiler_and_drops_what_waits():
    first, second = Traced("first"), Traced("second")
    first.permit.set()
    with pytest.raises(BrokenPipeError), Compiler({}) as compiler:
        assert compiler.add(first)() == ("first",)
        blocking = Traced("blocking")
        compiler.add(blocking)
        compiler.add(second)
        raise BrokenPipeError
    blocking.permit.set()
    compiler._thread.join(timeout=60)
    assert not compiler._thread.is_alive()
    assert second.log == []


def test_an_error_before_the_first_program_ends_the_process():
    """Nothing else would end the thread, for which the interpreter waits."""
    script = "import sys\nfrom jdarts.runs.programs import Compiler\nwith Compiler({}):\n    raise BrokenPipeError\n"
    code, _, errors = run_in_a_process("-c", script)
    assert code == 1
    assert errors.strip().endswith("BrokenPipeError")


def test_garbage_collection_is_as_before_after_a_pause():
    assert gc.isenabled()
    with pytest.raises(KeyboardInterrupt), without_garbage_collection():
        assert not gc.isenabled()
        raise KeyboardInterrupt
    assert gc.isenabled()
    gc.disable()
    try:
        with without_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_THREAD"), reason="no count of the pages of a thread")
def test_frames_of_callees_have_space():
    """No depth is one at which every call maps memory and its return unmaps it: the system would clear a page each time."""

    def cleared_pages(depth):
        if depth:
            return cleared_pages(depth - 1)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(1000):
            leaf()
        return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

    def leaf():
        pass

    @with_stack_space
    def at_every_depth():
        return [cleared_pages(depth) for depth in range(300)]

    # A thread has its frames for itself: tests run in space already.
    with ThreadPoolExecutor(1) as thread:
        assert max(thread.submit(at_every_depth).result()) < 100


def test_what_is_not_written_in_python_has_the_space_that_it_has():
    assert with_stack_space(len) is len


def loop_of(programs, interruption):
    """A loop around traced programs; `evaluate` is not needed by steps."""

    def program(name):
        def lowered(devices):
            assert not gc.isenabled()
            return programs[name]

        return SimpleNamespace(needed_for_first_step=name != "evaluate", lowered=lowered)

    task: Any = SimpleNamespace(
        programs={name: program(name) for name in programs},
        compiler_options={},
        devices=None,
        largest="step",
        runs=None,
    )
    store: Any = SimpleNamespace(parts=())
    loop: Any = Loop(task, Context(store, interruption, CompiledPrograms()))
    loop._display = Progress(
        epochs=1, steps_per_epoch=1, batch_size=1, unit="images", first_step=0, title="run", stream=io.StringIO()
    )
    return loop


def compiled(loop):
    functions, memory = loop._compiled(loop._task.programs)
    assert memory is None
    return functions


def test_the_first_step_does_not_wait_for_what_it_does_not_need():
    programs = {name: Traced(name) for name in ("evaluate", "init", "step")}
    programs["init"].permit.set()
    programs["step"].permit.set()
    functions = compiled(loop_of(programs, Interruption()))
    assert functions["step"]("x") == ("step", "x")
    assert not functions["evaluate"].is_done(seconds=0.05)
    programs["evaluate"].permit.set()
    assert functions["evaluate"]("y") == ("evaluate", "y")


def test_a_request_to_stop_is_heard_while_an_evaluation_waits_for_the_compiler(monkeypatch):
    programs = {name: Traced(name) for name in ("step", "evaluate")}
    programs["step"].permit.set()
    loop = loop_of(programs, Interruption())
    loop._functions = compiled(loop)
    asked = []

    def stop(state, step):
        asked.append(step)
        raise Interrupted(2)

    monkeypatch.setattr(loop, "_stop_if_asked", stop)
    with pytest.raises(Interrupted):
        loop._wait_for_compiler(SimpleNamespace(step=7))
    assert asked == [7]
    programs["evaluate"].permit.set()
    monkeypatch.undo()
    loop._wait_for_compiler(SimpleNamespace(step=7))
    assert loop._functions["evaluate"]() == ("evaluate",)

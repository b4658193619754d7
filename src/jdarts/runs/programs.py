"""Compiled programs: made in the background in the order of need, and shared by the runs of one process."""

import atexit
import queue
import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

Functions = TypeVar("Functions")


class CompiledPrograms:
    """Keeps the compiled functions of runs, so that runs that differ only in their seeds compile once."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compiled: Callable[[], Functions]) -> Functions:
        """The functions of a key; `compiled` makes them the first time."""
        if key not in self._kept:
            self._kept[key] = compiled()
        return self._kept[key]


class ByIdentity:
    """Stands for one object in a key, and keeps it: the `id` of an object that is gone may be that of another."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


class Traced(Protocol):
    """A program that waits for a compiler, such as `jax.stages.Lowered`."""

    def compile(self, options: dict[str, str | bool], /) -> Callable[..., Any]:
        """Compiles it with options of XLA."""
        ...


class Compiler:
    """Compiles one traced program after the other in a thread, while the process traces others or takes steps.

    A context within which programs are added. The thread ends after the last of them; an error in the context drops those
    that still wait.

    Args:
      options: options of XLA.
    """

    def __init__(self, options: Mapping[str, str | bool]) -> None:
        self._options = dict(options)
        self._dropped = False
        self._waiting: queue.SimpleQueue[tuple[Traced, Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="compiling")

    def add(self, program: Traced) -> "Compiling":
        """The compiled program, which is finished after those that were added before."""
        future: Future[Any] = Future()
        self._waiting.put((program, future))
        return Compiling(future)

    def __enter__(self) -> Self:
        self._thread.start()
        # XLA's compiler must not be running while the interpreter takes its libraries down.
        atexit.register(self._thread.join)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dropped = error is not None
        self._waiting.put(None)

    def _work(self) -> None:
        while (each := self._waiting.get()) is not None:
            program, future = each
            if self._dropped:
                continue
            try:
                future.set_result(program.compile(self._options))
            except BaseException as error:
                future.set_exception(error)
            del each, program
        atexit.unregister(self._thread.join)


class Compiling:
    """A program that may still be with the compiler; a call waits for it."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future

    def __call__(self, *args: Any) -> Any:
        """Calls the compiled program."""
        return self.compiled()(*args)

    def compiled(self) -> Any:
        """The compiled program; raises what the compiler raised."""
        return self._future.result()

    def is_done(self, seconds: float) -> bool:
        """Whether the compiler has finished it; waits for at most this number of seconds."""
        return bool(wait([self._future], timeout=seconds).done)

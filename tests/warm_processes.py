"""Processes that start with everything imported: forks of one process that imports it once.

The imports of a run take about three seconds. A fork has its own signals, files, devices and threads, as any process has: the
process that is forked from has no backend of JAX. Where the variables that imports read differ, a program starts by itself.
"""

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Beginnings of the names of variables that modules or Python read once.
_READ_ONCE = ("JAX", "XLA", "TF_", "PYTHON", "JDARTS", "OMP", "OPENBLAS", "MALLOC", "MPL")
#: What runs import sooner or later.
_USED = (
    "jdarts.command",
    "jdarts.language.search.command",
    "jdarts.language.train.command",
    "jdarts.pipeline.command",
    "jdarts.report.html.pages",
    "jdarts.search.command",
    "jdarts.train.command",
    "orbax.checkpoint.experimental.v1",
)


class Fork:
    """A forked process, with what tests use of `subprocess.Popen`, its output as text."""

    def __init__(self, status: int, stdout: Any, stderr: Any) -> None:
        self.pid = _number(status)
        self.stdout, self.stderr = stdout, stderr
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = _number(self._status)
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Fork":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.stderr.close()
        self.wait()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """The rest of both outputs, after the end of the process."""
        texts = ["", ""]

        def read(place: int, stream: Any) -> None:
            texts[place] = stream.read()
            stream.close()

        readers = [
            threading.Thread(target=read, args=each, daemon=True) for each in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return texts[0], texts[1]


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> Any:
    """Starts Python with these arguments: `-m` and a module, `-c` and a text, or a file, then those of the program.

    Returns:
      The process: a `Fork`, or a `subprocess.Popen` where variables that are read once differ from those of the first call.
    """
    parent, variables = _parent or _started(environment)
    if variables != _read_once(environment):
        command = [sys.executable, *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environment)
        )
    read, written = zip(*(os.pipe() for _ in range(3)))
    request = {"arguments": list(map(str, arguments)), "environment": dict(environment), "folder": os.getcwd()}
    socket.send_fds(parent, [json.dumps(request).encode()], written)
    for each in written:
        os.close(each)
    status, *outputs = read
    return Fork(status, *(os.fdopen(each, encoding="utf-8") for each in outputs))


_parent: tuple[socket.socket, dict[str, str]] | None = None


def _started(environment: Mapping[str, str]) -> tuple[socket.socket, dict[str, str]]:
    """The connection to the process that is forked from, and the variables that it has read; it ends with this process."""
    global _parent
    own, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, __file__, str(its.fileno())]
        process = subprocess.Popen(command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, env=dict(environment))
    _parent = own, _read_once(environment)
    atexit.register(process.wait)
    atexit.register(own.close)
    return _parent


def _read_once(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_ONCE)}


def _number(descriptor: int) -> int:
    read = os.read(descriptor, 4)
    assert len(read) == 4, "the process that is forked from has ended"
    return int.from_bytes(read, "little", signed=True)


def _import_all() -> None:
    """Imports what runs use."""
    import jax

    for name in _USED:
        importlib.import_module(name)
    # Fails where an import has started a backend, whose threads no fork has.
    jax.config.update("jax_num_cpu_devices", jax.config.values["jax_num_cpu_devices"])
    gc.collect()
    gc.freeze()


def _serve(connection: socket.socket) -> None:
    """Forks for each request. A fork returns from here as the program's process; its keeper waits for its end."""

    def forget_ended(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    signal.signal(signal.SIGCHLD, forget_ended)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 2**20, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            program = os.fork()
            if program == 0:
                os.close(descriptors[0])
                _become(json.loads(message), descriptors[1:])
                return
            for each in descriptors[1:]:
                os.close(each)
            os.write(descriptors[0], program.to_bytes(4, "little"))
            code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
            # Nobody reads it where the test has ended.
            with contextlib.suppress(BrokenPipeError):
                os.write(descriptors[0], code.to_bytes(4, "little", signed=True))
            os._exit(0)
        for each in descriptors:
            os.close(each)


def _become(request: Any, outputs: Sequence[int]) -> None:
    """Gives this process what the request says: outputs, variables, folder and arguments."""
    for place, name, errors in ((1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        os.dup2(outputs[place - 1], place)
        os.close(outputs[place - 1])
        # New ones, since a pipe is no file; unbuffered, as the variables say.
        stream = io.TextIOWrapper(open(place, "wb", 0, closefd=False), errors=errors, write_through=True)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv[:] = request["arguments"]


def _run() -> None:
    """Runs the program that the arguments name, as Python does."""
    kind = sys.argv[0]
    if kind not in ("-c", "-m"):
        sys.path[0] = str(Path(kind).parent)
        runpy.run_path(kind, run_name="__main__")
        return
    content = sys.argv.pop(1)
    sys.path[0] = os.getcwd() if kind == "-m" else ""
    if kind == "-m":
        runpy.run_module(content, run_name="__main__", alter_sys=True)
    else:
        exec(compile(content, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        _import_all()
        with warnings.catch_warnings():
            # JAX warns of forks because of its threads; without a backend it has none.
            warnings.simplefilter("ignore", RuntimeWarning)
            _serve(requests)
    _run()

"""Processes that start with everything imported: forks of one process that imports it once.

The imports of a run take about three seconds. A fork has its own signals, files, devices and threads, as any process has: the
process that is forked from has no backend of JAX, and XLA has read no variable. Where variables differ that others have read,
the fork becomes a new interpreter.
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
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

#: Beginnings of the names of variables that modules, Python or the system's libraries read once.
_READ_ONCE = ("TF_", "PYTHONHASHSEED", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "OMP", "OPENBLAS", "MALLOC", "MPL")
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
    "small_language",
    "small_pipeline",
    "tensorboardX",
    "tyro._backends._argparse_backend",
    "vl_convert",
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


def start(arguments: Sequence[str], environment: Mapping[str, str]) -> Fork:
    """Starts Python with these arguments: `-m` and a module, `-c` and a text, or a file, then those of the program."""
    parent = _parent or _started()
    read, written = zip(*(os.pipe() for _ in range(3)))
    with open(os.devnull) as nothing:
        status, *outputs = written
        _ask(parent.address, arguments, environment, [status, nothing.fileno(), *outputs])
    for each in written:
        os.close(each)
    status, *outputs = read
    return Fork(status, *(os.fdopen(each, encoding="utf-8") for each in outputs))


def stand_in(path: Path) -> Path:
    """Writes an executable that runs Python's arguments in a fork: an interpreter for what starts processes by itself.

    It has the outputs and the exit code of its fork, which goes on where it is killed.
    """
    parent = _parent or _started()
    # Without the folders and variables of an interpreter, which take longer than the fork.
    command = shlex.join([sys.executable, "-IS", __file__, "--ask", parent.address])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    path.chmod(0o755)
    return path


class _Parent(NamedTuple):
    process: subprocess.Popen
    address: str


_parent: _Parent | None = None
#: Those of the tests, of which none has changed any yet, without those of JAX, which each fork is told.
_VARIABLES = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}


def _started() -> _Parent:
    """The process that is forked from, and the address at which it is asked for forks; it ends with this process."""
    global _parent
    folder = tempfile.TemporaryDirectory()
    address = os.path.join(folder.name, "forks")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as requests:
        requests.bind(address)
        requests.listen()
        command = [sys.executable, __file__, str(requests.fileno())]
        process = subprocess.Popen(command, pass_fds=[requests.fileno()], stdin=subprocess.PIPE, env=_VARIABLES)
    _parent = _Parent(process, address)
    atexit.register(folder.cleanup)
    atexit.register(process.communicate)
    return _parent


def _ask(address: str, arguments: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> None:
    """Asks for a fork, which gets descriptors for its number and exit code, its input and both outputs."""
    request = {"arguments": list(map(str, arguments)), "environment": dict(environment), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as parent:
        parent.connect(address)
        socket.send_fds(parent, [json.dumps(request).encode()], descriptors)


def _stand_in(address: str, arguments: Sequence[str]) -> int:
    """The exit code of a fork that has the input and the outputs of this process."""
    status, written = os.pipe()
    _ask(address, arguments, os.environ, [written, 0, 1, 2])
    os.close(written)
    _number(status)
    code = _number(status)
    return code if code >= 0 else 128 - code


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


def _serve(requests: socket.socket) -> None:
    """Forks for each request. A fork returns from here as the program's process; its keeper waits for its end."""

    def forget_ended(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    signal.signal(signal.SIGCHLD, forget_ended)
    while True:
        # Nothing is written to the input, which ends with the process that has started this one.
        if 0 in select.select([0, requests], [], [])[0]:
            os._exit(0)
        with requests.accept()[0] as connection:
            message, descriptors, _, _ = socket.recv_fds(connection, 2**20, 4)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            status, *streams = descriptors
            program = os.fork()
            if program == 0:
                os.close(status)
                _become(json.loads(message), streams)
                return
            for each in streams:
                os.close(each)
            os.write(status, program.to_bytes(4, "little"))
            code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
            # Nobody reads it where the test has ended.
            with contextlib.suppress(BrokenPipeError):
                os.write(status, code.to_bytes(4, "little", signed=True))
            os._exit(0)
        for each in descriptors:
            os.close(each)


def _become(request: Any, streams: Sequence[int]) -> None:
    """Gives this process what the request says: input, outputs, variables, folder and arguments."""
    for place, each in enumerate(streams):
        os.dup2(each, place)
        os.close(each)
    os.chdir(request["folder"])
    environment, arguments = request["environment"], request["arguments"]
    if not _can_serve(environment):
        os.execve(sys.executable, [sys.executable, *arguments], environment)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    for place, name, errors in ((1, "stdout", "strict"), (2, "stderr", "backslashreplace")):
        # New ones, since a pipe is no file; unbuffered, as the variables say.
        stream = io.TextIOWrapper(open(place, "wb", 0, closefd=False), errors=errors, write_through=True)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    _tell_imported(environment)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = arguments


def _can_serve(environment: Mapping[str, str]) -> bool:
    """Whether what has been imported can have read these variables."""

    def read_once(variables: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in variables.items() if name.startswith(_READ_ONCE)}

    return read_once(environment) == read_once(os.environ)


def _tell_imported(environment: Mapping[str, str]) -> None:
    """Tells JAX and the interpreter of the variables that they have not read."""
    import jax

    for name in jax.config.values.keys() & {each.lower() for each in environment if each.startswith("JAX_")}:
        value, default = environment[name.upper()], jax.config.values[name]
        if isinstance(default, int | float):
            number = json.loads(value.lower())
            jax.config.update(name, bool(number) if isinstance(default, bool) else number)
        else:
            jax.config.update(name, value)
    folders = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [folder for folder in folders if folder not in sys.path[1:]]


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


def _code_of_program() -> int:
    """Runs the program, and says what keeps it from its end, as Python does."""
    try:
        _run()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
    else:
        return 0
    return 1


def _end(code: int) -> NoReturn:
    """Ends as Python does, but leaves to the system what has been imported: taking it apart is most of a short process."""
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    if sys.argv[1] == "--ask":
        sys.exit(_stand_in(sys.argv[2], sys.argv[3:]))
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        _import_all()
        with warnings.catch_warnings():
            # JAX warns of forks because of its threads; without a backend it has none.
            warnings.simplefilter("ignore", RuntimeWarning)
            _serve(listening)
    _end(_code_of_program())

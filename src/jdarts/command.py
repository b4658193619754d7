"""The frame of every command: error messages, exit codes, interruptions."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from jdarts.command_examples import help_examples
from jdarts.errors import InputError
from jdarts.xla.environment import check_environment
from jdarts.xla.tracing import with_stack_space

EXIT_WRONG_INPUT = 2


@with_stack_space
def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command and exits: 0 or what it returns, 2 for a wrong input, 130 after Ctrl-C. Its help ends with examples.

    It prints wrong input, and failures of the output or of a file, to standard error as one short message without a
    traceback. If the reader of the output closes it, as in `… | head -1`, the command ends silently with 141, the usual code.
    """
    _show_every_text()
    try:
        check_environment()
        code = _with_examples(main) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except InputError as error:
        code = _fail(str(error))
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
        _tell("interrupted")
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE
    except OSError as error:
        code = _fail(f"cannot use {error.filename or 'the output'}: {error.strerror or error}")
    _give_up_failing_streams()
    sys.exit(code)


def _with_examples(main: Callable[[], int | None]) -> int | None:
    """Runs a command, and prints its examples after its help."""
    try:
        return main()
    except SystemExit as ended:
        if ended.code not in (0, None) or {"-h", "--help"}.isdisjoint(sys.argv[1:]):
            raise
        if text := help_examples():
            print(text)
        return 0


def program_name(module: str) -> str:
    """The command as its help text shows it: `jdarts search`, or the module if Python runs it."""
    return sys.argv[0] if sys.argv[0].startswith("jdarts ") else f"python -m {module}"


def _show_every_text() -> None:
    """Makes the streams write characters that they cannot encode, such as bytes of arguments that are not UTF-8, as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _fail(text: str) -> int:
    _tell(f"error: {text}")
    return EXIT_WRONG_INPUT


def _tell(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _give_up_failing_streams() -> None:
    """Makes streams that cannot be written drop their text; otherwise the interpreter would print errors at its exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

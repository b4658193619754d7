"""What every command does around its work: errors for people, exit codes, interruptions."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from jdarts.errors import InputError

EXIT_WRONG_INPUT = 2


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command and exits: 0 or what it returns, 2 for a wrong input, 130 after Ctrl-C.

    A wrong input, and an output or file that fails, is printed to standard error as one short message, without a
    traceback. A reader of the output that has gone, as in `… | head -1`, ends the command silently with 141, as shells
    tell it.
    """
    _show_every_text()
    try:
        code = main() or 0
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


def _show_every_text() -> None:
    """Lets the streams write what they cannot encode, such as an argument's bytes that are no UTF-8, as escapes."""
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
    """Lets streams that cannot be written drop what they hold: the interpreter would complain of them at its end."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

"""What every command does around its work: errors for people, exit codes, interruptions."""

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from jdarts.errors import InputError

EXIT_WRONG_INPUT = 2


def run_command(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command and exits: 0 or what it returns, 2 for a wrong input, 130 after Ctrl-C.

    A wrong input is printed to standard error as one short message, without a traceback.
    """
    try:
        code = main() or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_WRONG_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of our output has gone, as in `... | head`; closing quietly is what it expects.
        sys.stderr.close()
        code = 0
    sys.exit(code)

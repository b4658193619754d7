"""The one kind of error whose message is for people, and how messages show values."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A wrong input, described for the person who gave it: what was given, and how to mend it.

    Library functions raise it early; commands print its text without a traceback and exit with code 2.
    """


class NoCellsError(InputError):
    """A rule of selection leaves no cells in what a search has found."""


def shown(value: object, limit: int = 60) -> str:
    """A value as a message shows it."""
    try:
        return shortened(repr(value), limit)
    except (ValueError, RecursionError):  # A number of thousands of digits, or lists in lists in lists.
        return f"a huge {type(value).__name__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question whether the nearest known name is meant, with a space after it; empty if none is near."""
    near = difflib.get_close_matches(name[:80], known, n=1)
    return f"did you mean {near[0]}? " if near else ""


def one_line(error: BaseException, limit: int = 200) -> str:
    """What an error says, on one line; the name of its type if it says nothing."""
    return shortened(" ".join(str(error).split()) or type(error).__name__, limit)


def shortened(text: str, limit: int = 60) -> str:
    """A text as a message shows it."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"

"""The one kind of error that is meant for people."""


class InputError(ValueError):
    """A wrong input, described for the person who gave it: what was given, and how to mend it.

    Library functions raise it early; commands print its text without a traceback and exit with code 2.
    """

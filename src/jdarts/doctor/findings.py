"""One line of the doctor's report."""

from typing import Literal, NamedTuple

#: good; slow: it works, and something costs time; wrong: something does not work.
State = Literal["good", "slow", "wrong"]


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
      name: what was looked at.
      text: what was found.
      state: how good that is.
      mend: what to do about it; empty if nothing.
    """

    name: str
    text: str
    state: State = "good"
    mend: str = ""

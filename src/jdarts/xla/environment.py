"""What the environment chooses about the programs that are compiled."""

import os

from jdarts.errors import InputError

#: Forms of depthwise convolutions, as `JDARTS_DEPTHWISE` names them.
DEPTHWISE_FORMS = ("shifted_products", "window_gathers", "grouped_convolutions", "pallas")


def depthwise_form() -> str | None:
    """The form of depthwise convolutions that the environment names; None where it names none.

    Raises:
      InputError: there is no such form.
    """
    name = os.environ.get("JDARTS_DEPTHWISE") or None
    if name is not None and name not in DEPTHWISE_FORMS:
        raise InputError(f"JDARTS_DEPTHWISE is {name}; give {', '.join(DEPTHWISE_FORMS)}, or unset it")
    return name

"""What the environment chooses about the programs that are compiled."""

import os

from jdarts.errors import InputError

#: Forms of depthwise convolutions, as `JDARTS_DEPTHWISE` names them.
DEPTHWISE_FORMS = ("shifted_products", "window_gathers", "grouped_convolutions", "pallas")
#: Forms of separable convolutions on GPUs, as `JDARTS_SEPARABLE` names them; the first is the usual one.
SEPARABLE_FORMS = ("fused", "parts")


def depthwise_form() -> str | None:
    """The form of depthwise convolutions that the environment names; None where it names none.

    Raises:
      InputError: there is no such form.
    """
    name = os.environ.get("JDARTS_DEPTHWISE") or None
    if name is not None and name not in DEPTHWISE_FORMS:
        raise InputError(f"JDARTS_DEPTHWISE is {name}; give {', '.join(DEPTHWISE_FORMS)}, or unset it")
    return name


def separable_form() -> str:
    """The form of separable convolutions on GPUs: `fused`, each one native function, or in `parts`.

    Raises:
      InputError: the environment names another one.
    """
    name = os.environ.get("JDARTS_SEPARABLE") or SEPARABLE_FORMS[0]
    if name not in SEPARABLE_FORMS:
        raise InputError(f"JDARTS_SEPARABLE is {name}; give {' or '.join(SEPARABLE_FORMS)}, or unset it")
    return name


def native_functions() -> bool:
    """Whether programs may call native functions: unless `JDARTS_NATIVE` is 0.

    Raises:
      InputError: the environment says neither 0 nor 1.
    """
    name = os.environ.get("JDARTS_NATIVE") or "1"
    if name not in ("0", "1"):
        raise InputError(
            f"JDARTS_NATIVE is {name}; give 0 for XLA's operations in place of native functions, or unset it"
        )
    return name == "1"


def check_environment() -> None:
    """Checks all that the environment chooses.

    Raises:
      InputError: it names something that there is not.
    """
    depthwise_form()
    separable_form()
    native_functions()

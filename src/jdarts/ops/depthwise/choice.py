"""Which form of the depthwise functions a platform gets where it has no native ones.

On CPUs times decide: for 16 images of 32×32 pixels and 16 channels, shifted products are 3 to 40 times as fast as grouped
convolutions; as kernel gradients convolutions along rows are up to 7 times as fast as either. Elsewhere launches, bytes and
seconds of compilation decide, as the compilers for an H100 and for a TPU v5e show them. No device has confirmed the choice.

`JDARTS_DEPTHWISE` in the environment names another form, in place of the native functions too: a measurement on a device chooses
so. `pallas` is no platform's form until a device has measured it.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import jax

from jdarts.ops.depthwise import (
    by_kind,
    grouped_convolutions,
    pallas_gpu,
    pallas_tpu,
    row_convolutions,
    shifted_products,
    window_gathers,
)
from jdarts.xla.environment import depthwise_form
from jdarts.xla.outlined import as_call


class Form(NamedTuple):
    """The three functions of `joint` in operations of JAX.

    Attributes:
      forward: F, a function of terms, each with both its factors, and of kinds and stride.
      input_gradient: X, in the same way; also of the images' height and width, and whether all kinds share them.
      kernel_gradient: K, as F.
    """

    forward: Callable[..., jax.Array]
    input_gradient: Callable[..., jax.Array]
    kernel_gradient: Callable[..., jax.Array]


def _as_calls(form: Form) -> Form:
    return Form(*(as_call(function, inspect.getfullargspec(function).kwonlyargs) for function in form))


_SHIFTED = Form(shifted_products.forward, shifted_products.input_gradient, shifted_products.kernel_gradient)
_GATHERS = Form(window_gathers.forward, window_gathers.input_gradient, window_gathers.kernel_gradient)
_GROUPED = Form(grouped_convolutions.forward, grouped_convolutions.input_gradient, grouped_convolutions.kernel_gradient)

#: Of programs for several platforms.
DEFAULT_FORM = _SHIFTED._replace(kernel_gradient=row_convolutions.kernel_gradient)
#: By platform.
FORMS: Mapping[str, Form] = MappingProxyType({"cpu": _as_calls(DEFAULT_FORM), "gpu": _GATHERS, "tpu": _GROUPED})


def pallas_form(platform: str, *, interpret: bool = False) -> Form:
    """The kernels for `gpu` or `tpu`; to interpret them takes no such device, and is slow."""
    room = pallas_gpu if platform == "gpu" else pallas_tpu
    return Form(
        partial(by_kind.forward, room.forward, interpret=interpret),
        partial(by_kind.input_gradient, room.input_gradient, interpret=interpret),
        partial(by_kind.kernel_gradient, room.kernel_gradient, interpret=interpret),
    )


def named_form(platform: str) -> Form | None:
    """The form that the environment names, for a platform; None where it names none.

    Raises:
      InputError: there is no such form.
    """
    forms: Mapping[str, Form] = {
        "shifted_products": _SHIFTED,
        "window_gathers": _GATHERS,
        "grouped_convolutions": _GROUPED,
        "pallas": pallas_form(platform, interpret=platform not in ("gpu", "tpu")),
    }
    name = depthwise_form()
    return None if name is None else forms[name]


def form_of(platform: str | None) -> Form:
    """The form of a platform's programs; None stands for programs for several platforms."""
    return named_form(str(platform)) or FORMS.get(str(platform), DEFAULT_FORM)

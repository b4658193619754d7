"""Which form of the depthwise functions a platform gets where it has no native ones.

On CPUs times decide: for 16 images of 32×32 pixels and 16 channels, shifted products are 3 to 40 times as fast as grouped
convolutions; as a kernel gradient they are 2 to 7 times slower. Elsewhere launches, bytes and seconds of compilation decide, as
the compilers for an H100 and for a TPU v5e show them. No device has confirmed the choice.
"""

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax

from jdarts.ops.depthwise import grouped_convolutions, shifted_products, window_gathers
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

#: Of programs for several platforms.
DEFAULT_FORM = _SHIFTED._replace(kernel_gradient=grouped_convolutions.kernel_gradient_on_cpu)
#: By platform.
FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "cpu": _as_calls(DEFAULT_FORM),
        "gpu": Form(window_gathers.forward, window_gathers.input_gradient, window_gathers.kernel_gradient),
        "tpu": Form(
            grouped_convolutions.forward, grouped_convolutions.input_gradient, grouped_convolutions.kernel_gradient
        ),
    }
)

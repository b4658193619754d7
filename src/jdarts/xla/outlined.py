"""Outlined calls: parts of a large step that are traced once, and that XLA compiles to separate graphs for CPUs.

A program for CPUs is a list of kernels, and loading it takes time that grows with the square of the list's length, since XLA
compares every kernel with every earlier one in the list. A call that XLA does not inline has a separate list.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from jdarts.xla.convolutions import evaluate_canonical, is_traced
from jdarts.xla.jax_compat import set_xla_metadata
from jdarts.xla.platform import target_platform

_inlines = contextvars.ContextVar("inlines", default=False)


@contextlib.contextmanager
def inlining(wanted: bool) -> Iterator[None]:
    """Whether `outlined` leaves it to XLA to inline the calls of what is traced within."""
    before = _inlines.set(wanted)
    try:
        yield
    finally:
        _inlines.reset(before)


def as_call(function: Callable[..., Any], statics: Sequence[str] = ()) -> Callable[..., Any]:
    """The function as a call that XLA does not inline on CPUs.

    Kernels of the function then depend on its operands' shapes alone: XLA compiles those of equal calls once, and computes
    nothing of what is around the call again inside of them.

    Args:
      function: a function of pytrees of arrays.
      statics: names of arguments that are no arrays.
    """
    compiled = jax.jit(function, static_argnames=tuple(statics))

    def call(*operands: Any, **parameters: Any) -> Any:
        return _not_inlined(compiled(*operands, **parameters))

    return call


def outlined(function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """The function as one call that XLA does not inline, if any of `args` is traced; in eager code the function itself.

    Within `inlining(True)` XLA inlines it. XLA's convolutions in it are `canonical`.

    Args:
      function: a function of pytrees of arrays.
      *args: pytrees that show whether a program is being traced.
    """
    if not is_traced(args):
        return function
    compiled = jax.jit(function)
    if target_platform() != "cpu":
        return compiled
    finish = (lambda results: results) if _inlines.get() else _not_inlined
    return lambda *operands: finish(evaluate_canonical(compiled, *operands))


def _not_inlined(results: Any) -> Any:
    """The results of a call, which XLA does not inline then."""
    leaves, structure = jax.tree.flatten(results)
    # XLA takes the attribute of one result as an attribute of the call.
    marked = [set_xla_metadata(leaf, inlineable="false") for leaf in leaves[:1]]
    return jax.tree.unflatten(structure, [*marked, *leaves[1:]])

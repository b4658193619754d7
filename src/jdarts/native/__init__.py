"""Native kernels for CPUs, compiled at first use; XLA's own operations where that is not possible."""

from jdarts.native.rules import define_lowering, is_native_here, lowering

__all__ = ["define_lowering", "is_native_here", "lowering"]

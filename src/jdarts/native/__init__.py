"""Native kernels for CPUs, compiled at first use; XLA's own operations where that is not possible."""

from jdarts.native.libraries import IMAGES, LEAVES, RECURRENT, build_early
from jdarts.native.rules import define_lowering, is_native_here, lowering

__all__ = ["IMAGES", "LEAVES", "RECURRENT", "build_early", "define_lowering", "is_native_here", "lowering"]

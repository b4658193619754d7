"""Native kernels for CPUs, compiled at first use; XLA's own operations where that is not possible."""

from jdarts.native.libraries import build_for_images, build_for_text
from jdarts.native.rules import define_lowering, is_native_here, lowering

__all__ = ["build_for_images", "build_for_text", "define_lowering", "is_native_here", "lowering"]

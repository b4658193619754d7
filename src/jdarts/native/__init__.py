"""Native functions for CPUs and for NVIDIA's GPUs, compiled on first use; XLA's own operations if they cannot be compiled."""

from jdarts.native.early import build_for_images, build_for_text
from jdarts.native.in_turn import batch_in_turn
from jdarts.native.rules import define_lowering, is_absent_here, is_native_here, lowering

__all__ = [
    "batch_in_turn",
    "build_for_images",
    "build_for_text",
    "define_lowering",
    "is_absent_here",
    "is_native_here",
    "lowering",
]

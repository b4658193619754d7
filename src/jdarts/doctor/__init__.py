"""What is installed, which devices there are, and what a first step will cost."""

from jdarts.doctor.findings import Finding, State
from jdarts.doctor.machine import caches, data_sets, devices, native_kernels
from jdarts.doctor.packages import extras, packages

__all__ = ["Finding", "State", "caches", "data_sets", "devices", "extras", "native_kernels", "packages"]

"""What all runs share: folder, loop, checkpoints, devices, images on the device, interruption and command line."""

from jdarts.runs.folder import RunFolder
from jdarts.runs.interruption import Interrupted, Interruption
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.start import Setting, run
from jdarts.runs.task import State, Task

__all__ = [
    "CompiledPrograms",
    "Interrupted",
    "Interruption",
    "RunFolder",
    "Setting",
    "State",
    "Task",
    "run",
]

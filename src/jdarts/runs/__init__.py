"""What every run of epochs shares: its folder, its loop, its images on the device, interruption and command line."""

from jdarts.runs.folder import RunFolder
from jdarts.runs.interruption import Interrupted, Interruption
from jdarts.runs.loop import EpochRun
from jdarts.runs.programs import CompiledPrograms
from jdarts.runs.protocols import Setting, State
from jdarts.runs.start import run

__all__ = [
    "CompiledPrograms",
    "EpochRun",
    "Interrupted",
    "Interruption",
    "RunFolder",
    "Setting",
    "State",
    "run",
]

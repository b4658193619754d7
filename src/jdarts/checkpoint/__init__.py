"""Checkpoints, written atomically: to a temporary folder, then sealed with checksums, then renamed.

A checkpoint is a folder `step_00000390` with the arrays, written by Orbax, `record.json`, which readers need without the
arrays, and `SHA256SUMS` over all of them. A folder whose checksums do not match is damaged.
"""

from jdarts.checkpoint.arrays import load, load_all
from jdarts.checkpoint.finding import find, newest
from jdarts.checkpoint.folders import ARRAYS, CHECKSUMS, FOLDER, RECORD, UnreadableError, path_of, steps
from jdarts.checkpoint.records import FORMAT, Checkpoint, read
from jdarts.checkpoint.writing import remove_half_written, save

__all__ = [
    "ARRAYS",
    "CHECKSUMS",
    "FOLDER",
    "FORMAT",
    "RECORD",
    "Checkpoint",
    "UnreadableError",
    "find",
    "load",
    "load_all",
    "newest",
    "path_of",
    "read",
    "remove_half_written",
    "save",
    "steps",
]

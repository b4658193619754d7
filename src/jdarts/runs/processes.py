"""A run of several processes, on one machine or many: how they connect, communicate and end together."""

import contextlib
import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from jdarts.errors import InputError
from jdarts.runs.interruption import exit_now
from jdarts.runs.settings import flat
from jdarts.xla.jax_compat import process_allgather

#: Seconds to wait for the coordinator, and for a heartbeat of another process.
JOIN_TIMEOUT = 60
HEARTBEAT = 30

#: Seconds between attempts to reach a coordinator that does not listen yet.
_POLL = 0.02

#: Seconds for which process 0 outlives its error.
_GRACE = 2.0

#: Settings that may differ between processes.
_OWN = ("process_id", "data_dir")


class Launch(Protocol):
    """The settings of a configuration for the processes of its run."""

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
            "--cluster lets JAX find the other processes; leave it out, or leave out --coordinator, --num-processes and "
            "--process-id"
        )
    if given == (None, None, None):
        return
    if config.coordinator is None or config.num_processes is None or config.process_id is None:
        raise InputError(
            "--coordinator, --num-processes and --process-id belong together; give all of them, or --cluster if SLURM, "
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
    """Connects this process with the others of the run, if there are any. Call it before JAX uses a device.

    If they are not all connected within `JOIN_TIMEOUT` seconds, the process ends with a message.

    Raises:
      InputError: no cluster is found, or the address cannot be used.
    """
    if not config.cluster and config.coordinator is None:
        return
    found = config.coordinator or "the address that the cluster gives"
    text = (
        f"error: the processes of the run have not connected within {JOIN_TIMEOUT} s at {found}. Start all of them with the "
        "same --coordinator, an address of process 0 that the others reach, and with the same --num-processes"
    )
    # JAX's runtime itself would end the process with a C++ trace.
    watch = threading.Timer(JOIN_TIMEOUT, _end, (text, 2))
    watch.daemon = True
    watch.start()
    try:
        if config.coordinator is not None and config.process_id != 0:
            await_listener(config.coordinator)
        jax.distributed.initialize(
            config.coordinator,
            config.num_processes,
            config.process_id,
            initialization_timeout=JOIN_TIMEOUT + HEARTBEAT,
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


def await_listener(address: str) -> None:
    """Waits until something listens at an address, `HOST:PORT`; returns at once if its host has no address.

    JAX's runtime would wait a second after its first attempt, and longer after each further one.
    """
    host, _, port = address.rpartition(":")
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
        except (socket.gaierror, UnicodeError):
            return
        except OSError:
            time.sleep(_POLL)
        else:
            return


def is_coordinator() -> bool:
    """Whether this is process 0, which writes the files of a run."""
    return jax.process_index() == 0


def is_single_process() -> bool:
    """Whether this process is the only one of the run."""
    return jax.process_count() == 1


def maximum(number: int) -> int:
    """The largest of the numbers of all processes; all must call it."""
    return number if is_single_process() else max(_gathered(np.array([number], np.int32))[:, 0].tolist())


def fetch(tree: Any) -> Any:
    """Arrays on the host. If the processes share an array, all must call it."""
    if is_single_process():
        return jax.device_get(tree)

    def whole(leaf: jax.Array) -> np.ndarray:
        return jax.device_get(leaf if leaf.is_fully_replicated else process_allgather(leaf, tiled=True))

    return jax.tree.map(whole, tree)


def check_same(config: Any) -> None:
    """Checks that all processes have the same settings, including those that decide when they communicate.

    Args:
      config: the configuration, a `Configuration`.

    Raises:
      InputError: in every process, if one has other settings.
    """
    settings = {name: str(value) for name, value in flat(config).items() if name not in _OWN}
    _check_same(
        settings,
        "was started with other settings than process 0; start all with the same command, except for --process-id",
    )


def check_same_data(fingerprint: Mapping[str, Any]) -> None:
    """Checks that all processes have read the same data.

    Args:
      fingerprint: identifies the data, as JSON data.

    Raises:
      InputError: in every process, if one has read other data.
    """
    _check_same(
        fingerprint, "has read other data than process 0; give all the same data, or a --data-dir that they share"
    )


def _check_same(content: Mapping[str, Any], what: str) -> None:
    if is_single_process():
        return
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    every = _gathered(np.frombuffer(digest, np.uint8).astype(np.int32))
    others = [str(n) for n, each in enumerate(every) if not np.array_equal(each, every[0])]
    if others:
        raise InputError(f"process {', '.join(others)} of {len(every)} {what}")


@contextlib.contextmanager
def fail_together() -> Iterator[None]:
    """Surrounds work of several processes: an error ends its process at once; the others notice and end with a message."""
    try:
        yield
    except InputError as error:
        if is_single_process():
            raise
        # Usually all processes refuse the same. When process 0 ends, JAX's runtime aborts those that have not said so yet.
        _end(f"error: {error}", 2, linger=_GRACE if is_coordinator() else 0.0)
    except jax.errors.JaxRuntimeError as error:
        if is_single_process():
            raise
        _end(
            f"error: another process of this run has ended or cannot be reached ({_first_line(error)}). Start all of them "
            "again: the run resumes after its newest checkpoint",
            1,
        )


def _end(text: str, code: int, *, linger: float = 0.0) -> None:
    """Prints a message, and ends the process after so many seconds."""
    print(text, file=sys.stderr, flush=True)
    time.sleep(linger)
    # This skips the shutdown of JAX's runtime, which would wait for the lost processes.
    exit_now(code)


def wait_for_others() -> None:
    """Waits for the other processes to end, if there are any, until a timeout."""
    if not is_single_process():
        with contextlib.suppress(RuntimeError):
            jax.distributed.shutdown()


def null_stream() -> Any:
    """A stream that drops its text, for processes other than the coordinator."""
    return open(os.devnull, "w", encoding="utf-8")


def _gathered(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(process_allgather(numbers)).reshape(jax.process_count(), -1)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:160]

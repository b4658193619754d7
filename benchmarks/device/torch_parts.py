"""Steps of the PyTorch DARTS on the same card: as it is, as a CUDA graph, and compiled."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
from pytorch.prepare import prepare_search, step_of

from jdarts.errors import InputError

from .parts import Part

_WARM_UP_STEPS = 3


def prepare_torch(part: Part) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step, and what waits for its end.

    Raises:
      InputError: a CUDA graph is asked for where there is no CUDA.
    """
    _use_device(part)
    on_cuda = torch.cuda.is_available()
    if part.variant == "graph" and not on_cuda:
        raise InputError("PyTorch sees no CUDA here, and a CUDA graph needs it")
    search, train, valid = prepare_search(
        **dataclasses.asdict(part.size), layout="channels_last", threads=1, capturable=part.variant == "graph"
    )
    if part.variant == "compile":
        search.network = torch.compile(search.network)
    take = step_of(part.step, search, train, valid)
    wait = torch.cuda.synchronize if on_cuda else _nothing
    if part.variant == "graph":
        return _as_graph(take), wait
    for _ in range(_WARM_UP_STEPS):
        take()
    wait()
    return take, wait


def prepare_recurrent(part: Part) -> tuple[Callable[[], object], Callable[[], object]]:
    """A step of the recurrent search, and what waits for its end."""
    from harness.recurrent_steps import prepare_torch

    _use_device(part)
    take = prepare_torch(part.step, part.recurrent, threads=1)
    take()
    return take, torch.cuda.synchronize if torch.cuda.is_available() else _nothing


def facts() -> dict[str, Any]:
    """Of PyTorch: its version, the device, the most memory used."""
    found: dict[str, Any] = {"torch": torch.__version__}
    if torch.cuda.is_available():
        found |= {"torch_device": torch.cuda.get_device_name(), "peak_bytes": torch.cuda.max_memory_allocated()}
    return found


def _use_device(part: Part) -> None:
    """Lets new arrays lie on the card, with cuDNN's search for algorithms, and TF32 if the part is measured with it."""
    if torch.cuda.is_available():
        torch.set_default_device("cuda")
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = part.precision == "tf32"


def _as_graph(take: Callable[[], object]) -> Callable[[], object]:
    """The step as one CUDA graph, captured after some steps on another stream."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UP_STEPS):
            take()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        take()
    return graph.replay


def _nothing() -> None:
    """Steps on a CPU have ended when they return."""

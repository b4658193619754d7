"""Searches with a method at a size that two cores carry, and what their epochs saw."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from jdarts.methods.presets import preset
from jdarts.report import read_metrics
from jdarts.runs.bounds import CELLS, CHANNELS, EPOCHS, NODES, POSITIVE, Bounds
from jdarts.runs.settings import Settings
from jdarts.runs.stage_options import StageOptions
from jdarts.search import SearchConfig

#: The epochs of the presets that do not name any.
_PRESET_EPOCHS = 50
_EPOCH = "epoch/"


@dataclasses.dataclass(frozen=True)
class MethodSize(Settings):
    """What the searches of all methods share.

    Attributes:
      channels: channels of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      epochs: of each search.
      batch_size: images of a batch.
      learning_rate: of the weights.
      alpha_rate_factor: factor of the alphas' learning rate.
    """

    channels: Annotated[int, CHANNELS] = 8
    cells: Annotated[int, CELLS] = 5
    nodes: Annotated[int, NODES] = 2
    epochs: Annotated[int, EPOCHS] = 6
    batch_size: Annotated[int, Bounds(2, 1_000_000)] = 64
    learning_rate: Annotated[float, POSITIVE] = 0.1
    alpha_rate_factor: Annotated[float, POSITIVE] = 20.0

    def search_config(self, name: str, *, seeds: str, run_dir: Path, **changes: Any) -> SearchConfig:
        """The settings of a method's searches, as those of `short_search_config`.

        Args:
          name: METHOD or METHOD:HYPERGRADIENT.
          seeds: of the searches, which run at once.
          run_dir: their folder.
          **changes: further settings.

        Raises:
          InputError: there is no such method or hypergradient.
        """
        return short_search_config(
            name,
            dataset="cifar10",
            seeds=seeds,
            run_dir=run_dir,
            log_every=1,
            **dataclasses.asdict(self),
            **changes,
        )


def short_search_config(name: str, *, epochs: int, alpha_rate_factor: float, **others: Any) -> SearchConfig:
    """The settings of a short search: those of the method's preset, but for what does not fit it.

    Epochs at which something begins or ends are scaled to the search's, there is one stage, and the learning rate of the alphas
    is the preset's times the factor.

    Args:
      name: METHOD or METHOD:HYPERGRADIENT.
      epochs: of the search.
      alpha_rate_factor: factor of the alphas' learning rate.
      **others: further settings of `SearchConfig`.

    Raises:
      InputError: there is no such method or hypergradient.
    """
    method, _, hypergradient = name.partition(":")
    usual = preset(method)
    whole = usual.get("epochs", _PRESET_EPOCHS)
    if hypergradient:
        others["hypergradient"] = hypergradient
    # In the last epoch the alphas move, and the temperature has reached its end.
    for setting, last in (("alphas_from", epochs - 1), ("temperature_epochs", epochs)):
        if setting in usual:
            others[setting] = min(max(1, round(usual[setting] * epochs / whole)), last)
    config = SearchConfig(method=method, epochs=epochs, staging=StageOptions(), **others)
    return dataclasses.replace(config, alpha_learning_rate=config.alphas.alpha_learning_rate * alpha_rate_factor)


def epochs_of(folder: Path) -> list[Mapping[str, Any]]:
    """The numbers of each epoch of a run, by names such as `guards_skips_normal` and `valid_accuracy`."""
    rows = (row for row in read_metrics(folder) if f"{_EPOCH}number" in row)
    return [
        {name.removeprefix(_EPOCH): value for name, value in row.items() if name.startswith(_EPOCH)} for row in rows
    ]

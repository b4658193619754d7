"""The part of a search's configuration that divides it into stages."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jdarts.errors import InputError
from jdarts.methods.method import Method
from jdarts.runs.bounds import BELOW_ONE, CELLS, Bounds
from jdarts.runs.settings import Settings
from jdarts.space import CELL_KINDS, SearchSpace

#: Operations of every edge by kind of cell, in the order of `CELL_KINDS`; lists in place of tuples from JSON.
EdgeOperations = Sequence[Sequence[Sequence[str]]]

_Numbers = tyro.conf.arg(metavar="INT ...", help_behavior_hint="(default: none)")
_Rates = tyro.conf.arg(metavar="FLOAT ...", help_behavior_hint="(default: the last one's)")
_Sizes = tyro.conf.arg(metavar="INT ...", help_behavior_hint="(default: the last one's)")


@dataclasses.dataclass(frozen=True)
class StageOptions(Settings):
    """Stages of a search, which run one after the other. The last stage has the run's folder, the others stage1, stage2, … in it.

    The epochs are those of all stages, which are equally long. Cells, skip dropout and partial channels are those of the last
    stage.

    Attributes:
      stages: p_darts: a new network in each stage, with fewer operations on every edge. drnas: each stage continues with the
        weights and alphas of the one before; the edges keep their strongest operations, on more of the channels.
      dropped_operations: operations that each edge loses after the first stage, the second and so on, for p_darts.
      earlier_cells: cells of the networks of the stages before the last, for p_darts.
      earlier_skip_dropout: dropout of skip connections in the stages before the last, for p_darts.
      kept_operations: operations that each edge keeps after the first stage, the second and so on, for drnas.
      earlier_partial_channels: partial channels of the stages before the last, for drnas.
      stage: the number of this stage, from 1; 0 for the whole search. Set by the search.
      edge_operations: the operations of each edge that the stage has left. Set by the search; None for all.
    """

    stages: Literal["none", "p_darts", "drnas"] = "none"
    dropped_operations: Annotated[tuple[int, ...], _Numbers] = ()
    earlier_cells: Annotated[tuple[int, ...], _Sizes] = ()
    earlier_skip_dropout: Annotated[tuple[float, ...], _Rates] = ()
    kept_operations: Annotated[tuple[int, ...], _Numbers] = ()
    earlier_partial_channels: Annotated[tuple[int, ...], _Sizes] = ()
    stage: Annotated[int, Bounds(0, 100), tyro.conf.Suppress] = 0
    edge_operations: Annotated[Any, tyro.conf.Suppress] = None

    @property
    def count(self) -> int:
        """Number of stages; 1 for a search without stages."""
        if self.stages == "none":
            return 1
        return 1 + len(self.dropped_operations if self.stages == "p_darts" else self.kept_operations)

    @property
    def is_whole(self) -> bool:
        """Whether these are the settings of a search of several stages, not of one stage."""
        return self.stages != "none" and self.stage == 0

    def check(self) -> None:
        """As the base class; also refuses lists of wrong lengths and values."""
        super().check()
        if self.stages == "none":
            return
        deciding, others = _LISTS[self.stages]
        if not getattr(self, deciding):
            raise InputError(
                f"--stages {self.stages} needs --{deciding.replace('_', '-')}, a number for each stage but the last, such as "
                f"{'3 2' if self.stages == 'p_darts' else '4'}; or give --method {self.stages}"
            )
        for name in others:
            values = getattr(self, name)
            if values and len(values) != self.count - 1:
                raise InputError(
                    f"--{name.replace('_', '-')} is {_words(values)}, and {self.count - 1} of {self.count} stages are before "
                    f"the last; give {self.count - 1}"
                )
        for value in self.earlier_cells:
            CELLS.check("earlier_cells", value)
        for value in self.earlier_skip_dropout:
            BELOW_ONE.check("earlier_skip_dropout", value)

    def check_use(self, usual: Mapping[str, Any]) -> None:
        """Refuses lists that no stage reads.

        Args:
          usual: settings of the method, which may have lists for stages that the search does not have.

        Raises:
          InputError: a list without use.
        """
        read = () if self.stages == "none" else (_LISTS[self.stages][0], *_LISTS[self.stages][1])
        for name in (each for deciding, others in _LISTS.values() for each in (deciding, *others)):
            values = tuple(getattr(self, name))
            if name not in read and values not in ((), tuple(usual.get(name, ()))):
                raise InputError(
                    f"--{name.replace('_', '-')} is {_words(values)}, which --stages {self.stages} does not read; leave it "
                    "out, or give other --stages"
                )

    def check_operations(self, operations: Sequence[str]) -> None:
        """Checks that every stage leaves operations to choose from.

        Args:
          operations: those of the first stage.

        Raises:
          InputError: a stage would have too few, or as many as the one before.
        """
        left = len(operations)
        if self.stages == "p_darts":
            dropped = sum(self.dropped_operations)
            if min(self.dropped_operations) < 1 or left - dropped < 2:
                raise InputError(
                    f"--dropped-operations is {_words(self.dropped_operations)}, and each edge has {left} --operations; give "
                    "numbers from 1 that leave 2 or more"
                )
        else:
            for kept in self.kept_operations:
                if not 2 <= kept < left:
                    raise InputError(
                        f"--kept-operations is {_words(self.kept_operations)}, and each edge has {len(operations)} "
                        "--operations; give falling numbers below that, and 2 or more"
                    )
                left = kept

    def of_stage(self, number: int) -> dict[str, Any]:
        """The settings of a stage that differ from those of the last one, by name."""
        changes: dict[str, Any] = {}
        if number < self.count:
            for name in _LISTS[self.stages][1]:
                if values := getattr(self, name):
                    changes[name.removeprefix("earlier_")] = values[number - 1]
        return changes

    def space(self, uniform: SearchSpace) -> SearchSpace:
        """The space of a stage: that of the whole search, without the operations that p_darts has dropped."""
        if self.stages != "p_darts" or self.edge_operations is None:
            return uniform
        return dataclasses.replace(uniform, **dict(zip(CELL_KINDS, self.edge_operations)))

    def masks(self, space: SearchSpace) -> dict[str, np.ndarray] | None:
        """The operations that drnas has kept, `{kind: bool [E, O]}`; None for all."""
        if self.stages != "drnas" or self.edge_operations is None:
            return None
        return {
            kind: np.array([[name in kept for name in names] for names, kept in zip(space.operations(kind), edges)])
            for kind, edges in zip(CELL_KINDS, self.edge_operations)
            if edges
        }

    def added_to(self, method: Method, space: SearchSpace) -> Method:
        """The method with the mask of the stage."""
        masks = self.masks(space)
        if masks is None:
            return method
        return dataclasses.replace(method, masks={kind: mask.tolist() for kind, mask in masks.items()})


#: By kind of stages: the list that gives their number, and lists of settings of the stages before the last.
_LISTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "p_darts": ("dropped_operations", ("earlier_cells", "earlier_skip_dropout")),
    "drnas": ("kept_operations", ("earlier_partial_channels",)),
}


def _words(values: Sequence[Any]) -> str:
    return " ".join(map(str, values))

"""The result of a pipeline, as numbers and as a table."""

from pathlib import Path
from typing import Any, NamedTuple

from jdarts.genotype import Genotype
from jdarts.pipeline.arms import Arm, arms_table
from jdarts.pipeline.budgets import BUDGETS, BudgetResult, budgets_table
from jdarts.rich_forms import text_html


class PipelineResult(NamedTuple):
    """The result of a pipeline.

    Attributes:
      arms: the searches, and the baseline if there is one; empty with budgets.
      folder: the pipeline's folder.
      budgets: the results within each budget, from the smallest on.
    """

    arms: tuple[Arm, ...]
    folder: Path
    budgets: tuple[BudgetResult, ...] = ()

    @property
    def chosen(self) -> Arm:
        """The searches, or those within the largest budget."""
        return self.budgets[-1].search if self.budgets else self.arms[0]

    @property
    def genotype(self) -> Genotype:
        """The selected cells of the searches, or of those within the largest budget."""
        return self.chosen.genotype

    def _repr_html_(self) -> str:
        return text_html(self.table(), self.genotype)

    def table(self) -> str:
        """A table of all candidates, and the test results of the chosen ones; with budgets after a table of these."""
        if not self.budgets:
            return arms_table({arm.name: arm for arm in self.arms})
        labelled = {f"{arm.name} {each.words}": arm for each in self.budgets for arm in each.arms}
        return f"{budgets_table(self.budgets)}\n\n{arms_table(labelled)}"

    def to_json(self) -> dict[str, Any]:
        """The numbers as JSON data, by the name of the arm; with budgets a list of these under `budgets`."""
        if self.budgets:
            return {BUDGETS: [each.to_json() for each in self.budgets]}
        return {arm.name: arm.to_json() for arm in self.arms}

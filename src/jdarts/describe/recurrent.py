"""The size of a language model around a recurrent cell, for `python -m jdarts.describe`."""

import dataclasses
import json
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jdarts.genotype import RecurrentGenotype
from jdarts.nets.language import LanguageModel
from jdarts.report.cell_text import cells_text, table_text
from jdarts.rich_forms import text_html
from jdarts.runs.bounds import VOCABULARY, WIDTH
from jdarts.space import RecurrentSpace, recurrent_space

RecurrentKind = Literal["ptb", "wikitext2", "search-ptb"]


class LanguageSize(NamedTuple):
    """Rows of the embedding table, and width of embedding and hidden states."""

    vocabulary: int
    width: int


#: The paper's networks: words of Penn Treebank or of WikiText-2, widths of sections 3.1.2, 3.2.2 and 3.3 of the reference code.
PAPER_SIZES: dict[RecurrentKind, LanguageSize] = {
    "ptb": LanguageSize(10_000, 850),
    "wikitext2": LanguageSize(33_278, 700),
    "search-ptb": LanguageSize(10_000, 300),
}


@dataclasses.dataclass(frozen=True)
class RecurrentDescription:
    """A recurrent genotype and the size of a language model around its cell.

    Attributes:
      genotype: the cell.
      network: which network.
      size: its vocabulary and width.
      shapes: shape of each array of weights; the embedding is the output matrix too, and counts once.
    """

    genotype: RecurrentGenotype
    network: RecurrentKind
    size: LanguageSize
    shapes: dict[str, tuple[int, ...]]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(map(math.prod, self.shapes.values()))

    def _repr_html_(self) -> str:
        return text_html(self.to_text(), self.genotype)

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "network": self.network,
            **self.size._asdict(),
            "params": self.weights,
            "parts": {name: {"params": math.prod(shape), "shape": list(shape)} for name, shape in self.shapes.items()},
            "genotype": json.loads(self.genotype.to_json()),
        }

    def to_text(self) -> str:
        """As text: the cell, the network, a table of its weights."""
        rows = [[name, "×".join(map(str, shape)), math.prod(shape)] for name, shape in self.shapes.items()]
        vocabulary, width = self.size
        return "\n\n".join(
            [
                str(self.genotype),
                cells_text(self.genotype),
                f"{self.network} network: {vocabulary:,} words, width {width}, the embedding is the output matrix too\n"
                f"weights  {self.weights:,}",
                table_text(("part", "shape", "weights"), rows),
            ]
        )


def describe_recurrent(
    genotype: RecurrentGenotype,
    network: RecurrentKind = "ptb",
    *,
    vocabulary: int | None = None,
    width: int | None = None,
) -> RecurrentDescription:
    """Counts a language model's weights, by default those of the paper's model. Nothing is compiled.

    Args:
      genotype: the cell.
      network: `ptb` or `wikitext2` for the paper's trainings; `search-ptb` for the search network with all operations,
        which has as many nodes as the genotype.
      vocabulary: rows of the embedding table.
      width: of embedding and hidden states.

    Raises:
      InputError: a vocabulary or a width out of bounds.
    """
    for name, value, bounds in (("vocabulary", vocabulary, VOCABULARY), ("width", width, WIDTH)):
        if value is not None:
            bounds.check(name, value)
    paper = PAPER_SIZES[network]
    size = LanguageSize(paper.vocabulary if vocabulary is None else vocabulary, paper.width if width is None else width)
    cell = recurrent_space(nodes=len(genotype.recurrent)) if network == "search-ptb" else genotype
    return RecurrentDescription(genotype, network, size, _weight_shapes(cell, size))


def _weight_shapes(cell: RecurrentSpace | RecurrentGenotype, size: LanguageSize) -> dict[str, tuple[int, ...]]:
    model = LanguageModel(cell, *size)
    inputs = [jax.ShapeDtypeStruct((1, 1), jnp.int32), jax.ShapeDtypeStruct((1, size.width), jnp.float32)]
    if isinstance(cell, RecurrentSpace):
        inputs.append(jax.ShapeDtypeStruct((cell.num_edges, cell.width), jnp.float32))

    def init(*arguments: Any) -> Any:
        return model.init(jax.random.key(0), *arguments, train=False)

    params = jax.eval_shape(init, *inputs)["params"]
    return {name: params[name].shape for name in ("embedding", "input", "nodes", "bias")}

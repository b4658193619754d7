"""Cells and tables as plain text."""

from collections.abc import Sequence

from jdarts.genotype import INPUT_STATES, AnyGenotype, RecurrentGenotype
from jdarts.space import CELL_NAMES

INPUTS = ("c_{k-2}", "c_{k-1}")


def cells_text(genotype: AnyGenotype) -> str:
    """The cells as text, a line for each node with the terms of its sum. Nodes are numbered as in the drawings.

    Node 0 of a recurrent cell reads the word and the last hidden state; every node is a gated update of its input.
    """
    if isinstance(genotype, RecurrentGenotype):
        nodes = [
            f"  node {number} = {name}(node {source})" for number, (name, source) in enumerate(genotype.recurrent, 1)
        ]
        mean = ", ".join(f"node {state}" for state in genotype.concat)
        return "\n".join(["Recurrent cell", "  node 0 = tanh(x_t, h_{t-1})", *nodes, f"  h_t = mean({mean})"])
    lines = []
    for kind in genotype.kinds:
        lines.append(CELL_NAMES[kind].capitalize())
        for number, incoming in enumerate(genotype.nodes(kind)):
            terms = " + ".join(f"{name}({state_name(source)})" for name, source in incoming)
            lines.append(f"  node {number} = {terms}" if incoming else f"  node {number} has no inputs")
        joined = ", ".join(map(state_name, getattr(genotype, f"{kind}_concat")))
        lines += [f"  c_k = concat({joined})", ""]
    return "\n".join(lines[:-1])


def state_name(state: int) -> str:
    """The name of a state of a cell: an input, or the number of a node."""
    return INPUTS[state] if state < INPUT_STATES else f"node {state - INPUT_STATES}"


def table_text(header: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    """A table with aligned columns: numbers with commas, aligned to the right."""
    cells = [[f"{value:,}" if isinstance(value, int) else value for value in row] for row in rows]
    right = [isinstance(value, int) for value in (rows or [header])[0]]
    widths = [max(map(len, column)) for column in zip(header, *cells)]
    lines = [
        "  ".join(
            text.rjust(width) if is_number else text.ljust(width) for text, width, is_number in zip(row, widths, right)
        )
        for row in (list(header), *cells)
    ]
    return "\n".join(line.rstrip() for line in lines)

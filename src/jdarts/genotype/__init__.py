"""Discrete cells: frozen validated data with text and JSON forms that read back."""

from jdarts.genotype.checks import INPUT_STATES, NONE, Cell, nodes_of, num_states
from jdarts.genotype.genotypes import (
    ACTIVATIONS,
    CELL_OPERATIONS,
    AnyGenotype,
    Genotype,
    RecurrentGenotype,
    genotype_from_json,
    parse_genotype,
)

__all__ = [
    "ACTIVATIONS",
    "CELL_OPERATIONS",
    "INPUT_STATES",
    "NONE",
    "AnyGenotype",
    "Cell",
    "Genotype",
    "RecurrentGenotype",
    "genotype_from_json",
    "nodes_of",
    "num_states",
    "parse_genotype",
]

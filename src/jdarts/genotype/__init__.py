"""Discrete cells: frozen validated data, with text and JSON forms and their readers."""

from jdarts.genotype.checks import INPUT_STATES, Cell, Edge, nodes_of, num_states
from jdarts.genotype.convolutional import Genotype, Kind, genotype_of_cells
from jdarts.genotype.parsing import AnyGenotype, genotype_from_json, parse_genotype
from jdarts.genotype.reachable import genotype_of_nodes
from jdarts.genotype.recurrent import RecurrentGenotype

__all__ = [
    "INPUT_STATES",
    "AnyGenotype",
    "Cell",
    "Edge",
    "Genotype",
    "Kind",
    "RecurrentGenotype",
    "genotype_from_json",
    "genotype_of_cells",
    "genotype_of_nodes",
    "nodes_of",
    "num_states",
    "parse_genotype",
]

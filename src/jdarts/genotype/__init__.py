"""Discrete cells: frozen validated data, with text and JSON forms and their readers."""

from jdarts.genotype.checks import INPUT_STATES, Cell, nodes_of, num_states
from jdarts.genotype.convolutional import Genotype, Kind
from jdarts.genotype.parsing import AnyGenotype, genotype_from_json, parse_genotype
from jdarts.genotype.recurrent import RecurrentGenotype

__all__ = [
    "INPUT_STATES",
    "AnyGenotype",
    "Cell",
    "Genotype",
    "Kind",
    "RecurrentGenotype",
    "genotype_from_json",
    "nodes_of",
    "num_states",
    "parse_genotype",
]

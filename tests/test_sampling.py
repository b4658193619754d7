"""Random cells: of the space, each equally probable, and the same for a seed for ever."""

from collections import Counter

import pytest

from jdarts import InputError, darts_space, uniform_space
from jdarts.derivation import sample_genotype
from jdarts.genotype import nodes_of


def test_cells_are_those_that_derivation_could_give():
    space = darts_space()
    for seed in range(50):
        genotype = sample_genotype(space, seed)
        for cell in (genotype.normal, genotype.reduce):
            assert len(cell) == 8
            for node in nodes_of(cell, 2):
                assert len({source for _, source in node}) == 2
            assert {name for name, _ in cell} <= set(space.normal[0]) - {"none"}
        assert genotype.normal_concat == (2, 3, 4, 5)
        assert genotype.normal != genotype.reduce


def test_every_choice_is_equally_probable():
    """One node of three edges is looked at, with two operations besides none: three pairs, four choices of each."""
    space = uniform_space(("none", "skip_connect", "max_pool_3x3"), nodes=2)
    count = 2400
    drawn = Counter(sample_genotype(space, seed).normal[2:] for seed in range(count))
    assert len(drawn) == 12
    # 5 standard deviations of a binomial count.
    assert max(abs(times - count / 12) for times in drawn.values()) < 5 * (count * 11 / 144) ** 0.5


def test_a_seed_gives_the_same_cells_for_ever():
    genotype = sample_genotype(uniform_space(nodes=1), 7)
    assert genotype.normal == (("sep_conv_5x5", 0), ("avg_pool_3x3", 1))
    assert genotype.reduce == (("sep_conv_3x3", 0), ("sep_conv_3x3", 1))


def test_other_spaces():
    genotype = sample_genotype(uniform_space(nodes=3), 0, edges_per_node=9)
    assert [source for _, source in genotype.normal] == [0, 1, 0, 1, 2, 0, 1, 2, 3]
    assert genotype.edges_per_node == 9
    with pytest.raises(InputError, match="0 edges per node; give 1 or more"):
        sample_genotype(darts_space(), 0, edges_per_node=0)
    with pytest.raises(InputError, match="seed is -1; give a number from 0"):
        sample_genotype(darts_space(), -1)

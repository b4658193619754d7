"""Genotypes, spaces and results in notebooks."""

import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import pytest

import jdarts
from jdarts import zoo
from jdarts.errors import InputError


class Result(NamedTuple):
    genotype: jdarts.Genotype

    def lines(self):
        return ["undecided", "the class <script>"]


@pytest.mark.parametrize("genotype", [zoo.DARTS_V2, zoo.DARTS_V2_RECURRENT], ids=["convolutional", "recurrent"])
def test_a_genotype_is_its_drawing(genotype):
    svg = genotype._repr_svg_()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    assert jdarts.show(genotype)._repr_html_() == svg


def test_a_space_is_a_table_of_its_edges():
    html = jdarts.show(jdarts.uniform_space(("none", "skip_connect"), nodes=2)).html
    assert html.count("<table>") == 2
    assert html.count("<td>none, skip_connect</td>") == 10
    assert "<td>2 → 3</td>" in html
    recurrent = jdarts.recurrent_space()
    assert recurrent._repr_html_().count("<tr><td>") == recurrent.num_edges


def test_a_result_shows_its_lines_and_its_cells():
    html = jdarts.show(Result(zoo.DARTS_V2)).html
    assert "undecided\nthe class &lt;script&gt;" in html
    assert html.endswith(zoo.DARTS_V2._repr_svg_())


def test_what_cannot_be_shown_is_named():
    with pytest.raises(InputError, match="cannot show a int; give a genotype"):
        jdarts.show(3)

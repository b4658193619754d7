"""Genotypes, spaces and results in notebooks."""

import html
import re
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple

import made_up_runs
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
    shown = jdarts.show(jdarts.uniform_space(("none", "skip_connect"), nodes=2)).html
    assert shown.count("<table>") == 2
    assert shown.count("<td>none, skip_connect</td>") == 10
    assert "<td>2 → 3</td>" in shown
    recurrent = jdarts.recurrent_space()
    assert recurrent._repr_html_().count("<tr><td>") == recurrent.num_edges


def test_a_result_shows_its_lines_and_its_cells():
    shown = jdarts.show(Result(zoo.DARTS_V2)).html
    assert "undecided\nthe class &lt;script&gt;" in shown
    assert shown.endswith(zoo.DARTS_V2._repr_svg_())


def test_the_folder_of_a_run_is_its_page(tmp_path):
    folder = made_up_runs.search(tmp_path / "run", epochs=2)
    frame = jdarts.show(str(folder)).html
    found = re.fullmatch(r'<iframe srcdoc="([^"]*)" .*</iframe>', frame, flags=re.S)
    assert found is not None
    page = html.unescape(found[1])
    assert page.lstrip().lower().startswith("<!doctype html>")
    with pytest.raises(InputError, match="does not exist; give the folder of a run"):
        jdarts.show(tmp_path / "none")


def test_what_cannot_be_shown_is_named():
    with pytest.raises(InputError, match="cannot show a int; give a genotype"):
        jdarts.show(3)

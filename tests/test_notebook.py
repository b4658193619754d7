"""Genotypes, spaces and results in notebooks."""

import html
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import made_up_runs
import numpy as np
import pytest

import jdarts
from jdarts import zoo
from jdarts.choice.description import ChoiceDescription, ChoiceTable
from jdarts.describe import describe, describe_recurrent
from jdarts.errors import InputError
from jdarts.language.search.summary import LanguageSearchResult
from jdarts.language.train.summary import LanguageTrainResult
from jdarts.pipeline.arms import Arm, Candidate
from jdarts.pipeline.result import PipelineResult
from jdarts.search import SearchResult
from jdarts.search.own_task import NetworkSearchResult
from jdarts.train import TrainResult
from jdarts.train.network_summary import NetworkTrainResult


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


RESULTS = [
    SearchResult(zoo.DARTS_V2, {}, 0.5, Path("<run>")),
    TrainResult(zoo.DARTS_V2, 10, "last", "checkpoints/step_1", 0.5, None, 0.75, None, 1.0, 2.0, Path("<run>")),
    NetworkSearchResult({"width": "<b>"}, {}, 0.5, Path("run"), ("width: <b>",)),
    NetworkTrainResult(10, "last", "checkpoints/step_1", {}, {}, {"accuracy": 0.5}, 2.0, Path("<run>")),
    LanguageTrainResult(zoo.DARTS_V2_RECURRENT, 10, False, 0, 90.0, 91.0, 92.0, 100.0, 101.0, 2.0, Path("<run>")),
    LanguageSearchResult(zoo.DARTS_V2_RECURRENT, np.zeros((1, 1)), 90.0, 100.0, 91.0, 101.0, Path("<run>")),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_every_result_has_a_rich_form(result):
    shown = result._repr_html_()
    assert jdarts.show(result).html == shown
    assert all(html.escape(line) in shown for line in result.lines())
    assert "<run>" not in shown and "<b>" not in shown
    drawing = "" if result.genotype is None else result.genotype._repr_svg_()
    assert shown.endswith(f"</pre>{drawing}")


def test_a_pipeline_shows_its_table():
    trained, cells = RESULTS[1], RESULTS[1].genotype
    arm = Arm("search", (Candidate(0, cells, 0.5, trained._replace(valid_accuracy=0.6), 1.0),), 0, (trained,))
    found = PipelineResult((arm,), Path("run"))
    assert found._repr_html_() == f"<pre>{html.escape(found.table())}</pre>{cells._repr_svg_()}"


def test_descriptions_have_a_rich_form():
    described = describe(zoo.DARTS_V2, channels=4, cells=3)
    assert described._repr_html_() == f"<pre>{html.escape(described.to_text())}</pre>{zoo.DARTS_V2._repr_svg_()}"
    recurrent = describe_recurrent(zoo.DARTS_V2_RECURRENT)
    assert recurrent._repr_html_().endswith(zoo.DARTS_V2_RECURRENT._repr_svg_())
    table = ChoiceTable((ChoiceDescription("<b>", 1, None, {"a": 1.0}, "a", None),))
    assert table._repr_html_() == f"<pre>{html.escape(str(table))}</pre>"


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

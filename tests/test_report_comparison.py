"""Several runs side by side, and the command that writes pages."""

import fcntl
import json
import statistics
import sys

import made_up_runs
import pytest
from made_up_runs import EVIL, without_vega

from jdarts.errors import InputError
from jdarts.report.html import comparison, markup, vega
from jdarts.report.html.command import main
from jdarts.report.html.pages import report, runs_in
from jdarts.report.html.run_data import read_run

__all__ = ["without_vega"]

pytestmark = pytest.mark.usefixtures("without_vega")


@pytest.fixture
def folders(tmp_path):
    return [
        made_up_runs.search(tmp_path / f"runs/{name}-seed{seed}", seed=seed, hypergradient=name)
        for name in ("exact", "first_order")
        for seed in (0, 1)
    ]


def test_names_are_as_long_as_it_takes_to_tell_runs_apart(tmp_path):
    paths = [tmp_path / "a/x/run", tmp_path / "b/x/run"]
    assert comparison.labels(paths) == ["a/x/run", "b/x/run"]
    assert comparison.labels([tmp_path / "a/one", tmp_path / "b/two"]) == ["one", "two"]
    assert comparison.labels([tmp_path / "one", tmp_path / "one"]) == ["one", "one (2)"]


def test_runs_that_differ_in_the_seed_alone_form_a_group(folders):
    found = comparison.groups([read_run(folder) for folder in folders])
    assert found == [("hypergradient exact", (0, 1)), ("hypergradient first_order", (2, 3))]
    assert comparison.groups([read_run(folder) for folder in folders[:2]]) == [("all runs", (0, 1))]


def test_mean_and_spread_are_those_of_a_sample():
    assert comparison.mean_and_spread([0.8, 0.9]) == (pytest.approx(0.85), pytest.approx(statistics.stdev([0.8, 0.9])))
    assert comparison.mean_and_spread([0.8]) == (0.8, None)


def test_agreement_counts_shared_edges_with_their_operations(folders):
    cell = [["sep_conv_3x3", 0], ["skip_connect", 1], ["sep_conv_3x3", 0], ["skip_connect", 1]]
    other = [["sep_conv_3x3", 0], ["max_pool_3x3", 1], ["sep_conv_3x3", 0], ["skip_connect", 2]]
    for folder, normal in zip(folders, (cell, cell, other)):
        genotype = json.loads((folder / "genotype.json").read_text())
        made_up_runs.write(folder / "genotype.json", {**genotype, "normal": normal})
    runs = [read_run(folder) for folder in folders[:3]]
    shares = comparison.agreement(runs, "normal")
    assert (shares[0, 1], shares[0, 2], shares[2, 0], shares[2, 2]) == (1.0, 0.5, 0.5, 1.0)
    found = {(each.source, each.node): each for each in comparison.edge_counts(runs, "normal")}
    assert found[1, 0].cells == 3 and found[1, 0].operations == {"skip_connect": 2, "max_pool_3x3": 1}
    assert (found[1, 1].cells, found[2, 1].cells) == (2, 1)


def test_a_page_of_several_runs_has_its_sections_and_links(folders, tmp_path):
    page = report([folders[0]]).parent / "report.html"
    text = report(folders, tmp_path / "all.html").read_text()
    for name in ("runs", "groups", "curves", "agreement", "cells"):
        assert f'<section id="{name}">' in text
    assert f'href="{page.relative_to(tmp_path)}"' in text and text.count("report.html") == 1
    # 0.90 and 0.89: mean 89.50 %, standard deviation 0.71 %.
    assert "89.50 % ± 0.71 %" in text


def test_searches_and_trainings_stand_together(folders, tmp_path):
    trained = made_up_runs.training(tmp_path / "trained")
    runs = [read_run(folder) for folder in (folders[0], trained)]
    assert [group.name for group in comparison.groups(runs)] == ["search", "training"]
    scores = [comparison.score(run) for run in runs]
    assert [each.name for each in scores if each] == ["validation accuracy", "test accuracy"]
    assert report([folders[0], trained], tmp_path / "all.html").exists()


def test_runs_in_any_state_stand_together(folders, tmp_path):
    """A finished run beside one that is going on, one that was interrupted, an older one, and a damaged one."""
    running = made_up_runs.search(tmp_path / "one", ended=False)
    interrupted = made_up_runs.search(tmp_path / "two", ended=False)
    older = made_up_runs.search(tmp_path / "older", mixtures=False, verdict=False)
    damaged = made_up_runs.search(tmp_path / "damaged")
    (damaged / "metrics.jsonl").write_text("{\n")
    made_up_runs.write(tmp_path / "new/config.json", {"hypergradient": "exact", "epochs": 5})
    given = [folders[0], running, interrupted, older, damaged, tmp_path / "new"]
    with (running / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = report(given, tmp_path / "all.html").read_text()
    assert [text.count(f"<td>{state}</td>") for state in ("finished", "running", "interrupted")] == [3, 1, 2]
    assert text.count('<p class="problem">damaged: ') == 1
    (damaged / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"damaged/config\.json is damaged .* restore it$"):
        report(given, tmp_path / "all.html")


def test_names_of_folders_and_settings_show_as_texts(tmp_path):
    runs = [made_up_runs.search(tmp_path / f"{seed}<i>&", seed=seed, dataset=f"{EVIL}{seed}") for seed in (0, 1)]
    text = report(runs, tmp_path / "all.html").read_text()
    assert EVIL not in text and "<i>" not in text and "&lt;i&gt;" in text


def test_data_of_a_page_cannot_end_its_element():
    content = {"a": "</script><!--", "b": "\u2028&"}
    text = markup.json_for_page(content)
    assert not set("<>&\u2028") & set(text) and json.loads(text) == content


def test_the_script_in_a_page_cannot_end_its_element():
    assert vega.for_pages("'</script>' + '<!--' + '</SCRIPT'") == r"'\x3C/script>' + '\x3C!--' + '\x3C/SCRIPT'"


def test_a_folder_stands_for_the_runs_in_it(folders, tmp_path):
    assert runs_in(tmp_path / "runs") == sorted(folders)
    assert report([tmp_path / "runs"]) == tmp_path / "runs/report.html"


def test_a_pipeline_stands_for_its_runs_and_its_table(tmp_path):
    folder = tmp_path / "pipeline"
    made_up_runs.write(folder / "config.json", {"search.epochs": 3})
    search = made_up_runs.search(folder / "searches/seed0")
    training = made_up_runs.training(folder / "trainings/search-seed0")
    (folder / "table.txt").write_text("cells <seed>\n")
    assert runs_in(folder) == [search, training]
    assert "cells &lt;seed&gt;\n</pre>" in report([folder]).read_text()


def test_the_command_prints_the_file(folders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["jdarts report", *map(str, folders)])
    main()
    assert capsys.readouterr().out == "comparison.html\n"
    assert (tmp_path / "comparison.html").exists()


@pytest.mark.parametrize(
    ("given", "output", "message"),
    [
        ("missing", None, "missing does not exist; give the folder of a run"),
        ("file", None, "file is a file; give the folder of a run"),
        ("empty", None, r"empty is no run's folder, and holds none: there is no config\.json"),
        ("run", "empty", "--output .*empty is a folder; give a file such as .*report.html"),
        ("run", "missing/a.html", "cannot write .*a.html: No such file or directory; give another file with --output"),
    ],
)
def test_wrong_input_is_refused(given, output, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    made_up_runs.training(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        report([tmp_path / given], None if output is None else tmp_path / output)


def test_without_a_run_the_command_says_what_to_give(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["jdarts report"])
    with pytest.raises(InputError, match="no run is given; give the folder of one or more"):
        main()

"""The page of a run, from folders with made-up numbers."""

import dataclasses
import fcntl
import html.parser
import json
import shlex

import made_up_runs
import pytest
from made_up_runs import EVIL, without_vega

from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.report.cell_figure import drawn_nodes
from jdarts.report.html import again, alphas
from jdarts.report.html.advice import advice
from jdarts.report.html.comparison import score
from jdarts.report.html.pages import page_of
from jdarts.report.html.run_data import changes, read_run
from jdarts.report.html.series import MAX_POINTS, panels, thinned
from jdarts.runs.option_groups import parse
from jdarts.search import SearchConfig
from jdarts.space import recurrent_space, uniform_space

__all__ = ["without_vega"]

pytestmark = pytest.mark.usefixtures("without_vega")


class Page(html.parser.HTMLParser):
    """A parsed page: its texts without scripts, its identifiers, and whether its elements are closed in order."""

    VOID = ("meta", "link", "input", "br", "rect", "img")

    def __init__(self, text):
        super().__init__()
        self.texts, self.ids, self.open, self.addresses = [], [], [], []
        self.data = ""
        self.feed(text)
        self.close()
        assert not self.open
        assert len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag not in self.VOID:
            self.open.append((tag, values.get("id")))

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == ("script", "content"):
            self.data += data
        elif not self.open or self.open[-1][0] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    @property
    def content(self):
        return json.loads(self.data)


@pytest.fixture
def run(tmp_path):
    return made_up_runs.search(tmp_path / "run")


def test_the_page_of_a_search_has_every_section(run):
    page = Page(page_of(run))
    sections = {"verdict", "alphas", "cells", "curves", "changes", "time", "again"}
    assert sections <= set(page.ids)
    assert set(page.content["charts"]) <= set(page.ids)
    for text in (
        "finished",
        "search on digits",
        "90.00 %",
        "3 of 3",
        "Versions",
        "0.10.1",
        "ec895b24",
        "What to do next",
    ):
        assert text in page.text
    titles = {panel.title for panel in panels(read_run(run))}
    assert {
        "Loss",
        "Accuracy",
        "Entropy of the mixture",
        "Norm of the hypergradient",
        "Changes of the genotype",
    } <= titles


def test_it_needs_no_network(run):
    assert all(each.startswith(("#", "data:")) for each in Page(page_of(run)).addresses)


def test_the_slider_has_the_mixture_and_the_cell_of_every_epoch(run):
    content, data = Page(page_of(run)).content, read_run(run)
    assert content["epochs"] == [1, 2, 3]
    for kind, cell in content["cells"].items():
        assert len(cell["weights"]) == len(cell["drawing"]) == len(cell["chosen"]) == 3
        for epoch, weights, chosen in zip(data.epochs, cell["weights"], cell["chosen"]):
            assert isinstance(epoch.genotype, Genotype) and epoch.mixture is not None
            assert len(weights) == len(cell["places"]) == epoch.mixture.weights[kind].size
            # Every node of two nodes keeps two edges.
            assert len(chosen) == 4
            entries = {
                (name, alphas.edge_name(kind, source, node))
                for node, incoming in enumerate(drawn_nodes(epoch.genotype, kind)[0])
                for name, source in incoming
            }
            places = [cell["places"][place] for place in chosen]
            assert {(cell["operations"][column], cell["edges"][row]) for row, column in places} == entries


def test_equal_cells_are_drawn_once(tmp_path):
    folder = made_up_runs.search(tmp_path / "run")
    for epoch in (1, 2):
        (folder / f"genotypes/epoch_{epoch:03d}.json").write_bytes((folder / "genotypes/epoch_003.json").read_bytes())
    for cell in Page(page_of(folder)).content["cells"].values():
        assert len(cell["drawings"]) == 1 and cell["drawing"] == [0, 0, 0]


@pytest.mark.parametrize("nodes", [1, 3])
def test_edges_are_in_the_order_of_the_space(nodes):
    space = uniform_space(("skip_connect", "none"), nodes=nodes)
    listed = [(source, node - 2) for source, node in space.edges]
    assert alphas.edges_of("normal", space.num_edges) == listed
    recurrent = recurrent_space(("tanh", "relu"), nodes=nodes)
    assert alphas.edges_of("recurrent", len(recurrent.recurrent)) == list(recurrent.edges)


def test_a_search_on_text_has_a_page(tmp_path):
    page = Page(page_of(made_up_runs.search(tmp_path / "run", nodes=3, recurrent=True)))
    assert {"heat-recurrent", "drawing-recurrent"} <= set(page.ids)
    assert "jdarts language search" in page.text and "validation perplexity" in page.text


def test_a_search_in_a_network_of_your_own_has_no_command_and_no_cells(tmp_path):
    folder = made_up_runs.search(tmp_path / "run")
    config = json.loads((folder / "config.json").read_text())
    made_up_runs.write(folder / "config.json", {**config, "data": {**config["data"], "network": "Net"}})
    for path in (folder / "genotype.json", *folder.glob("genotypes/*"), *folder.glob("alphas/*")):
        path.unlink()
    words = ["undecided on 1 of 2 choices: what is chosen leads by less than 10%", "width: 16 (margin 0.010)"]
    made_up_runs.write(folder / "summary.json", {"choices": {"width": "16"}, "text": words, "valid_accuracy": 0.5})
    page = Page(page_of(folder))
    assert "Undecided on 1 of 2 choices" in page.text and "width: 16 (margin 0.010)" in page.text
    assert "jdarts.decided" in page.text and "jdarts.search.search" in page.text
    assert not {"changes", "cells", "command"} & set(page.ids)
    for wrong in ("older than verdicts", "--seeds", "jdarts train"):
        assert wrong not in page.text


def test_an_undecided_search_is_advised_with_options_that_its_command_has(tmp_path):
    images = advice(read_run(made_up_runs.search(tmp_path / "images")))
    text = advice(read_run(made_up_runs.search(tmp_path / "text", nodes=3, recurrent=True)))
    assert images.kind == text.kind == "undecided"
    assert "with `--seeds 0-3`" in " ".join(images.next)
    assert "with other values of `--seed`," in " ".join(text.next)


def test_a_training_has_a_page(tmp_path):
    page = Page(page_of(made_up_runs.training(tmp_path / "run")))
    assert "Test accuracy 75.00 %" in page.text and "alphas" not in page.ids
    assert {panel.title for panel in panels(read_run(tmp_path / "run"))} == {
        "Loss",
        "Accuracy",
        "Learning rate",
        "Seconds of an epoch",
    }


def test_a_training_shows_what_it_gets_wrong(tmp_path):
    folder = made_up_runs.mistakes(made_up_runs.training(tmp_path / "run"))
    text = page_of(folder)
    assert EVIL not in text
    page = Page(text)
    assert {"mistakes", "confusion"} <= set(page.ids)
    for words in ("27 of 30 test images are right (90.00 %)", f"takes cat for {EVIL}: 3 of 10", f"cat/0{EVIL}.png"):
        assert words in page.text
    assert sum(each.startswith("data:image/png;base64,") for each in page.addresses) == 3
    rows = page.content["charts"]["confusion"]["data"]["values"]
    assert {(row["ln"], row["gn"]): row["n"] for row in rows} == {
        ("cat", "cat"): 7,
        ("dog", "dog"): 10,
        (EVIL, EVIL): 10,
        ("cat", EVIL): 3,
    }


def test_many_classes_have_tables_in_place_of_a_matrix(tmp_path):
    folder = made_up_runs.training(tmp_path / "run")
    page = Page(page_of(made_up_runs.mistakes(folder, names=tuple(map(str, range(100))))))
    assert "confusion" not in page.ids and "Most frequent confusions" in page.text


def test_without_the_package_for_charts_the_matrix_is_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr("jdarts.report.html.run_page.can_draw", lambda: False)
    page = Page(page_of(made_up_runs.mistakes(made_up_runs.training(tmp_path / "run"))))
    assert "Confusion matrix" in page.text and page.content["charts"] == {} and EVIL in page.texts


@pytest.mark.parametrize(
    ("eigenvalues", "words", "step"),
    [
        ([0.1, 0.2, 0.4], "has grown 4.0 times, from 0.1 to 0.4", "--stop eigenvalue"),
        ([0.2, 0.2, 0.21], "has not grown (it ends at 0.21)", None),
        ([0.2, None, None], None, None),
    ],
)
def test_the_verdict_says_what_the_eigenvalue_means(eigenvalues, words, step, tmp_path):
    found = advice(read_run(_measured(tmp_path / "run", {"guards_eigenvalue": eigenvalues})))
    assert words is None or words in " ".join(found.lines)
    assert ("eigenvalue" in " ".join(found.lines)) == (words is not None)
    assert ("--stop eigenvalue" in " ".join(found.next)) == (step is not None)


@pytest.mark.parametrize(
    ("correlation", "slope", "words"),
    [(0.95, 1.1, "foretells well"), (0.7, 3.0, "foretells roughly"), (0.2, 0.1, "hardly foretells")],
)
def test_the_verdict_says_how_far_to_trust_the_hypergradient(correlation, slope, words, tmp_path):
    numbers = {"guards_hypergradient_correlation": [correlation] * 3, "guards_hypergradient_slope": [slope] * 3}
    found = advice(read_run(_measured(tmp_path / "run", numbers)))
    assert words in " ".join(found.lines)
    assert ("The real changes are larger" in " ".join(found.lines)) == (slope == 3.0)
    assert ("--hypergradient neumann" in " ".join(found.next)) == (correlation < 0.5)


def test_the_verdict_says_when_running_statistics_have_not_settled(tmp_path):
    folder = _measured(tmp_path / "run", {"valid_accuracy": [0.9, 1.0, 1.0], "evaluation_accuracy": [0.3, 0.3, 0.35]})
    found = advice(read_run(folder))
    assert "right on 100 % of the alphas' images, and on 35 % in the evaluation" in " ".join(found.lines)
    assert "smaller `--batch-size`" in " ".join(found.next)
    settled = advice(read_run(_measured(tmp_path / "other", {"valid_accuracy": [1.0] * 3})))
    assert "running statistics" not in " ".join(settled.lines)


def test_the_verdict_says_how_large_the_implicit_term_is(run):
    assert "has 33.3 % of the direct term's norm." in " ".join(advice(read_run(run)).lines)
    # Commands between backticks are marked in the steps alone.
    records = (
        (run / "metrics.jsonl")
        .read_text()
        .replace('"hypergradient/implicit_norm": 0.03', '"hypergradient/implicit_norm": 1e-3')
    )
    (run / "metrics.jsonl").write_text(records)
    lines = " ".join(advice(read_run(run)).lines)
    assert "first-order hypergradient would take nearly the same steps" in lines and "`" not in lines


def _measured(folder, numbers):
    """A search that has measured further numbers, one for each epoch; None for an epoch without."""
    made_up_runs.search(folder)
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    ends = [record for record in records if "epoch/number" in record]
    for name, values in numbers.items():
        for record, value in zip(ends, values):
            record |= {} if value is None else {f"epoch/{name}": value}
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return folder


def test_a_search_in_stages_shows_them_and_what_each_dropped(tmp_path):
    folder = made_up_runs.staged(tmp_path / "run")
    (folder / "stage1/report.html").write_text(page_of(folder / "stage1"))
    text = page_of(folder)
    page = Page(text)
    assert "stages" in page.ids and "stage 3 of 3" in page.text
    # 5 edges: 8 operations, then 5, then 3.
    assert page.text.count("15 of 40 operations are left in the last stage") == 2
    assert [text.count(f'<td class="soft">{stage}</td>') for stage in (1, 2)] == [30, 20]
    assert page.texts.count("kept") == 30
    assert "stage1/report.html" in page.addresses and "stage2/report.html" not in page.addresses
    words = shlex.split(again.command(read_run(folder)))
    assert words[words.index("--epochs") + 1] == "9"
    earlier = Page((folder / "stage1/report.html").read_text())
    assert "stage 1 of 3" in earlier.text and "command" not in earlier.ids and "stages" not in earlier.ids


def test_a_damaged_stage_is_named(tmp_path):
    folder = made_up_runs.staged(tmp_path / "run")
    (folder / "stage1/config.json").write_text("{")
    page = Page(page_of(folder))
    assert "stage1/config.json is damaged" in page.text and "stages" in page.ids


def test_a_pipeline_has_its_result_in_words_and_its_candidates(tmp_path):
    folder = made_up_runs.pipeline(tmp_path / "run")
    (folder / "searches/seed1/report.html").write_text("")
    text = page_of(folder)
    assert EVIL not in text
    page = Page(text)
    assert {"verdict", "candidates", "chosen", "runs", "groups", "agreement", "again"} <= set(page.ids)
    for words in (
        "Cells from search: test accuracy 97.00 ± 0.71 %, of 2 full trainings.",
        "The cells from search are 6.00 points better than those from random, more than two standard errors",
        "jdarts predict",
        f"a table with {EVIL}",
        "full trainings of random",
        "two of the 2 cells share",
    ):
        assert words in page.text
    assert page.addresses.count("searches/seed1/report.html") == 2


def test_a_pipeline_with_budgets_compares_within_each(tmp_path):
    folder = made_up_runs.pipeline(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    for part in ("searches/seed", "selection/search", "selection/random", "trainings/search-seed"):
        for seed in (0, 1):
            path = folder / f"{part}{seed}"
            path.rename(path.with_name(f"5000-{path.name}"))
    (folder / "selection/5000-random1/report.html").write_text("")
    made_up_runs.write(folder / "summary.json", {"budgets": [{"max_weights": 5000, **summary}]})
    page = Page(page_of(folder))
    for words in (
        "Cells from search within 5,000 weights: test accuracy 97.00",
        "than those from random within 5,000 weights, more than two",
        "searches within 5,000 weights",
        "brief trainings of random within 5,000 weights",
        "trainings/5000-search-seed0",
    ):
        assert words in page.text
    assert "selection/5000-random1/report.html" in page.addresses


def test_a_pipeline_that_was_interrupted_says_what_has_ended(tmp_path):
    folder = made_up_runs.pipeline(tmp_path / "run", ended=False)
    page = Page(page_of(folder))
    assert "was interrupted; finished so far: 2 searches, 4 brief trainings, 2 full trainings." in page.text
    assert "Start the same command again" in page.text and "candidates" not in page.ids
    made_up_runs.write(tmp_path / "new/config.json", {"search.epochs": 1})
    assert "finished so far: nothing." in Page(page_of(tmp_path / "new")).text


def test_a_pipeline_with_a_damaged_summary_has_a_page(tmp_path):
    folder = made_up_runs.pipeline(tmp_path / "run")
    candidates = '"candidates": [{"size": 3, "valid_accuracy": NaN}, {"size": 3, "valid_accuracy": 1}]'
    arm = f'{{"mean": 1, "std": null, "chosen": 0, "test_accuracies": [1, NaN], {candidates}}}'
    for content in (
        "{",
        '{"search": {"test_accuracies": [1, null], "genotype": 3, "candidates": 5}, "x": 1}',
        f'{{"budgets": [{{"max_weights": 5000, "search": {arm}, "random": {arm}}}]}}',
    ):
        (folder / "summary.json").write_text(content)
        assert "again" in Page(page_of(folder)).ids


def test_texts_of_the_folder_show_as_texts(tmp_path):
    folder = made_up_runs.search(tmp_path / "a&b<i>", dataset=EVIL, method=EVIL)
    config = json.loads((folder / "config.json").read_text())
    config["data"] |= {"class_names": [EVIL, "</style>"], "name": EVIL, EVIL: 1}
    made_up_runs.write(folder / "config.json", config)
    summary = json.loads((folder / "summary.json").read_text())
    summary["verdict"]["text"] = [EVIL, "`</code><b>`"]
    made_up_runs.write(folder / "summary.json", summary | {"stopped": {"reason": EVIL, "epoch": 3}})
    record = json.loads((folder / "checkpoints/step_00000060/record.json").read_text())
    made_up_runs.write(folder / "checkpoints/step_00000060/record.json", record | {"versions": {EVIL: EVIL}})
    text = page_of(folder)
    assert EVIL not in text
    page = Page(text)
    assert page.text.count(EVIL) >= 8 and "a&b<i>" in page.text


def test_numbers_that_are_not_finite_leave_gaps(tmp_path):
    folder = made_up_runs.training(tmp_path / "run")
    lines = (folder / "metrics.jsonl").read_text().replace('"epoch/train_loss": 1.0', '"epoch/train_loss": "nan"')
    (folder / "metrics.jsonl").write_text(lines)
    (loss,) = (panel for panel in panels(read_run(folder)) if panel.title == "Loss")
    assert loss.series[0].points == [(1, 2.0), (3, pytest.approx(2 / 3))]
    assert "NaN" not in Page(page_of(folder)).data


def test_an_integer_that_no_float_holds_is_left_out(tmp_path):
    folder = made_up_runs.training(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    made_up_runs.write(folder / "summary.json", summary | {"test_accuracy": 10**400})
    assert "test accuracy" not in Page(page_of(folder)).text
    reached = score(read_run(folder))
    assert reached is not None and reached.name != "test accuracy"


def test_curves_of_many_steps_are_means_over_some():
    points = [(float(step), float(step % 2)) for step in range(2 * MAX_POINTS)]
    assert thinned(points[:MAX_POINTS]) == points[:MAX_POINTS]
    assert thinned(points) == [(step + 0.5, 0.5) for step in range(0, 2 * MAX_POINTS, 2)]


def test_a_run_that_was_interrupted_says_how_to_resume_it(tmp_path):
    page = Page(page_of(made_up_runs.search(tmp_path / "run", ended=False)))
    assert "The search was interrupted after 3 of 6 epochs." in page.text and "resume" in page.text
    assert "of the edges of the normal cell are decided" in page.text


def test_a_run_that_a_process_holds_is_running(tmp_path):
    folder = made_up_runs.search(tmp_path / "run", ended=False)
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_run(folder).state == "running"
        page = Page(page_of(folder, live=True))
    assert "The search is running: 3 of 6 epochs are done." in page.text and page.content["live"] > 0
    assert read_run(folder).state == "interrupted"


def test_a_run_of_an_older_version_has_a_page(tmp_path):
    folder = made_up_runs.search(tmp_path / "run", mixtures=False, verdict=False)
    config = json.loads((folder / "config.json").read_text())
    del config["data"]
    made_up_runs.write(folder / "config.json", config)
    page = Page(page_of(folder))
    assert "older than the record of its mixture" in page.text and "older than verdicts" in page.text
    assert "drawing-normal" in page.ids and "heat-normal" not in page.ids


def test_a_run_without_any_epoch_has_a_page(tmp_path):
    made_up_runs.write(tmp_path / "run/config.json", {"hypergradient": "exact", "epochs": 5})
    page = Page(page_of(tmp_path / "run"))
    assert "interrupted after 0 of 5 epochs" in page.text and "alphas" not in page.ids


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": NaN', '{"operations": 1}', "\0\xff"])
@pytest.mark.parametrize(
    "name",
    [
        "summary.json",
        "memory.json",
        "mistakes.json",
        "surprises.json",
        "metrics.jsonl",
        "genotype.json",
        "genotypes/epoch_002.json",
        "alphas/epoch_002.json",
        "checkpoints/step_00000060/record.json",
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(name, content, run):
    (run / name).write_bytes(f"{content}\n".encode("latin-1"))
    page = Page(page_of(run))
    # A line of metrics that is not complete is no damage, and a summary is any object.
    if content != '{"operations": 1}' or not name.endswith(("summary.json", "record.json", "memory.json")):
        named = {"checkpoints/step_00000060/record.json": "newest checkpoint", "genotype.json": "genotype"}
        assert named.get(name, "genotype" if name.startswith("genotypes/") else name) in page.text
    assert "again" in page.ids


@pytest.mark.parametrize("content", ["", "[]", "{", "\0"])
def test_without_its_settings_a_run_has_no_page(content, run):
    (run / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        page_of(run)


def test_a_run_of_another_kind_is_refused(tmp_path):
    made_up_runs.write(tmp_path / "run/config.json", {"colour": "blue"})
    with pytest.raises(InputError, match="not that of a search, a training or a pipeline"):
        page_of(tmp_path / "run")


def test_without_the_package_for_charts_there_are_still_pictures(run, monkeypatch):
    monkeypatch.setattr("jdarts.report.html.run_page.can_draw", lambda: False)
    page = Page(page_of(run))
    assert "pip install 'jdarts[report]'" in page.text and page.content["charts"] == {}
    assert "sep_conv_3x3" in page.text and "drawing-normal" in page.ids


def test_changes_name_the_node_and_both_entries(run):
    data = read_run(run)
    before = data.epochs[0].genotype
    assert isinstance(before, Genotype) and changes(before, before) == []
    (_, source), *rest = before.normal
    after = dataclasses.replace(before, normal=(("max_pool_3x3", source), *rest))
    (change,) = changes(before, after)
    assert change == ("normal", 0, (before.normal[0],), (("max_pool_3x3", source),))


def test_the_command_names_plug_ins_without_their_checksums(run):
    config = {**SearchConfig().to_json(), "plugin": ["my ops.py sha256:0a", "other sha256:1b"]}
    made_up_runs.write(run / "config.json", config)
    words = shlex.split(again.command(read_run(run)))
    place = words.index("--plugin")
    assert words[place : place + 4] == ["--plugin", "my ops.py", "--plugin", "other"]
    assert not any("sha256" in word for word in words)


@pytest.mark.parametrize(
    "config",
    [
        SearchConfig(),
        SearchConfig(seed=3, nodes=2, flip=False, padding=2, nesterov=True, clip=1e-30),
        SearchConfig().with_method("pc_darts"),
        dataclasses.replace(SearchConfig().with_method("pc_darts"), edge_weights=False),
        SearchConfig().with_method("snas"),
        SearchConfig().with_method("p_darts"),
    ],
    ids=["paper", "own", "pc_darts", "pc_darts_changed", "snas", "p_darts"],
)
def test_the_command_starts_the_same_run(config, run):
    made_up_runs.write(run / "config.json", config.to_json())
    program, search, *options = shlex.split(again.command(read_run(run)))
    assert (program, search) == ("jdarts", "search")
    method = options[options.index("--method") + 1]
    parsed = parse(SearchConfig().with_method(method), prog="", arguments=options)
    assert parsed.to_json() == config.to_json()
    assert parsed.folder.name == "run-again"

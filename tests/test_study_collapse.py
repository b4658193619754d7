"""Study 3: the settings of its searches, what it reads from their epochs, and what its tables make of that."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from study import collapse, collapse_tables
from study.method_searches import MethodSize
from study.results import Results

from jdarts.errors import InputError

SMALL = dataclasses.replace(collapse.CONFIG, spaces=("s2",), methods=("darts", "darts_es"), weight_decays=(0.0243,))


def epochs(eigenvalues, skips):
    return [
        {
            "number": float(number),
            "guards_skips_normal": skip,
            "guards_weightless_normal": skip,
            "guards_lead_normal": 0.25,
            "guards_eigenvalue": eigenvalue,
            "evaluation_accuracy": 0.5,
        }
        for number, (eigenvalue, skip) in enumerate(zip(eigenvalues, skips, strict=True), 1)
    ]


def test_every_search_of_the_table_has_settings():
    for config in (collapse.CONFIG, collapse.QUICK):
        config.check()
        found = collapse.cells(config)
        assert len(found) == len(config.spaces) * (len(config.methods) + len(config.weight_decays))
        assert len({json.dumps(cell) for cell in found}) == len(found)


def test_settings_of_a_search():
    plain, stopping, decayed = (SMALL.search_config(cell, Path("x")) for cell in collapse.cells(SMALL))
    assert (plain.hypergradient, plain.space, plain.stop) == ("finite_difference", "s2", None)
    # RobustDARTS's tenth of fifty epochs is the sixth of thirty; every epoch is measured.
    assert stopping.stop == "eigenvalue:every=1,first=6"
    assert (plain.weights.weight_decay, decayed.weights.weight_decay) == (3e-4, 0.0243)
    assert {each.seeds for each in (plain, stopping, decayed)} == {"0,1,2"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "--seeds names none"),
        ({"methods": ("dartz",)}, "dartz"),
        ({"spaces": ("s9",)}, "--space is s9"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SMALL, **changes).check()


def test_where_the_guards_would_have_stopped_a_search():
    skips = [number // 4 for number in range(30)]
    growing = collapse.of_run(epochs([1.3**number for number in range(30)], skips))
    # The first result that the rule may return is epoch 7, counted from 1, and it needs six more.
    assert collapse_tables.stopped_by_eigenvalue(growing, 30) == (13, 7)
    assert collapse_tables.stopped_by_skips(growing) == (25, 24)
    # As in a search, the rule is not asked after the last epoch.
    until_13, until_14 = (collapse.of_run(epochs(growing["eigenvalue"][:count], skips[:count])) for count in (13, 14))
    assert collapse_tables.stopped_by_eigenvalue(until_13, 30) is None
    assert collapse_tables.stopped_by_eigenvalue(until_14, 30) == (13, 7)
    constant = collapse.of_run(epochs([1.0] * 30, [5] * 30))
    assert collapse_tables.stopped_by_eigenvalue(constant, 30) is None
    assert collapse_tables.stopped_by_skips(constant) is None
    assert collapse_tables.stopped_by_skips(collapse.of_run(epochs([1.0], [7]))) == (1, 1)
    assert constant["skips"] == [5.0] * 30


def test_a_cell_is_the_searches_of_all_seeds(monkeypatch, tmp_path):
    """Those of a rule that may end them one by one, the others at once."""
    seen = []

    def result(config):
        folder = tmp_path / f"{config.method}{config.run.seed}"
        folder.mkdir(exist_ok=True)
        rows = [{f"epoch/{name}": value for name, value in epoch.items()} for epoch in epochs([1.0] * 2, [1, 3])]
        rows = [{"step": step, "time": 0.0, **row} for step, row in enumerate(rows, 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return SimpleNamespace(genotype=f"cells {config.run.seed}", folder=folder)

    def search(config, **_):
        seen.append(config.run.seed)
        return result(config)

    def search_seeds(config, **_):
        seen.append(config.seeds)
        return [result(each) for each in config.of_each_seed()]

    monkeypatch.setattr(collapse, "search", search)
    monkeypatch.setattr(collapse, "search_seeds", search_seeds)
    monkeypatch.setattr(collapse.images, "smaller", lambda dataset, **_: dataset)
    measure = collapse.prepare(SMALL, None)  # pyright: ignore[reportArgumentType]
    plain, stopping, _ = collapse.cells(SMALL)
    rows = measure(plain, tmp_path)
    assert [(row["seed"], row["genotype"], row["skips"]) for row in rows] == [
        (seed, f"cells {seed}", [1.0, 3.0]) for seed in range(3)
    ]
    assert len(measure(stopping, tmp_path)) == 3
    assert seen == ["0,1,2", 0, 1, 2]


def made_results():
    """Skips and eigenvalues that fall with the weight decay."""
    rows = []
    for cell, factor in zip(collapse.cells(SMALL), (1.0, 0.7, 0.1), strict=True):
        for seed in range(3):
            eigenvalues = [factor * 1.3**number for number in range(30)]
            skips = [round(factor * number / 4 + seed * 0.1) for number in range(30)]
            rows.append({**cell, "seed": seed, "genotype": "x", **collapse.of_run(epochs(eigenvalues, skips))})
    about = {"processor": "P", "cores": 2, "devices": "1 CPU"}
    return Results(
        "collapse", "full", "c", {"epochs": 30}, {"name": "i"}, about, 1.0, 1.0, json.loads(json.dumps(rows))
    )


def test_tables_and_figure():
    results = made_results()
    found = collapse_tables.tables(results)
    assert "| S2 | darts | 7, 7, 7 |" in found["searches"]
    assert "| S2 | darts, weight decay 0.0243 | 1, 1, 1 |" in found["searches"]
    (line,) = found["decay"].splitlines()[2:]
    assert line.endswith("| seen |")
    assert "| S2 | darts | eigenvalue | 3 of 3 | 13, 13, 13 | 2, 2, 2 | 7, 7, 7 |" in found["guards"]
    axes = collapse_tables.figures(results)["epochs"]().axes
    assert [axis.get_title() for axis in axes] == ["S2", ""]
    assert len(axes[0].get_lines()) == 3


def test_one_weight_decay_is_no_trend():
    results = made_results()
    alone = dataclasses.replace(results, rows=[row for row in results.rows if row["weight_decay"] is None])
    assert "No space has been searched with two weight decays" in collapse_tables.tables(alone)["decay"]


def test_sizes_scale_the_epochs_of_presets():
    config = MethodSize(epochs=10).search_config("pc_darts", seeds="0", run_dir=Path("x"), space="s1")
    assert (config.methods.alphas_from, config.space) == (3, "s1")

"""The smallest pipeline that has every part, on quick networks; as a program, `python -m jdarts.pipeline` with them."""

import io
import json

import small_runs
import small_search
import small_train

from jdarts.pipeline import PipelineConfig, pipeline
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

SEARCH = {name: value for name, value in small_search.SETTINGS.items() if name != "dataset"}
SEARCH |= small_search.PLAIN
TRAIN = {name: value for name, value in small_train.SETTINGS.items() if name not in ("dataset", "validation_fraction")}
TRAIN["epochs"] = 2
SETTINGS = {"dataset": "digits", "searches": 2, "select_epochs": 1, "select_fraction": 0.25, "repeats": 2, "seed": 3}
RUNS = [
    "searches/seed3",
    "searches/seed4",
    "selection/search3",
    "selection/search4",
    "trainings/search-seed3",
    "trainings/search-seed4",
]


def quicken(replace=setattr):
    """Puts quick networks into search and training, and leaves pictures undrawn."""
    import jdarts.pipeline.protocol

    small_search.quicken(replace)
    small_train.quicken(replace)
    replace(jdarts.pipeline.protocol, "draw_cells", lambda *_, **__: None)
    replace(
        jdarts.pipeline.protocol,
        "CompiledPrograms",
        lambda: small_runs.shared_programs or small_runs.ProgramsOfAnyCells(),
    )


def config(folder, **changes):
    return PipelineConfig(
        run_dir=folder, search=SearchConfig(**SEARCH), train=TrainConfig(**TRAIN), **{**SETTINGS, **changes}
    )


def options(folder, **changes):
    """The command line of the pipeline in a folder, as settings for `small_runs.arguments`."""
    parts = {f"search.{name}": value for name, value in SEARCH.items()}
    parts |= {f"train.{name}": value for name, value in TRAIN.items()}
    return {**SETTINGS, "run_dir": folder, **parts, **changes}


def run(folder, *, dataset=None, **changes):
    """Runs the pipeline in this process; returns the result and what was shown."""
    stream = io.StringIO()
    result = pipeline(config(folder, **changes), dataset=dataset, stream=stream)
    return result, stream.getvalue()


def numbers(folder):
    """The summary without what differs between two runs of the same."""
    return timeless(json.loads((folder / "summary.json").read_text()))


def timeless(value):
    """JSON's values without times."""
    if isinstance(value, dict):
        return {name: timeless(each) for name, each in value.items() if not name.endswith("seconds")}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def assert_same_end(folder, reference):
    """The pipeline in a folder has come to the same as an undisturbed one, with the same bits in every run."""
    assert numbers(folder) == numbers(reference)
    assert (folder / "genotype.txt").read_text() == (reference / "genotype.txt").read_text()
    for name in RUNS:
        small_runs.assert_same_bits(folder / name, reference / name, ["genotype.json"])


quick = small_runs.with_stand_ins(quicken, small_runs.programs_of_quick_networks)
undisturbed = small_runs.undisturbed_run(run)


if __name__ == "__main__":
    from jdarts.command import run_command
    from jdarts.pipeline.command import main

    quicken()
    run_command(main)

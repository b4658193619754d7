"""Configurations in parts: settings are given by their names, read in their parts, and written flat."""

import dataclasses
import json
from pathlib import Path

import pytest

from jdarts.errors import InputError
from jdarts.language.search import LanguageSearchConfig
from jdarts.language.train import LanguageTrainConfig
from jdarts.pipeline import PipelineConfig
from jdarts.runs.options import Loop, Run
from jdarts.runs.settings import WITHOUT_EFFECT, Settings, as_json, entries, flat
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

KINDS = (SearchConfig, TrainConfig, PipelineConfig, LanguageSearchConfig, LanguageTrainConfig)


def test_a_setting_is_given_by_its_name():
    config = SearchConfig(epochs=20, nodes=3)
    assert (config.loop, config.nodes) == (Loop(epochs=20), 3)
    assert dataclasses.replace(config, epochs=5, seed=2) == SearchConfig(epochs=5, seed=2, nodes=3)
    assert SearchConfig(loop=Loop(epochs=9), log_every=1).loop == Loop(epochs=9, log_every=1)
    assert dataclasses.replace(config, run=Run(seed=4)).run.seed == 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_may_be_a_text(kind):
    assert kind(run_dir="runs/mine") == kind(run_dir=Path("runs/mine"))
    assert kind(run_dir=None).run.run_dir is None


def test_defaults_of_a_part_are_those_of_the_kind_of_run():
    assert TrainConfig(log_every=1).loop == Loop(epochs=600, log_every=1, keep_checkpoints=2)
    assert LanguageTrainConfig().loop.epochs == 8000


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        ("epocs", "did you mean epochs?"),
        ("learning-rate", "did you mean learning_rate?"),
        ("xyz", "known are hypergradient, neumann_terms"),
    ],
)
def test_an_unknown_setting_is_refused(name, mend):
    with pytest.raises(InputError, match=f"^SearchConfig has no setting {name}; {mend}"):
        SearchConfig(**{name: 1})
    with pytest.raises(InputError, match=f"^SearchConfig has no setting {name}; {mend}"):
        dataclasses.replace(SearchConfig(), **{name: 1})


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_settings_have_one_name(kind):
    def names(settings):
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            yield field.name
            if isinstance(value, Settings) and field.name not in ("search", "train"):
                yield from names(value)

    found = list(names(kind()))
    assert len(found) == len(set(found))


@pytest.mark.parametrize("kind", KINDS)
def test_the_constructor_takes_back_what_is_written(kind):
    config = kind(seed=3, dataset="mine", run_dir=Path("x"))
    assert kind(**flat(config)) == config
    written = as_json(config)
    assert json.loads(json.dumps(written)) == written
    assert not {"run_dir", "data_dir", "devices"} & written.keys()
    assert as_json(kind(**written)) == written


def test_what_does_not_change_the_result_is_not_written():
    known = entries(SearchConfig)
    without = {name for name, entry in known.items() if WITHOUT_EFFECT in entry.marks}
    assert without == {
        *("data_dir", "run_dir", "log_every", "checkpoint_minutes", "keep_checkpoints", "live", "images_on"),
        *("devices", "parallel", "cluster", "coordinator", "num_processes", "process_id", "seeds", "remat"),
        *("eigenvalue_every", "foresight_every", "evaluate_cells", "extend", "change_batch_size", "log", "workers"),
        *("time_limit", "steps_per_call"),
    }
    assert SearchConfig().to_json().keys() == known.keys() - without


def test_parts_are_checked():
    for name, value in {"log_every": 0, "devices": 0, "alpha_b1": 1.0, "cutout": -1, "process_id": 1}.items():
        with pytest.raises(InputError, match=f"--{name.replace('_', '-')}"):
            SearchConfig(**{name: value}).check()

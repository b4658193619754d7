"""Settings out of their bounds: every field of every configuration, refused or taken, and never a traceback."""

import dataclasses
import math
from pathlib import Path
from typing import get_args, get_origin

import numpy as np
import pytest

from jdarts.errors import InputError
from jdarts.language.search import LanguageSearchConfig
from jdarts.language.train import LanguageTrainConfig
from jdarts.pipeline import PipelineConfig
from jdarts.runs.bounds import Bounds
from jdarts.runs.settings import entries
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

CONFIGS = (
    SearchConfig(dataset="digits"),
    TrainConfig(dataset="digits"),
    TrainConfig(dataset="imagenette"),
    PipelineConfig(dataset="digits", baseline="random"),
    LanguageSearchConfig(dataset="sotu"),
    LanguageTrainConfig(dataset="sotu"),
)
ABSURD = (-1, 10**8, 2**31, 2**63, 10**20, 10**400, 10**5000, -1e300, 1e308, 1e-320, math.inf, -math.inf, math.nan)
#: Numbers that are no number of any setting, whatever it counts.
NEVER = (-1, 10**400, 10**5000, -1e300, 1e308, math.inf, -math.inf, math.nan)


def numeric_fields(config):
    kinds = {name: entry.kind for name, entry in entries(type(config)).items()}.items()
    return [name for name, kind in kinds if get_origin(kind) is not tuple and {kind, *get_args(kind)} & {int, float}]


CASES = [(config, name) for config in CONFIGS for name in numeric_fields(config)]


def answer(config, name, value):
    """The message that refuses a value; None where it is taken."""
    try:
        dataclasses.replace(config, **{name: value}).check()
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("config", "name"), CASES, ids=[f"{type(c).__name__}-{name}" for c, name in CASES])
def test_absurd_numbers(config, name):
    whole = float not in (kind := entries(type(config))[name].kind, *get_args(kind))
    for value in (0, -0.0, *ABSURD):
        message = answer(config, name, value)
        if value in NEVER or value != value or (whole and value in (2**63, 10**20)):
            assert message is not None, value
        if message is not None:
            assert message.startswith("--") and ("; give " in message or "; leave it out" in message), message
            assert len(message) < 600


def test_there_are_bounds_for_every_number():
    assert len(CASES) > 100
    for config, name in CASES:
        message = answer(config, name, 10**300)
        assert message is not None and message.startswith(f"--{name.replace('_', '-')} is 1")
        assert " to " in message or "below" in message or "up to" in message or "between" in message, message


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (SearchConfig(), {"channels": 10**8}, "--channels is 100000000; give a number from 1 to 65536"),
        (SearchConfig(), {"clip": 1e308}, r"--clip is 1e\+308; give a number from 1e-37 to 1e\+38"),
        (SearchConfig(), {"clip": 1e-320}, r"--clip is 1e-320; give a number from 1e-37 to 1e\+38"),
        (SearchConfig(), {"epochs": 1.5}, "--epochs is 1.5; give a whole number"),
        (SearchConfig(), {"epochs": "3"}, "--epochs is '3'; give a whole number"),
        (SearchConfig(), {"epochs": 10**5000}, "--epochs is a number of about 5,.* digits; give a number from 1 to"),
        (SearchConfig(), {"hypergradient": "exakt"}, "--hypergradient is 'exakt'; give exact or finite_difference or"),
        (TrainConfig(), {"schedule": "linear"}, "--schedule is 'linear'; give cosine or exponential"),
        (TrainConfig(), {"color_jitter": (math.nan, 0, 0, 0), "dataset": "imagenette"}, "--color-jitter is nan 0 0 0"),
        (SearchConfig(), {"dataset": ""}, "--dataset is ''; give the name of a data set"),
        (
            SearchConfig(),
            {"dataset": "a\nb"},
            r"--dataset is 'a\\nb'; give the name of a data set, or the path of a folder",
        ),
        (LanguageTrainConfig(), {"dataset": "a/b"}, "--dataset is 'a/b'; give the name of a data set"),
        (LanguageTrainConfig(), {"dataset": ".."}, "--dataset is '..'; give the name of a data set"),
        (PipelineConfig(), {"dataset": " "}, "--dataset is ' '; give the name of a data set"),
        (SearchConfig(), {"dataset": "x\udcff"}, r"--dataset is 'x\\udcff'; give a text in UTF-8"),
        (SearchConfig(), {"run_dir": Path("x\0y")}, r"--run-dir is 'x\\x00y'; give a text in UTF-8 without zero bytes"),
        (TrainConfig(), {"data_dir": Path("x\udcff")}, r"--data-dir is 'x\\udcff'; give a text in UTF-8"),
    ],
)
def test_the_message_shows_the_value_and_the_mend(config, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **changes).check()


def test_numbers_of_numpy_are_numbers():
    config = SearchConfig(epochs=np.int64(3), learning_rate=np.float32(0.5))
    config.check()
    assert config.to_json() == SearchConfig(epochs=3, learning_rate=0.5).to_json()


def test_bounds_ask_for_what_is_right():
    bounds = Bounds(2, 9)
    for value in (2, 9):
        bounds.check("some_name", value)
    with pytest.raises(InputError, match=r"^--some-name is 1; give 2 or more$"):
        bounds.check("some_name", 1)
    with pytest.raises(InputError, match=r"^--some-name is 10; give a number from 2 to 9$"):
        bounds.check("some_name", 10)


@pytest.mark.parametrize("cells", [1, 2])
def test_a_search_without_a_normal_cell_is_refused(cells):
    with pytest.raises(InputError, match=f"--cells is {cells}, .*alphas of the normal cell; give 3 or more"):
        SearchConfig(cells=cells).check()
    with pytest.raises(InputError, match=rf"--search\.cells is {cells}, .*give 3 or more"):
        PipelineConfig(search=SearchConfig(cells=cells)).check()
    SearchConfig(cells=3).check()
    TrainConfig(cells=cells).check()


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (SearchConfig(), {"operations": ("skip_connect",)}, "--operations names skip_connect alone, .*give two"),
        (LanguageSearchConfig(), {"operations": ("tanh",)}, "--operations names tanh alone, .*give two"),
        (SearchConfig(), {"operations": ()}, "edge 0 of the normal cell has no operation to choose from"),
        (
            SearchConfig(),
            {"edges_per_node": 6},
            "--edges-per-node is 6, and the last of 4 nodes has 5 edges; give 5 or",
        ),
        (SearchConfig(), {"nodes": 1, "edges_per_node": 3}, "the last of 1 nodes has 2 edges; give 2 or less"),
    ],
)
def test_alphas_that_decide_nothing_are_refused(config, changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(config, **changes).check()


@pytest.mark.parametrize("config", [TrainConfig(genotype=""), LanguageTrainConfig(genotype="")])
def test_an_empty_genotype_is_not_the_present_folder(config):
    with pytest.raises(InputError, match="no genotype ''; Give a published cell"):
        config.check()

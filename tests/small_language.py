"""The smallest runs on text that have every part, on a made-up corpus; as a program, the command of either."""

import io
import sys

import numpy as np
import small_runs

from jdarts.data.text import TextCorpus
from jdarts.language.search import LanguageSearchConfig, search_language
from jdarts.language.train import LanguageTrainConfig, train_language

WORDS = 12
COMMON = {
    "dataset": "made_up",
    "batch_size": 4,
    "bptt": 6,
    "width": 5,
    "learning_rate": 2.0,
    "evaluation_batch_size": 3,
    "dropout": 0.2,
    "dropouth": 0.1,
    "dropoutx": 0.1,
    "dropouti": 0.1,
    "log_every": 2,
}
SEARCH = {**COMMON, "epochs": 2, "nodes": 2}
TRAIN = {
    **COMMON,
    "epochs": 3,
    "dropoute": 0.1,
    "test_batch_size": 2,
    "patience": 1,
    "genotype": "Genotype(recurrent=[('tanh', 0), ('relu', 1)], concat=range(1, 3))",
}
SEARCH_STEPS = 6
TRAIN_STEPS = 9


def corpus(sizes=(80, 60, 40)):
    """A text in which each word tells the next one, now and then another."""
    random = np.random.RandomState(0)
    splits = []
    for size in sizes:
        steps = np.where(random.random_sample(size) < 0.9, 1, 5)
        splits.append((np.cumsum(steps) % WORDS).astype(np.int32))
    return TextCorpus("made_up", tuple(f"word{place}" for place in range(WORDS)), *splits)


def search_config(folder, **changes):
    return LanguageSearchConfig(run_dir=folder, **{**SEARCH, **changes})


def train_config(folder, **changes):
    return LanguageTrainConfig(run_dir=folder, **{**TRAIN, **changes})


def run_search(folder, *, text=None, programs=None, **changes):
    """Searches in this process; returns the result and what was shown."""
    stream = io.StringIO()
    made = search_config(folder, **changes)
    programs = programs or small_runs.shared_programs
    result = search_language(made, corpus=text or corpus(), programs=programs, stream=stream)
    return result, stream.getvalue()


def run_train(folder, *, text=None, programs=None, **changes):
    """Trains in this process; returns the result and what was shown."""
    stream = io.StringIO()
    made = train_config(folder, **changes)
    programs = programs or small_runs.shared_programs
    result = train_language(made, corpus=text or corpus(), programs=programs, stream=stream)
    return result, stream.getvalue()


def start(folder, kind, **changes):
    """Starts a run in a process of its own, `kind` being search or train."""
    settings = {**(SEARCH if kind == "search" else TRAIN), "run_dir": folder, **changes}
    return small_runs.start((__file__, kind), settings)


quick = small_runs.with_stand_ins(small_runs.leave_undrawn)


if __name__ == "__main__":
    import jdarts.language.search.loop
    import jdarts.language.train.loop
    from jdarts.command import run_command
    from jdarts.language.search.command import main as search_main
    from jdarts.language.train.command import main as train_main

    small_runs.leave_undrawn(setattr)
    for loop in (jdarts.language.search.loop, jdarts.language.train.loop):
        setattr(loop, "load_text", lambda name, data_dir: corpus())  # noqa: B010
    run_command(search_main if sys.argv.pop(1) == "search" else train_main)

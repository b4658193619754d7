"""The training of a recurrent cell's language model."""

import dataclasses
import functools
from typing import TextIO

from jdarts import native
from jdarts.data.text import TextCorpus, load_text
from jdarts.language.settings import used_text
from jdarts.language.train import summary
from jdarts.language.train.config import LanguageTrainConfig
from jdarts.language.train.summary import LanguageTrainResult
from jdarts.language.train.task import LanguageTrainTask, language_train_task
from jdarts.runs import CompiledPrograms, run
from jdarts.runs.devices import Devices
from jdarts.runs.names import named_after


def train_language(
    config: LanguageTrainConfig,
    *,
    corpus: TextCorpus | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> LanguageTrainResult:
    """Trains a language model of a recurrent cell, or resumes an interrupted training.

    The weights with the lowest validation loss are the result. The test text is read once, at the end, and influences no
    choice.

    The run's folder decides. A new folder starts a run. A folder with checkpoints resumes from the newest complete one, and
    ends with the same bits as an undisturbed run on the same kind of device. A finished run is only reported.

    Args:
      config: the settings.
      corpus: a text that `jdarts.data.load_text` does not find by name; its name then replaces `config.text.dataset`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other trainings of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, text or folder do not fit, the disk is full, or losses are not finite again and again.
      Interrupted: SIGINT or SIGTERM came, or the time limit is over; the state was saved first.
    """
    config.check()
    config = named_after(config, corpus, TextCorpus)
    # The genotype itself, since the file or folder that holds it may change during the run.
    config = dataclasses.replace(config, genotype=str(config.cell), run_dir=config.folder)

    text = functools.cache(lambda: used_text(config, corpus or load_text(config.text.dataset, config.text.data_dir)))

    def task() -> LanguageTrainTask:
        # Missing devices are refused before the text is read.
        devices = Devices(config.parallelism.devices, config.parallelism.parallel)
        native.build_for_text()
        return language_train_task(config, text(), devices)

    return run(
        config,
        task,
        noun=LanguageTrainTask.noun,
        fingerprint=lambda: text().fingerprint,
        finished=summary.read,
        stream=stream,
        programs=programs,
    )

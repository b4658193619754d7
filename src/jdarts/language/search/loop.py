"""A search on text from a configuration to a recurrent genotype."""

import functools
from typing import TextIO

from jdarts import native
from jdarts.data.text import TextCorpus, load_text
from jdarts.language.search import summary
from jdarts.language.search.config import LanguageSearchConfig
from jdarts.language.search.summary import LanguageSearchResult
from jdarts.language.search.task import LanguageSearchTask, language_search_task
from jdarts.language.settings import used_text
from jdarts.runs import CompiledPrograms, run
from jdarts.runs.devices import Devices
from jdarts.runs.names import named_after


def search_language(
    config: LanguageSearchConfig,
    *,
    corpus: TextCorpus | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> LanguageSearchResult:
    """Searches for a recurrent cell, or resumes an interrupted search.

    The weights learn on the training text, the alphas on the validation text.

    The run's folder decides. A new folder starts a run. A folder with checkpoints resumes from the newest complete one, and
    ends with the same bits as an undisturbed run on the same kind of device. A finished run is only reported.

    Args:
      config: the settings.
      corpus: a text that `jdarts.data.load_text` does not find by name; its name then replaces `config.text.dataset`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other searches of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, text or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came, or the time limit is over; the state was saved first.
    """
    config = named_after(config, corpus, TextCorpus)
    text = functools.cache(lambda: used_text(config, corpus or load_text(config.text.dataset, config.text.data_dir)))

    def task() -> LanguageSearchTask:
        # Missing devices are refused before the text is read.
        devices = Devices(config.parallelism.devices, config.parallelism.parallel)
        native.build_for_text()
        return language_search_task(config, text(), devices)

    return run(
        config,
        task,
        noun=LanguageSearchTask.noun,
        fingerprint=lambda: text().fingerprint,
        finished=summary.read,
        title=f"{config.text.dataset}, seed {config.run.seed}",
        stream=stream,
        programs=programs,
    )

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
    """Searches for a recurrent cell, or resumes one that was interrupted.

    The weights learn on the training text, the alphas on the validation text. The run's folder decides: a new one starts
    a run, one with checkpoints resumes after the newest complete one and ends with the same bits as an undisturbed run on the
    same kind of device, a finished one is only reported.

    Args:
      config: the settings.
      corpus: the text, where it is not one that `jdarts.data.load_text` finds by name; its own name then stands in place
        of `config.text.dataset`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other searches of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, text or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    config = named_after(config, corpus, TextCorpus)
    text = functools.cache(lambda: used_text(config, corpus or load_text(config.text.dataset, config.text.data_dir)))

    def task() -> LanguageSearchTask:
        # Devices that are not there are refused before the text is read.
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

"""A search on text from a configuration to a recurrent genotype, as a run of epochs."""

import dataclasses
import functools
import json
import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import TextCorpus, load_text, segment_lengths
from jdarts.derivation import derive_recurrent_genotype
from jdarts.genotype import RecurrentGenotype
from jdarts.language.reading import steps_per_pass, stream_of
from jdarts.language.run import LanguageRun, count_weights
from jdarts.language.search import summary
from jdarts.language.search.config import LanguageSearchConfig
from jdarts.language.search.step import AVERAGED, SearchState, search_program
from jdarts.language.search.summary import LanguageSearchResult, Summary
from jdarts.language.settings import check_can_be_evaluated, check_holds_segment, table_rows, used_text
from jdarts.report import draw_cells, draw_curves, read_metrics
from jdarts.runs import CompiledPrograms, Interruption, RunFolder, run
from jdarts.runs.devices import Devices
from jdarts.runs.memory import Saving, saved_by_estimator
from jdarts.runs.settings import named_after

#: Memory of the steps beside their state in GB, by XLA's plan at 10,000 words, width 300, batch 64, segments of 35 words.
_OF_ESTIMATORS = {"exact": 3.39, "finite_difference": 2.62, "reference": 2.63, "first_order": 1.21}


def search_language(
    config: LanguageSearchConfig,
    *,
    corpus: TextCorpus | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> LanguageSearchResult:
    """Searches for a recurrent cell, or goes on with a search that was interrupted.

    The weights learn on the training text, the alphas on the validation text. The run's folder decides: a new one starts
    a run, one with checkpoints goes on after the newest whole one and ends with the same bits as an undisturbed run on the
    same kind of device, a finished one is only reported.

    Args:
      config: the settings.
      corpus: the text, where it is not one that `jdarts.data.load_text` finds by name; its own name then stands in place
        of `config.dataset`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other searches of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, text or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """

    config = named_after(config, corpus, TextCorpus)
    text = functools.cache(lambda: used_text(config, corpus or load_text(config.dataset, config.data_dir)))

    def begin(folder: RunFolder, interruption: Interruption) -> _LanguageSearch:
        # Devices that are not there are refused before the text is read.
        devices = Devices(config.devices, config.parallel)
        return _LanguageSearch(config, text(), devices, folder, interruption, stream, programs)

    return run(
        config,
        begin,
        fingerprint=lambda: text().fingerprint,
        finished=summary.read,
        noun=_LanguageSearch.noun,
        stream=stream,
    )


class _LanguageSearch(LanguageRun[SearchState, LanguageSearchConfig]):
    """One process's share of a search."""

    noun = "search"
    shown = (*AVERAGED, "learning_rate", "alphas/entropy")

    def __init__(
        self,
        config: LanguageSearchConfig,
        corpus: TextCorpus,
        devices: Devices,
        folder: RunFolder,
        interruption: Interruption,
        stream: TextIO | None,
        programs: CompiledPrograms | None,
    ) -> None:
        self.vocabulary = table_rows(config, corpus)
        for split in ("train", "valid"):
            check_holds_segment(corpus, split, batch_size=config.batch_size, bptt=config.bptt)
        for split in ("valid", "test"):
            check_can_be_evaluated(config, corpus, split, "evaluation_batch_size")
        self.streams = [
            stream_of(words, config.batch_size, size=config.bptt, devices=devices)
            for words in (corpus.train, corpus.valid)
        ]
        rows = self.streams[0].rows, self.streams[1].rows
        steps = steps_per_pass(rows[0], bptt=config.bptt)
        self.program = search_program(config, vocabulary=self.vocabulary, rows=rows, steps_per_epoch=steps)
        super().__init__(
            config,
            corpus,
            self.program.init,
            devices,
            folder,
            interruption,
            steps_per_epoch=steps,
            stream=stream,
            programs=programs,
        )

    def opening(self, template: SearchState) -> str:
        return (
            f"searching on {self.corpus.name}: {len(self.corpus.train):,} words for the weights, "
            f"{len(self.corpus.valid):,} for the alphas, {len(self.corpus.vocabulary):,} different ones; "
            f"{count_weights(template.bilevel.weights):,} weights, hypergradient {self.config.hypergradient}; "
            f"a unigram model has a validation perplexity of {self.unigram('valid'):.1f}"
        )

    def program_key(self) -> Hashable:
        settings = json.dumps({**self.config.to_json(), "seed": None}, sort_keys=True)
        return self.noun, settings, self.vocabulary, tuple(stream.rows for stream in self.streams), self.devices.key

    def lowered(self, template: SearchState) -> dict[str, jax.stages.Lowered]:
        words = (stream.shape() for stream in self.streams)
        inputs = template, *words, jax.ShapeDtypeStruct((), jnp.int32)
        step = self.devices.step(self.program.step, split=(False, False, False), donate=True)
        variables = {"params": template.bilevel.weights, "batch_stats": template.bilevel.model_state}
        evaluate = self.lowered_evaluation(
            self.program.model,
            variables,
            template.bilevel.alphas,
            self.config.evaluation_batch_size,
            batch_statistics=self.config.evaluation_statistics == "batch",
        )
        return {
            "init": self.lowered_init(),
            "step": step.lower(*self.devices.shapes(inputs, split=False)),
            "evaluate": evaluate,
        }

    def savings(self) -> list[Saving]:
        return saved_by_estimator(self.config.hypergradient, _OF_ESTIMATORS)

    def inputs(self, state: SearchState, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        lengths = segment_lengths(self.config.seed, epoch, self.steps_per_epoch, bptt=self.config.bptt, varied=False)
        for length in lengths[first:]:
            yield *(stream.words for stream in self.streams), length

    def evaluate(self, state: SearchState, epochs_ended: int) -> dict[str, float]:
        """Loss and perplexity of the whole validation text, without dropout."""
        loss = self._loss(state, self.corpus.valid, epochs_ended, "evaluating")
        return {"evaluation/loss": loss, "evaluation/perplexity": math.exp(loss)}

    def _loss(self, state: SearchState, words: np.ndarray, epochs_ended: int, doing: str) -> float:
        batch = self.config.evaluation_batch_size
        variables = {"params": state.bilevel.weights, "batch_stats": state.bilevel.model_state}
        function = functools.partial(self.functions["evaluate"], variables, state.bilevel.alphas)
        return self.text_loss(function, words, batch, state, epochs_ended, doing)

    def record(self, state: SearchState) -> dict[str, Any]:
        return {
            "space": dataclasses.asdict(self.config.space),
            "alphas": np.asarray(state.bilevel.alphas).tolist(),
            "network": {"width": self.config.width, "vocabulary": self.vocabulary},
        }

    def epoch_files(self, state: SearchState, epoch: int, evaluation: Mapping[str, float]) -> None:
        self.folder.write_genotype(self._genotype(state), epoch)

    def close(self, state: SearchState, evaluation: Mapping[str, float]) -> Summary:
        test_loss = self._loss(state, self.corpus.test, self.config.epochs, "testing")
        genotype = self._genotype(state)
        with self.display.pause("drawing"):
            self.folder.write_genotype(genotype)
            draw_cells(genotype, self.folder.path, title=f"{self.corpus.name}, seed {self.config.seed}")
            draw_curves(read_metrics(self.folder.path), self.folder.path / "curves.png")
        result = LanguageSearchResult(
            genotype=genotype,
            alphas=np.asarray(state.bilevel.alphas),
            valid_perplexity=evaluation["evaluation/perplexity"],
            valid_unigram_perplexity=self.unigram("valid"),
            test_perplexity=math.exp(test_loss),
            test_unigram_perplexity=self.unigram("test"),
            folder=self.folder.path,
        )
        found = Summary(result, self.config.epochs, int(state.step), self.seconds())
        summary.write(found, self.folder)
        return found

    def _genotype(self, state: SearchState) -> RecurrentGenotype:
        return derive_recurrent_genotype(np.asarray(state.bilevel.alphas), self.config.space)

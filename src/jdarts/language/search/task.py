"""The task of a search on text, and the one place that builds it from a configuration."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import TextCorpus, segment_lengths
from jdarts.derivation import derive_recurrent_genotype
from jdarts.genotype import AnyGenotype, RecurrentGenotype
from jdarts.language.search.config import LanguageSearchConfig
from jdarts.language.search.step import AVERAGED, SearchState, search_program
from jdarts.language.search.summary import LanguageSearchResult
from jdarts.language.settings import check_can_be_evaluated, check_holds_segment, table_rows
from jdarts.language.shared import evaluation_program, perplexity, text_evaluation, text_memory_options, unigram
from jdarts.language.token_streams import TokenStream, steps_per_pass, token_stream
from jdarts.methods.method import Method, method_fields
from jdarts.methods.mixture_record import MixtureRecord, mixture_record
from jdarts.methods.stopping import RANKING, stopping_rule
from jdarts.methods.verdict import Verdict, learnable_ranking, verdict_of_alphas
from jdarts.nets.counts import count_weights
from jdarts.nets.initial import shapes_of
from jdarts.relaxation import GIVEN, RECURRENT, alphas_on_host, alphas_to_json
from jdarts.runs.calls import Call
from jdarts.runs.controls import changed_controls, numbers_of_controls
from jdarts.runs.devices import Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.guards import due
from jdarts.runs.memory import cheaper_estimators
from jdarts.runs.task import SEED, End, Evaluation, Functions, Input, Program, Task, programs_of_several
from jdarts.space import RecurrentSpace

#: Temporary memory of a step in GB by estimator, from XLA's plan at 10,000 words, width 300, batch 64, segments of 35 words.
_ESTIMATOR_MEMORY = {"neumann": 1.14, "exact": 0.87, "finite_difference": 0.37, "reference": 0.39, "first_order": 0.34}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageSearchTask(Task[SearchState]):
    """A search on text.

    Attributes:
      corpus: the text.
      streams: the weights' and the alphas' text on the devices.
      space: the search space.
      method: the search method; derivation uses its mixture.
      bptt: rows of a segment.
      evaluated: builds the evaluation of a text: `(doing, name, function, words) -> Evaluation`.
      network: settings of the network, for the record of a checkpoint.
      measured_every: programs of `jdarts.runs.guards`, and after how many epochs each runs again.
    """

    noun = "search"
    unit: str = "words"
    shown: tuple[str, ...] = (*AVERAGED, "learning_rate", "alphas/entropy")

    corpus: TextCorpus
    streams: tuple[TokenStream, TokenStream]
    space: RecurrentSpace
    method: Method
    bptt: int
    evaluated: Callable[..., Evaluation]
    network: Mapping[str, Any]
    measured_every: Mapping[str, int]

    def calls(self, functions: Functions, state: SearchState, epoch: int, first: int) -> Iterator[Call]:
        """Both texts and the lengths of the segments of each call."""
        lengths = segment_lengths(int(self.seed), epoch, self.steps_per_epoch, bptt=self.bptt, varied=False)
        words = tuple(stream.words for stream in self.streams)
        for program, steps in self.plan(epoch, first):
            of_call = lengths[steps.start : steps.stop] if len(steps) > 1 else lengths[steps.start]
            yield Call(program, (*words, of_call), len(steps))

    def step_program(self, index: int, epoch: int) -> str:
        """A step of the weights, with one of the alphas if the method has one now."""
        return self.method.program(index, epoch)

    def evaluations(self, functions: Functions, state: SearchState) -> Sequence[Evaluation]:
        """Loss and perplexity of the whole validation text, without dropout."""
        evaluation = self._evaluation("evaluating", "evaluation/loss", functions, state, self.corpus.valid)

        def numbers(mean: np.ndarray) -> Mapping[str, float]:
            return {"evaluation/loss": float(mean), "evaluation/perplexity": math.exp(float(mean))}

        return (evaluation._replace(numbers=numbers),)

    def measures(self, epoch: int) -> Sequence[str]:
        """The first epoch has every measurement, and the last."""
        return due(self.measured_every, epoch, self.options.epochs)

    def measured(self, functions: Functions, state: SearchState, epoch: int) -> dict[str, Any]:
        """Numbers of `jdarts.runs.guards` on the segments that follow the epoch, both of full length."""
        words, length = [stream.words for stream in self.streams], np.int32(self.bptt)
        found = [functions[name](state, *words, length) for name in self.measures(epoch)]
        return {name: value for each in found for name, value in each.items()}

    def tests(self, functions: Functions, state: SearchState) -> Sequence[Evaluation]:
        """Loss of the whole test text; if it is wanted, that of the validation text with the operations of the cell alone."""
        found = [self._evaluation("testing", "test/loss", functions, state, self.corpus.test)]
        if "evaluate_cells" in functions:
            one_hot = {RECURRENT: one_hot_table(self.epoch_genotype(state), self.space)}
            alone = functools.partial(functions["evaluate_cells"], _variables(state), self.devices.replicate(one_hot))
            found.append(self.evaluated("evaluating the cell", "evaluation/cells_loss", alone, self.corpus.valid))
        return found

    def _evaluation(
        self, doing: str, name: str, functions: Functions, state: SearchState, words: np.ndarray
    ) -> Evaluation:
        function = functools.partial(functions["evaluate"], _variables(state), state.bilevel.alphas)
        return self.evaluated(doing, name, function, words)

    def judged(
        self, state: SearchState, genotype: RecurrentGenotype, before: AnyGenotype | None
    ) -> Mapping[str, float]:
        """Margins, activations without effect, changes of the genotype, and the controls of the run."""
        return {**self._verdict(state, genotype, before).numbers(), **numbers_of_controls(state.controls)}

    def with_controls(self, state: SearchState, controls: Mapping[str, float]) -> SearchState:
        """The state with another weight decay."""
        return dataclasses.replace(state, controls=changed_controls(state.controls, controls))

    def _verdict(self, state: SearchState, genotype: RecurrentGenotype, before: AnyGenotype | None = None) -> Verdict:
        alphas = alphas_on_host(state.bilevel.alphas)
        return verdict_of_alphas(alphas, genotype, self.space, self.method.mixture, before=before)

    def epoch_genotype(self, state: SearchState) -> RecurrentGenotype:
        """The genotype of the present alphas."""
        return derive_recurrent_genotype(alphas_on_host(state.bilevel.alphas), self.space, mixture=self.method.mixture)

    def epoch_mixture(self, state: SearchState) -> MixtureRecord:
        """The mixture of the present alphas."""
        return mixture_record(state.bilevel.alphas, self.space, self.method.mixture)

    def record(self, state: SearchState) -> dict[str, Any]:
        """The record for `jdarts.derive` (search space, alphas and method), and the network."""
        return {
            "space": dataclasses.asdict(self.space),
            "alphas": alphas_to_json(state.bilevel.alphas),
            "network": dict(self.network),
            **method_fields(self.method),
        }

    def facts(self, state: SearchState, genotype: RecurrentGenotype) -> dict[str, Any]:
        """Alphas, genotype and the ranking of operations."""
        alphas = alphas_on_host(state.bilevel.alphas)
        return {
            "alphas": alphas_to_json(alphas),
            "genotype": json.loads(genotype.to_json()),
            RANKING: learnable_ranking(self.method.mixture.strengths(alphas, self.space), self.space),
        }

    def result(self, state: SearchState, numbers: Mapping[str, Any], end: End) -> LanguageSearchResult:
        """Cell and alphas at the end."""
        genotype, alone = self.epoch_genotype(state), numbers.get("evaluation/cells_loss")
        return LanguageSearchResult(
            genotype=genotype,
            alphas=alphas_on_host(state.bilevel.alphas),
            valid_perplexity=numbers["evaluation/perplexity"],
            valid_unigram_perplexity=unigram(self.corpus, "valid"),
            test_perplexity=math.exp(numbers["test/loss"]),
            test_unigram_perplexity=unigram(self.corpus, "test"),
            folder=end.folder,
            verdict=self._verdict(state, genotype).to_json(),
            cells_perplexity=None if alone is None else perplexity(alone),
        )


def one_hot_table(genotype: RecurrentGenotype, space: RecurrentSpace) -> np.ndarray:
    """The mixture of the operations of a cell alone, each with weight 1: `[E, O]`.

    Args:
      genotype: a cell of the space.
      space: the search space.
    """
    table = np.zeros((space.num_edges, space.width), np.float32)
    for target, (name, source) in enumerate(genotype.recurrent, 1):
        edge = space.edges.index((source, target))
        table[edge, space.recurrent[edge].index(name)] = 1.0
    return table


def _variables(state: SearchState) -> dict[str, Any]:
    """The variables of the search network."""
    return {"params": state.bilevel.weights, "batch_stats": state.bilevel.model_state}


def language_search_task(config: LanguageSearchConfig, corpus: TextCorpus, devices: Devices) -> LanguageSearchTask:
    """Builds the task of a search on text.

    Args:
      config: the settings.
      corpus: the text.
      devices: those that share the columns of a batch.

    Raises:
      InputError: a text that does not fit the settings.
    """
    vocabulary = table_rows(config, corpus)
    for split in ("train", "valid"):
        check_holds_segment(corpus, split, batch_size=config.batches.batch_size, bptt=config.batches.bptt)
    for split in ("valid", "test"):
        check_can_be_evaluated(config, corpus, split, "evaluation_batch_size")
    streams = (
        token_stream(corpus.train, config.batches.batch_size, size=config.batches.bptt, devices=devices),
        token_stream(corpus.valid, config.batches.batch_size, size=config.batches.bptt, devices=devices),
    )
    rows = streams[0].rows, streams[1].rows
    steps = steps_per_pass(rows[0], bptt=config.batches.bptt)
    program = search_program(config, vocabulary=vocabulary, rows=rows, steps_per_epoch=steps)
    template = shapes_of(program.init, SEED)
    rule = stopping_rule(config.stop)
    measured_every = config.guards.every(rule)
    settings = json.dumps({**config.to_json(), "seed": None, "stop": None}, sort_keys=True)
    size: Any = {"columns": config.batches.evaluation_batch_size, "bptt": config.batches.bptt, "width": config.width}
    inputs = template, *(stream.shape() for stream in streams), jax.ShapeDtypeStruct((), jnp.int32)
    evaluated = functools.partial(
        evaluation_program,
        devices=devices,
        batch_statistics=config.evaluation_statistics == "batch",
        **size,
    )
    of_step = tuple(map(Input, inputs))
    programs = {
        "init": Program(program.init, (Input(SEED, split=None),)),
        "step": Program(program.step, of_step, "batch", donate=True),
        "evaluate": evaluated(program.model, _variables(template), template.bilevel.alphas),
    }
    if config.guards.evaluate_cells:
        shape = jax.ShapeDtypeStruct((config.space.num_edges, config.space.width), jnp.float32)
        alone = program.model.clone(mixture=GIVEN)
        programs["evaluate_cells"] = evaluated(alone, _variables(template), {RECURRENT: shape})
    for name in measured_every:
        programs[name] = Program(program.measures[name], of_step, "batch", needed_for_first_step=False)
    if not config.search_method().always_moves_alphas:
        programs["weights_step"] = Program(program.weights_step, of_step, "batch", donate=True)
    steps_per_call = min(config.calls.steps_per_call, steps)
    programs |= programs_of_several(programs, steps_per_call, (None, None, 0))
    return LanguageSearchTask(
        corpus=corpus,
        streams=streams,
        space=config.space,
        method=config.search_method(),
        bptt=config.batches.bptt,
        evaluated=functools.partial(text_evaluation, **size),
        network={"width": config.width, "vocabulary": vocabulary},
        measured_every=measured_every,
        options=config.loop,
        seed=np.uint32(config.run.seed),
        fingerprint=corpus.fingerprint,
        epoch_steps=EpochSteps.of_one_length(steps),
        steps_per_call=steps_per_call,
        units_per_step=config.batches.batch_size * config.batches.bptt,
        template=template,
        description=(
            f"searching on {corpus.name}: {len(corpus.train):,} words for the weights, {len(corpus.valid):,} for the alphas, "
            f"{len(corpus.vocabulary):,} different ones; {count_weights(template.bilevel.weights):,} weights, hypergradient "
            f"{config.hypergradient}; a unigram model has a validation perplexity of {unigram(corpus, 'valid'):.1f}"
        ),
        key=(
            LanguageSearchTask.noun,
            settings,
            vocabulary,
            rows,
            devices.key,
            (*programs, *template.controls),
            steps_per_call,
        ),
        programs=programs,
        memory_options=text_memory_options(
            cheaper_estimators(config.hypergradient, _ESTIMATOR_MEMORY),
            batch_size=config.batches.batch_size,
            bptt=config.batches.bptt,
            devices=devices,
        ),
        devices=devices,
        stopping=rule,
    )

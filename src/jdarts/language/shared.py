"""The common parts of the tasks of searches and trainings on text: evaluations of whole texts, and programs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from jdarts.data.text import TextCorpus, unigram_perplexity
from jdarts.language.evaluation import carry_hidden, evaluation_function, evaluation_pieces, evaluation_shapes
from jdarts.runs.devices import Devices
from jdarts.runs.memory import MemoryOption, smaller_shares
from jdarts.runs.task import Evaluation, Input, Program


def text_evaluation(
    doing: str, name: str, function: Callable[..., Any], words: np.ndarray, *, columns: int, bptt: int, width: int
) -> Evaluation:
    """The mean loss over a whole text; hidden states pass from piece to piece.

    Args:
      doing: what the display shows meanwhile.
      name: the name of the loss.
      function: the compiled evaluation with its weights.
      words: the text.
      columns: number of parallel columns.
      bptt: rows of a piece.
      width: size of the hidden state.
    """
    hidden = np.zeros((columns, width), np.float32)
    pieces = evaluation_pieces(words, columns, bptt)
    return Evaluation(doing, carry_hidden(function, hidden), pieces, lambda mean: {name: float(mean)})


def evaluation_program(
    model: nn.Module,
    variables: Any,
    alphas: Any,
    *,
    columns: int,
    bptt: int,
    width: int,
    devices: Devices,
    batch_statistics: bool = False,
    answers: bool = False,
) -> Program:
    """The program that evaluates a text.

    The devices share the columns if they can share them equally; otherwise each of them computes all.

    Args:
      model: the language model.
      variables: shapes and types of its variables.
      alphas: shapes and types of the alphas; None for a discrete cell.
      columns: number of parallel columns.
      bptt: rows of a piece.
      width: size of the hidden state.
      devices: those that share the columns.
      batch_statistics: as for `evaluation_function`.
      answers: as for `evaluation_function`.
    """
    function = evaluation_function(model, batch_statistics=batch_statistics, answers=answers)
    inputs = (variables, alphas, *evaluation_shapes(bptt, columns, width))
    spread = "replicated" if columns % devices.count else "batch"
    return Program(function, tuple(map(Input, inputs)), spread, needed_for_first_step=False)


def text_memory_options(
    memory_options: Sequence[MemoryOption], *, batch_size: int, bptt: int, devices: Devices
) -> list[MemoryOption]:
    """What saves memory in a run on text: what is given, smaller batches, shorter segments."""
    found = [*memory_options, *smaller_shares(batch_size, devices.count)]
    shorter = bptt // 2
    if shorter >= 2:
        found.append((f"--bptt {shorter}", shorter / bptt))
    return found


def unigram(corpus: TextCorpus, split: str) -> float:
    """Perplexity of a unigram model of the training text on a split."""
    return unigram_perplexity(corpus.train, getattr(corpus, split), len(corpus.vocabulary))


def perplexity(loss: float) -> float:
    """The perplexity of a mean loss in nats. Losses above 700 count as 700, since their perplexity overflows."""
    return math.exp(min(loss, 700.0))

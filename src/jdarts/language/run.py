"""What searches and trainings on text share as runs of epochs: their text, their start, and losses of whole texts."""

import math
from collections.abc import Callable
from typing import Any, Generic, TextIO, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import TextCorpus, unigram_perplexity
from jdarts.language.evaluation import carried, evaluation_function, evaluation_pieces, evaluation_shapes
from jdarts.language.settings import LanguageConfig
from jdarts.runs import CompiledPrograms, EpochRun, Interruption, RunFolder
from jdarts.runs.devices import Devices
from jdarts.runs.loop import AnyState
from jdarts.runs.memory import Saving, saved_by_sharing, start_lines

AnyConfig = TypeVar("AnyConfig", bound=LanguageConfig)

_SEED = jax.ShapeDtypeStruct((), jnp.uint32)


class LanguageRun(EpochRun[AnyState], Generic[AnyState, AnyConfig]):
    """One process's share of a run on text.

    Args:
      config: the settings.
      corpus: the text.
      init: `seed, uint32 [] -> state`.
      devices: those that share the columns of a batch.
      folder: as for `EpochRun`, like the rest.
      interruption: see there.
      steps_per_epoch: see there.
      stream: see there.
      programs: see there.
    """

    unit = "words"

    def __init__(
        self,
        config: AnyConfig,
        corpus: TextCorpus,
        init: Callable[[jax.Array], AnyState],
        devices: Devices,
        folder: RunFolder,
        interruption: Interruption,
        *,
        steps_per_epoch: int,
        stream: TextIO | None,
        programs: CompiledPrograms | None,
    ) -> None:
        self.config = config
        self.corpus = corpus
        self._init = init
        self.devices = devices
        super().__init__(
            config,
            folder,
            interruption,
            fingerprint=corpus.fingerprint,
            steps_per_epoch=steps_per_epoch,
            stream=stream,
            programs=programs,
        )

    @property
    def units_per_step(self) -> int:
        """Words of a segment in all columns."""
        return self.config.batch_size * self.config.bptt

    def shapes(self) -> AnyState:
        """Shapes and types of the state."""
        return jax.eval_shape(self._init, _SEED)

    def start(self) -> AnyState:
        """The state before the first step."""
        return self.functions["init"](np.uint32(self.config.seed))

    def lowered_init(self) -> jax.stages.Lowered:
        """The function `init`, to be compiled."""
        return self.devices.everywhere(self._init).lower(_SEED)

    def load(self, template: AnyState) -> AnyState:
        """The state of `latest`, whole on every device."""
        assert self.latest is not None
        return self.devices.load(self.latest, template)

    def memory(self) -> list[str]:
        """The step's memory, and what would save some where it does not fit."""
        shorter = self.config.bptt // 2
        savings = saved_by_sharing(self.config.batch_size, self.devices.count)
        if shorter >= 2:
            savings.append((f"--bptt {shorter}", shorter / self.config.bptt))
        savings = [*self.savings(), *savings]
        return start_lines(self.largest_step(), savings, devices=self.devices.own)

    def largest_step(self) -> Callable[..., Any]:
        """The compiled step of the longest segments."""
        return self.functions["step"]

    def savings(self) -> list[Saving]:
        """What saves memory in this kind of run alone."""
        return []

    def lowered_evaluation(
        self, model: nn.Module, variables: Any, alphas: Any, batch: int, *, batch_statistics: bool = False
    ) -> jax.stages.Lowered:
        """The evaluation in so many columns, to be compiled; the other arguments are shapes as `evaluation_function` has them.

        The devices share the columns where they can do so equally; otherwise each of them reads all.
        """
        function = evaluation_function(model, batch_statistics=batch_statistics)
        if batch % self.devices.count:
            evaluate = self.devices.everywhere(function)
        else:
            evaluate = self.devices.step(function, split=(False,) * 5)
        inputs = (variables, alphas, *evaluation_shapes(self.config.bptt, batch, self.config.width))
        return evaluate.lower(*self.devices.shapes(inputs, split=False))

    def text_loss(
        self,
        function: Callable[..., Any],
        words: np.ndarray,
        batch: int,
        state: AnyState,
        epochs_ended: int,
        doing: str,
    ) -> float:
        """Mean loss over a whole text, its hidden states carried from piece to piece.

        Args:
          function: the compiled evaluation with its weights.
          words: the text.
          batch: columns in which it is read.
          state: what is saved where the run is asked to stop.
          epochs_ended: epochs that have ended with that state.
          doing: what the display says meanwhile.
        """
        with self.display.pause(doing):
            pieces = evaluation_pieces(words, batch, self.config.bptt)
            hidden = np.zeros((batch, self.config.width), np.float32)
            return float(self.means(carried(function, hidden), pieces, state=state, epochs_ended=epochs_ended))

    def unigram(self, split: str) -> float:
        """Perplexity of a unigram model of the training text."""
        return unigram_perplexity(self.corpus.train, getattr(self.corpus, split), len(self.corpus.vocabulary))


def count_weights(weights: Any) -> int:
    """Number of all weights of a pytree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(weights))

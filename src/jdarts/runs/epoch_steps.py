"""Which steps of a run make up its epochs: a run whose batches have changed has epochs of several lengths."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jdarts.runs.changes import Change
from jdarts.runs.same_run import BATCH_SIZE


class Span(NamedTuple):
    """Consecutive epochs of one length.

    Attributes:
      epoch: the first of them, counted from 0.
      step: the number of steps before it.
      length: the steps of each.
    """

    epoch: int
    step: int
    length: int


@dataclasses.dataclass(frozen=True)
class EpochSteps:
    """The epochs of a run in steps.

    Attributes:
      spans: in order; the first begins with epoch 0, and the last has no end.
    """

    spans: tuple[Span, ...]

    @classmethod
    def of_one_length(cls, length: int) -> "EpochSteps":
        """Epochs of one length."""
        return cls((Span(0, 0, length),))

    @property
    def last_length(self) -> int:
        """The steps of an epoch from the last change on."""
        return self.spans[-1].length

    def before(self, epoch: int) -> int:
        """The number of steps before an epoch that is counted from 0, and so after as many epochs."""
        span = self._span(epoch)
        return span.step + (epoch - span.epoch) * span.length

    def length(self, epoch: int) -> int:
        """The steps of an epoch that is counted from 0."""
        return self._span(epoch).length

    def epoch(self, step: Any) -> Any:
        """The epoch, counted from 0, of a step that is counted from 0; of numbers and of traced ones."""
        first, *others = self.spans
        found = step // first.length
        for span in others:
            found = jnp.where(step < span.step, found, span.epoch + (step - span.step) // span.length)
        return found

    def begins(self, step: Any) -> Any:
        """Whether an epoch begins with a step that is counted from 0; of numbers and of traced ones."""
        first, *others = self.spans
        found = step % first.length == 0
        for span in others:
            found = jnp.where(step < span.step, found, (step - span.step) % span.length == 0)
        return found

    def _span(self, epoch: int) -> Span:
        return next(span for span in reversed(self.spans) if span.epoch <= epoch)


def epoch_steps(examples: int, batch_size: int, changes: Sequence[Change] = ()) -> EpochSteps:
    """The epochs of a run that reads whole batches of its examples.

    Args:
      examples: those of an epoch.
      batch_size: the size of a batch now.
      changes: what the run has changed on its way; its batches change between two epochs.
    """
    resized = [change for change in changes if change.setting == BATCH_SIZE]
    sizes = [change.before for change in resized] + [batch_size]
    spans = [Span(0, 0, examples // sizes[0])]
    for change, size in zip(resized, sizes[1:]):
        last = spans[-1]
        spans.append(Span(last.epoch + (change.step - last.step) // last.length, change.step, examples // size))
    return EpochSteps(tuple(spans))

"""The language model around a recurrent cell: tied embedding, dropout, output (paper section 3.1.2 and appendix A.3)."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.genotype import RecurrentGenotype
from jdarts.nets.layers import NOISE_STREAM, uniform
from jdarts.nets.recurrent import CellMasks, CellWeights, activation_weights, discrete_cell, search_cell
from jdarts.ops.dropped import dropped_product
from jdarts.ops.recurrent import running_moments_over_time
from jdarts.ops.running_moments import Moments
from jdarts.ops.word_losses import word_losses
from jdarts.parallel import device_count
from jdarts.relaxation import NO_CONTROLS, RECURRENT, SOFTMAX, Alphas, Controls, Mixture
from jdarts.space import RecurrentSpace

#: Bound of the uniform distribution that all weights but the bias start from.
INITIAL_BOUND = 0.04


class Rates(NamedTuple):
    """Dropout rates, each from 0 up to 1.

    Attributes:
      embedding: of whole words of the vocabulary (`dropoute` of the reference implementation).
      input: of the embedded words (`dropouti`).
      x: of the cell's input (`dropoutx`).
      hidden: of hidden states and nodes (`dropouth`).
      output: of the cell's outputs (`dropout`).
    """

    embedding: float = 0.0
    input: float = 0.0
    x: float = 0.0
    hidden: float = 0.0
    output: float = 0.0


class Masks(NamedTuple):
    """Dropout masks, of 0 and 1/(1 − rate), each the same at all time steps; None for no dropout.

    Attributes:
      embedding: `[V, 1]`, on the words of the vocabulary where they are looked up, not where they are predicted.
      input: `[B, H]`, on the embedded words.
      x: `[B, H]`, on the cell's input.
      hidden: `[B, H]`, on hidden states and nodes where they enter a product.
      output: `[B, H]`, on the cell's outputs before words are predicted, not on the hidden state that is passed on.
    """

    embedding: jax.Array | None = None
    input: jax.Array | None = None
    x: jax.Array | None = None
    hidden: jax.Array | None = None
    output: jax.Array | None = None


def draw_masks(
    key: jax.Array, rates: Rates, *, vocabulary: int, batch: int, width: int, dtype: Any = jnp.float32
) -> Masks:
    """Draws the masks of one segment; those of rate 0 are None.

    Args:
      key: for the random numbers.
      rates: the rates.
      vocabulary: number of words `V`.
      batch: number of streams `B`.
      width: `H`.
      dtype: of the masks.
    """
    shapes = ((vocabulary, 1), *[(batch, width)] * 4)
    drawn = []
    for index, (rate, shape) in enumerate(zip(rates, shapes)):
        keep = jax.random.bernoulli(jax.random.fold_in(key, index), 1 - rate, shape) if rate else None
        drawn.append(None if keep is None else keep.astype(dtype) / (1 - rate))
    return Masks(*drawn)


class Prediction(NamedTuple):
    """The outputs of a language model on a segment.

    Attributes:
      logits: `[T, B, V]`; `jax.nn.log_softmax` makes log-probabilities of them.
      hidden: `[B, H]`, the hidden state after the last word, for the next segment.
      outputs: `[T, B, H]`, the hidden state after each word.
      dropped: `[T, B, H]`, the outputs with their dropout.
    """

    logits: jax.Array
    hidden: jax.Array
    outputs: jax.Array
    dropped: jax.Array


class LanguageModel(nn.Module):
    """A recurrent language model whose embedding is its output matrix too.

    Attributes:
      cell: a search space for the search network, or a genotype for a discrete cell.
      vocabulary: number of words `V`.
      width: of embedding and hidden states, `H`.
      dtype: type of weights and computation.
      axis_name: a mapped axis for synchronised batch statistics of a search space; None for those of each device.
      mixture: how the alphas of a search space become weights of the operations.
    """

    cell: RecurrentSpace | RecurrentGenotype
    vocabulary: int
    width: int
    dtype: Any = jnp.float32
    axis_name: str | None = None
    mixture: Mixture = SOFTMAX

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        hidden: jax.Array,
        alphas: Alphas | None = None,
        *,
        train: bool,
        masks: Masks | None = None,
        length: jax.Array | None = None,
        controls: Controls = NO_CONTROLS,
    ) -> Prediction:
        """Predicts the word after each word.

        Args:
          tokens: words, integers `[T, B]`; padding may be any words.
          hidden: `[B, H]`, the hidden state before the first word; zeros at the start of a text.
          alphas: those of the mixture, for the paper's `[E, O]`, if the cell is a search space; None for a genotype.
          train: for a search space, True for the statistics of the batch, which update the running statistics if `batch_stats`
            is mutable, and False for running statistics. Dropout depends on the masks alone.
          masks: dropout masks; no dropout by default.
          length: number of words before the padding, int32 `[]`; by default all `T`. Padding changes neither
            `hidden` nor statistics.
          controls: numbers of the epoch, for the mixture.

        Raises:
          InputError: tokens or hidden state of another shape or type, or alphas that do not belong to the cell.
        """
        self._check(tokens, hidden, alphas)
        masks = Masks() if masks is None else masks
        nodes = self.cell.nodes if isinstance(self.cell, RecurrentSpace) else len(self.cell.recurrent)
        width, bounded = self.width, uniform(INITIAL_BOUND)
        embedding = self.param("embedding", bounded, (self.vocabulary, width), self.dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.vocabulary,), self.dtype)
        weights = CellWeights(
            self.param("input", bounded, (2 * width, 2 * width), self.dtype),
            self.param("nodes", bounded, (nodes, width, 2 * width), self.dtype),
        )
        words = embedding[tokens]
        if masks.embedding is not None:
            words *= masks.embedding[tokens]
        if masks.input is not None:
            words *= masks.input[None]
        cell_masks = CellMasks(masks.x, masks.hidden)
        if isinstance(self.cell, RecurrentGenotype):
            result = discrete_cell(self.cell, weights, words, hidden, cell_masks, length=length)
        else:
            assert alphas is not None
            mean = self.variable("batch_stats", "mean", jnp.zeros, (width,), self.dtype)
            variance = self.variable("batch_stats", "variance", jnp.ones, (width,), self.dtype)
            running = Moments(mean.value, variance.value)
            key = self.make_rng(NOISE_STREAM) if train and self.mixture.random else None
            of_operations = self.mixture.weights(alphas, self.cell, key, controls).factors(RECURRENT)
            mixture = activation_weights(self.cell, of_operations)
            result = search_cell(
                self.cell,
                weights,
                mixture,
                words,
                hidden,
                cell_masks,
                running=None if train else running,
                length=length,
                axis_name=self.axis_name,
            )
            if train and not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                assert result.moments is not None
                count = jnp.asarray(tokens.shape[0] if length is None else length, jnp.int32) * (nodes + 1)
                batch = tokens.shape[1] * device_count(self.axis_name)
                moments = running_moments_over_time(running, result.moments, batch, count)
                mean.value, variance.value = moments
        dropped = result.outputs if masks.output is None else result.outputs * masks.output[None]
        logits = jnp.matmul(dropped.reshape(-1, width), embedding.T) + bias[None]
        return Prediction(logits.reshape(*tokens.shape, -1), result.hidden, result.outputs, dropped)

    def _check(self, tokens: jax.Array, hidden: jax.Array, alphas: Alphas | None) -> None:
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise InputError(f"tokens are {tokens.dtype} {tokens.shape}; give integers [T, B]")
        expected = (tokens.shape[1], self.width)
        if hidden.shape != expected or hidden.dtype != self.dtype:
            raise InputError(
                f"the hidden state is {hidden.dtype} {hidden.shape}; give {jnp.dtype(self.dtype).name} {expected}"
            )
        if isinstance(self.cell, RecurrentSpace) != (alphas is not None):
            raise InputError(
                "a search space needs alphas"
                if alphas is None
                else "alphas are given, but a discrete cell has none; leave them out"
            )


def token_losses(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Minus the logarithm of the probability of each target, in nats.

    Args:
      logits: `[T, B, V]`.
      targets: integers `[T, B]`.

    Returns:
      `[T, B]`.
    """
    # A comparison that is fused into a sum, both ways: gathers and scatters become loops on a CPU.
    words = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    is_target = words[None, None] == targets.astype(jnp.int32)[..., None]
    chosen = jnp.sum(jnp.where(is_target, logits, jnp.zeros_like(logits)), axis=-1)
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def output_losses(
    outputs: jax.Array, mask: jax.Array | None, embedding: jax.Array, bias: jax.Array, targets: jax.Array
) -> jax.Array:
    """The `token_losses` of what a cell's outputs predict, without multiplying activations that dropout sets to 0.

    Args:
      outputs: of the cell, before their dropout, `[T, B, H]`.
      mask: of their dropout, `[B, H]`, a constant for derivatives; None for no dropout.
      embedding: `[V, H]`.
      bias: `[V]`.
      targets: integers `[T, B]`.

    Returns:
      `[T, B]`.
    """
    mask = jnp.ones(outputs.shape[1:], outputs.dtype) if mask is None else mask
    return word_losses(dropped_product(outputs, embedding, mask), bias, targets)


def mean_loss(losses: jax.Array, length: jax.Array | None = None) -> jax.Array:
    """The mean of `[T, B]` over the first `length` time steps; by default over all."""
    return _mean_over_time(losses, losses.shape[0] if length is None else length)


def regularisation(
    prediction: Prediction, *, activation: Any, temporal: Any, length: jax.Array | None = None
) -> jax.Array:
    """Activation regularisation and temporal activation regularisation (Merity et al., 2017).

    `activation · mean(dropped²) + temporal · mean((outputs[t + 1] − outputs[t])²)`, means over all numbers.

    Args:
      prediction: of a segment.
      activation: the rate α, a number or an array `[]`.
      temporal: the rate β.
      length: number of time steps before the padding; by default all.
    """
    outputs = prediction.outputs
    length = jnp.asarray(outputs.shape[0] if length is None else length, jnp.int32)
    squares = jnp.mean(jnp.square(prediction.dropped), axis=-1)
    differences = jnp.mean(jnp.square(outputs[1:] - outputs[:-1]), axis=-1)
    # Rates take the type of the outputs. A segment of one word has no difference.
    rates = (jnp.asarray(rate, outputs.dtype) for rate in (activation, temporal))
    means = (_mean_over_time(squares, length), _mean_over_time(differences, length - 1))
    return sum((rate * mean for rate, mean in zip(rates, means)), jnp.zeros((), outputs.dtype))


def _mean_over_time(values: jax.Array, length: Any) -> jax.Array:
    length = jnp.asarray(length, jnp.int32)
    counts = jnp.arange(values.shape[0], dtype=jnp.int32)[:, None] < length
    total = jnp.sum(jnp.where(counts, values, jnp.zeros_like(values)))
    return total / (jnp.maximum(length, 1) * values.shape[1]).astype(values.dtype) if values.size else total

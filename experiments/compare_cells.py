"""The recurrent cell DARTS_V2 beside an LSTM and random cells of the same size: one text, one budget, some seeds.

All three are language models with a tied embedding and the same dropout, trained with the same optimiser. The LSTM has
projected outputs (Sak et al. 2014), so that its number of weights can be that of the cells; each seed has its own random
cell. Test perplexities belong to the weights that were best on the validation text.

Command:  python experiments/compare_cells.py --steps 600 --seeds 0 1 2
"""

import dataclasses
import functools
import itertools
import math
import time
from pathlib import Path
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jdarts import RecurrentGenotype, zoo
from jdarts.command import run_command
from jdarts.data.text import load_text, segment_lengths, unigram_perplexity
from jdarts.data.text.streams import compiled_sizes
from jdarts.errors import InputError
from jdarts.files.places import check_output
from jdarts.language.evaluation import carry_hidden, evaluation_function, evaluation_pieces
from jdarts.language.options import COLUMNS, ROWS
from jdarts.language.settings import check_holds_segment
from jdarts.language.token_streams import token_stream
from jdarts.language.train import LanguageTrainConfig
from jdarts.language.train.step import evaluated_weights, train_program
from jdarts.nets.language import INITIAL_BOUND, Masks, Prediction
from jdarts.runs.bounds import POSITIVE, SEED, Bounds
from jdarts.runs.names import check_dataset_name
from jdarts.runs.settings import Folder, Settings
from jdarts.space import RECURRENT_PRIMITIVES


@dataclasses.dataclass(frozen=True)
class CompareConfig(Settings):
    """Trains each cell with each seed, and prints and writes a table.

    Attributes:
      dataset: the text.
      data_dir: folder of prepared texts (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      seeds: one training of each cell for each of them.
      steps: steps of a training.
      evaluations: how often the validation text is read.
      width: size of embedding, hidden state and output.
      batch_size: columns of the training text.
      bptt: rows of a segment.
      learning_rate: of SGD.
      table: file that gets the table.
    """

    dataset: str = "sotu"
    data_dir: Annotated[Path | None, Folder] = None
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: Annotated[int, Bounds(1, 10_000_000)] = 600
    evaluations: Annotated[int, Bounds(1, 100_000)] = 3
    width: Annotated[int, Bounds(1, 100_000)] = 64
    batch_size: Annotated[int, COLUMNS] = 32
    bptt: Annotated[int, ROWS] = 20
    learning_rate: Annotated[float, POSITIVE] = 10.0
    table: Path | None = None

    def check(self) -> None:
        """Checks every value that can be checked without the text.

        Raises:
          InputError: a value out of its range, or no place for the table.
        """
        check_dataset_name(self.dataset)
        super().check()
        if self.evaluations > self.steps:
            raise InputError(f"--evaluations is {self.evaluations} in {self.steps} steps; give {self.steps} or less")
        if not self.seeds:
            raise InputError("--seeds names none; give one or more, such as 0 1 2")
        for seed in self.seeds:
            SEED.check("seeds", seed)
        if self.table is not None:
            check_output("--table", self.table)


class LSTMModel(nn.Module):
    """A language model of one LSTM layer with projected outputs, called as `jdarts.nets.language.LanguageModel` is.

    Attributes:
      vocabulary: number of words `V`.
      width: of embedding and outputs, `H`.
      cells: number of memory cells `M`; a hidden state is `[B, H + M]`.
    """

    vocabulary: int
    width: int
    cells: int

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        hidden: jax.Array,
        alphas: None = None,
        *,
        train: bool,
        masks: Masks | None = None,
        length: jax.Array | None = None,
    ) -> Prediction:
        """Predicts the word after each word; arguments as for `LanguageModel`."""
        del train, alphas
        masks = masks or Masks()

        def uniform(bound: float) -> Any:
            return lambda key, shape: jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        # The embedding starts as the cells' does, the layer with the usual bound of an LSTM.
        embedding = self.param("embedding", uniform(INITIAL_BOUND), (self.vocabulary, self.width))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.vocabulary,))
        bound = 1 / math.sqrt(self.cells)
        gates = self.param("gates", uniform(bound), (2 * self.width, 4 * self.cells))
        gate_bias = self.param("gate_bias", uniform(bound), (4 * self.cells,))
        projection = self.param("projection", uniform(bound), (self.cells, self.width))

        def masked(values: jax.Array, mask: jax.Array | None) -> jax.Array:
            return values if mask is None else values * mask

        words = embedding[tokens]
        if masks.embedding is not None:
            words = words * masks.embedding[tokens]
        for mask in (masks.input, masks.x):
            words = masked(words, None if mask is None else mask[None])

        def step(state: tuple[jax.Array, jax.Array], word: jax.Array) -> tuple[Any, Any]:
            output, memory = state
            read = jnp.concatenate([word, masked(output, masks.hidden)], axis=-1)
            i, f, g, o = jnp.split(read @ gates + gate_bias[None], 4, axis=-1)
            memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
            output = (jax.nn.sigmoid(o) * jnp.tanh(memory)) @ projection
            return (output, memory), (output, memory)

        _, (outputs, memories) = jax.lax.scan(step, (hidden[:, : self.width], hidden[:, self.width :]), words)
        last = jnp.int32(len(tokens) - 1) if length is None else length - 1
        kept = [jax.lax.dynamic_index_in_dim(each, last, keepdims=False) for each in (outputs, memories)]
        dropped = masked(outputs, None if masks.output is None else masks.output[None])
        logits = dropped @ embedding.T + bias[None, None]
        return Prediction(logits, jnp.concatenate(kept, axis=-1), outputs, dropped)


def random_cell(seed: int, nodes: int = 8) -> RecurrentGenotype:
    """A cell whose nodes read any earlier state through any activation, all equally likely."""
    random = np.random.RandomState(seed)
    edges = [(RECURRENT_PRIMITIVES[random.randint(1, 5)], int(random.randint(node + 1))) for node in range(nodes)]
    return RecurrentGenotype(tuple(edges), tuple(range(1, nodes + 1)))


class Trainer:
    """Trains one network from any seed, compiled once."""

    def __init__(self, config: CompareConfig, corpus: Any, cell: RecurrentGenotype | None) -> None:
        """`cell` None stands for the LSTM."""
        self.config, self.corpus = config, corpus
        self.train_config = LanguageTrainConfig(
            genotype=str(cell or zoo.DARTS_V2_RECURRENT),
            width=config.width,
            batch_size=config.batch_size,
            bptt=config.bptt,
            learning_rate=config.learning_rate,
            dropout=0.2,
            dropouth=0.1,
            dropoutx=0.1,
            dropouti=0.1,
            dropoute=0.0,
        )
        self.train_config.check()
        check_holds_segment(corpus, "train", batch_size=config.batch_size, bptt=config.bptt)
        vocabulary = len(corpus.vocabulary)
        self.sizes = compiled_sizes(bptt=config.bptt, varied=False)
        self.stream = token_stream(corpus.train, config.batch_size, size=self.sizes[-1])
        # 9·H·M + 4·M weights with the biases of the gates, beside the 20·H² of a cell of 8 nodes.
        cells = round(20 * config.width**2 / (9 * config.width + 4))
        self.state_width = config.width if cell else config.width + cells
        model = None if cell else LSTMModel(vocabulary, config.width, cells)
        program = train_program(
            self.train_config, vocabulary=vocabulary, rows=self.stream.rows, model=model, state_width=self.state_width
        )
        self.init = jax.jit(program.init)
        self.step = jax.jit(program.step, static_argnames="size", donate_argnums=0)
        self.end_epoch = jax.jit(program.end_epoch)
        self.evaluate = jax.jit(evaluation_function(program.model))

    def loss(self, weights: Any, words: np.ndarray) -> float:
        """Mean loss over a text."""
        columns = self.train_config.batches.evaluation_batch_size
        function = carry_hidden(
            functools.partial(self.evaluate, {"params": weights}, None),
            np.zeros((columns, self.state_width), np.float32),
        )
        pieces = list(evaluation_pieces(words, columns, 100))
        return sum(float(function(*piece)) for piece in pieces) / sum(int(piece[2].sum()) for piece in pieces)

    def __call__(self, seed: int) -> tuple[float, float, int]:
        """Perplexities on validation and test text, and the number of weights."""
        config = self.config
        state: Any = self.init(np.uint32(seed))
        lengths = segment_lengths(seed, 0, config.steps, bptt=config.bptt, varied=False)
        places = np.linspace(0, config.steps, config.evaluations + 1).astype(int)
        for start, stop in itertools.pairwise(places):
            for place in range(start, stop):
                size = next(size for size in self.sizes if lengths[place] <= size)
                state, _ = self.step(state, self.stream.words, lengths[place], np.bool(place == start), size=size)
            loss = self.loss(evaluated_weights(state), self.corpus.valid)
            state = self.end_epoch(state, np.float32(loss))
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.weights))
        return math.exp(float(state.best_loss)), math.exp(self.loss(state.best, self.corpus.test)), count


def main() -> None:
    """Parses the command line, trains, prints the table."""
    config = tyro.cli(CompareConfig, prog="python experiments/compare_cells.py")
    config.check()
    corpus = load_text(config.dataset, config.data_dir)
    unigram = unigram_perplexity(corpus.train, corpus.test, len(corpus.vocabulary))
    words = config.steps * config.batch_size * config.bptt
    lines = [
        f"{config.dataset}, width {config.width}, {config.steps} steps of {config.batch_size} × about {config.bptt} words "
        f"({words / len(corpus.train):.2f} passes); unigram test perplexity {unigram:.1f}",
        "",
        "| cell | weights | seed | validation perplexity | test perplexity | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    kept = {"DARTS_V2": Trainer(config, corpus, zoo.DARTS_V2_RECURRENT), "LSTM": Trainer(config, corpus, None)}
    found: dict[str, list[float]] = {}
    for seed in config.seeds:
        for name in ("DARTS_V2", "LSTM", "random"):
            trainer = kept.get(name) or Trainer(config, corpus, random_cell(seed))
            start = time.monotonic()
            valid, test, count = trainer(seed)
            found.setdefault(name, []).append(test)
            lines.append(f"| {name} | {count:,} | {seed} | {valid:.1f} | {test:.1f} | {time.monotonic() - start:.0f} |")
            print(lines[-1], flush=True)
    lines += ["", "| cell | test perplexity, mean ± standard deviation |", "| --- | ---: |"]
    for name, values in found.items():
        spread = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        lines.append(f"| {name} | {np.mean(values):.1f}{spread} |")
    print("\n".join(lines[-len(found) - 3 :]))
    if config.table is not None:
        config.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)

"""Steps of a recurrent search, of jdarts and of PyTorch, at one size and ready to be measured."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .compilation import timed_compilation
from .setup import Step

if TYPE_CHECKING:
    # PyTorch's side needs no JAX.
    from .jdarts_steps import StepProgram


@dataclasses.dataclass(frozen=True)
class RecurrentSize:
    """Size of a recurrent search: the paper's width and segment, at a batch of 64."""

    vocabulary: int = 10_000
    width: int = 300
    batch: int = 64
    length: int = 35

    @property
    def smallest_map(self) -> int:
        """Numbers of the hidden states of a batch."""
        return self.batch * self.width

    def __str__(self) -> str:
        return f"{self.vocabulary:,} words, width {self.width}, batch {self.batch}, segments of {self.length} words"


def recurrent_program(step: Step, size: RecurrentSize) -> "StepProgram":
    """The step of a recurrent search (`first_order`, `finite_difference` or `exact`), before it is traced."""
    import jax
    import jax.numpy as jnp

    from jdarts import bilevel, optim
    from jdarts.nets.language import LanguageModel, Rates, draw_masks
    from jdarts.nets.language_loss import Segment, language_loss
    from jdarts.relaxation import init_alphas
    from jdarts.space import recurrent_space

    from .jdarts_steps import StepProgram

    model = LanguageModel(recurrent_space(), size.vocabulary, size.width)
    weight_optimizer = optim.recurrent_weight_optimizer(20.0)
    alpha_optimizer = optim.alpha_optimizer(3e-3, b1=0.9)
    estimators = {
        "first_order": bilevel.first_order,
        "finite_difference": bilevel.finite_difference,
        "exact": bilevel.exact,
    }

    def segment(key: jax.Array) -> Segment:
        words = jax.random.randint(key, (size.length + 1, size.batch), 0, size.vocabulary)
        sizes = {"vocabulary": size.vocabulary, "batch": size.batch, "width": size.width}
        masks = draw_masks(key, Rates(input=0.2, x=0.75, hidden=0.25, output=0.75), **sizes)
        return Segment(words[:-1], words[1:], jnp.zeros((size.batch, size.width)), masks=masks)

    def initial() -> Any:
        key = jax.random.key(0)
        alphas = init_alphas(key, recurrent_space())
        first = segment(key)
        variables = model.init(key, first.tokens[:1], first.hidden, alphas, train=True)
        return bilevel.init_state(
            key,
            variables["params"],
            alphas,
            variables["batch_stats"],
            weight_optimizer=weight_optimizer,
            alpha_optimizer=alpha_optimizer,
        )

    def search_step(state: Any, train: Segment, valid: Segment, *, axis_name: str | None = None) -> Any:
        return bilevel.bilevel_step(
            state,
            train,
            valid,
            loss_fn=language_loss(model),
            weight_optimizer=weight_optimizer,
            alpha_optimizer=alpha_optimizer,
            hypergradient=estimators[step](),
            axis_name=axis_name,
        )

    def start() -> Any:
        return jax.jit(initial)(), segment(jax.random.key(1)), segment(jax.random.key(2))

    return StepProgram(search_step, start, {})


def prepare_jdarts(step: Step, size: RecurrentSize) -> tuple[Callable[[], None], dict[str, Any]]:
    """Compiles a step; also gives the seconds of tracing and compilation."""
    import jax

    program = recurrent_program(step, size)
    state, train, valid = program.start()
    made = timed_compilation(jax.jit(program.step, donate_argnums=0), (state, train, valid))
    compiled = made.program

    def take() -> None:
        nonlocal state
        state, metrics = compiled(state, train, valid)
        jax.block_until_ready((state, metrics))

    return take, made.facts()


def prepare_torch(step: Step, size: RecurrentSize, threads: int) -> Callable[[], object]:
    """A step of PyTorch (`first_order` or `finite_difference`)."""
    import torch  # pyright: ignore[reportMissingImports]
    from pytorch.recurrent import Masks, RecurrentSearch, RecurrentSearchNetwork, Segment

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    search = RecurrentSearch(RecurrentSearchNetwork(size.vocabulary, size.width), 1e-3 * torch.randn(36, 5))

    def segment() -> Segment:
        words = torch.randint(0, size.vocabulary, (size.length + 1, size.batch))
        shape = (size.batch, size.width)
        masks = (torch.empty(shape).bernoulli_(1 - rate) / (1 - rate) for rate in (0.2, 0.75, 0.25, 0.75))
        return Segment(words[:-1], words[1:], torch.zeros(shape), Masks(*masks))

    train, valid = segment(), segment()
    if step == "first_order":
        return lambda: search.first_order_step(train, valid)
    return lambda: search.second_order_step(train, valid)

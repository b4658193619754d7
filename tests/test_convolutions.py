"""XLA's convolutions: in bilevel steps all of them have the form that XLA's CPU backend computes fast, wherever they are."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax

import jdarts
from jdarts import parallel
from jdarts.bilevel.curvature import largest_eigenvalue
from jdarts.bilevel.step import WeightChange
from jdarts.microbatches import in_microbatches
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.runs.calls import of_several
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space
from jdarts.xla.convolutions import canonical, has_convolutions, is_traced, with_canonical_convolutions
from jdarts.xla.jaxprs import equations
from jdarts.xla.platform import compiling_for

NHWC = ("NHWC", "HWIO", "NHWC")
IMAGES, LABELS = jax.ShapeDtypeStruct((4, 6, 6, 3), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.int32)
OPTIMIZERS = {"weight_optimizer": optax.sgd(0.1, momentum=0.9), "alpha_optimizer": optax.adam(0.01)}


pytestmark = pytest.mark.usefixtures("standard_promotion")


@pytest.fixture(scope="module", autouse=True)
def float32():
    with jax.enable_x64(False):
        yield


def convolution(image, kernel, **options):
    return lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=NHWC, **options)


def energy(image, kernel):
    return jnp.sum(jnp.tanh(convolution(image, kernel)) ** 2)


gradients = jax.grad(energy, argnums=(0, 1))


def operands(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (2, 5, 6, 3), dtype), jax.random.normal(keys[1], (3, 3, 3, 4), dtype)


def forms(program):
    """How many convolutions of a traced program are in the fast form, and how many are not."""
    numbers = [
        each.params["dimension_numbers"] for each in equations(program) if each.primitive is lax.conv_general_dilated_p
    ]
    fast = [
        all(spec == lax.conv_dimension_numbers((1,) * 4, (1,) * 4, NHWC)[n] for n, spec in enumerate(each))
        for each in numbers
    ]
    return fast.count(True), fast.count(False)


@pytest.mark.parametrize(
    "function",
    [
        gradients,
        jax.jit(gradients),
        lambda image, kernel: lax.scan(lambda c, _: (c + gradients(image, c)[1], None), kernel, length=2),
        lambda image, kernel: lax.cond(kernel[0, 0, 0, 0] > 0, gradients, lambda *same: same, image, kernel),
        jax.grad(lambda *both: jnp.sum(jax.checkpoint(gradients)(*both)[0] ** 2)),
        lambda image, kernel: jax.jvp(functools.partial(gradients, image), (kernel,), (kernel,)),
    ],
    ids=["gradient", "call", "loop", "conditional", "computed_again", "forward_over_reverse"],
)
def test_all_convolutions_of_a_function_become_fast(function):
    program = jax.make_jaxpr(function)(*operands())
    assert forms(program)[1]
    mended = canonical(program)
    assert mended is not None and forms(mended) == (sum(forms(program)), 0)
    assert [each.aval for each in mended.jaxpr.outvars] == [each.aval for each in program.jaxpr.outvars]


def test_the_numbers_are_those_of_the_convolutions():
    image, kernel = operands()
    one = functools.partial(lax.conv_general_dilated, padding="SAME")
    losses = [
        lambda image, kernel: energy(image, kernel),
        lambda image, kernel: jnp.sum(one(image, kernel, (2, 1), rhs_dilation=(1, 2), dimension_numbers=NHWC) ** 3),
        lambda image, kernel: jnp.sum(convolution(image, kernel[:, :, :1, :3], feature_group_count=3) ** 2),
        lambda image, kernel: jnp.sum(one(image[0], kernel[0], (2,), dimension_numbers=("NHC", "HIO", "NHC")) ** 2),
        lambda image, kernel: jnp.sum(
            one(image[None], kernel[None], (1, 1, 1), dimension_numbers=("NDHWC", "DHWIO", "NDHWC")) ** 2
        ),
    ]

    def both(image, kernel):
        derivatives = [jax.grad(lambda *of, loss=loss: jnp.sum(jax.grad(loss)(*of) ** 2), (0, 1)) for loss in losses]
        plain = [each(image, kernel) for each in derivatives]
        return plain, [with_canonical_convolutions(each)(image, kernel) for each in derivatives]

    chex.assert_trees_all_close(*jax.jit(both)(image, kernel), rtol=1e-4, atol=1e-4)


def test_what_needs_no_change_stays():
    with jax.enable_x64(True):
        assert canonical(jax.make_jaxpr(gradients)(*operands(jnp.float64))) is None
    assert canonical(jax.make_jaxpr(energy)(*operands())) is None
    assert canonical(jax.make_jaxpr(jnp.sin)(1.0)) is None
    with compiling_for("gpu"):
        assert canonical(jax.make_jaxpr(gradients)(*operands())) is None


def test_eager_code_calls_the_function_itself():
    seen = []
    with_canonical_convolutions(seen.append)(jnp.ones(3))
    assert not is_traced(seen)


def gradient_of_supernet(operations, **options):
    key, space, size = jax.random.key(0), uniform_space(operations, nodes=1), 64 if options else 8
    images = jnp.zeros((2, size, size, 3))
    network = Supernet(space, 4, 3, 10, **options)
    alphas = jax.eval_shape(lambda: init_alphas(key, space))
    variables = jax.eval_shape(
        lambda alphas: network.init({"params": key, "noise": key}, images, alphas, train=True), alphas
    )

    def loss(weights, alphas, model_state):
        return supernet_loss(network)(weights, alphas, model_state, (images, jnp.zeros(2, jnp.int32)), key)[0]

    return jax.make_jaxpr(jax.grad(loss))(variables["params"], alphas, variables["batch_stats"])


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_the_stem_of_a_supernet_changes_no_program(stem):
    program = gradient_of_supernet(("none", "skip_connect"), **({} if stem == "cifar" else {"stem": stem}))
    assert forms(program)[1]
    assert not has_convolutions(program) and canonical(program) is None


def test_a_supernet_of_full_convolutions_is_mended():
    mended = canonical(gradient_of_supernet(("none", "skip_connect", "conv_3x3")))
    assert mended is not None and forms(mended)[1] == 0


class Network(nn.Module):
    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Conv(4, (3, 3))(images))
        x = jdarts.Choice({"three": nn.Conv(4, (3, 3)), "one": nn.Conv(4, (1, 1)), "skip": lambda x: x}, name="block")(
            x
        )
        x = nn.Conv(4, (1, 1))(nn.relu(x))
        return nn.Dense(3)(nn.relu(x).mean((1, 2)))


@jax.custom_vjp
def same(x):
    return x


same.defvjp(lambda x: (x, None), lambda _, ct: (ct,))


@pytest.fixture(scope="module")
def start(float32):
    def variables(key):
        made = Network().init(key, jnp.zeros(IMAGES.shape))
        return jdarts.init_state(key, *jdarts.split_variables(made, key=key), **OPTIMIZERS)

    return jax.eval_shape(variables, jax.random.key(0)), jdarts.network_loss(Network())


def traced_step(start, loss_fn=None, around=lambda step: step, many=1, **options):
    state, loss = start
    step = functools.partial(jdarts.bilevel_step, loss_fn=loss_fn or loss, **OPTIMIZERS, **options)
    batch = IMAGES, LABELS
    return jax.make_jaxpr(around(step))(state, batch if many == 1 else (batch,) * many, batch)


def looped(step):
    return lambda state, *batches: lax.scan(lambda state, _: step(state, *batches), state, length=2)


ESTIMATORS = {
    "first_order": jdarts.first_order(),
    "finite_difference": jdarts.finite_difference(),
    "exact": jdarts.exact(),
    "neumann": jdarts.neumann(1),
    "unrolled": jdarts.unrolled(2),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_step_in_a_loop_has_fast_convolutions_alone(start, name):
    assert forms(traced_step(start, around=looped, hypergradient=ESTIMATORS[name]))[1] == 0


@pytest.mark.parametrize("name", ["exact", "neumann"])
def test_a_loss_without_forward_mode_has_fast_convolutions_alone(start, name):
    def loss_fn(weights, *others):
        loss, rest = start[1](weights, *others)
        return same(loss), rest

    assert forms(traced_step(start, loss_fn, looped, hypergradient=ESTIMATORS[name]))[1] == 0


def of_devices(state, train, valid):
    step = functools.partial(jdarts.bilevel_step, loss_fn=jdarts.network_loss(Network()), **OPTIMIZERS)
    return parallel.shard_step(lambda state, *batches, axis_name=None: step(state, *batches, axis_name=axis_name), 1)(
        state, train, valid
    )


def in_one_call(step):
    def step_twice(state, train, valid):
        return of_several(step, (0, None))(state, jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), train), valid)

    return step_twice


@pytest.mark.parametrize(
    "options",
    [
        {"many": 2, "weight_steps": 2},
        {
            "weight_rule": lambda found, kept: WeightChange(
                jax.tree.map(jnp.add, found.train, found.valid()), None, kept
            )
        },
        {"around": in_one_call},
        {"around": lambda step: of_devices},
        {"around": lambda step: jax.vmap(step, axis_size=2, in_axes=None)},
    ],
    ids=["weight_steps", "weight_rule", "several_steps_in_a_call", "devices", "vmap"],
)
def test_other_steps_have_fast_convolutions_alone(start, options):
    assert forms(traced_step(start, **options))[1] == 0


def test_microbatches_and_the_curvature_have_fast_convolutions_alone(start):
    state, loss = start
    assert forms(traced_step(start, in_microbatches(loss, 2)))[1] == 0

    def sharpness(state, batch, key):
        return largest_eigenvalue(
            lambda alphas: loss(state.weights, alphas, state.model_state, batch, key)[0],
            state.alphas,
            key,
            iterations=2,
        )

    program = jax.make_jaxpr(sharpness)(state, (IMAGES, LABELS), jax.random.key(0))
    (iterations,) = [each for each in program.jaxpr.eqns if each.primitive.name == "scan"]
    assert sum(forms(iterations.params["jaxpr"])) > 0 and forms(iterations.params["jaxpr"])[1] == 0


def test_the_compiled_step_has_calls_with_fast_convolutions(start):
    if jax.default_backend() != "cpu":
        pytest.skip("a CPU's program")
    state, loss = start
    step = functools.partial(jdarts.bilevel_step, loss_fn=loss, hypergradient=jdarts.first_order(), **OPTIMIZERS)
    text = str(jax.jit(step).lower(state, (IMAGES, LABELS), (IMAGES, LABELS)).compile().as_text())
    found = [line for line in text.splitlines() if " convolution(" in line]
    assert " call(" in text and found
    assert all("dim_labels=b01f_01io->b01f" in line for line in found)

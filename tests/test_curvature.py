"""The largest eigenvalue of the Hessian by the alphas: against whole matrices, and against RobustDARTS's own numbers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures_folder import fixture_files
from jax.flatten_util import ravel_pytree
from search_fixtures import KINDS, read_case
from test_bilevel import problem, smooth_loss, tanh_of_reverse_mode
from torch_layout import stacked_statistics

import jdarts
from jdarts.bilevel.curvature import ROBUST_DARTS_DECAY, alpha_hessian, largest_eigenvalue
from jdarts.errors import InputError
from jdarts.search.step import supernet_loss

pytestmark = pytest.mark.usefixtures("standard_promotion")
KEY = jax.random.key(5)


def whole_hessian(loss, alphas):
    vector, tree_of = ravel_pytree(alphas)
    return jax.hessian(lambda vector: loss(tree_of(vector)))(vector)


def of_spectrum(spectrum, seed=0):
    """A matrix of these eigenvalues along random axes."""
    size = len(spectrum)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return rotation * np.asarray(spectrum) @ rotation.T


def quadratic(matrix):
    """The loss of these second derivatives."""
    return lambda alphas: 0.5 * alphas @ matrix @ alphas


@functools.partial(jax.jit, static_argnames=("iterations", "weight_decay"))
def _largest_of(matrix, key, iterations, weight_decay):
    alphas = jnp.ones(len(matrix))
    return largest_eigenvalue(quadratic(matrix), alphas, key, iterations=iterations, weight_decay=weight_decay)


def largest_of(matrix, key=KEY, *, iterations=32, weight_decay=0.0):
    """What is found for the quadratic loss of a matrix; matrices of one size share their program."""
    return jax.device_get(_largest_of(matrix, key, min(iterations, len(matrix)), weight_decay))


@jax.jit
def of_smooth_loss(weights, alphas, valid, key):
    """The loss's Hessian by the alphas by JAX, by `alpha_hessian`, and the largest eigenvalue."""
    loss = lambda alphas: smooth_loss(weights, alphas, 0, valid, None)[0]  # noqa: E731
    return whole_hessian(loss, alphas), alpha_hessian(loss, alphas), largest_eigenvalue(loss, alphas, key)


@pytest.mark.parametrize("seed", range(3))
def test_the_eigenvalue_is_that_of_the_whole_hessian(seed):
    weights, alphas, _, valid = problem(seed)
    hessian, found_hessian, found = jax.device_get(of_smooth_loss(weights, alphas, valid, KEY))
    np.testing.assert_allclose(found.eigenvalue, np.linalg.eigvalsh(hessian)[-1], rtol=1e-6)
    assert found.residual < 1e-9
    np.testing.assert_allclose(found_hessian, hessian, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "spectrum",
    [
        [-3.0, -2.0, -1.0, -0.5],
        [-3.0, -3.0, -2.0, -1.0, -1.0, -1.0],
        [5.0, 5.0, 1.0, 1.0, 0.0, 0.0],
        [0.0] * 5,
        [2.0] * 5,
        [-50.0, -1.0, 0.1, 0.2],
        list(np.linspace(-1, 1, 40)),
        [1e-8, 2e-8, -1e-8],
        [7.0],
    ],
    ids=[
        "negative",
        "negative and repeated",
        "repeated",
        "nothing",
        "one",
        "most below",
        "dense",
        "tiny",
        "a single alpha",
    ],
)
def test_any_spectrum(spectrum):
    """Where a random vector lies in an invariant space of few dimensions too."""
    found = largest_of(of_spectrum(spectrum), iterations=50)
    np.testing.assert_allclose(found.eigenvalue, max(spectrum), rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize(
    "spectrum", [[2.0] * 5, [5.0, 5.0, 1.0], list(np.linspace(0, 1, 12)), [0.0, 0.0, 3.0, 3.0]], ids=str
)
def test_the_residual_is_that_of_rounding_where_the_space_is_exhausted(spectrum):
    """Not 0, which no computation in floating point knows."""
    found = largest_of(of_spectrum(spectrum))
    assert 0 < found.residual < 1e-13 * max(spectrum)


def test_a_gradient_that_only_few_alphas_have():
    """The vector's image is in the invariant space from the first step on."""
    loss = lambda alphas: -(alphas["a"][0] ** 2) + 0 * jnp.sum(alphas["b"])  # noqa: E731
    alphas = {"a": jnp.ones(2), "b": jnp.ones((2, 3))}
    found = jax.jit(lambda: largest_eigenvalue(loss, alphas, KEY))()
    np.testing.assert_allclose(found.eigenvalue, 0, atol=1e-14)


def test_few_iterations_give_a_bound_whose_error_is_known():
    spectrum = np.linspace(0, 1, 60)
    matrix = of_spectrum(spectrum)
    before = -np.inf
    for iterations in (1, 2, 8, 16, 32):
        found = largest_of(matrix, iterations=iterations)
        assert before < found.eigenvalue <= 1 + 1e-12
        assert np.min(np.abs(spectrum - float(found.eigenvalue))) <= found.residual + 1e-12
        before = found.eigenvalue
    # One that stands out is found soon.
    found = largest_of(of_spectrum([*spectrum, 5.0]), iterations=12)
    np.testing.assert_allclose(found.eigenvalue, 5, rtol=1e-6)


def test_the_key_decides_and_the_decay_is_added():
    matrix = of_spectrum(np.linspace(0, 1, 60))
    find = functools.partial(largest_of, matrix, iterations=5)
    assert find(KEY) == find(KEY)
    assert find(KEY).eigenvalue != find(jax.random.key(6)).eigenvalue
    shifted = find(KEY, weight_decay=ROBUST_DARTS_DECAY)
    np.testing.assert_allclose(shifted.eigenvalue, find(KEY).eigenvalue + 1e-3, rtol=1e-12)
    loss, alphas = quadratic(matrix), jnp.ones(60)
    decayed, plain = jax.jit(lambda: tuple(alpha_hessian(loss, alphas, weight_decay=decay) for decay in (0.5, 0.0)))()
    np.testing.assert_allclose(decayed - plain, 0.5 * np.eye(60), atol=1e-12)
    with pytest.raises(InputError, match="0 iterations for the largest eigenvalue; give 1 or more"):
        find(KEY, iterations=0)


def test_several_at_once_and_on_several_devices():
    def eigenvalue(seed_case, key, average=lambda tree: tree):
        weights, alphas, batch = seed_case
        return largest_eigenvalue(
            lambda alphas: smooth_loss(weights, alphas, 0, batch, None)[0], alphas, key, average=average
        ).eigenvalue

    cases = [(weights, alphas, valid) for weights, alphas, _, valid in (problem(seed) for seed in range(2))]
    keys = jax.random.split(KEY, 2)
    alone = jax.jit(lambda case, key: eigenvalue(case, key))
    expected = [alone(case, key) for case, key in zip(cases, keys)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *cases)
    np.testing.assert_allclose(jax.jit(jax.vmap(eigenvalue))(stacked, keys), expected, rtol=1e-10)
    if jax.device_count() < 2:
        pytest.skip("needs two devices; jax was started with one")
    weights, alphas, batch = cases[0]
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, -1, *leaf.shape[1:]), batch)
    mean = functools.partial(jax.lax.pmean, axis_name="devices")
    both = jax.pmap(
        lambda batch, key: eigenvalue((weights, alphas, batch), key, mean), axis_name="devices", in_axes=(0, None)
    )
    np.testing.assert_allclose(both(halves, keys[0]), [expected[0]] * 2, rtol=1e-10)


def test_a_loss_without_a_forward_mode():
    def loss(tanh):
        return lambda alphas: jnp.sum(tanh(alphas * jnp.arange(1.0, 4.0)) ** 2)

    alphas = jnp.array([0.1, -0.2, 0.3])
    both = jax.jit(lambda: [largest_eigenvalue(loss(tanh), alphas, KEY) for tanh in (tanh_of_reverse_mode, jnp.tanh)])
    found, expected = both()
    np.testing.assert_allclose(found.eigenvalue, expected.eigenvalue, rtol=1e-9)


def test_float32():
    loss, alphas = quadratic(of_spectrum([*np.linspace(0, 1, 30), 3.0])), jnp.ones(31, jnp.float32)
    found = jax.jit(lambda alphas: largest_eigenvalue(lambda x: loss(x.astype(jnp.float64)), alphas, KEY))(alphas)
    assert found.eigenvalue.dtype == jnp.float32
    np.testing.assert_allclose(found.eigenvalue, 3, rtol=1e-5)


# RobustDARTS's own numbers.


def robust_darts(path):
    """The file, and everything that our functions make of it, as one program."""
    read = read_case(path, "float64")
    lists = json.loads(str(read.file["primitives"]))
    space = jdarts.SearchSpace(lists["primitives_normal"], lists["primitives_reduct"])
    read = read._replace(space=space)
    weights, alphas = read.ours(read.params("weights/")), read.ours(read.alphas("alphas"))
    statistics = read.ours(stacked_statistics(read.arrays("weights/"), read.space, read.cells))
    loss_fn, valid = supernet_loss(read.network()), read.batch("valid")

    def everything(weights):
        def loss(alphas):
            return loss_fn(weights, alphas, statistics, valid, KEY)[0]

        value, gradient = jax.value_and_grad(loss)(alphas)
        return {
            "loss": value,
            "gradient": gradient,
            "hessian": alpha_hessian(loss, alphas, weight_decay=float(read.file["hyper/alpha_weight_decay"])),
            "dominant": largest_eigenvalue(
                loss, alphas, KEY, weight_decay=float(read.file["hyper/alpha_weight_decay"])
            ),
        }

    return read._replace(found=jax.device_get(jax.jit(everything)(weights)))


@pytest.mark.parametrize("path", fixture_files("robustdarts*.npz"))
def test_the_hessian_of_robust_darts(path):
    case = robust_darts(path)
    case.check(case.found["loss"], case.file["valid/loss"], tolerance=1e-9)
    decay = float(case.file["hyper/alpha_weight_decay"])
    gradient = {kind: case.found["gradient"][kind] + decay * case.file[f"alphas/{kind}"] for kind in KINDS}
    case.check(gradient, case.alphas("gradient"), tolerance=1e-9)
    case.check(case.found["hessian"], case.file["hessian"], tolerance=1e-8)
    case.check(np.linalg.eigvalsh(case.found["hessian"]), case.file["eigenvalues"], tolerance=1e-8)
    case.check(case.found["dominant"].eigenvalue, case.file["dominant"], tolerance=1e-8)
    # Each row of alphas has one direction that the softmax does not see.
    assert np.sum(np.abs(case.file["eigenvalues"] - decay) < 1e-9) >= 2 * case.space.num_edges

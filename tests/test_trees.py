"""Arithmetic of whole pytrees: large ones, computed with as one vector, against the same leaf by leaf."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jdarts.xla import trees
from jdarts.xla.leaves import join_leaves, split_leaves
from jdarts.xla.platform import compiling_for

SHAPES = ((3, 1, 2), (), (0, 4), (5,))
#: Leaves of a tree that is computed with leaf by leaf, and of one that is one vector.
COUNTS = (5, trees.MANY)


def leaves(count, dtype="float64", start=0):
    generator = np.random.default_rng(start)
    shapes = [SHAPES[n % len(SHAPES)] for n in range(count)]
    return [np.asarray(generator.standard_normal(shape), jnp.dtype(dtype)) for shape in shapes]


def tree(count, dtype="float64", start=0):
    """A nested pytree of so many leaves."""
    return {"first": tuple(leaves(count - 1, dtype, start)), "last": np.asarray(0.25, jnp.dtype(dtype))}


def assert_same(found, expected, rtol=0.0, atol=0.0):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def test_joined_leaves_are_their_numbers_in_order_and_come_apart_again(image_path):
    given = {dtype: leaves(7, dtype) for dtype in ("float32", "float64", "bfloat16")}

    def joined_and_parted(arrays):
        vector = join_leaves(arrays)
        return vector, split_leaves(vector, [array.shape for array in arrays])

    found = jax.jit(lambda given: {dtype: joined_and_parted(arrays) for dtype, arrays in given.items()})(given)
    for dtype, arrays in given.items():
        vector, parted = found[dtype]
        np.testing.assert_array_equal(vector, np.concatenate([array.reshape(-1) for array in arrays]), dtype)
        assert_same(parted, arrays)


def test_joining_and_parting_are_each_others_transposes_in_every_mode_and_lane(image_path):
    arrays, others = leaves(5), leaves(5, start=1)
    shapes = [array.shape for array in arrays]
    vector = np.concatenate([array.reshape(-1) for array in others])
    lanes = [np.stack([a, 2 * a, -a]) for a in arrays]

    @jax.jit
    def all_modes(arrays, others, vector, lanes, vectors):
        def squares(arrays):
            parts = split_leaves(join_leaves(arrays) * vector, shapes)
            return jnp.sum(join_leaves([a * b for a, b in zip(arrays, parts)]))

        return {
            "value and gradient": jax.value_and_grad(squares)(arrays),
            "one leaf moves": jax.jvp(lambda last: join_leaves([*arrays[:-1], last]), arrays[-1:], others[-1:])[1],
            "Hessian": jax.jvp(jax.grad(squares), (arrays,), (others,))[1],
            "lanes": jax.vmap(jax.grad(squares))(lanes),
            "lanes of lanes": jax.vmap(jax.vmap(lambda vector: split_leaves(vector, shapes)))(vectors),
        }

    found = all_modes(arrays, others, vector, lanes, np.stack([np.stack([vector, -vector])]))
    value, pulled = found["value and gradient"]
    np.testing.assert_allclose(value, sum(np.sum(a * a * b) for a, b in zip(arrays, others)), rtol=1e-12)
    assert_same(pulled, [2 * a * b for a, b in zip(arrays, others)], rtol=1e-12)
    count = others[-1].size
    np.testing.assert_array_equal(found["one leaf moves"], np.concatenate([0 * vector[:-count], vector[-count:]]))
    # The Hessian has no other entries than 2·vector on its diagonal.
    assert_same(found["Hessian"], [2 * b * b for b in others], rtol=1e-12)
    assert_same(found["lanes"], [2 * a * b[None] for a, b in zip(lanes, others)], rtol=1e-12)
    assert_same(found["lanes of lanes"], [np.stack([b, -b])[None] for b in others])


def test_whole_trees_are_their_leaves_together(image_path):
    @jax.jit
    def numbers(found):
        nan = found | {"last": jnp.full_like(found["last"], jnp.nan)}
        infinite = found | {"first": (*found["first"][:-1], jnp.full((1,), jnp.inf))}
        finite = [trees.all_finite(each) for each in (found, nan, infinite)]
        return trees.sum_of_squares(found), trees.global_norm(found), finite

    for each in map(tree, COUNTS):
        squares = sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(each))
        found, norm, finite = numbers(each)
        np.testing.assert_allclose(found, squares, rtol=1e-12)
        np.testing.assert_allclose(norm, np.sqrt(squares), rtol=1e-12)
        assert [bool(flag) for flag in finite] == [True, False, False]


def test_updates_move_every_leaf_and_keep_its_type(image_path):
    update = jax.jit(trees.apply_updates)
    for count, step in itertools.product(COUNTS, (1.0, -0.5)):
        start, updates = tree(count, "float32"), tree(count, "float32", start=1)
        found = update(start, updates, np.float32(step))
        expected = jax.tree.map(lambda w, u, step=step: w + np.float32(step) * u, start, updates)
        assert_same(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("without_native")
def test_updates_on_accelerators_without_native_functions_join_no_leaves():
    start = tree(trees.MANY, "float32")
    for platform in ("cpu", "gpu", "tpu"):
        with compiling_for(platform):
            program = str(jax.make_jaxpr(trees.apply_updates)(start, start))
        assert ("join" in program) == (platform == "cpu")
        with compiling_for(platform):
            assert_same(jax.jit(trees.apply_updates)(start, start), jax.tree.map(lambda leaf: 2 * leaf, start))


def test_updates_of_another_structure_are_refused():
    start = tree(trees.MANY)
    with pytest.raises(ValueError, match="first"):
        trees.apply_updates(start, {"other": start["first"], "last": start["last"]})


def test_leaves_of_several_types_keep_them():
    start = {"wide": tree(trees.MANY), "narrow": tree(trees.MANY, "float32")}
    assert_same(jax.jit(trees.apply_updates)(start, start), jax.tree.map(lambda leaf: 2 * leaf, start))


def test_an_optimiser_of_one_vector_makes_the_same_updates(image_path):
    chain = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.9))
    ours = trees.as_vector(chain)

    @jax.jit
    def both(gradient, state, plain, weights):
        return ours.update(gradient, state, weights), chain.update(gradient, plain, weights)

    for count in COUNTS:
        weights = tree(count)
        state, plain = jax.jit(ours.init)(weights), jax.jit(chain.init)(weights)
        for step in range(3):
            (found, state), (expected, plain) = both(tree(count, start=step + 1), state, plain, weights)
            assert_same(found, expected, rtol=1e-12, atol=1e-15)
        assert [leaf.ndim for leaf in jax.tree.leaves(state)] == [1], "the layout of checkpoints depends on a constant"


def test_on_tpus_an_optimiser_and_sums_go_leaf_by_leaf():
    chain = optax.chain(optax.add_decayed_weights(0.5), optax.sgd(0.1, momentum=0.9))

    def norm(gradient):
        return trees.global_norm(gradient) ** 2

    @jax.jit
    def norms(gradient, weights):
        lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), gradient)
        return norm(gradient), jax.vmap(norm)(lanes), jax.jvp(jax.grad(norm), (gradient,), (weights,))[1]

    with compiling_for("tpu"):
        for count in COUNTS:
            ours, weights, gradient = trees.as_vector(chain), tree(count), tree(count, start=1)
            state = ours.init(weights)
            assert_same(state, chain.init(weights))
            updates = jax.jit(lambda *given, ours=ours: (ours.update(*given), chain.update(*given)))
            assert_same(*updates(gradient, state, weights), rtol=1e-12)
            assert_same(trees.as_in_state(weights), weights)

            one, two, moved = jax.device_get(norms(gradient, weights))
            numbers = np.concatenate([np.reshape(leaf, -1) for leaf in jax.tree.leaves(gradient)])
            np.testing.assert_allclose(one, np.sum(numbers**2), rtol=1e-12)
            assert_same(moved, jax.tree.map(lambda leaf: 2 * np.asarray(leaf), weights), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(two, one * np.array([1.0, 4.0]), rtol=1e-12)
            several = {"a": gradient, "b": np.ones(2, jnp.bfloat16), "c": np.arange(3)}
            finite = jax.jit(trees.all_finite)
            assert finite(several)
            for value in (np.nan, -np.inf):
                assert not finite(several | {"b": np.asarray([0, value], jnp.bfloat16)})
                assert not finite(several | {"a": gradient | {"last": np.asarray(value)}})
        assert trees.sum_of_squares({}) == 0
        assert_same(trees.finished(weights), weights)
        assert "optimization_barrier" in str(jax.make_jaxpr(lambda tree: trees.finished(tree))(weights))
        # One join of a number for each leaf, and none of the leaves.
        program = str(jax.make_jaxpr(lambda leaf: trees.sum_of_squares([leaf] * trees.MANY))(jnp.ones((2, 3))))
        assert f"f64[1,{trees.MANY}] = join" in program
    assert "optimization_barrier" not in str(jax.make_jaxpr(lambda tree: trees.finished(tree))(weights))


def test_an_optimiser_keeps_weights_of_several_types_apart():
    weights = {"wide": np.ones(2), "narrow": np.ones(3, "float32")}
    optimizer = trees.as_vector(optax.trace(0.9))
    updates, state = jax.jit(lambda weights: optimizer.update(weights, optimizer.init(weights), weights))(weights)
    assert_same(state, optax.TraceState(weights))
    assert_same(updates, weights)

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.data import (
    Augmentation,
    AugmentationDraws,
    apply_augmentation,
    augment,
    draw_augmentation,
    normalise,
)
from jdarts.errors import InputError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
STATISTICS: dict[str, Any] = {"mean": MEAN, "std": STD}


def random_images(batch=6, height=7, width=9, channels=3):
    generator = np.random.default_rng(0)
    # No zeros, so that padding can be told from image.
    return generator.integers(1, 256, (batch, height, width, channels), dtype=np.uint8)


def plain_normalise(images):
    return (images.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)


def plain_augment(images, draws, augmentation):
    """The definition, image by image, as torchvision and the reference implementation do it."""
    batch, height, width, channels = images.shape
    results = []
    for index in range(batch):
        padding = augmentation.padding
        padded = np.zeros((height + 2 * padding, width + 2 * padding, channels), np.uint8)
        padded[padding : padding + height, padding : padding + width] = images[index]
        top, left = np.asarray(draws.crop[index])
        image = padded[top : top + height, left : left + width]
        if augmentation.flip and draws.flip[index]:
            image = image[:, ::-1]
        image = plain_normalise(image)
        if augmentation.cutout:
            side = augmentation.cutout
            row, column = np.asarray(draws.cutout[index])
            rows = slice(max(row - side // 2, 0), max(row - side // 2 + side, 0))
            columns = slice(max(column - side // 2, 0), max(column - side // 2 + side, 0))
            image[rows, columns] = 0
        results.append(image)
    return np.stack(results)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(padding=2, flip=True, cutout=4),
        Augmentation(padding=3, flip=False, cutout=3),
        Augmentation(padding=0, flip=True),
        Augmentation(cutout=20),
    ],
)
def test_augmentation_is_the_plain_definition_on_the_same_draws(augmentation):
    images = random_images()

    @jax.jit
    def computed(key, images):
        draws = draw_augmentation(key, images.shape, augmentation)
        applied = apply_augmentation(draws, images, augmentation, **STATISTICS, dtype=jnp.float64)
        return draws, applied, augment(key, images, augmentation, **STATISTICS, dtype=jnp.float64)

    draws, applied, whole = jax.device_get(computed(jax.random.key(3), images))
    expected = plain_augment(images, draws, augmentation)
    np.testing.assert_allclose(applied, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(whole, applied)


def test_nothing_switched_on_is_normalisation_and_draws_nothing():
    images = random_images()
    result = augment(jax.random.key(0), images, Augmentation(), **STATISTICS, dtype=jnp.float64)
    np.testing.assert_array_equal(result, normalise(images, **STATISTICS, dtype=jnp.float64))
    np.testing.assert_allclose(result, plain_normalise(images), rtol=0, atol=1e-12)

    def draws(augmentation):
        program = jax.make_jaxpr(lambda key: augment(key, images, augmentation, **STATISTICS))(jax.random.key(0))
        return "random_bits" in str(program)

    assert not draws(Augmentation())
    assert draws(Augmentation(padding=1))


def test_flipping_twice_gives_the_image_back():
    images = random_images()
    draws = AugmentationDraws(
        crop=jnp.zeros((6, 2), jnp.int32),
        flip=jnp.ones(6, bool),
        cutout=jnp.zeros((6, 2), jnp.int32),
    )
    unit: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}

    @jax.jit
    def flip(pixels):
        return apply_augmentation(draws, pixels, Augmentation(flip=True), **unit).round().astype(jnp.uint8)

    once = flip(jnp.asarray(images))
    np.testing.assert_array_equal(once, images[:, :, ::-1])
    np.testing.assert_array_equal(flip(once), images)


def test_a_centred_crop_is_the_image():
    images = random_images()
    draws = AugmentationDraws(
        crop=jnp.asarray(np.full((6, 2), 4, np.int32)),
        flip=jnp.asarray(np.ones(6, bool)),
        cutout=jnp.asarray(np.zeros((6, 2), np.int32)),
    )
    result, expected = jax.jit(
        lambda images: (
            apply_augmentation(draws, images, Augmentation(padding=4), **STATISTICS),
            normalise(images, **STATISTICS),
        )
    )(images)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("centre", "blanked"),
    [((8, 8), 16), ((0, 0), 4), ((15, 15), 9), ((0, 8), 8), ((15, 8), 12)],
)
def test_cutout_blanks_one_square_clipped_at_the_borders(centre, blanked):
    images = np.full((1, 16, 16, 3), 255, np.uint8)
    draws = AugmentationDraws(
        crop=jnp.zeros((1, 2), jnp.int32),
        flip=jnp.zeros(1, bool),
        cutout=jnp.array([centre], jnp.int32),
    )
    result = apply_augmentation(draws, images, Augmentation(cutout=4), **STATISTICS)
    blank = np.asarray(result == 0)
    assert blank.all(-1).sum() == blanked
    assert blank.any(-1).sum() == blanked
    top, left = max(centre[0] - 2, 0), max(centre[1] - 2, 0)
    assert blank[0, top : centre[0] + 2, left : centre[1] + 2].all()


def test_padding_is_black_before_normalisation():
    images = np.full((1, 4, 4, 3), 255, np.uint8)
    draws = AugmentationDraws(
        crop=jnp.zeros((1, 2), jnp.int32), flip=jnp.zeros(1, bool), cutout=jnp.zeros((1, 2), jnp.int32)
    )
    augmentation = Augmentation(padding=1)
    result = np.asarray(
        jax.jit(lambda images: apply_augmentation(draws, images, augmentation, **STATISTICS, dtype=jnp.float64))(images)
    )
    np.testing.assert_allclose(result[0, 0, 0], -np.array(MEAN) / np.array(STD))
    np.testing.assert_allclose(result[0, 1, 1], (1 - np.array(MEAN)) / np.array(STD))


def test_draws_cover_their_ranges_evenly():
    count = 20_000
    augmentation = Augmentation(padding=2, flip=True, cutout=1)
    draws = jax.jit(lambda key: draw_augmentation(key, (count, 5, 8, 1), augmentation))(jax.random.key(1))
    for values, ends in ((draws.crop, (5, 5)), (draws.cutout, (5, 8))):
        for axis, end in enumerate(ends):
            frequencies = np.bincount(np.asarray(values)[:, axis], minlength=end)
            assert len(frequencies) == end
            # Five standard deviations of a binomial count.
            assert np.abs(frequencies - count / end).max() < 5 * np.sqrt(count / end)
    assert abs(np.asarray(draws.flip).mean() - 0.5) < 5 * 0.5 / np.sqrt(count)
    columns = np.concatenate([draws.crop, np.asarray(draws.flip)[:, None], draws.cutout], axis=1).T
    assert np.abs(np.corrcoef(columns) - np.eye(5)).max() < 5 / np.sqrt(count)


def test_an_image_depends_on_key_and_position_only():
    images = np.broadcast_to(random_images(batch=1), (6, 7, 9, 3))
    augmentation = Augmentation(padding=3, flip=True, cutout=2)

    @jax.jit
    def run(seed, pixels):
        return augment(jax.random.key(seed), pixels, augmentation, **STATISTICS)

    result = run(0, images)
    np.testing.assert_array_equal(run(0, images), result)
    np.testing.assert_array_equal(run(0, images[:4]), result[:4])
    assert not np.array_equal(run(1, images), result)
    assert len(np.unique(np.reshape(result, (6, -1)), axis=0)) == 6


def test_under_jit_and_vmap():
    images = random_images()
    augmentation = Augmentation(padding=2, flip=True, cutout=3)

    def run(key, pixels):
        return augment(key, pixels, augmentation, **STATISTICS, dtype=jnp.float64)

    keys = jax.random.split(jax.random.key(0), 2)
    plain = np.stack([run(key, images) for key in keys])
    np.testing.assert_allclose(jax.jit(run)(keys[0], images), plain[0], rtol=0, atol=1e-12)
    many = jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, images)
    np.testing.assert_allclose(many, plain, rtol=0, atol=1e-12)


def test_types_and_the_same_draws_with_and_without_x64():
    images = random_images()
    augmentation = Augmentation(padding=2, flip=True, cutout=3)
    key = jax.random.key(0)

    @jax.jit
    def drawn_and_augmented(key, images):
        draws = draw_augmentation(key, images.shape, augmentation)
        return draws, augment(key, images, augmentation, **STATISTICS)

    wide, result = drawn_and_augmented(key, images)
    assert result.dtype == jnp.float32
    with jax.enable_x64(False):
        narrow, of_narrow = drawn_and_augmented(key, images)
    np.testing.assert_array_equal(of_narrow, result)
    for one, other in zip(wide, narrow):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    brief = jax.eval_shape(lambda: augment(key, images, augmentation, **STATISTICS, dtype=jnp.bfloat16))
    assert brief.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("images", "mean", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), MEAN, "uint8"),
        (np.zeros((4, 4, 3), np.uint8), MEAN, r"\[4, 4, 3\]"),
        (np.zeros((2, 4, 4, 1), np.uint8), MEAN, "1 channels, mean has 3"),
    ],
)
def test_wrong_images_are_refused(images, mean, message):
    with pytest.raises(InputError, match=message):
        normalise(images, mean=mean, std=STD)
    with pytest.raises(InputError, match=message):
        augment(jax.random.key(0), images, Augmentation(), mean=mean, std=STD)


def test_augmentation_is_hashable_and_refuses_negative_sizes():
    assert hash(Augmentation(padding=4)) == hash(Augmentation(4, False, 0))
    with pytest.raises(InputError, match="padding is -1"):
        Augmentation(padding=-1)
    with pytest.raises(InputError, match="cutout is -2"):
        Augmentation(cutout=-2)

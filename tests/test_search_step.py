"""Rows of an epoch, means over it, and what a search keeps apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import records, user_settings
from small_search import PLAIN, config, quick, run

from jdarts import data
from jdarts.report import read_metrics
from jdarts.search.building import program_from_config, search_images
from jdarts.search.images import SearchImages
from jdarts.search.step import AVERAGED, Rows

__all__ = ["quick", "user_settings"]


def program(train, valid, **changes):
    """Functions of a search over made-up counts of images; nothing is compiled before it is called."""
    return program_from_config(
        config(None, **changes),
        image_shape=(8, 8, 1),
        classes=10,
        counts=(train, valid),
        augmentation=data.Augmentation(),
        mean=(0.5,),
        std=(0.25,),
    )


def rows_of(train, valid, epoch, seed=0, **changes):
    rows = program(train, valid, **changes).rows(jax.random.key(seed), jnp.int32(epoch))
    return np.asarray(rows.train), np.asarray(rows.valid)


@pytest.mark.parametrize("train, valid", [(50, 50), (50, 33), (33, 50)])
def test_an_epoch_takes_every_row_once(train, valid):
    steps = train // 8
    train_rows, valid_rows = rows_of(train, valid, 0, batch_size=8)
    assert train_rows.shape == valid_rows.shape == (steps, 8)
    assert len(set(train_rows.ravel())) == 8 * steps
    assert set(train_rows.ravel()) <= set(range(train))
    assert set(valid_rows.ravel()) <= set(range(valid))
    # Where the alphas have fewer images, each has come once before one comes twice.
    counts = np.bincount(valid_rows.ravel(), minlength=valid)
    assert counts.max() <= 1 if valid >= 8 * steps else set(counts) == {1, 2}


def test_rows_depend_on_key_and_epoch_alone():
    first = rows_of(50, 50, 3, batch_size=8)
    again = rows_of(50, 50, 3, batch_size=8)
    assert np.array_equal(first, again)
    for other in (rows_of(50, 50, 4, batch_size=8), rows_of(50, 50, 3, seed=1, batch_size=8)):
        assert not np.array_equal(first[0], other[0])
        assert not np.array_equal(first[1], other[1])
    assert not np.array_equal(first[0], first[1])


def marked_images(count=301):
    """Images of which each holds its own number."""
    images = np.zeros((count, 8, 8, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(count), 256)
    split = data.ImageSplit(images, np.arange(count, dtype=np.int32) % 10)
    names, crops = tuple("0123456789"), data.Augmentation()
    return data.ImageDataset("marked", split, split, names, (0.5,), (0.25,), crops, shuffled=True)


@pytest.mark.parametrize("images_on", ["host", "device"])
def test_the_alphas_never_see_an_image_of_the_weights(images_on):
    images = search_images(config(None, images_on=images_on, batch_size=32), marked_images())
    assert isinstance(images, SearchImages)
    assert (len(images.train), len(images.valid)) == (150, 151)
    rows = program(150, 151, batch_size=32).rows(jax.random.key(0), jnp.int32(0))
    seen = {"train": [], "valid": []}
    for place in range(images.steps_per_epoch):
        pixels, chosen = images.step_inputs(Rows(*map(np.asarray, rows)), range(place, place + 1))
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (pixels, chosen))
        assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), images.step_shapes())
        for half in seen:
            batch = np.asarray(getattr(pixels, half))[np.asarray(getattr(chosen, half))]
            labels = np.asarray(getattr(pixels, f"{half}_labels"))[np.asarray(getattr(chosen, half))]
            numbers = 256 * batch[:, 0, 0, 0].astype(int) + batch[:, 0, 1, 0]
            np.testing.assert_array_equal(numbers % 10, labels)
            seen[half] += numbers.tolist()
    assert seen["train"] == np.asarray(rows.train).ravel().tolist()
    assert seen["valid"] == (150 + np.asarray(rows.valid).ravel()).tolist()


@pytest.mark.parametrize("seed", [None, 3])
def test_fractions_of_the_images_for_weights_and_alphas(seed):
    settings = {"train_fraction": 0.5, "alpha_fraction": 0.2, "batch_size": 32, "split_seed": seed}
    images = search_images(config(None, **settings), marked_images())
    assert isinstance(images, SearchImages)
    numbers = [
        256 * half.images[:, 0, 0, 0].astype(int) + half.images[:, 0, 1, 0] for half in (images.train, images.valid)
    ]
    assert [len(each) for each in numbers] == [150, 60] and images.steps_per_epoch == 4
    assert len(set(np.concatenate(numbers))) == 210
    in_order = np.array_equal(numbers[0], np.arange(150)) and np.array_equal(numbers[1], np.arange(150, 210))
    assert in_order == (seed is None)
    if seed is not None:
        assert set(np.bincount(images.train.labels)) == {15} and set(np.bincount(images.valid.labels)) == {6}


def test_the_evaluation_sees_every_image_of_the_alphas_once():
    images = search_images(config(None, batch_size=32), marked_images())
    numbers = []
    for pixels, labels, mask in images.evaluation_batches():
        shapes = [(array.shape, array.dtype) for array in (pixels, labels, mask)]
        assert shapes == [(shape.shape, shape.dtype) for shape in images.evaluation_shapes()]
        numbers += (256 * pixels[mask, 0, 0, 0].astype(int) + pixels[mask, 0, 1, 0]).tolist()
    assert numbers == list(range(150, 301))


def test_the_means_of_an_epoch_are_those_of_all_its_steps(quick, tmp_path):
    run(tmp_path / "every", log_every=1, **PLAIN)
    written = read_metrics(tmp_path / "every")
    for epoch in (1, 2):
        (end,) = [record for record in written if record.get("epoch/number") == epoch]
        steps = [
            record for record in written if "train/loss" in record and 5 * (epoch - 1) < record["step"] <= 5 * epoch
        ]
        assert [record["step"] for record in steps] == list(range(5 * epoch - 4, 5 * epoch + 1))
        assert end["step"] == 5 * epoch
        for name in AVERAGED:
            mean = np.mean([record[name] for record in steps])
            assert end[f"epoch/{name.replace('/', '_')}"] == pytest.approx(mean, rel=1e-6)
    run(tmp_path / "fourth", log_every=4, **PLAIN)
    fewer = records(tmp_path / "fourth")
    assert [record["step"] for record in fewer] == [1, 4, 5, 5, 6, 8, 10, 10]
    assert all(record in records(tmp_path / "every") for record in fewer)

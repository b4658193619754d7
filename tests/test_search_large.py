"""Searches that read pictures one by one, and the stem that halves them."""

import dataclasses
import io
import pickle
from typing import Any

import jax
import numpy as np
import pytest
import small_runs
from picture_files import folder_of_classes
from small_runs import Died, die_at, user_settings
from small_search import PLAIN, SETTINGS, assert_same_bits, quick, searches

from jdarts import checkpoint
from jdarts.data.own.streaming import PictureSplit, stream_path
from jdarts.data.streamed.dataset import SomePictures
from jdarts.data.streamed.workers import InTurn
from jdarts.errors import InputError
from jdarts.nets.supernet import Supernet
from jdarts.runs.devices import Devices
from jdarts.search import search
from jdarts.search.building import search_images, search_task
from jdarts.search.memory_options import unused_memory_options

__all__ = ["quick", "user_settings"]
pytest.importorskip("grain")

config, _ = searches({**SETTINGS, **PLAIN})
PICTURES = {
    "network": "imagenet",
    "image_size": 32,
    "batch_size": 4,
    "train_fraction": 0.6,
    "alpha_fraction": 0.3,
    "color_jitter": (0.4, 0.4, 0.4, 0.1),
    "workers": 0,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_of_classes(
        tmp_path_factory.mktemp("pictures") / "shots", {"ape": 15, "bee": 15, "cat": 15}, height=40, width=44
    )


@pytest.fixture(scope="module")
def dataset(folder):
    return stream_path(folder, lambda _: None)


def searched(folder, run_dir, **changes):
    stream = io.StringIO()
    settings = config(run_dir, **{**PICTURES, "dataset": str(folder), **changes})
    search(settings, programs=small_runs.shared_programs, stream=stream)
    return stream.getvalue()


def of(folder, **changes):
    return config(None, **{**PICTURES, "dataset": str(folder), **changes})


def images_of(settings, dataset) -> Any:
    return search_images(settings, dataset)


def epochs_of(images, *which, first=0):
    """Pixels and labels of the batches of epochs."""
    calls = [range(step, step + 1) for step in range(first, images.steps_per_epoch)]
    steps = [inputs for epoch in which for inputs, _ in images.epoch(lambda: None, epoch, calls)]
    return [jax.tree.map(np.asarray, each) for each in steps]


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_the_halves_share_no_picture_and_have_their_share_of_each_class(folder, dataset):
    images = images_of(of(folder), dataset)
    halves = [{half.where(place) for place in range(len(half))} for half in (images.train, images.valid)]
    assert [len(each) for each in halves] == [21, 10] and len(halves[0] | halves[1]) == 31
    for half, least in ((images.train, 7), (images.valid, 3)):
        assert np.bincount(half.labels).min() == least
        assert [half[place][1] for place in range(len(half))] == half.labels.tolist()
    other = images_of(of(folder, split_seed=5), dataset)
    assert {other.train.where(place) for place in range(21)} != halves[0]


def test_the_batches_follow_from_the_seed_and_the_step(folder, dataset):
    images = images_of(of(folder), dataset)
    assert images.steps_per_epoch == 5
    every = epochs_of(images, 0, 1)
    assert len(every) == 10
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), images.step_shapes()[0])
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), every[0]) == shapes
    same(epochs_of(images_of(of(folder), dataset), 1, first=3), every[8:])
    assert np.any(every[0].train != every[5].train)
    other = epochs_of(images_of(of(folder, seed=1), dataset), 0)
    assert np.any(other[0].train != every[0].train) and np.any(other[0].valid != every[0].valid)
    # A pass of the alphas' ten pictures ends within a batch.
    labels = np.concatenate([each.valid_labels for each in every])
    assert [np.bincount(labels[start : start + 10]).tolist() for start in (0, 10, 20, 30)] == [
        np.bincount(images.valid.labels).tolist()
    ] * 4


def test_the_last_batch_is_not_decoded_twice(folder, dataset, monkeypatch):
    images = images_of(of(folder), dataset)
    every = epochs_of(images, 0)
    monkeypatch.setattr(InTurn, "__getitem__", None)
    same(epochs_of(images, 0, first=4), every[4:])


def test_the_evaluation_reads_the_pictures_of_the_alphas(folder, dataset):
    images = images_of(of(folder), dataset)
    batches = list(images.evaluation_batches())
    shapes = [(each.shape, each.dtype) for each in images.evaluation_shapes()]
    assert all([(array.shape, array.dtype) for array in batch] == shapes for batch in batches)
    labels = np.concatenate([labels[mask] for _, labels, mask in batches])
    np.testing.assert_array_equal(labels, images.valid.labels)


class _Unknown(PictureSplit):
    """Pictures whose labels are known only when they are read."""

    @property
    def labels(self):
        return None


def test_pictures_with_unknown_labels_are_split_in_their_order(folder, dataset):
    unknown = dataclasses.replace(dataset, train=_Unknown(dataset.train.pictures))
    images = images_of(of(folder), unknown)
    assert (images.train.rows.tolist(), images.valid.rows.tolist()) == (list(range(21)), list(range(21, 31)))
    seeded = images_of(of(folder, split_seed=2), unknown)
    assert sorted(seeded.train.rows.tolist()) != list(range(21))
    assert not set(seeded.train.rows.tolist()) & set(seeded.valid.rows.tolist())
    assert pickle.loads(pickle.dumps(SomePictures(dataset.train, np.array([3])))).where(0) == dataset.train.where(3)


def test_the_network_has_the_stem(folder, dataset, monkeypatch):
    monkeypatch.setattr("jdarts.search.building.Supernet", Supernet)
    task = search_task(of(folder), dataset, Devices(1, "shard"))
    weights = task.template.bilevel.weights
    assert weights["stem0"]["kernel"].shape == (3, 3, 3, 1) and weights["stem2"]["kernel"].shape == (3, 3, 2, 2)
    assert task.record(task.template)["network"] == "imagenet"
    assert "21 images for the weights, 10 for the alphas" in task.description


def test_a_search_that_dies_resumes_with_the_same_pictures(quick, folder, tmp_path, monkeypatch):
    shown = searched(folder, tmp_path / "undisturbed")
    assert "shots: a folder of classes, 3 classes, read picture by picture" in shown
    die_at(monkeypatch, checkpoint, "save", 4)
    with pytest.raises(Died):
        searched(folder, tmp_path / "run", checkpoint_minutes=1e-9)
    monkeypatch.undo()
    shown = searched(folder, tmp_path / "run")
    assert "after step 3" in shown
    assert_same_bits(tmp_path / "run", tmp_path / "undisturbed")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seeds": "0-1"}, r"--seeds is 0-1, and the searches would share images in memory, but .* is read picture by"),
        (
            {"network": "cifar"},
            "--color-jitter is for imagenet2012 and imagenette and for your own folder with --network",
        ),
        ({"color_jitter": (0, 0, 0, 0.6)}, "--color-jitter is 0 0 0 0.6; give numbers from 0 to 1, the last to 0.5"),
    ],
)
def test_what_pictures_on_disk_refuse(changes, message, folder):
    with pytest.raises(InputError, match=message):
        of(folder, **changes).check()


def test_a_part_without_a_batch_or_a_class_is_refused(folder, dataset):
    with pytest.raises(InputError, match="the part of shots that trains the alphas has 10 images; give 10 or less"):
        images_of(of(folder, batch_size=12), dataset)
    with pytest.raises(InputError, match=r"has no image of class .*, and the other part has"):
        images_of(of(folder, alpha_fraction=0.06, batch_size=2), dataset)
    with pytest.raises(InputError, match=r"images of 36×36 are 9×9 at the last halving of the stem"):
        images_of(of(folder, image_size=36), dataset)


def test_smaller_feature_maps_are_advised_for_large_pictures(folder):
    advised = dict(unused_memory_options(of(folder, image_size=224), 1))
    assert advised["--image-size 96"] == (96 / 224) ** 2 and "--network imagenet" not in advised
    large = dict(unused_memory_options(config(None, dataset="imagenette"), 1))
    assert large["--network imagenet"] == 1 / 64 and "--image-size 96" in large
    assert "--image-size" not in str(unused_memory_options(config(None), 1))

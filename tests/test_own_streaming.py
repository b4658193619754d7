"""A folder of pictures that training reads one by one, in random crops."""

import io
import pickle

import numpy as np
import pytest
import small_search
import small_train
from picture_files import folder_of_classes, folder_with_splits, own_cache, pixels, save
from PIL import Image
from small_runs import take_no_steps, user_settings

from jdarts.data.own.streaming import stream_path
from jdarts.data.streamed.views import ColorJitter
from jdarts.data.streamed.workers import EvaluationViews, TrainingViews
from jdarts.errors import InputError
from jdarts.search import SearchConfig, search
from jdarts.train import TrainConfig, train

__all__ = ["own_cache", "user_settings"]


def opened(folder):
    said = []
    return stream_path(folder, said.append), "\n".join(said)


def pictures(split):
    return [split.decode(split[place][0]) for place in range(len(split))]


def test_the_pictures_of_a_folder_are_read_as_they_are(tmp_path):
    dataset, said = opened(folder_with_splits(tmp_path / "pets", height=20, width=30))
    assert (dataset.name, dataset.class_names, len(dataset.train), len(dataset.test)) == ("pets", ("cat", "dog"), 12, 6)
    found = {
        (np.asarray(each).tobytes(), dataset.train[place][1]) for place, each in enumerate(pictures(dataset.train))
    }
    assert found == {(pixels([0, label, number], 20, 30).tobytes(), label) for label in (0, 1) for number in range(6)}
    labels = [dataset.train[place][1] for place in range(12)]
    assert labels not in (sorted(labels), sorted(labels, reverse=True))
    assert said == "pets: a folder with train/, test/, 2 classes, read picture by picture"


def test_the_second_opening_reads_no_whole_file_until_one_changes(tmp_path, monkeypatch):
    folder = folder_with_splits(tmp_path / "pets", height=20, width=30)
    assert len(opened(folder)[0].train) == 12
    with monkeypatch.context() as patch:
        patch.setattr("jdarts.data.own.scanning.read_bounded", lambda *_: pytest.fail("read"))
        assert len(opened(folder)[0].train) == 12
    whole = (folder / "train/cat/0.png").read_bytes()
    (folder / "train/cat/0.png").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        dataset, said = opened(folder)
        assert len(dataset.train) == 11 and "left out: train/cat/0.png is damaged (image file is truncated)" in said


def test_a_flat_folder_is_split_by_class(tmp_path):
    dataset, said = opened(folder_of_classes(tmp_path / "pets", {"cat": 20, "dog": 10}))
    assert sorted(dataset.test[place][1] for place in range(len(dataset.test))) == [0] * 4 + [1] * 2
    assert "a fifth of each class, chosen with seed 0, serves as such: 24 to train and 6 to test" in said
    names = [{split.where(place) for place in range(len(split))} for split in (dataset.train, dataset.test)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == 30
    with pytest.raises(InputError, match="dog has one image, and without test images each class needs two"):
        opened(folder_of_classes(tmp_path / "few", {"cat": 2, "dog": 1}))


def test_validation_images_are_used(tmp_path):
    folder = folder_with_splits(tmp_path / "pets")
    (folder / "test").rename(folder / "val")
    assert len(opened(folder)[0].test) == 6
    folder_of_classes(folder / "test", seed=3)
    assert (len(opened(folder)[0].train), len(opened(folder)[0].test)) == (18, 8)


def test_other_formats_become_plain_pictures(tmp_path):
    folder = tmp_path / "pets"
    grey = Image.new("L", (8, 8), 80)
    for name in ("plain.png", "picture.webp", "picture.bmp", "photo.jpg"):
        save(folder / "a" / name, grey, **({"lossless": True} if name.endswith("webp") else {}))
    save(folder / "b/clear.png", Image.new("RGBA", (8, 8), (0, 0, 0, 0)))
    save(folder / "b/bits.png", np.full((8, 8), 80 * 257, np.uint16))
    dataset, _ = opened(folder)
    every = [*pictures(dataset.train), *pictures(dataset.test)]
    assert {each.mode for each in every} == {"RGB"}
    assert sorted(int(np.asarray(each.convert("L"))[0, 0]) for each in every) == [80] * 5 + [255]


def test_photographs_stand_upright(tmp_path):
    lying = Image.fromarray(pixels(0, 8, 16))
    exif = lying.getexif()
    exif[0x0112] = 6
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        save(tmp_path / "shots" / name, lying, exif=exif)
    dataset, _ = opened(tmp_path / "shots")
    for each in pictures(dataset.train):
        np.testing.assert_array_equal(np.asarray(each), np.rot90(pixels(0, 8, 16), -1))


def test_workers_can_be_given_the_folder(tmp_path):
    dataset, _ = opened(folder_with_splits(tmp_path / "pets", height=20, width=30))
    views = TrainingViews(
        split=dataset.train, count=12, epochs=2, per_epoch=12, size=16, jitter=ColorJitter(0.4, 0.4, 0.4, 0.1), seed=0
    )
    again = pickle.loads(pickle.dumps(views))
    assert views[3][0].shape == (16, 16, 3)
    np.testing.assert_array_equal(views[3][0], again[3][0])


def test_what_is_damaged_is_named(tmp_path):
    folder = folder_with_splits(tmp_path / "pets", height=32, width=32)
    whole = (folder / "test/cat/0.png").read_bytes()
    (folder / "test/cat/0.png").write_bytes(whole[: len(whole) // 2])
    (folder / "test/cat/1.png").write_bytes(b"x")
    save(folder / "test/cat/2.png", pixels(0, 1, 101))
    dataset, said = opened(folder)
    assert len(dataset.test) == 3
    assert "left out: test/cat/1.png is damaged or no picture" in said
    assert "left out: test/cat/0.png is damaged (image file is truncated)" in said
    assert "left out: test/cat/2.png has one side that is more than 100 times the other" in said
    # A picture that is damaged while a run reads it ends the run.
    (folder / "test/dog/1.png").write_bytes(whole[: len(whole) // 2])
    views = EvaluationViews(dataset.test, 0, 3, 16)
    with pytest.raises(InputError, match=r"^test/dog/1\.png: a picture cannot be decoded: .* replace it"):
        for place in range(3):
            views[place]
    (folder / "test/dog/0.png").unlink()
    with pytest.raises(InputError, match=r"dog/0\.png: No such file"):
        for place in range(3):
            dataset.test[place]
    for number in range(6):
        (folder / f"train/dog/{number}.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        InputError, match=r"no training image of dog can be read \(.*mend the files, or remove the class"
    ):
        opened(folder)


def test_the_fingerprint_has_names_and_sizes(tmp_path):
    first, other = (folder_with_splits(tmp_path / each / "pets") for each in "ab")
    assert opened(first)[0].fingerprint == opened(other)[0].fingerprint
    save(other / "train/cat/more.png", pixels(5))
    assert opened(first)[0].fingerprint != opened(other)[0].fingerprint


@pytest.mark.usefixtures("user_settings")
def test_a_training_with_the_network_for_large_images_reads_picture_by_picture(tmp_path, monkeypatch):
    pytest.importorskip("grain")
    monkeypatch.chdir(tmp_path)
    take_no_steps(monkeypatch)
    folder = folder_with_splits(tmp_path / "pets", height=40, width=40)
    given = {
        "network": "imagenet",
        "image_size": 32,
        "batch_size": 4,
        "color_jitter": (0.4, 0.4, 0.4, 0.1),
        "cutout": 0,
    }
    settings = {**small_train.SETTINGS, **given, "dataset": str(folder), "auxiliary": False}
    stream = io.StringIO()
    train(TrainConfig(**settings), stream=stream)
    assert "read picture by picture" in stream.getvalue()
    with pytest.raises(InputError, match="--color-jitter is for imagenet2012 and imagenette and for your own folder"):
        TrainConfig(**{**settings, "network": "cifar"}).check()
    with pytest.raises(InputError, match="--split-seed is for images in memory"):
        TrainConfig(**settings, split_seed=1).check()


@pytest.mark.usefixtures("user_settings")
@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_folder_that_no_memory_holds_is_read_picture_by_picture(tmp_path, kind, monkeypatch):
    pytest.importorskip("grain")
    take_no_steps(monkeypatch)
    folder = folder_with_splits(tmp_path / "pets", height=40, width=40)

    def shown(run, memory, **changes):
        monkeypatch.setattr("jdarts.data.own.reading.available_bytes", lambda: memory)
        stream, given = io.StringIO(), {"run_dir": tmp_path / run, "dataset": str(folder), "batch_size": 4, **changes}
        if kind == "search":
            search(SearchConfig(**{**small_search.SETTINGS, **given}), stream=stream)
        else:
            train(TrainConfig(**{**small_train.SETTINGS, "cutout": 0, "auxiliary": False, **given}), stream=stream)
        return stream.getvalue().splitlines()

    sizes = (
        "pets: 18 images of 40×40 take 0.0 GB, and 40% of the free memory are 0.0 GB: the pictures stay in their files"
    )
    streamed = "pets: a folder with train/, test/, 2 classes, read picture by picture, in random crops of 40×40"
    assert shown("run", 1000)[:2] == [sizes, streamed]
    # A run stays as it was begun, whatever memory there is.
    assert shown("run", None)[0] == streamed
    assert shown("small", 1000, image_size=16)[1].endswith("in random crops of 16×16")
    assert "in colour" in shown("other", None)[1]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    with pytest.raises(InputError, match=r"take 0\.0 GB, .* read it picture by picture"):
        shown("other", 1000)
    if kind == "train":
        with pytest.raises(InputError, match="--split-seed is for images in memory"):
            shown("seed", 1000, split_seed=1)

"""Images and texts of the user's own: a run belongs to its data, and a split gives each class its share."""

import dataclasses
import io
import json
import time
from typing import Any

import numpy as np
import pytest
import small_language
import small_pipeline
import small_runs
import small_search
import small_train
from small_pipeline import quick
from small_runs import leaves, newest, user_settings

from jdarts import data
from jdarts.data import ImageDataset, ImageSplit, halves
from jdarts.data.splitting import stratified_order
from jdarts.errors import InputError
from jdarts.language.search import search_language
from jdarts.language.train import train_language
from jdarts.runs import CompiledPrograms, RunFolder
from jdarts.search import SearchConfig, search, search_seeds
from jdarts.search.building import search_images
from jdarts.search.images import SearchImages
from jdarts.train import TrainConfig, train
from jdarts.train.task import train_images

__all__ = ["quick", "user_settings"]


def own_images(name="apples", classes=4, shape=(16, 16, 3), count=320, seed=0, **changes):
    """Images sorted by class, a brightness for each class, as folders of classes are read."""
    generator = np.random.default_rng(seed)
    splits = []
    for size in (count, count // 4):
        labels = np.sort(np.arange(size, dtype=np.int32) % classes)
        base = (labels * (200 // classes))[:, None, None, None]
        splits.append(ImageSplit((base + generator.integers(0, 40, (size, *shape))).astype(np.uint8), labels))
    channels = shape[-1]
    made = ImageDataset(
        name,
        train=splits[0],
        test=splits[1],
        class_names=tuple(f"{name}{k}" for k in range(classes)),
        mean=(0.4,) * channels,
        std=(0.2,) * channels,
        augmentation=data.Augmentation(),
    )
    return dataclasses.replace(made, **changes) if changes else made


def pears():
    return own_images("pears", classes=2, shape=(8, 8, 1))


#: What belongs to images depends neither on the hypergradient nor on augmentation; these compile soonest.
SEARCH = {**small_search.SETTINGS, **small_search.PLAIN, "epochs": 1, "batch_size": 32}
#: Of searches on the digits, one program of which serves several tests.
DIGITS: dict[str, Any] = {"epochs": 1, **small_search.PLAIN}
TRAIN = {**small_train.SETTINGS, **small_train.PLAIN, "epochs": 1, "batch_size": 64}


def quiet() -> dict[str, Any]:
    return {"stream": io.StringIO(), "programs": small_runs.shared_programs}


def run_search(dataset, **changes):
    return search(SearchConfig(**{**SEARCH, **changes}), dataset=dataset, **quiet())


def run_seeds(dataset, **changes):
    return search_seeds(SearchConfig(**{**SEARCH, "seeds": "0-1", **changes}), dataset=dataset, **quiet())


def run_train(dataset, **changes):
    return train(TrainConfig(**{**TRAIN, **changes}), dataset=dataset, **quiet())


def run_pipeline(dataset, **changes):
    config = small_pipeline.config(changes.get("run_dir"), searches=1, repeats=1)
    parts = {"search": {"batch_size": 32, "hypergradient": "first_order"}, "train": {"batch_size": 64}}
    parts = {name: dataclasses.replace(getattr(config, name), epochs=1, **part) for name, part in parts.items()}
    return small_pipeline.pipeline(dataclasses.replace(config, **parts), dataset=dataset, stream=io.StringIO())


KINDS = {"search": run_search, "seeds": run_seeds, "train": run_train, "pipeline": run_pipeline}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["search", "seeds", "train"])
def test_each_set_has_a_folder_and_a_result(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    for dataset in (own_images("red apples: 2026"), pears()):
        results = KINDS[kind](dataset)
        for result in results if kind == "seeds" else [results]:
            settings = json.loads((result.folder / "config.json").read_text())
            assert settings["dataset"] == settings["data"]["name"] == dataset.name
            assert settings["data"]["shape"] == list(dataset.image_shape)
            assert settings["data"]["class_names"] == list(dataset.class_names)
            record = newest(result.folder).record
            assert record["data"] == settings["data"]
            if kind == "train":
                assert record["images"]["class_names"] == list(dataset.class_names)
    names = {path.name.split("-DARTS")[0].split("-first_order")[0] for path in (tmp_path / "runs").iterdir()}
    assert names == {f"{kind.replace('seeds', 'search')}-{name}" for name in ("red-apples-2026", "pears")}


OTHERS = {
    "pixels": lambda: own_images(seed=1),
    "one pixel": lambda: _with_one_pixel_changed(own_images()),
    "labels": lambda: own_images(train=ImageSplit(own_images().train.images, own_images().train.labels[::-1].copy())),
    "test images": lambda: own_images(test=own_images(seed=2).test),
    "class names": lambda: own_images(class_names=("a", "b", "c", "d")),
    "mean": lambda: own_images(mean=(0.4, 0.4, 0.3)),
    "augmentation": lambda: own_images(augmentation=data.Augmentation(flip=True)),
    "name": lambda: own_images("oranges"),
    "shape and classes": pears,
}


def _with_one_pixel_changed(dataset):
    images = dataset.train.images.copy()
    images[-1, -1, -1, -1] ^= 1
    return dataclasses.replace(dataset, train=ImageSplit(images, dataset.train.labels))


@pytest.mark.parametrize("other", OTHERS)
def test_fingerprints_tell_sets_apart(other):
    assert OTHERS[other]().fingerprint != own_images().fingerprint
    assert own_images().fingerprint == own_images().fingerprint == json.loads(json.dumps(own_images().fingerprint))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_is_not_the_result_of_other_images(tmp_path, kind):
    run, folder = KINDS[kind], tmp_path / "run"
    run(own_images(), run_dir=folder)
    for other, said in (("pixels", "sha256"), ("class names", "class_names apples0 apples1"), ("name", "apples")):
        with pytest.raises(InputError, match=said):
            run(OTHERS[other](), run_dir=folder)
    run(own_images(), run_dir=folder)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["search", "seeds", "train"])
def test_an_interrupted_run_is_not_resumed_on_other_images(tmp_path, kind):
    run, folder = KINDS[kind], tmp_path / "run"
    run(own_images(), run_dir=folder)
    for summary in folder.rglob("summary.json"):
        summary.unlink()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"was begun with other data: sha256 .* give the same data to resume it"):
        run(OTHERS["one pixel"](), run_dir=folder)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("quick")
def test_a_finished_run_is_reported_without_its_images(tmp_path, monkeypatch):
    small_search.run(tmp_path / "run", **DIGITS)

    def missing(*_, **__):
        raise InputError("the images are gone")

    monkeypatch.setattr(data, "load", missing)
    _, shown = small_search.run(tmp_path / "run", **DIGITS)
    assert f"{tmp_path / 'run'} is not compared with the data of this command: the images are gone" in shown
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(InputError, match="the images are gone"):
        small_search.run(tmp_path / "run", **DIGITS)


@pytest.mark.usefixtures("quick")
def test_runs_without_a_fingerprint_are_resumed(tmp_path):
    """Runs of versions that wrote none took every set in its own order."""
    folder = tmp_path / "run"
    small_search.run(folder, **DIGITS)
    (folder / "summary.json").unlink()
    settings = json.loads((folder / "config.json").read_text())
    del settings["data"], settings["split_seed"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert "finished" in small_search.run(folder, **DIGITS)[1]
    (folder / "summary.json").unlink()
    sorted_by_class = dataclasses.replace(data.load("digits"), shuffled=False)
    with pytest.raises(InputError, match=r"shuffled True \(now False\)"):
        small_search.run(folder, **DIGITS, dataset=sorted_by_class)


@pytest.mark.usefixtures("user_settings")
@pytest.mark.parametrize(
    ("run", "make"),
    [(search_language, small_language.search_config), (train_language, small_language.train_config)],
)
def test_a_run_on_text_belongs_to_its_text(tmp_path, monkeypatch, run, make):
    monkeypatch.chdir(tmp_path)
    small_runs.take_no_steps(monkeypatch)
    corpus = dataclasses.replace(small_language.corpus(), name="letters")
    folder = run(make(None, epochs=1), corpus=corpus, stream=io.StringIO())
    assert "letters" in folder.name
    words = corpus.valid.copy()
    words[3] = (words[3] + 1) % small_language.WORDS
    other = dataclasses.replace(corpus, valid=words)
    with pytest.raises(InputError, match="other data: sha256"):
        run(make(None, epochs=1), corpus=other, stream=io.StringIO())
    renamed = dataclasses.replace(corpus, vocabulary=(*corpus.vocabulary[:-1], "other"))
    with pytest.raises(InputError, match="other data: sha256"):
        run(make(None, epochs=1), corpus=renamed, stream=io.StringIO())


@pytest.mark.parametrize("fraction", [0.5, 0.25, 0.9])
@pytest.mark.parametrize("seed", [0, 7])
def test_each_part_has_its_share_of_each_class(fraction, seed):
    counts = np.array([40, 2, 100, 7, 13])
    labels = np.repeat(np.arange(5, dtype=np.int32), counts)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    parts = halves(ImageSplit(images, labels), fraction=fraction, seed=seed)
    assert sorted(np.concatenate([part.images[:, 0, 0, 0] for part in parts])) == list(range(len(labels)))
    assert len(parts[0]) == int(fraction * len(labels))
    for part, share in zip(parts, (fraction, 1 - fraction)):
        found = np.bincount(part.labels, minlength=5)
        assert np.all(np.abs(found - share * counts) <= 1)
        assert found.min() >= 1
        # Not sorted by class within the part either.
        assert np.any(np.diff(part.labels) < 0)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "a", True, [1, 2]])
def test_seeds_of_splits_are_whole_numbers_of_32_bits(seed):
    with pytest.raises(InputError, match=r"the seed is .*; give a whole number from 0"):
        own_images().halves(seed=seed)


@pytest.mark.parametrize("fraction", ["0.5", None, 1j, [0.5]])
def test_fractions_are_numbers(fraction):
    with pytest.raises(InputError, match="leaves a part empty; give a fraction"):
        own_images().halves(fraction=fraction)


def test_halves_of_a_set_name_the_method():
    dataset: Any = own_images()
    with pytest.raises(InputError, match="a ImageDataset is given; a set has a method halves"):
        halves(dataset)


@pytest.mark.parametrize(
    ("counts", "fraction"), [((3,) * 20_000, 0.5), ((2,) * 20_000, 0.4), ((1, *(5,) * 20_000), 0.3)]
)
def test_many_classes_are_split_in_a_moment(counts, fraction):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    first = int(fraction * len(labels))
    begun = time.process_time()
    order = stratified_order(labels, first, 0)
    assert time.process_time() - begun < 1
    assert np.array_equal(np.sort(order), np.arange(len(labels)))
    found = np.bincount(labels[order[:first]], minlength=len(counts))
    assert np.all(np.abs(found - fraction * np.array(counts)) < 2)


def test_a_seed_decides_the_split():
    labels = np.repeat(np.arange(3, dtype=np.int32), 20)
    orders = [stratified_order(labels, 30, seed).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:4] == [26, 35, 59, 28], "the split of a seed is the same in every version"


def test_sorted_images_without_a_seed_are_refused():
    with pytest.raises(InputError, match="no image of class 2, 3, and the other part has; give a split seed"):
        halves(own_images().train)
    lonely = own_images(class_names=("a", "b", "c", "lonely", "e"), train=ImageSplit(
        np.zeros((9, 16, 16, 3), np.uint8), np.array([0, 0, 1, 1, 2, 2, 3, 4, 4], np.int32)
    ))  # fmt: skip
    with pytest.raises(InputError, match=r"no image of class lonely.*two images or more"):
        lonely.halves()


def test_search_and_training_share_out_every_class(user_settings):
    """320 images of 4 classes in order: all parts have a quarter of each."""
    dataset = own_images()
    images = search_images(SearchConfig(**SEARCH), dataset)
    other = search_images(SearchConfig(**SEARCH, split_seed=1), dataset)
    assert isinstance(images, SearchImages) and isinstance(other, SearchImages)
    assert np.bincount(images.train.labels).tolist() == np.bincount(images.valid.labels).tolist() == [40] * 4
    assert np.any(other.train.images != images.train.images)

    trained = train_images(TrainConfig(**TRAIN), dataset)
    assert (trained.train_count, trained.valid_count) == (240, 80)
    held_out = [labels[mask] for _, labels, mask in trained.valid_batches()]
    assert np.bincount(np.concatenate(held_out)).tolist() == [20] * 4


def test_official_halves_stay(user_settings):
    digits = data.load("digits")
    images = search_images(SearchConfig(**SEARCH), digits)
    np.testing.assert_array_equal(images.train.labels, digits.train.labels[:718])
    np.testing.assert_array_equal(images.valid.labels, digits.train.labels[718:])
    first, _ = digits.halves()
    assert np.shares_memory(first.images, digits.train.images)
    seeded = search_images(SearchConfig(**SEARCH, split_seed=0), digits)
    assert np.any(seeded.train.labels != images.train.labels)


@pytest.mark.usefixtures("quick")
def test_held_out_images_of_a_sorted_set_never_train(tmp_path):
    """The network that trains reads only the first part: its bits do not depend on what is held out."""
    dataset = own_images()
    run_train(dataset, run_dir=tmp_path / "run", validation_fraction=0.25)
    whole, count = dataset.arranged(fraction=0.75)
    images = whole.images.copy()
    images[count:] = 0
    arranged = dataclasses.replace(dataset, train=ImageSplit(images, whole.labels), shuffled=True)
    run_train(arranged, run_dir=tmp_path / "blank", validation_fraction=0.25)
    assert leaves(tmp_path / "run") == leaves(tmp_path / "blank")


@pytest.mark.parametrize("config", [SearchConfig, TrainConfig])
@pytest.mark.parametrize("seed", [-1, 2**32])
def test_wrong_split_seeds_are_refused(config, seed):
    with pytest.raises(InputError, match=f"--split-seed is {seed}"):
        config(split_seed=seed).check()


@pytest.mark.usefixtures("quick")
def test_sets_of_other_sizes_share_no_program(tmp_path):
    """Rows are drawn from as many images as there are, also where the host gathers them."""
    programs, settings = CompiledPrograms(), {"batch_size": 25, "images_on": "host"}
    for count in (101, 102):
        config = SearchConfig(**{**SEARCH, **settings, "run_dir": tmp_path / str(count)})
        search(config, dataset=own_images(count=count), stream=io.StringIO(), programs=programs)
    run_search(own_images(count=102), run_dir=tmp_path / "alone", **settings)
    assert leaves(tmp_path / "102") == leaves(tmp_path / "alone")


@pytest.mark.usefixtures("user_settings")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", ["digits", own_images().train, 5])
def test_what_is_no_image_set_is_refused(tmp_path, kind, given):
    with pytest.raises(InputError, match=r"the data are a \w+; give a ImageDataset, or the name of a set"):
        KINDS[kind](given, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("quick")
def test_a_fingerprint_that_is_removed_meanwhile_is_noticed(tmp_path, monkeypatch):
    folder = tmp_path / "run"

    def without_data(run, genotype, epoch=None):
        settings = json.loads((folder / "config.json").read_text())
        del settings["data"]
        (folder / "config.json").write_text(json.dumps(settings))

    monkeypatch.setattr(RunFolder, "write_genotype", without_data)
    with pytest.raises(InputError, match=r"config.json was changed while the run used it"):
        small_search.run(folder, **DIGITS)

"""Any image set that tensorflow-datasets has prepared, by its name; and folders of Hugging Face datasets."""

import io
import json
import sys
import types
from typing import ClassVar

import pytest
from picture_files import own_cache, pixels
from PIL import Image
from prepared_pictures import CLASSES, TEST, TRAIN, prepare

from jdarts.data import load, own_path
from jdarts.errors import InputError

__all__ = ["own_cache"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A set without configurations and one with, each of JPEG pictures of several sizes."""
    folder = tmp_path_factory.mktemp("prepared")
    prepare(folder, set_name="pets", config="")
    prepare(folder, set_name="birds", config="small", splits={"train": 8})
    return folder


def test_a_set_is_found_by_its_name(data_dir, monkeypatch, tmp_path):
    said = []
    dataset = load("pets", data_dir, image_size=16, say=said.append)
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("pets", CLASSES, (16, 16, 3))
    assert (len(dataset.train), len(dataset.test)) == (TRAIN, TEST)
    # Bright on the left for one class, on the right for the other.
    left = dataset.train.images[:, :, :8].mean((1, 2, 3)) > dataset.train.images[:, :, 8:].mean((1, 2, 3))
    assert (left == (dataset.train.labels == 0)).all()
    assert "pets: pets 1.0.0, prepared by tensorflow-datasets, 2 classes" in said
    monkeypatch.setattr("jdarts.data.own.loading.read_pictures", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr("jdarts.data.own.tfds._records", lambda *_: pytest.fail("read again"))
    assert load("pets", data_dir, image_size=16).fingerprint == dataset.fingerprint


def test_configurations_have_a_slash(data_dir):
    assert own_path("birds/small", data_dir) is None
    assert len(load("birds/small", data_dir, image_size=8).train) == 6
    with pytest.raises(InputError, match="birds has several configurations; give birds/small"):
        load("birds", data_dir)
    with pytest.raises(InputError, match="birds/large does not exist; give a folder of images"):
        load("birds/large", data_dir)


def test_damage_names_the_mend(tmp_path):
    folder = prepare(tmp_path, set_name="pets", config="", splits={"train": 4})
    info = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(InputError, match=r"is prepared as tfrecord, which only TensorFlow reads; .* tfds build pets"):
        load("pets", tmp_path)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(InputError, match=r"is damaged; prepare the set again with: tfds build pets --file_format"):
        load("pets", tmp_path)


def png(seed):
    file = io.BytesIO()
    Image.fromarray(pixels(seed, 28, 28, 1)).save(file, "PNG")
    return file.getvalue()


def test_grey_images_of_28_pixels_keep_their_size(tmp_path):
    """As those of MNIST."""
    splits = {"train": 40, "test": 20}
    prepare(
        tmp_path,
        set_name="mnist",
        config="",
        splits=splits,
        image={"shape": (28, 28, 1)},
        label={"num_classes": 10},
        example=lambda split, number: (png([splits[split], number]), number % 10),
    )
    dataset = load("mnist", tmp_path)
    assert (dataset.image_shape, len(dataset.train), len(dataset.test)) == ((28, 28, 1), 40, 20)
    assert dataset.class_names == tuple("0123456789")
    assert (dataset.augmentation.padding, dataset.augmentation.flip) == (4, False)
    assert sorted(image.tobytes() for image in dataset.test.images) == sorted(
        pixels([20, number], 28, 28, 1).tobytes() for number in range(20)
    )


@pytest.fixture
def saved_dataset(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    return folder


def test_without_the_package_of_hugging_face_a_sentence_says_so(saved_dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        InputError,
        match=r"saved is a folder of Hugging Face datasets, and .* \(import of datasets.*; run: pip install datasets$",
    ):
        load(saved_dataset)


class _Column:
    """A feature of a type with names."""

    def __init__(self, names=None, decode=True):
        self.names, self.decode = names, decode


class _Table(list):
    """Rows, as the package `datasets` gives them."""

    features: ClassVar = {}

    def cast_column(self, name, feature):
        assert name == "image" and feature.decode is False
        return self

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


def test_a_folder_of_hugging_face_datasets(saved_dataset, monkeypatch):
    rows = [{"image": {"bytes": png([0, number]), "path": None}, "label": number % 2} for number in range(8)]
    beside = saved_dataset / "beside.png"
    beside.write_bytes(png([1, 0]))
    rows += [{"image": {"bytes": None, "path": str(beside)}, "label": 1}]
    module = types.SimpleNamespace(
        load_from_disk=lambda path: {"train": _Table(rows), "validation": _Table(rows[:2])},
        Image=type("Image", (_Column,), {}),
        ClassLabel=type("ClassLabel", (_Column,), {}),
    )
    monkeypatch.setitem(sys.modules, "datasets", module)
    features = {"image": module.Image(), "label": module.ClassLabel(["cat", "dog"])}
    monkeypatch.setattr(_Table, "features", features)
    dataset = load(saved_dataset)
    assert (dataset.class_names, len(dataset.train), len(dataset.test)) == (("cat", "dog"), 9, 2)
    assert dataset.image_shape == (28, 28, 1)
    monkeypatch.setattr(_Table, "features", {"text": _Column(), **features, "more": module.Image()})
    with pytest.raises(InputError, match="has the columns text, image, label, more; it needs one column of type Image"):
        load(saved_dataset)

    def damaged(path):
        raise FileNotFoundError("no state.json")

    monkeypatch.setattr(module, "load_from_disk", damaged)
    with pytest.raises(InputError, match=r"cannot be read by Hugging Face datasets \(no state.json\); save it again"):
        load(saved_dataset)

import json
import shutil

import pytest
from made_up_images import spoil, truncate, write_cifar

from jdarts.data import load, prepare
from jdarts.data.catalogue import CATALOGUE
from jdarts.data.prepared import find_prepared
from jdarts.errors import InputError


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "tfds"


PREPARED_DAMAGE = {
    "cut off": lambda folder: truncate(folder / "cifar10-test.array_record-00000-of-00001", -10),
    "halved": lambda folder: truncate(folder / "cifar10-train.array_record-00000-of-00001", 70_000),
    "emptied": lambda folder: truncate(folder / "cifar10-train.array_record-00000-of-00001", 0),
    "spoilt": lambda folder: spoil(folder / "cifar10-train.array_record-00000-of-00001", 5000, 7),
    "no shard": lambda folder: (folder / "cifar10-test.array_record-00000-of-00001").unlink(),
    "no features": lambda folder: (folder / "features.json").unlink(),
    "description": lambda folder: truncate(folder / "dataset_info.json", 40),
    "empty description": lambda folder: (folder / "dataset_info.json").write_text("{}"),
    "no test split": lambda folder: (folder / "dataset_info.json").write_text(
        json.dumps(
            {
                **(info := json.loads((folder / "dataset_info.json").read_text())),
                "splits": info["splits"][:1],
            }
        )
    ),
}


@pytest.fixture(scope="module")
def whole_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_cifar("cifar10", folder)
    prepare("cifar10", source=folder, data_dir=folder / "tfds")
    return folder / "tfds"


@pytest.mark.parametrize("damage", PREPARED_DAMAGE)
def test_a_damaged_prepared_set_names_the_place_and_the_mend(damage, whole_set, data_dir):
    shutil.copytree(whole_set, data_dir)
    folder = data_dir / "cifar10" / "3.0.2"
    PREPARED_DAMAGE[damage](folder)
    with pytest.raises(InputError) as caught:
        load("cifar10", data_dir)
    assert str(caught.value).startswith(str(folder))
    assert str(caught.value).endswith(f"python -m jdarts.data prepare cifar10 --overwrite --data-dir {data_dir}")


def test_a_set_in_tensorflows_form_is_told_apart(data_dir, tmp_path):
    folder = data_dir / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    description = {"fileFormat": "tfrecord", "splits": [{"name": "train", "shardLengths": ["2", "3"]}]}
    (folder / "dataset_info.json").write_text(json.dumps(description))
    for act in (lambda: load("cifar10", data_dir), lambda: prepare("cifar10", data_dir=data_dir)):
        with pytest.raises(InputError, match="prepared as tfrecord, which only TensorFlow reads"):
            act()
    write_cifar("cifar10", tmp_path / "originals")
    prepare("cifar10", source=tmp_path / "originals", data_dir=data_dir, overwrite=True)
    assert len(load("cifar10", data_dir).train) == 60


def test_the_newest_prepared_version_counts(data_dir):
    for version in ("3.0.2", "3.0.10", "incomplete.X_9.0.0"):
        folder = data_dir / "cifar10" / version
        folder.mkdir(parents=True)
        (folder / "dataset_info.json").write_text('{"splits": []}')
    found = find_prepared("cifar10", CATALOGUE["cifar10"], data_dir)
    assert found is not None
    assert found.folder.name == "3.0.10"

"""`--dataset PATH`: the identity of runs on images of the user's own."""

import io
import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import small_search
import small_train
from picture_files import folder_with_splits, own_cache, pixels, save
from small_runs import take_no_steps, user_settings

from jdarts.data import own_path
from jdarts.errors import InputError
from jdarts.pipeline.config import PipelineConfig
from jdarts.search import SearchConfig, search
from jdarts.train import TrainConfig, train

__all__ = ["own_cache", "user_settings"]

SEARCH = {**small_search.SETTINGS, "epochs": 1, "batch_size": 4}
TRAIN = {**small_train.SETTINGS, "epochs": 1, "batch_size": 4}


def begin(kind, folder, **changes):
    """Starts a search or training on a folder as far as its first step; its folder and what it showed."""
    stream = io.StringIO()
    if kind == "search":
        path = search(SearchConfig(**{**SEARCH, "dataset": str(folder), **changes}), stream=stream)
    else:
        path = train(TrainConfig(**{**TRAIN, "dataset": str(folder), **changes}), stream=stream)
    return cast(Path, path), stream.getvalue()


@pytest.mark.usefixtures("user_settings")
@pytest.mark.parametrize("kind", ["search", "train"])
def test_a_run_belongs_to_its_folder_of_images(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    take_no_steps(monkeypatch)
    first, other = (folder_with_splits(tmp_path / each / "pets", train=12) for each in "ab")
    path, shown = begin(kind, first)
    assert "pets: a folder with train/, test/, 2 classes" in shown
    settings = json.loads((path / "config.json").read_text())
    assert settings["dataset"] == settings["data"]["name"] == "pets"
    assert settings["data"]["class_names"] == ["cat", "dog"]
    # Another text for the same folder is the same run; another folder of the same name is another.
    assert begin(kind, Path("a") / ".." / "a" / "pets")[0] == path
    assert begin(kind, other)[0] != path
    save(first / "train/cat/0.png", pixels(77))
    with pytest.raises(InputError, match=r"was begun with other data: .* give the same data to resume it"):
        begin(kind, first)
    shutil.rmtree(first)
    with pytest.raises(InputError, match=f"{first} does not exist"):
        begin(kind, first)


def test_images_of_another_size_are_another_run(tmp_path):
    folder = folder_with_splits(tmp_path / "pets", train=12, height=9, width=11)
    config = SearchConfig(**{**SEARCH, "dataset": str(folder), "image_size": 8})
    assert config.data.images(None, io.StringIO()).image_shape == (8, 8, 3)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(config.to_json()))
    with pytest.raises(InputError, match=r"--image-size 8 \(now 12\)"):
        begin("search", folder, run_dir=tmp_path / "run", image_size=12)


def test_digits_can_be_resized(user_settings):
    from jdarts import data

    images = data.load("digits", image_size=16)
    assert images.image_shape == (16, 16, 1)
    assert data.load("digits", image_size=8).fingerprint == data.load("digits").fingerprint
    with pytest.raises(InputError, match="--image-size is 10; give a multiple of 4"):
        data.load("digits", image_size=10)


def test_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "pets", "imagenette"):
        (tmp_path / name).mkdir()
    assert own_path("digits") is None and own_path("imagenette") is None and own_path("pits") is None
    assert own_path("./digits") == own_path("digits/") == tmp_path / "digits"
    assert own_path("pets") == own_path(str(tmp_path / "pets")) == tmp_path / "pets"
    assert own_path("no/such") == tmp_path / "no" / "such"
    assert own_path("pets.npz") == tmp_path / "pets.npz"
    assert own_path("a\0b") is None


@pytest.mark.parametrize("kind", [SearchConfig, TrainConfig, PipelineConfig])
def test_folders_of_runs_tell_paths_apart(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / each / "my pets" for each in "ab"]
    for path in paths:
        path.mkdir(parents=True)
    names = {kind(dataset=str(path)).folder.name for path in (*paths, "a/my pets", "b/../a/my pets", "digits")}
    assert len(names) == 3
    assert sum("my-pets-" in name for name in names) == 2
    (tmp_path / "link").symlink_to(paths[0])
    assert kind(dataset="link").folder == kind(dataset=str(paths[0])).folder


def test_a_setting_that_only_older_runs_wrote_is_at_its_default(tmp_path):
    """A pipeline's trainings had a size of images for themselves."""
    from jdarts.runs.folder import RunFolder

    folder = RunFolder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"seed": 0, "train.image_size": None}))
    folder.check({"seed": 0, "image_size": None})
    (tmp_path / "config.json").write_text(json.dumps({"seed": 0, "train.image_size": 32}))
    with pytest.raises(InputError, match=r"--train\.image-size 32 \(now None\)"):
        folder.check({"seed": 0, "image_size": None})


def test_pixels_are_whole_in_any_split(tmp_path):
    """A search and a training read the images that were saved."""
    from jdarts.search.building import search_images
    from jdarts.search.images import SearchImages
    from jdarts.train.task import train_images

    folder = folder_with_splits(tmp_path / "pets", train=12)
    config = SearchConfig(**{**SEARCH, "dataset": str(folder)})
    images = search_images(config, config.data.images(None, io.StringIO()))
    assert isinstance(images, SearchImages)
    assert np.bincount(images.train.labels).tolist() == np.bincount(images.valid.labels).tolist() == [6, 6]
    trained = TrainConfig(**{**TRAIN, "dataset": str(folder), "validation_fraction": 0.25})
    assert train_images(trained, trained.data.images(None, io.StringIO())).valid_count == 6

"""A folder of pictures as an image set: what is found, how it is decoded, what is left out."""

import os
import shutil
import time
import unicodedata

import numpy as np
import pytest
from picture_files import folder_of_classes, folder_with_splits, own_cache, pixels, save
from PIL import Image

from jdarts.data import load
from jdarts.errors import InputError

__all__ = ["own_cache"]


def loaded(folder, **options):
    """The set of a folder, and the lines that are shown."""
    lines = []
    return load(folder, say=lines.append, **options), "\n".join(lines)


def refusal(folder, **options):
    with pytest.raises(InputError) as caught:
        load(folder, **options)
    text = str(caught.value)
    assert str(folder) in text or "--image-size" in text
    return text


def images_in(split):
    return sorted(image.tobytes() for image in split.images)


def test_splits_and_classes_become_a_set(tmp_path):
    dataset, shown = loaded(folder_with_splits(tmp_path / "pets", height=12, width=16))
    assert (dataset.name, dataset.class_names, dataset.image_shape) == ("pets", ("cat", "dog"), (12, 16, 3))
    assert np.bincount(dataset.train.labels).tolist() == [6, 6]
    assert np.bincount(dataset.test.labels).tolist() == [3, 3]
    for split, seed in ((dataset.train, 0), (dataset.test, 1)):
        for label in (0, 1):
            given = sorted(pixels([seed, label, n], 12, 16).tobytes() for n in range(3 * (2 - seed)))
            assert sorted(image.tobytes() for image in split.images[split.labels == label]) == given
    scaled = dataset.train.images / 255
    np.testing.assert_allclose(dataset.mean, scaled.mean((0, 1, 2)))
    np.testing.assert_allclose(dataset.std, scaled.std((0, 1, 2)))
    assert shown.splitlines() == [
        "pets: a folder with train/, test/, 2 classes",
        "pets: images of 16×12, in colour",
        "pets: augmented by random crops with padding 2, mirrored at random (--no-flip)",
    ]


def test_a_flat_folder_is_split_by_class_and_says_so(tmp_path):
    dataset, shown = loaded(folder_of_classes(tmp_path / "pets", {"cat": 30, "dog": 10}))
    assert np.bincount(dataset.train.labels).tolist() == [24, 8]
    assert np.bincount(dataset.test.labels).tolist() == [6, 2]
    assert "there are no test images; a fifth of each class, chosen with seed 0, serves as such: 32 to train" in shown
    assert not set(images_in(dataset.train)) & set(images_in(dataset.test))


def test_test_images_have_the_names_of_their_files(tmp_path):
    folder = folder_of_classes(tmp_path / "pets", {"cat": 30, "dog": 10})
    decoded, cached = load(folder), load(folder)
    assert cached.test_names == decoded.test_names and len(decoded.test_names) == len(decoded.test)
    for name, image in zip(decoded.test_names, decoded.test.images):
        assert np.array_equal(np.asarray(Image.open(folder / name)), image)
    split = load(folder_with_splits(tmp_path / "split"))
    assert {name.split("/")[0] for name in split.test_names} == {"test"}


def test_validation_images_are_used(tmp_path):
    folder = folder_with_splits(tmp_path / "pets")
    folder_of_classes(folder / "Validation", seed=2)
    dataset, shown = loaded(folder)
    assert (len(dataset.train), len(dataset.test)) == (20, 6)
    assert "the 8 validation images join the training images" in shown
    shutil.rmtree(folder / "test")
    dataset, shown = loaded(folder)
    assert (len(dataset.train), len(dataset.test)) == (12, 8)
    assert "the 8 validation images serve as such" in shown


def test_the_order_of_files_changes_nothing(tmp_path):
    """Pictures sorted by class give the same set as the same pictures under other names."""
    folder = folder_of_classes(tmp_path / "pets", {"cat": 9, "dog": 9})
    other = tmp_path / "others" / "pets"
    for path in folder.rglob("*.png"):
        target = other / path.parent.name / f"{hash(path.read_bytes())}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert load(folder).fingerprint == load(other).fingerprint
    assert np.any(np.diff(load(folder).train.labels) < 0)
    first, second = load(folder).halves()
    assert np.ptp(np.bincount(first.labels)) <= 1 and np.ptp(np.bincount(second.labels)) <= 1


def test_sizes_that_differ_become_one(tmp_path):
    folder = folder_with_splits(tmp_path / "pets", height=40, width=40)
    save(folder / "train/cat/wide.png", pixels(7, 50, 90))
    dataset, shown = loaded(folder)
    assert dataset.image_shape == (40, 40, 3)
    assert "images of 2 sizes from 40×40 to 90×50; resized to 40×40, the largest central square of each" in shown
    dataset, shown = loaded(folder, image_size=16)
    assert dataset.image_shape == (16, 16, 3)
    assert "as asked" not in shown and "resized to 16×16" in shown


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(30, 30, 32), (28, 28, 28), (96, 96, 96), (33, 30, 32), (200, 150, 64), (3, 3, 8), (95, 95, 96)],
)
def test_default_sizes_can_be_halved_twice(tmp_path, height, width, side):
    assert load(folder_with_splits(tmp_path / "pets", height=height, width=width)).image_shape[0] == side


def test_the_centre_is_kept(tmp_path):
    folder = folder_with_splits(tmp_path / "pets", height=16, width=16)
    wide = np.zeros((16, 64, 3), np.uint8)
    wide[:, 24:40] = 200
    save(folder / "train/cat/wide.png", wide)
    dataset = load(folder)
    assert any((image == 200).all() for image in dataset.train.images)


def test_kinds_of_pixels(tmp_path):
    """Each of them shows the same colour, or its grey."""
    colours = {
        "grey": Image.new("L", (8, 8), 80),
        "palette": Image.new("RGB", (8, 8), (80, 80, 80)).quantize(4),
        "bits": Image.fromarray(np.full((8, 8), 80 * 257, np.uint16)),
        "opaque": Image.new("RGBA", (8, 8), (80, 80, 80, 255)),
        "grey_alpha": Image.new("LA", (8, 8), (80, 255)),
        "two": Image.new("1", (8, 8), 1),
        "clear": Image.new("RGBA", (8, 8), (0, 0, 0, 0)),
    }
    folder = folder_with_splits(tmp_path / "pets")
    for name, image in colours.items():
        save(folder / f"train/{name}/0.png", image)
    Image.new("CMYK", (8, 8), (175, 175, 175, 0)).save(folder / "train/two/inks.jpg", quality=100)
    save(
        folder / "train/two/moving.gif",
        Image.new("L", (8, 8), 80),
        save_all=True,
        append_images=[Image.new("L", (8, 8))],
    )
    dataset, shown = loaded(folder)
    found = {name: [] for name in dataset.class_names}
    for image, label in zip(*dataset.train[:]):
        found[dataset.class_names[label]].append(image)
    for name in ("grey", "palette", "bits", "opaque", "grey_alpha"):
        assert (np.abs(np.array(found[name]).astype(int) - 80) <= 1).all(), name
    assert (found["clear"][0] == 255).all()
    assert sorted(round(float(image.mean()), -1) for image in found["two"]) == [80, 80, 260]
    assert "left out" not in shown


def test_grey_pictures_have_one_channel_and_are_not_mirrored(tmp_path):
    dataset, shown = loaded(folder_with_splits(tmp_path / "pets", channels=1))
    assert dataset.image_shape == (8, 8, 1)
    assert "grey" in shown and "not mirrored (--flip)" in shown


def test_a_photograph_stands_as_it_was_held(tmp_path):
    folder = folder_with_splits(tmp_path / "pets", height=16, width=16)
    upright = np.zeros((32, 16, 3), np.uint8)
    upright[:16] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # turned by a quarter
    image = Image.fromarray(np.rot90(upright).copy())
    save(folder / "train/cat/turned.png", image, exif=turned)
    dataset = load(folder, image_size=16)
    (found,) = [image for image in dataset.train.images if len(np.unique(image)) <= 4]
    assert found[:7].min() == 255 and found[9:].max() == 0


BROKEN = {
    "empty.png": (b"", "is empty"),
    "text.jpg": (b"hello", "is damaged or no picture"),
    "cut.png": (None, "is damaged (image file is truncated"),
    "notes.txt": (b"hello", "is no picture by its suffix"),
}


def test_damaged_and_odd_files_are_named_once_and_the_rest_is_read(tmp_path):
    folder = folder_with_splits(tmp_path / "pets", height=32, width=32)
    whole = (folder / "train/cat/0.png").read_bytes()
    for name, (content, _) in BROKEN.items():
        (folder / "train/cat" / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    save(folder / "train/cat/float.tif", Image.new("F", (32, 32)))
    (folder / "train/cat/link.png").symlink_to("nowhere.png")
    (folder / "train/lost.png").write_bytes(whole)
    (folder / "readme.md").write_text("pets")
    for hidden in (".DS_Store", "train/.DS_Store", "train/cat/.hidden.png", "train/cat/Thumbs.db"):
        (folder / hidden).write_bytes(b"x")
    dataset, shown = loaded(folder)
    assert (len(dataset.train), len(dataset.test)) == (12, 6)
    reasons = {f"train/cat/{name}": reason for name, (_, reason) in BROKEN.items()} | {
        "train/cat/float.tif": "has floating-point pixels",
        "train/cat/link.png": "is a broken link",
        "train/lost.png": "is in no class",
        "readme.md": "is in no class",
    }
    for name, reason in reasons.items():
        assert shown.count(f"left out: {name} {reason}") == 1, (name, shown)
    assert shown.count("left out") == len(reasons)
    assert loaded(folder)[1] == shown


def test_many_damaged_files_are_counted(tmp_path):
    folder = folder_with_splits(tmp_path / "pets")
    for number in range(40):
        (folder / f"train/cat/bad{number}.png").write_bytes(b"bad")
    _, shown = loaded(folder)
    assert shown.count("left out: ") == 10
    assert f"and 30 more files are left out; python -m jdarts.data inspect {folder} names all" in shown


def test_names_links_and_folders_within_classes(tmp_path):
    folder = tmp_path / "Früchte und mehr"
    folder_of_classes(folder, {"Äpfel": 3, "梨 2": 3})
    save(folder / "Äpfel/mehr/noch mehr/BILD.PNG", pixels(20))
    save(folder / "Äpfel/mehr/bild.JpEg", pixels(21))
    os.symlink(folder / "梨 2", folder / "kiwi")
    os.symlink(folder / "Äpfel", folder / "Äpfel/mehr/again")
    dataset, shown = loaded(folder)
    assert dataset.class_names == tuple(sorted(("Äpfel", "梨 2", "kiwi")))
    assert len(dataset.train) + len(dataset.test) == 5 + 3 + 3
    assert shown.count("is a link to a folder that it lies in") == 1


def test_accents_may_be_stored_in_two_ways(tmp_path):
    folder = tmp_path / "pets"
    for split, name in (
        ("train", unicodedata.normalize("NFC", "Äpfel")),
        ("test", unicodedata.normalize("NFD", "Äpfel")),
    ):
        folder_of_classes(folder / split, {name: 3, "dog": 3}, seed=len(name))
    assert load(folder).class_names == ("dog", "Äpfel")


def test_wrong_folders_are_refused_in_a_sentence(tmp_path):
    folder = tmp_path / "pets"
    assert "does not exist; give a folder of images, or an .npz file" in refusal(folder)
    folder.mkdir()
    assert "holds no images: nothing; give a folder with a folder of images for each class" in refusal(folder)
    save(folder / "a.png", pixels(0))
    assert "holds a.png and no folders; put the images of each class into a folder" in refusal(folder)
    (folder / "cat").mkdir()
    (folder / "cat/notes.txt").write_text("x")
    assert "holds no images: only a.png is in no class, cat/notes.txt is no picture" in refusal(folder)
    folder_of_classes(folder, {"cat": 3})
    assert "has one class, 'cat', and there is nothing to tell apart; give two or more" in refusal(folder)
    (folder / "dog").mkdir()
    assert "the class folder dog in" in refusal(folder)
    save(folder / "dog/0.png", pixels(1))
    with pytest.raises(InputError, match="dog has one image, and without test images each class needs two"):
        load(folder)
    (folder / "dog/0.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no training image of dog can be read \(.*dog/0.png is damaged"):
        load(folder)
    with pytest.raises(InputError, match=r"a\.png is a file; give a folder of images, or an \.npz"):
        load(folder / "a.png")


def test_a_folder_too_high_names_the_one_below(tmp_path):
    folder_of_classes(tmp_path / "all" / "pets")
    assert f"its folders cat, dog may be the classes: give {tmp_path / 'all' / 'pets'}" in refusal(tmp_path / "all")


def test_splits_must_agree(tmp_path):
    folder = folder_with_splits(tmp_path / "pets")
    save(folder / "test/fish/0.png", pixels(0))
    assert "has the classes fish in test and not in train" in refusal(folder)
    shutil.rmtree(folder / "train")
    assert "has test/ and no train/; name the folder of the training images train" in refusal(folder)
    folder_with_splits(folder)
    shutil.rmtree(folder / "test/fish")
    folder_of_classes(folder / "Training")
    assert "has Training/ and train/, which both hold the train images; keep one" in refusal(folder)


@pytest.mark.parametrize("size", [4, 30, 5000])
def test_image_sizes_that_networks_cannot_halve_are_refused(tmp_path, size):
    with pytest.raises(InputError, match=f"--image-size is {size}; give a multiple of 4 from 8 to 4096"):
        load(folder_of_classes(tmp_path / "pets"), image_size=size)


def test_images_that_no_memory_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jdarts.data.own.reading.available_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"8 images of 8×8 take .* give a smaller --image-size or fewer"):
        load(folder_of_classes(tmp_path / "pets"))


def test_the_second_start_reads_the_cache_until_a_file_changes(tmp_path, monkeypatch):
    folder = folder_with_splits(tmp_path / "pets")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.joinpath("pets").rglob("*")}
    first, shown = loaded(folder)
    with monkeypatch.context() as patch:
        patch.setattr("jdarts.data.own.loading.read_pictures", lambda *_: pytest.fail("decoded again"))
        second, again = loaded(folder)
    assert (second.fingerprint, again) == (first.fingerprint, shown)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.joinpath("pets").rglob("*")}
    save(folder / "train/cat/0.png", pixels(99))
    changed = load(folder)
    assert changed.fingerprint != first.fingerprint
    assert load(folder, image_size=16).image_shape == (16, 16, 3)
    for kept in (tmp_path / "cache").rglob("*.npz"):
        kept.write_bytes(kept.read_bytes()[:100])
    assert load(folder).fingerprint == changed.fingerprint


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    assert len(load(folder_of_classes(tmp_path / "pets")).train) == 6


def test_small_pictures_are_read_quickly(tmp_path):
    """A thousand in 2 s of the processor, as 10,000 take 10 s on two cores at most."""
    folder = folder_of_classes(tmp_path / "pets", {"cat": 2, "dog": 2}, height=32, width=32)
    for name in ("cat", "dog"):
        for number in range(500):
            os.link(folder / name / "0.png", folder / name / f"more{number}.png")
    begun = time.process_time()
    load(folder)
    assert time.process_time() - begun < 2

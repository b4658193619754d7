"""`python -m jdarts.data inspect`: what a run would read of an image set."""

import shutil

import numpy as np
import pytest
from picture_files import folder_of_classes, folder_with_splits, pixels, save
from PIL import Image

from jdarts.data.__main__ import main
from jdarts.data.own.contact_sheet import contact_sheet
from jdarts.data.own.loading import read_path
from jdarts.errors import InputError


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def inspected(capsys, *arguments):
    main(["inspect", *map(str, arguments)])
    return capsys.readouterr().out.splitlines()


def test_classes_sizes_and_balance(tmp_path, capsys):
    folder = folder_of_classes(tmp_path / "my pets", {"cat": 12, "tiger shark": 2, "dog": 4})
    save(folder / "dog/wide.png", pixels(5, 8, 20))
    lines = inspected(capsys, folder)
    assert lines[:7] == [
        "my pets: a folder of classes",
        "",
        "class           train",
        "cat                12",
        "dog                 5",
        "tiger shark         2",
        "all                19",
    ]
    assert "imbalance: cat has 6.0 times the training images of tiger shark" in lines
    assert "sizes: 18 of 8×8, 1 of 20×8" in lines
    assert "exact duplicates: none" in lines and "left out: none" in lines
    assert (
        "  images of 2 sizes from 8×8 to 20×8; resized to 8×8, the largest central square of each (--image-size"
        in "\n".join(lines)
    )
    assert lines[-2:] == [
        "sheet of images: inspect-my pets.png",
        f"search on it with: python -m jdarts.search --dataset '{folder}'",
    ]
    assert not (tmp_path / "cache").exists()


def test_duplicates_within_and_between_splits_and_classes(tmp_path, capsys):
    folder = folder_with_splits(tmp_path / "pets")
    shutil.copy(folder / "train/cat/0.png", folder / "test/cat/leak.png")
    shutil.copy(folder / "train/cat/1.png", folder / "train/dog/both.png")
    Image.open(folder / "train/cat/2.png").save(folder / "train/cat/other_format.bmp")
    lines = inspected(capsys, folder)
    at = lines.index(
        "exact duplicates: 3 pictures that occur more than once, of which 1 in several splits and 1 in several classes"
    )
    assert lines[at + 1 : at + 4] == [
        "  train/cat/0.png = test/cat/leak.png",
        "  train/cat/1.png = train/dog/both.png",
        "  train/cat/2.png = train/cat/other_format.bmp",
    ]


def test_every_file_that_is_left_out_is_named_once(tmp_path, capsys):
    folder = folder_with_splits(tmp_path / "pets")
    for number in range(30):
        (folder / f"train/cat/bad{number}.png").write_bytes(b"x" * (number % 2))
    lines = inspected(capsys, folder)
    assert "left out: 30 files" in lines
    for number in range(30):
        assert sum(f"train/cat/bad{number}.png " in line for line in lines) == 1


def test_what_cannot_be_trained_on_is_shown_all_the_same(tmp_path, capsys):
    folder = folder_of_classes(tmp_path / "pets", {"cat": 4, "dog": 1})
    with pytest.raises(InputError, match="dog has one image, and without test images"):
        main(["inspect", str(folder)])
    assert "dog           1\n" in capsys.readouterr().out


def test_the_sheet_shows_each_class(tmp_path, capsys):
    folder = tmp_path / "pets"
    for name, colour in (("cat", (200, 0, 0)), ("dog", (0, 0, 200))):
        for number in range(3):
            save(folder / name / f"{number}.png", np.full((8, 8, 3), colour, np.uint8) - np.uint8(number))
    inspected(capsys, folder, "--sheet", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        colours = {colour for _, colour in sheet.getcolors(1 << 16) or ()}
        reds = [sheet.getpixel((x, 30)) for x in range(sheet.width)]
    assert {(200, 0, 0), (0, 0, 200)} <= colours
    assert (200, 0, 0) in reds and (0, 0, 200) not in reds
    assert list((tmp_path / "here").iterdir()) == []


def test_a_sheet_of_many_classes_has_a_limit(tmp_path):
    decoded = read_path(folder_of_classes(tmp_path / "pets", {f"class {k:02}": 1 for k in range(45)}, channels=1), None)
    content = contact_sheet(decoded.splits["train"].images, decoded.class_names)
    (tmp_path / "sheet.png").write_bytes(content)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height < 41 * 80


def test_a_sheet_that_cannot_be_written_is_said(tmp_path):
    folder = folder_of_classes(tmp_path / "pets")
    with pytest.raises(InputError, match=r"sheet\.png"):
        main(["inspect", str(folder), "--sheet", str(tmp_path / "none" / "sheet.png")])


def test_named_sets_and_arrays(tmp_path, capsys):
    lines = inspected(capsys, "digits")
    assert lines[0] == "digits: the image set digits"
    assert "all       1,437       360" in lines
    np.savez(
        tmp_path / "mine.npz",
        images=np.arange(12 * 64, dtype=np.float32).reshape(12, 8, 8) / 768,
        labels=np.arange(12) % 2,
    )
    lines = inspected(capsys, tmp_path / "mine.npz")
    assert lines[0] == "mine: the arrays of mine.npz"
    assert "  read as train: images, labels" in lines
    with pytest.raises(InputError, match="there is no image set 'pits'"):
        main(["inspect", "pits"])
    with pytest.raises(InputError, match="does not exist; give a folder"):
        main(["inspect", "no/such"])

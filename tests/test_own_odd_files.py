"""Odd, damaged and hostile files and folders: each is read right, or named in one line; none ends the program."""

import io
import os
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from picture_files import folder_of_classes, own_cache, pixels, save
from PIL import Image

from jdarts.data import load
from jdarts.data.own.decoding import Undecodable, decode, read_header, upright
from jdarts.data.own.loading import read_path
from jdarts.data.own.scanning import scan
from jdarts.data.streamed.views import ColorJitter
from jdarts.data.streamed.workers import TrainingViews, decoded_batches
from jdarts.errors import InputError

__all__ = ["own_cache"]
COLOUR, GREY = pixels(0, 16, 16), pixels(0, 16, 16, 1)


def written(image, form, **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **options)
    return file.getvalue()


def changed(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data=b"", *, bits=8, colour=2, more=b""):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def held(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


#: The orientation 6, and a resolution in letters, which Pillow reads and cannot write.
LETTERS = struct.pack("<6s2sHLHHHLHxxHHL4sL", b"Exif\0\0", b"II", 42, 8, 2, 0x0112, 3, 1, 6, 0x011A, 2, 3, b"ab\0\0", 0)
PNG, JPEG = written(COLOUR, "PNG"), written(COLOUR, "JPEG", quality=95)
MOVING = {"save_all": True, "append_images": [Image.fromarray(pixels(1, 16, 16))]}
GREY_OF_COLOUR = float(np.asarray(Image.fromarray(COLOUR).convert("L")).mean())

#: Files with a picture, and its mean over all pixels.
READ = {
    "PNG": (PNG, COLOUR.mean()),
    "PNG without an end": (PNG[:-12], COLOUR.mean()),
    "JPEG": (JPEG, COLOUR.mean()),
    "moving GIF": (written(COLOUR, "GIF", **MOVING), COLOUR.mean()),
    "moving WebP": (written(COLOUR, "WEBP", lossless=True, **MOVING), COLOUR.mean()),
    "moving PNG": (written(COLOUR, "PNG", **MOVING), COLOUR.mean()),
    "TIFF of pages": (written(COLOUR, "TIFF", **MOVING), COLOUR.mean()),
    "TIFF of 16 bits": (written(GREY.astype(np.uint16) * 257, "TIFF"), GREY.mean()),
    "PNG of 16 bits": (written(GREY.astype(np.uint16) * 257, "PNG"), GREY.mean()),
    "colours of 16 bits": (png(1, 1, b"\0" + bytes([9, 1, 9, 2, 9, 3]), bits=16), 9),
    "compressed TIFF": (written(COLOUR, "TIFF", compression="tiff_lzw"), COLOUR.mean()),
    "CMYK": (written(Image.new("CMYK", (16, 16), (175, 175, 175, 0)), "JPEG", quality=100), 80),
    "YCbCr": (written(Image.fromarray(COLOUR).convert("YCbCr"), "TIFF"), COLOUR.mean()),
    "palette": (written(Image.new("RGB", (16, 16), (80, 80, 80)).quantize(4), "PNG"), 80),
    "clear palette": (written(Image.new("RGB", (16, 16)).quantize(2), "PNG", transparency=bytes([0, 0])), 255),
    "one bit": (written(Image.new("1", (16, 16), 1), "PNG"), 255),
    "grey, half clear": (written(Image.new("LA", (16, 16), (55, 128)), "PNG"), 155),
    "one pixel": (written(np.full((1, 1, 3), 7, np.uint8), "PNG"), 7),
    "a line": (written(np.full((1, 10_000, 3), 7, np.uint8), "PNG"), 7),
    "damaged data of the camera": (written(COLOUR, "PNG", exif=changed(held(6), 6)), COLOUR.mean()),
    "a short header of the camera": (written(COLOUR, "PNG", exif=held(6)[:10]), COLOUR.mean()),
    "a text of the camera": (png(1, 1, bytes((0, 7, 7, 7)), more=chunk(b"zTXt", b"exif\0\0" + zlib.compress(b"a"))), 7),
    "letters of the camera": (written(COLOUR, "PNG", exif=LETTERS), COLOUR.mean()),
    "an unknown orientation": (written(COLOUR, "JPEG", quality=95, exif=held(99)), COLOUR.mean()),
}
NO_PICTURE = "is damaged or no picture"
MANY = "has more than 67,108,864 pixels"
#: Files without one, and the reason that is shown.
REFUSED = {
    "nothing": (b"", "is empty"),
    "a text": (b"hello", NO_PICTURE),
    "a page": (b"<html>", NO_PICTURE),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NO_PICTURE),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), NO_PICTURE),
    "PNG, one byte": (PNG[:1], NO_PICTURE),
    "PNG, a head": (PNG[:20], "is damaged (Truncated File Read)"),
    "PNG, half": (PNG[: len(PNG) // 2], "is damaged (image file is truncated)"),
    "JPEG, half": (JPEG[: len(JPEG) // 2], "is damaged (Truncated File Read)"),
    "JPEG, most": (JPEG[:-10], "is damaged (image file is truncated"),
    "another byte": (changed(PNG, PNG.index(b"IDAT") + 30), "is damaged (broken data stream"),
    "no pixels": (png(0, 5), NO_PICTURE),
    "a declared size": (png(100_000, 100_000), MANY),
    "the largest size": (png(2**31 - 1, 2**31 - 1), MANY),
    "a bomb": (png(30_000, 30_000, bytes(3751) * 3000, bits=1, colour=0), MANY),
    "a size in text": (b"P6\n999999999 999999999\n255\n", MANY),
    "a text that unpacks": (
        png(1, 1, bytes(4), more=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
        "is damaged (Decompressed data too large",
    ),
    "floats": (written(GREY.astype(np.float32), "TIFF"), "has floating-point pixels, whose white is unknown"),
    "32 bits": (written(GREY.astype(np.int32) * 10**6, "TIFF"), "has 32-bit pixels, whose white is unknown"),
    "32 bits, dark": (written(GREY.astype(np.int32), "TIFF"), "has 32-bit pixels, whose white is unknown"),
}


@pytest.mark.parametrize("kind", READ)
def test_odd_pictures_are_read_right(kind):
    content, mean = READ[kind]
    header = read_header(io.BytesIO(content))
    image, _ = decode(content, header.height, header.width, 3)
    assert image.shape == (header.height, header.width, 3)
    # Palettes of 256 colours and JPEG change noise by a few per cent.
    assert abs(image.mean() - mean) < 4
    if kind != "a line":
        np.testing.assert_array_equal(np.asarray(upright(content)), image)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_photographs_stand_as_they_were_held(orientation):
    turns = {1: 0, 3: 2, 6: -1, 8: 1}[orientation]
    content = written(pixels(3, 8, 16), "PNG", exif=held(orientation))
    expected = np.rot90(pixels(3, 8, 16), turns)
    np.testing.assert_array_equal(decode(content, *expected.shape)[0], expected)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_damaged_data_of_a_camera_leaves_the_pixels(form):
    image = pixels(3, 8, 16)
    seen = [
        turned.tobytes() for way in (image, image[:, ::-1]) for turned in (np.rot90(way, turns) for turns in range(4))
    ]
    draw = np.random.default_rng(0)
    for exif in (held(6), LETTERS):
        for _ in range(200):
            damaged = np.frombuffer(exif, np.uint8).copy()
            damaged[draw.integers(6, len(damaged), size=3)] = draw.integers(256, size=3)
            content = written(image, form, exif=damaged[: draw.integers(6, len(damaged) + 1)].tobytes(), lossless=True)
            assert np.asarray(upright(content)).tobytes() in seen
            header = read_header(io.BytesIO(content))
            assert decode(content, header.height, header.width, 3)[0].tobytes() in seen


@pytest.mark.parametrize("kind", REFUSED)
def test_files_without_a_picture_say_why(kind):
    content, reason = REFUSED[kind]
    for read in (lambda: decode(content, 16, 16, 3), lambda: upright(content)):
        with pytest.raises(Undecodable) as caught:
            read()
        assert str(caught.value).startswith(reason) and "\n" not in str(caught.value)


def test_large_pictures_are_decoded_one_at_a_time(monkeypatch):
    """Each thread would otherwise hold copies of its picture at the same time."""
    monkeypatch.setattr("jdarts.data.own.decoding._LARGE", 16 * 16 - 1)
    inside, most = [], []

    def slowly(picture):
        inside.append(picture)
        most.append(len(inside))
        time.sleep(0.01)
        inside.remove(picture)
        return picture

    monkeypatch.setattr("jdarts.data.own.decoding._eight_bits", slowly)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: decode(PNG, 16, 16, 3), range(8)))
    assert most == [1] * 8


def test_bytes_that_change_never_end_the_program():
    """Damage gives other pixels or a reason, in every format."""
    draw = np.random.default_rng(0)
    for content in [content for content, _ in READ.values() if len(content) < 3000]:
        for _ in range(25):
            damaged = np.frombuffer(content, np.uint8).copy()
            damaged[draw.integers(len(damaged), size=3)] = draw.integers(256, size=3)
            kept = damaged[: draw.integers(20, len(damaged) + 1)].tobytes()
            for read in (lambda each: read_header(io.BytesIO(each)), lambda each: decode(each, 8, 8, 1), upright):
                try:
                    read(kept)
                except Undecodable as error:
                    assert len(str(error)) < 200


def test_odd_names_and_entries_are_read_or_named_on_one_line(tmp_path):
    root = folder_of_classes(tmp_path / "pets", {"cat": 3, "<script>": 2, "-rf": 2, "a\nb": 2, "\u0645\u06cc\u200c": 2})
    cat = root / "cat"
    for number, name in enumerate((b"new\nline", b"\xff\xfe", b"--help", b"x" * 250, b"$(x) 'y' \"z\"", b"\x1b[31m")):
        with open(os.fsencode(cat) + b"/" + name + b".png", "wb") as file:
            file.write(written(pixels(number), "PNG"))
    (cat / "bad\n\x1b[2J\u202egnp.png").write_bytes(b"x")
    for name in (".hidden.png", ".DS_Store", "Thumbs.db"):
        (cat / name).write_bytes(b"x")
    save(cat / "__MACOSX" / "._0.png", pixels(0))
    save(root / "__MACOSX" / "cat" / "._0.png", pixels(0))
    for name, target in {"up": "..", "self": ".", "root": "/", "loop.png": "loop.png", "gone.png": "/gone"}.items():
        os.symlink(target, cat / name)
    os.symlink(root / "-rf" / "0.png", cat / "link.png")
    (cat / "folder.png").mkdir()
    os.mkfifo(cat / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(cat / "socket.png"))
    save(cat / "within" / "deep.png", pixels(9))
    decoded = read_path(root, None)
    assert decoded.class_names == ("-rf", "<script>", "a\\nb", "cat", "\u0645\u06cc\u200c")
    assert np.bincount(decoded.splits["train"].images.labels).tolist() == [2, 2, 2, 3 + 6 + 1 + 1, 2]
    above = "is a link to a folder that it lies in"
    assert sorted(map(str, decoded.problems)) == sorted(
        [
            *(f"cat/{name} {above}" for name in ("up", "self", "root")),
            "cat/loop.png cannot be read (Too many levels of symbolic links)",
            "cat/gone.png is a broken link",
            "cat/pipe.png is not a file",
            "cat/socket.png is not a file",
            f"cat/bad\\n\\x1b[2J\\u202egnp.png {NO_PICTURE}",
        ]
    )
    names = decoded.splits["train"].names
    assert {"cat/new\\nline.png", "cat/\\xff\\xfe.png", "cat/\\x1b[31m.png"} < set(names)


def test_folders_within_each_other_end(tmp_path, monkeypatch):
    root = folder_of_classes(tmp_path / "pets")
    monkeypatch.chdir(root / "cat")
    for _ in range(110):
        os.mkdir("d")
        os.chdir("d")
    (problem,) = scan(root).problems
    assert str(problem).endswith("/d lies more than 100 folders deep")
    os.chdir(root / "cat")


@pytest.mark.parametrize("change", ["gone", "empty", "closed"])
def test_a_file_that_changes_while_a_folder_is_read_is_left_out(tmp_path, change, monkeypatch):
    root = folder_of_classes(tmp_path / "pets")
    path, found = root / "cat" / "0.png", scan(root)
    if change == "gone":
        path.unlink()
    elif change == "empty":
        path.write_bytes(b"")
    else:
        # Root may read every file.
        real = type(path).open
        refused = PermissionError(13, "Permission denied", str(path))

        def opened(self, *arguments, **options):
            if self == path:
                raise refused
            return real(self, *arguments, **options)

        monkeypatch.setattr(type(path), "open", opened)
    monkeypatch.setattr("jdarts.data.own.loading.scan", lambda _: found)
    (problem,) = read_path(root, None).problems
    reasons = {"gone": "No such file or directory", "closed": "Permission denied"}
    assert str(problem) == f"cat/0.png {f'cannot be read ({reasons[change]})' if change in reasons else 'is empty'}"


def test_an_interruption_ends_the_reading_at_once(tmp_path, monkeypatch):
    root = folder_of_classes(tmp_path / "pets", {"cat": 400, "dog": 400}, height=8)
    read = []

    def slow(*arguments):
        read.append(arguments)
        if len(read) == 3:
            raise KeyboardInterrupt
        time.sleep(0.01)
        return decode(*arguments)

    monkeypatch.setattr("jdarts.data.own.reading.decode", slow)
    with pytest.raises(KeyboardInterrupt):
        load(root)
    assert len(read) < 300


def test_a_worker_that_the_system_ends_is_explained(tmp_path):
    pytest.importorskip("grain")
    import multiprocessing

    from jdarts.data.own.streaming import stream_path

    dataset = stream_path(folder_of_classes(tmp_path / "pets", {"cat": 20, "dog": 20}), lambda _: None)
    views = TrainingViews(dataset.train, len(dataset.train), 50, len(dataset.train), 8, ColorJitter(), 0)
    batches = decoded_batches(views, 4, first=0, workers=1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(InputError, match=r"has ended a process that decodes pictures.*fewer --workers.*to resume"):
        list(batches)

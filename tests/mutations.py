"""Damaged copies of valid files and texts, and bounds on what reading them may cost."""

import contextlib
import json
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: What a length or a count may be damaged to, in the widths that files write them in.
_NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 2**28, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**64 - 1)


def damaged_bytes(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Copies of a file with a flipped bit, cut off, with a part twice, missing or overwritten, or with other lengths."""
    draw = random.Random(seed)
    for _ in range(count):
        place = draw.randrange(len(content))
        size = draw.choice((1, 2, 4, 8))
        kind = draw.randrange(7)
        if kind < 2:
            yield flipped(content, 8 * place + draw.randrange(8))
        elif kind == 2:
            yield content[:place]
        elif kind == 3:
            yield content[:place] + content[place + draw.choice((1, 4, 100, 1000)) :]
        elif kind == 4:
            part = content[place : place + draw.choice((1, 4, 100, 1000))]
            yield content[:place] + part * draw.choice((2, 50)) + content[place:]
        elif kind == 5:
            number = draw.choice(_NUMBERS) % 256**size
            yield content[:place] + number.to_bytes(size, draw.choice(("little", "big"))) + content[place + size :]
        else:
            yield content[:place] + draw.randbytes(size) + content[place + size :]


def flipped(content: bytes, bit: int) -> bytes:
    """A copy with one bit flipped."""
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def damaged_texts(text: str, count: int, seed: int = 0) -> Iterator[str]:
    """Copies of a text with parts missing, twice, repeated often, or replaced by marks, numbers and nested brackets."""
    draw = random.Random(seed)
    others = (
        "",
        "'",
        '"',
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "=",
        "\\",
        "\n",
        "\0",
        "#",
        "é",
        "null",
        "NaN",
        "-1",
        "1e999",
    )
    others += ("9" * 5000, "[" * 2000, "(" * 200, "{'a':" * 500, "none", "range(2, 6)", "np.int64(3)")
    for _ in range(count):
        start = draw.randrange(len(text))
        stop = min(len(text), start + draw.choice((0, 1, 5, 40)))
        part = draw.choice((*others, text[start:stop] * draw.choice((2, 300)), text[:start], text))
        yield text[:start] + part + text[stop:] if draw.random() < 0.9 else text[:start]


@contextlib.contextmanager
def bounded(seconds: float = 10.0, size: int = 2**30) -> Iterator[None]:
    """Fails where the block takes longer, of this process's time, or more memory: an allocation beyond is a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    start = time.process_time()
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    taken = time.process_time() - start
    assert taken < seconds, f"{taken:.1f} s"


#: What takes the place of a part of JSON data.
_ODD_VALUES = (
    None,
    True,
    0,
    -1,
    10**9,
    10**30,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x" * 1000,
    "none",
    [],
    [[]],
    {},
    {"a": 1},
)


def damaged_json(value: Any, count: int, seed: int = 0) -> Iterator[Any]:
    """Copies of JSON data with a part left out, doubled, replaced by an odd value or by another part."""
    draw = random.Random(seed)
    for _ in range(count):
        copied = json.loads(json.dumps(value))
        inner = [copied]
        while draw.random() < 0.85 and (
            deeper := [each for each in _parts(inner[-1]) if isinstance(each, (list, dict)) and each]
        ):
            inner.append(draw.choice(deeper))
        place = inner[-1]
        key: Any = draw.choice(list(place) if isinstance(place, dict) else range(len(place)))
        kind = draw.randrange(4)
        if kind == 0:
            del place[key]
        elif kind == 1 and isinstance(place, list):
            place += place * draw.choice((1, 100))
        else:
            place[key] = draw.choice((*_ODD_VALUES, *_parts(json.loads(json.dumps(value)))))
        yield copied


def _parts(value: Any) -> list[Any]:
    return list(value.values() if isinstance(value, dict) else value)

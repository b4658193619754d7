"""Files of PyTorch, read without PyTorch and without running what they say."""

import argparse
import collections
import io
import pathlib
import pickle
import struct
import zipfile

import numpy as np
import pytest
from mutations import bounded, damaged_bytes
from torch_bytes import FORMATS, Call, Global, Stored, zipped

from jdarts.errors import InputError
from jdarts.trained.torch_file import read_torch_file

each_format = pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)

DRAW = np.random.default_rng(0)
ARRAYS = {
    "stem.0.weight": DRAW.normal(size=(3, 2, 3, 3)).astype(np.float32),
    "stem.1.running_var": DRAW.normal(size=3),
    "half": DRAW.normal(size=(2, 2)).astype(np.float16),
    "stem.1.num_batches_tracked": np.array(7),
    "empty": np.zeros((0, 3), np.float32),
}


def saved(arrays):
    return collections.OrderedDict((name, Stored(array)) for name, array in arrays.items())


@pytest.fixture
def read(tmp_path):
    def reading(content):
        (tmp_path / "weights.pt").write_bytes(content)
        return read_torch_file(tmp_path / "weights.pt")

    return reading


def assert_read(found, expected=ARRAYS):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@each_format
def test_a_state_dict(save, read):
    assert_read(read(save(saved(ARRAYS))))


@each_format
def test_a_trainings_checkpoint(save, read):
    score = Call(Global("numpy.core.multiarray", "scalar"), Call(Global("numpy", "dtype"), "f8", 0, 1), b"12345678")
    content = {"epoch": 3, "state_dict": saved(ARRAYS), "best_acc": score, "optimizer": {"state": {}, "lrs": [0.1]}}
    assert_read(read(save(content)))


def test_a_tensor_that_is_part_of_its_storage(read):
    numbers = np.arange(24, dtype=np.float32)
    found = read(zipped({"turned": Stored(numbers, strides=(1, 4), offset=3, shape=(4, 5))}))
    np.testing.assert_array_equal(found["turned"], numbers[3:23].reshape(5, 4).T)
    assert (
        read(zipped({"a": Call(Global("torch._utils", "_rebuild_parameter"), Stored(numbers), True, {})}))["a"].size
        == 24
    )


@each_format
@pytest.mark.parametrize("module", ["os", "posix"])
def test_a_program_in_a_file_is_refused_and_does_not_run(save, module, read, tmp_path):
    command = f"touch {tmp_path}/ran"
    for attack in (
        {"a": Call(Global(module, "system"), command)},
        Call(Global("builtins", "exec"), f"open({str(tmp_path / 'ran')!r}, 'w')"),
        {"a": Call(Global("collections", "OrderedDict.__init__.__globals__"), 1)},
        {"a": Call(Global("torch._utils", "_rebuild_tensor_v2.__globals__"), 1)},
        {"a": Call(Global("torch.nn.modules.linear", "Linear"), 3, 4)},
    ):
        with pytest.raises(InputError, match=r"it asks for .*, which is refused: .*state_dict\(\) alone"):
            read(save(attack))
    assert not (tmp_path / "ran").exists()


def test_a_plain_pickle_does_not_run(read, tmp_path):
    class Attack:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    with pytest.raises(InputError, match=r"asks for builtins\.exec, which is refused"):
        read(pickle.dumps(Attack()))
    assert not (tmp_path / "ran").exists()


@each_format
def test_every_truncation_is_told(save, read):
    content = save(saved({"a": np.ones((2, 3), np.float32)}))
    for size in range(0, len(content) - 1, 7):
        with pytest.raises(
            InputError, match=r"weights\.pt is truncated, damaged or not a PyTorch file .*download it again"
        ):
            read(content[:size])


@pytest.mark.parametrize(
    "tensor",
    [
        Stored(np.ones(4), shape=(5,)),
        Stored(np.ones(4), offset=1),
        Stored(np.ones(4), strides=(-1,)),
        Stored(np.ones(4), shape=(10**9, 10**9), strides=(0, 0)),
        Stored(np.ones(4), shape=(2, 2), strides=(1,)),
    ],
)
@each_format
def test_impossible_tensors(save, tensor, read):
    with pytest.raises(InputError, match=r"truncated, damaged .*a tensor"):
        read(save({"a": tensor}))


def test_what_holds_no_state_dict(read, tmp_path):
    for content in ({}, {"epoch": 1}, [1, 2], Stored(np.ones(2))):
        with pytest.raises(InputError, match="holds no state_dict; save the network's"):
            read(zipped(content))
    with pytest.raises(InputError, match=r"weights\.pt is truncated, damaged or not a PyTorch file"):
        read(b"PK\x03\x04 not a zip")
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.pt: No such file"):
        read_torch_file(tmp_path / "nowhere.pt")


def program_of(*instructions):
    """A file of PyTorch whose pickle has these instructions."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"".join(instructions))
        archive.writestr("archive/data/0", bytes(16))
    return file.getvalue()


def many(count):
    """A dictionary of dictionaries, each of which holds the next one twice."""
    return b"}q\x00" + b"".join(b"}(X\x01\0\0\0ah\x00X\x01\0\0\0bh\x00uq\x00" for _ in range(count))


def pairs(count):
    """A list of pairs, kept at place 0; the function that reads it is kept at place 1."""
    items = b"".join(b"X\x04\0\0\0%04xK\x01\x86" % index for index in range(count))
    return b"]q\x00(" + items + b"e0"


#: Pickles that would take gigabytes or minutes elsewhere.
COSTLY = {
    "a memo of 2^28": (b"}r" + struct.pack("<I", 2**28) + b".",),
    "a memo of 10^18": (b"}p" + b"9" * 18 + b"\n.",),
    "a text of 4 GB": (b"X" + struct.pack("<I", 2**32 - 1) + b"a.",),
    "bytes of 2^60": (b"\x96" + struct.pack("<Q", 2**60) + b".",),
    "a number of a million digits": (b"\x8b" + struct.pack("<I", 10**6) + b"\x7f" * 10**6 + b".",),
    "a number as text": (b"L" + b"9" * 10**6 + b"L\n.",),
    "another number as text": (b"I" + b"9" * 4_000_000 + b"\n.",),
    "copies of a dictionary": (pairs(30_000), b"ccollections\nOrderedDict\nq\x01", b"h\x01h\x00\x85R0" * 10_000, b"."),
    "copies that are kept": (pairs(30_000), b"ccollections\nOrderedDict\nq\x01", b"h\x01h\x00\x85R" * 10_000, b"."),
    "copies of sizes": (pairs(30_000), b"ctorch\nSize\nq\x01", b"h\x01h\x00\x85R" * 20_000, b"."),
    "copies of a text": (
        b"X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"q\x00ctorch\nSize\nq\x01",
        b"h\x01h\x00\x85R" * 20_000 + b".",
    ),
    "copies of arguments": (
        b"(" + b"N" * 100_000 + b"tq\x00cnumpy.core.multiarray\nscalar\nq\x01" + b"h\x01h\x00R0" * 80_000 + b".",
    ),
    "copies of an identifier": (
        b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NK\x04" + b"N" * 100_000 + b"tq\x00",
        b"h\x00Q0" * 80_000 + b".",
    ),
    "a name that takes long to write": (b"K\x01", b"q\x00h\x00\x86" * 60, b"h\x00\x93."),
    "a key that takes long to hash": (b"}K\x01" + b"q\x00h\x00\x86" * 60 + b"K\x01s.",),
    "pairs with such a key": (b"ccollections\nOrderedDict\n](](K\x01", b"q\x00h\x00\x86" * 60, b"K\x01ee\x85R."),
    "dictionaries in dictionaries": (many(60), b"."),
    "lists in lists": (b"]" * 200_000 + b"a" * 199_999 + b".",),
    "millions of instructions": (b"}" * 3_000_000 + b".",),
    "marks": (b"(" * 400_000 + b".",),
    "nothing": (),
}


@pytest.mark.parametrize("instructions", COSTLY.values(), ids=COSTLY)
def test_costly_pickles_are_refused_at_once(instructions, read):
    for content in (program_of(*instructions), b"\x80\x02" + b"".join(instructions)):
        with bounded(size=2**28), pytest.raises(InputError) as caught:
            read(content)
        assert len(str(caught.value)) < 400 and "sys.set" not in str(caught.value)


@each_format
def test_a_shape_of_huge_numbers_is_refused_at_once(save, read):
    for shape in ([2**100] * 200, [10**5000] * 30, [0] * 200, [1] * 33):
        tensor = Stored(np.ones(4), shape=tuple(shape), strides=(1,) * len(shape))
        with bounded(), pytest.raises(InputError, match="truncated, damaged"):
            read(save({"a": tensor}))


def test_a_storage_that_many_names_share_is_read_once(read):
    shared = Stored(np.arange(2**22, dtype=np.float32))
    content = zipped({f"layer{index}": shared for index in range(3000)})
    with bounded(size=2**28):
        found = read(content)
    assert len(found) == 3000
    np.testing.assert_array_equal(found["layer7"], shared.array)


@each_format
def test_damaged_files_are_refused_or_read(save, read):
    content = save({"epoch": 3, "model": saved(ARRAYS), "optimizer": {"state": {0: Stored(np.ones(2))}}})
    for damaged in damaged_bytes(content, 300):
        with bounded():
            try:
                found = read(damaged)
            except InputError as error:
                assert len(str(error)) < 400
            else:
                assert all(isinstance(array, np.ndarray) for array in found.values())


Pair = collections.namedtuple("Pair", ["normal", "reduce"])
#: Not JSON: what a training keeps beside its weights.
OBJECTS = {
    "a namespace": argparse.Namespace(lr=0.1, model="darts"),
    "a namedtuple": Pair([("skip_connect", 0)], [2]),
    "a set": {1, 2},
    "a frozen set": frozenset({1, 2}),
    "a dictionary with a default": collections.defaultdict(list, a=[1]),
    "an array": np.arange(100.0),
    "an array of megabytes": np.zeros(300_000),
    "a path": pathlib.PurePosixPath("a/b"),
    "complex numbers": Call(
        Global("torch._utils", "_rebuild_tensor_v2"), Call(Global("torch", "storage"), 1), 0, (), ()
    ),
}


@each_format
@pytest.mark.parametrize("value", OBJECTS.values(), ids=OBJECTS)
def test_objects_beside_the_network_are_passed_over(save, value, read):
    assert_read(read(save({"args": value, "state_dict": saved(ARRAYS), "more": [value, {"a": value}], "model": value})))
    assert_read(read(save({"args": value, "my_network": saved(ARRAYS)})))


@each_format
@pytest.mark.parametrize("value", OBJECTS.values(), ids=OBJECTS)
def test_a_network_made_of_other_objects_is_refused(save, value, read):
    for content in (
        saved(ARRAYS) | {"classifier.bias": value},
        {"state_dict": saved(ARRAYS) | {"a": value}},
        {"state_dict": value},
        {"model": value, "shadow": saved(ARRAYS)},
        value,
        [value, 3],
    ):
        with pytest.raises(InputError, match=r"it asks for .*, which is refused: .*state_dict\(\) alone"):
            read(save(content))


@each_format
def test_bytes_and_scores_among_tensors_are_passed_over(save, read):
    assert_read(read(save(saved(ARRAYS) | {"commit": b"abc\xff", "hash": bytes(2_000_000)})))


def test_sets_of_newer_pickles_are_passed_over(read):
    empty = b"}X\x01\0\0\0a\x8f(K\x01\x90sX\x01\0\0\0b(K\x01\x91s."
    with pytest.raises(InputError, match=r"asks for builtins\.set,"):
        read(program_of(empty))


@each_format
def test_a_state_dict_in_a_list_or_tuple(save, read):
    for content in ([saved(ARRAYS)], (saved(ARRAYS), 7), (3, {"state_dict": saved(ARRAYS)}, {"lr": 0.1})):
        assert_read(read(save(content)))


PLACES = ["state_dict", "model_state_dict", "model_state", "model", "net", "my_network"]


@each_format
@pytest.mark.parametrize("place", PLACES)
def test_a_network_is_found_at_any_usual_place(place, save, read):
    optimizer = {"state": {0: {"momentum_buffer": Stored(np.ones(9))}}, "param_groups": [{"lr": 0.1}]}
    assert_read(read(save({"epoch": 3, place: saved(ARRAYS), "optimizer": optimizer, "best": Stored(np.ones(()))})))
    assert_read(read(save({"outer": {place: saved(ARRAYS)}})))


def test_of_several_dictionaries_the_usual_one_is_taken_or_none(read):
    others = {"teacher": saved(ARRAYS), "student": saved(ARRAYS)}
    with pytest.raises(InputError, match=r"several dictionaries of tensors \(teacher, student\), and no name tells"):
        read(zipped(others))
    assert_read(read(zipped(others | {"model": saved(ARRAYS)})))


@pytest.mark.parametrize("zip_format", [True, False])
def test_files_of_pytorch_itself(zip_format, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in ARRAYS.items()}
    tensors["turned"] = torch.arange(12.0).reshape(3, 4).T
    tensors["bfloat16"] = torch.tensor([1.5, 2.5], dtype=torch.bfloat16)
    tensors["parameter"] = torch.nn.Parameter(torch.ones(3))
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": tensors, "score": np.float64(2.5)}, path, _use_new_zipfile_serialization=zip_format)
    found = read_torch_file(path)
    assert_read({name: found[name] for name in ARRAYS})
    np.testing.assert_array_equal(found["turned"], np.arange(12.0).reshape(3, 4).T)
    assert found["bfloat16"].astype(np.float32).tolist() == [1.5, 2.5]
    assert found["parameter"].tolist() == [1, 1, 1]
    torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=zip_format)
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.linear\.Linear, which is refused"):
        read_torch_file(path)

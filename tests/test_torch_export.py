"""Trained networks as files of PyTorch: names, layouts and formats."""

import collections
import contextlib
import json
import pickle
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.errors import InputError
from jdarts.files.safetensors import read_safetensors, safetensors_bytes
from jdarts.genotype import Genotype
from jdarts.nets.discrete import cifar_network
from jdarts.nets.initial import from_one_draw
from jdarts.trained import ImageFormat, TrainedNetwork
from jdarts.trained.imported import import_weights, infer_network, read_state_dict
from jdarts.trained.reference_file import save_safetensors, save_torch, state_dict

#: Every kind of layer that the reference implementation names.
NORMAL = (
    ("sep_conv_3x3", 0),
    ("dil_conv_5x5", 1),
    ("conv_3x3", 0),
    ("conv_1x1", 2),
    ("conv_7x1_1x7", 0),
    ("sep_conv_3x3", 1),
)
REDUCE = (
    ("skip_connect", 0),
    ("sep_conv_5x5", 1),
    ("skip_connect", 1),
    ("max_pool_3x3", 0),
    ("conv_3x3", 1),
    ("skip_connect", 2),
)
GENOTYPE = Genotype(NORMAL, (2, 3, 4), REDUCE, (3, 4))


@pytest.fixture(scope="module")
def trained():
    network = cifar_network(GENOTYPE, channels=4, cells=3, classes=3, auxiliary=False)
    images = jnp.zeros((1, 8, 8, 1), jnp.float32)
    variables = jax.jit(from_one_draw(lambda key: network.init(key, images, train=False)))(jax.random.key(0))
    draw = np.random.default_rng(0)
    variables["batch_stats"] = jax.tree.map(
        lambda a: draw.uniform(0.5, 2, a.shape).astype(np.float32), variables["batch_stats"]
    )
    return TrainedNetwork(network, variables, ImageFormat((8, 8, 1), (0.5,), (0.25,), ("a", "b", "c")))


@pytest.fixture(params=("network.pt", "network.safetensors"))
def written(request, trained, tmp_path):
    path = tmp_path / request.param
    (save_torch if path.suffix == ".pt" else save_safetensors)(trained, path)
    return path


def test_a_written_network_is_read_back_bit_for_bit(written, trained):
    """The reader's names and layouts are those of the reference implementation's numbers in other tests."""
    arrays = read_state_dict(written)
    network = infer_network(arrays, GENOTYPE)
    assert (network.channels, network.cells, network.classes) == (4, 3, 3)
    read = import_weights(network, arrays)
    expected = {name: trained.variables[name] for name in ("params", "batch_stats")}
    jax.tree.map(np.testing.assert_array_equal, read, expected)


def test_shapes_are_those_of_pytorch(trained):
    shapes = {name: array.shape for name, array in state_dict(trained).items()}
    assert shapes["stem.0.weight"] == (12, 1, 3, 3)
    assert shapes["cells.0._ops.0.op.1.weight"] == (4, 1, 3, 3)
    assert shapes["cells.0._ops.0.op.2.weight"] == (4, 4, 1, 1)
    assert shapes["cells.0._ops.4.1.weight"] == (4, 4, 1, 7) and shapes["cells.0._ops.4.2.weight"] == (4, 4, 7, 1)
    assert shapes["cells.1._ops.0.conv_1.weight"] == (4, 8, 1, 1)
    assert shapes["classifier.weight"] == (3, 32) and shapes["classifier.bias"] == (3,)
    assert shapes["cells.2.preprocess0.bn.running_var"] == (16,)


def test_the_same_network_gives_the_same_bytes(written, trained, tmp_path):
    again = tmp_path / f"again{written.suffix}"
    (save_torch if written.suffix == ".pt" else save_safetensors)(trained, again)
    assert written.read_bytes() == again.read_bytes()


class PlainPickle(pickle.Unpickler):
    """Python's reader with the three names that `torch.load(weights_only=True)` knows."""

    def find_class(self, module, name):
        return {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "FloatStorage"): np.float32,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: arguments,
        }[module, name]

    def persistent_load(self, pid):
        return pid


def test_a_pt_file_is_a_plain_pickle_of_tensors(trained, tmp_path):
    save_torch(trained, tmp_path / "network.pt")
    with zipfile.ZipFile(tmp_path / "network.pt") as archive:
        assert archive.testzip() is None and archive.read("archive/version") == b"3\n"
        found = PlainPickle(archive.open("archive/data.pkl")).load()
        expected = state_dict(trained)
        assert list(found) == list(expected)
        for name, ((kind, dtype, key, place, count), offset, shape, strides, gradient, hooks) in found.items():
            array = np.frombuffer(archive.read(f"archive/data/{key}"), dtype).reshape(shape)
            np.testing.assert_array_equal(array, expected[name])
            assert (kind, place, count, offset, gradient, hooks) == ("storage", "cpu", array.size, 0, False, {})
            assert strides == tuple(step // 4 for step in np.empty(shape, np.float32).strides)


def test_safetensors_are_aligned_and_say_what_the_network_is(trained, tmp_path):
    path = tmp_path / "network.safetensors"
    save_safetensors(trained, path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    about = header["__metadata__"]
    assert about["genotype"] == str(GENOTYPE) and json.loads(about["class_names"]) == ["a", "b", "c"]
    assert all(isinstance(value, str) for value in about.values())
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    assert ends[-1] == len(content) - 8 - length


def test_operations_without_names_there_are_refused(trained):
    genotype = Genotype((("mbconv3_3x3", 0), ("skip_connect", 1)), (2,), REDUCE, (3, 4))
    network = trained.network.clone(genotype=genotype)
    with pytest.raises(InputError, match="operation mbconv3_3x3 has no layers in the reference implementation"):
        state_dict(TrainedNetwork(network, trained.variables, trained.images))


def test_damaged_safetensors_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    content = safetensors_bytes({"a": np.ones((2, 3), np.float32), "b": np.arange(3)}, {"format": "pt"})
    path.write_bytes(content)
    np.testing.assert_array_equal(read_safetensors(path)["b"], np.arange(3))
    for wrong in (b"", b"12345678", content[:20], content[:-1], struct.pack("<Q", 2**63) + content[8:]):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match="is truncated, damaged or not a safetensors file"):
            read_safetensors(path)
    draw = np.random.default_rng(0)
    for _ in range(300):
        mutated = bytearray(content)
        mutated[draw.integers(len(content))] = draw.integers(256)
        path.write_bytes(mutated)
        with contextlib.suppress(InputError):
            assert all(isinstance(array, np.ndarray) for array in read_safetensors(path).values())

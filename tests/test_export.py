"""Trained networks out of jdarts and back: runs, arrays, StableHLO programs, checkpoints of PyTorch."""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import command_line
import jax
import jax.numpy as jnp
import numpy as np
import plain_network
import pytest
import small_runs
import small_train
from mutations import bounded, damaged_bytes, flipped
from small_runs import user_settings
from test_discrete import random_arrays
from torch_bytes import FORMATS, Stored

import jdarts
from jdarts import checkpoint, data, zoo
from jdarts.data.catalogue import CATALOGUE
from jdarts.errors import InputError
from jdarts.export import main
from jdarts.files.arrays import read_arrays
from jdarts.genotype import Genotype
from jdarts.nets.discrete import cifar_network, imagenet_network
from jdarts.trained.imported import import_weights, infer_network, read_state_dict
from jdarts.trained.loading import ImageFormat, TrainedNetwork, load_network, save_arrays, save_program
from jdarts.trained.program_file import sealed

__all__ = ["user_settings"]

pytestmark = pytest.mark.usefixtures("user_settings")

#: Quick to compile, with every kind of kernel and pool that has a native form.
CELLS = Genotype(
    normal=(("dil_conv_3x3", 0), ("max_pool_3x3", 1)),
    normal_concat=(2,),
    reduce=(("dil_conv_3x3", 0), ("max_pool_3x3", 1), ("avg_pool_3x3", 0), ("skip_connect", 1)),
    reduce_concat=(2, 3),
)
FORMAT = ImageFormat((8, 12, 3), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), ("cat", "dog", "bird"))


@pytest.fixture(scope="module")
def trained():
    network = cifar_network(CELLS, channels=2, cells=2, classes=3, auxiliary=False)
    return TrainedNetwork(network, jax.device_get(import_weights(network, random_arrays(network))), FORMAT)


def raw(count, shape=FORMAT.shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def plain_logits(arrays, genotype, images, stem="cifar", cells=2, mean=FORMAT.mean, std=FORMAT.std):
    """What the edge-by-edge network makes of raw images."""
    normal = jnp.asarray((images / 255 - np.array(mean)) / np.array(std), jnp.float32)
    flat = {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}
    network = functools.partial(plain_network.forward, genotype=genotype, stem=stem, cells=cells, train=False)
    return jax.jit(lambda flat, images: network(flat, images)[0])(flat, normal)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.fixture(scope="module")
def expected(trained):
    return plain_logits(random_arrays(trained.network), CELLS, raw(4))


def test_arrays_give_the_same_network(trained, expected, tmp_path):
    save_arrays(trained, tmp_path / "network.npz")
    again = load_network(tmp_path / "network.npz")
    assert (again.network, again.images) == (trained.network, trained.images)
    jax.tree.map(np.testing.assert_array_equal, again.variables, trained.variables)
    classify = jdarts.load(tmp_path / "network.npz")
    assert (classify.image_shape, classify.class_names) == (FORMAT.shape, FORMAT.class_names)
    found = classify(raw(4))
    assert (found.dtype, found.shape) == (np.float32, (4, 3))
    close(found, expected)
    close(classify(raw(4)[:1]), expected[:1])
    with np.load(tmp_path / "network.npz", allow_pickle=False) as file:
        assert "params/cell0/preprocess/pointwise0" in file.files
        assert json.loads(str(file["description"]))["genotype"] == json.loads(CELLS.to_json())


def test_damaged_arrays_are_refused_or_read_right(trained, tmp_path):
    path = tmp_path / "network.npz"
    save_arrays(trained, path)
    for damaged in [*damaged_bytes(path.read_bytes(), 150), b"", b"PK\x03\x04"]:
        path.write_bytes(damaged)
        with bounded():
            try:
                found = load_network(path)
            except InputError as error:
                assert len(str(error)) < 400 and "allow_pickle" not in str(error)
            else:
                assert (found.network, found.images) == (trained.network, trained.images)
                jax.tree.map(np.testing.assert_array_equal, found.variables, trained.variables)


@pytest.fixture
def arrays(trained, tmp_path):
    """The arrays of an exported network, by name; and the function that writes and reads them again."""
    save_arrays(trained, tmp_path / "whole.npz")
    with np.load(tmp_path / "whole.npz") as file:
        return dict(file)


#: Changes of an exported network's arrays, and words of the message.
OTHER_ARRAYS = {
    "a name within another": ({"params": np.zeros(3, np.float32)}, "'params' is not an array of its network"),
    "a name below another": ({"params/classifier/bias/a": np.zeros(3, np.float32)}, "is not an array of its network"),
    "texts": ({"params/classifier/bias": np.array(["a", "b", "c"])}, "arrays of the types <U1, float32"),
    "objects": ({"params/classifier/bias": np.array([None])}, "network.npz: 'params/classifier/bias' holds Python objects"),
    "no number": ({"params/classifier/bias": np.full(3, np.nan, np.float32)}, "bias' holds values that are not finite"),
    "infinity": ({"batch_stats/stem/norm/mean": np.full((1, 6), np.inf, np.float32)}, "norm/mean' holds values that are not"),
    "whole numbers": ({"params/classifier/bias": np.zeros(3, int)}, "arrays of the types float32, int64"),
    "another shape": ({"params/classifier/bias": np.zeros((3, 1), np.float32)}, "has the shape (3, 1), its network needs (3,)"),
    "a huge array": ({"params/classifier/bias": np.broadcast_to(np.float32(0), 2**26)}, "has the shape (67108864,)"),
    "records": ({"params/classifier/bias": np.zeros(3, [("a", "f4")])}, "does not describe an array of numbers"),
    "complex numbers": ({"params/classifier/bias": np.zeros(3, complex)}, "which is neither numbers nor text"),
    "no text": ({"description": np.zeros(3)}, "'description' is not text"),
    "no JSON": ({"description": np.array("[" * 100_000)}, "'description' is not JSON"),
    "another format": ({"description": np.array('{"format": "b"}')}, "has the format 'b'; this version of jdarts reads"),
    "a list": ({"description": np.array("[]")}, "has the format None"),
    "no genotype": ({"description": np.array('{"format": "jdarts network 1"}')}, "lacks the network"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), OTHER_ARRAYS.values(), ids=OTHER_ARRAYS)
def test_other_arrays_are_refused_before_they_are_read(changes, message, arrays, tmp_path):
    np.savez_compressed(tmp_path / "network.npz", **(arrays | changes))
    with bounded(size=2**27), pytest.raises(InputError) as caught:
        load_network(tmp_path / "network.npz")
    assert message in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("network", "cells"), 10**9), (("network", "cells"), -1), (("network", "channels"), "8"),
        (("network", "channels"), 10**30), (("network", "classes"), None), (("network", "stem"), []),
        (("images", "shape"), [8, 12]), (("images", "shape"), [10**9, 8, 3]), (("images", "shape"), "8"),
        (("images", "mean"), [0.5]), (("images", "std"), [0, 0, 0]), (("images", "std"), ["a", "b", "c"]),
        (("images", "class_names"), ["cat"]), (("images",), []), (("genotype",), "DARTS"), (("genotype", "normal"), None),
    ],
)  # fmt: skip
def test_descriptions_of_other_networks_are_refused(place, value, arrays, tmp_path):
    description = json.loads(str(arrays["description"]))
    *outer, last = place
    inner = description
    for name in outer:
        inner = inner[name]
    inner[last] = value
    np.savez(tmp_path / "network.npz", **(arrays | {"description": np.array(json.dumps(description))}))
    with bounded(), pytest.raises(InputError, match=r"network\.npz"):
        load_network(tmp_path / "network.npz")


@pytest.fixture(scope="module")
def program(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "network.stablehlo"
    save_program(trained, path)
    return path.read_bytes()


#: A process that has jax and no jdarts.
ELSEWHERE = """
import sys
import jax, numpy
program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = numpy.load(sys.argv[2])
numpy.savez(sys.argv[3], four=program.call(images), one=jax.jit(program.call)(images[:1]))
assert not any(name.split(".")[0] in ("jdarts", "flax") for name in sys.modules)
assert program.platforms == ("cpu", "cuda", "tpu")
"""


def test_a_program_runs_without_jdarts(program, expected, tmp_path):
    (tmp_path / "network.stablehlo").write_bytes(program)
    close(jdarts.load(tmp_path / "network.stablehlo")(raw(4)), expected)
    np.save(tmp_path / "images.npy", raw(4))
    paths = [tmp_path / name for name in ("network.stablehlo", "images.npy", "logits.npz")]
    hidden = tmp_path / "jdarts.py"
    hidden.write_text("raise ImportError('hidden')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", ELSEWHERE, *paths], check=True, env=environment, cwd=tmp_path)
    with np.load(tmp_path / "logits.npz") as logits:
        close(logits["four"], expected)
        close(logits["one"], expected[:1])


def test_a_program_knows_its_class_names(program, tmp_path):
    (tmp_path / "network.stablehlo").write_bytes(program)
    classify = jdarts.load(tmp_path / "network.stablehlo")
    assert (classify.image_shape, classify.class_names) == (FORMAT.shape, FORMAT.class_names)


def test_no_damage_of_a_program_is_deserialised(program, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.export.deserialize", lambda content: pytest.fail("deserialised"))
    path = tmp_path / "network.stablehlo"
    end = 8 * len(program)
    bits = [*range(0, end, end // 200), *range(end - 8 * 60, end, 7)]
    for damaged in [*(flipped(program, bit) for bit in bits), *damaged_bytes(program, 100), program + b"x", b""]:
        if damaged != program:
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=r"network\.stablehlo is damaged"):
                jdarts.load(path)


def test_a_program_without_checksum_is_refused_with_the_mend(program, tmp_path):
    path = tmp_path / "network.stablehlo"
    path.write_bytes(bytes(jax.export.deserialize(bytearray(program)).serialize()))
    with pytest.raises(InputError, match=r"has no checksum at its end, .* earlier versions; export it again"):
        jdarts.load(path)


def test_a_program_holds_no_native_kernel(trained):
    images = jax.ShapeDtypeStruct((4, *FORMAT.shape), jnp.uint8)
    for platforms in (("cpu",), ("cpu", "cuda", "tpu")):
        exported = jax.export.export(jax.jit(trained.logits), platforms=platforms)(images)
        assert "custom_call" not in exported.mlir_module()


def test_other_images_are_refused(trained, tmp_path):
    save_arrays(trained, tmp_path / "network.npz")
    classify = jdarts.load(tmp_path / "network.npz")
    for images in (raw(2) / 255, raw(2)[0], raw(2)[:, :, :8], raw(0)):
        with pytest.raises(InputError, match=r"this network reads uint8 \[B, 8, 12, 3\], pixels from 0 to 255"):
            classify(images)


@pytest.fixture(scope="module")
def finished(user_settings, tmp_path_factory):
    """A training's result: one that has a best checkpoint and averaged weights."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    cells = Genotype((("skip_connect", 0), ("skip_connect", 1)), (2,), (("max_pool_3x3", 0), ("skip_connect", 1)), (2,))
    changes = {"genotype": str(cells), "auxiliary": False, "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        small_runs.leave_undrawn(patch.setattr)
        return small_train.run(folder, **changes)[0]


def accuracy(classify):
    test = data.load("digits").test
    logits = np.concatenate([classify(images) for images in np.array_split(test.images, 1)])
    return np.mean(logits.argmax(axis=1) == test.labels)


def test_a_run_its_checkpoint_and_its_exports_classify_as_the_run_has_said(finished, command, tmp_path):
    folder = finished.folder
    assert finished.tested == "best"
    assert accuracy(jdarts.load(folder)) == pytest.approx(finished.test_accuracy)
    assert accuracy(jdarts.load(folder / finished.checkpoint)) == pytest.approx(finished.test_accuracy)
    assert jdarts.load(folder).class_names == data.load("digits").class_names
    for name in ("network.npz", "network.stablehlo"):
        code, out, err = command(folder, "--out", tmp_path / name)
        assert (code, err) == (0, "")
        assert out.startswith(f"{tmp_path}/{name}: 10 classes of uint8 images [B, 8, 8, 1]")
        assert accuracy(jdarts.load(tmp_path / name)) == pytest.approx(finished.test_accuracy)


def test_a_run_without_best_gives_the_newest(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "best")
    found, newest = (load_network(path).variables for path in (folder, small_runs.newest(folder).path))
    jax.tree.map(np.testing.assert_array_equal, found, newest)


def test_weights_are_taken_where_there_are_no_averages_and_the_auxiliary_head_is_left_out(trained, tmp_path):
    network = trained.network
    record = {
        "genotype": json.loads(CELLS.to_json()),
        "network": {"stem": "cifar", "channels": network.channels, "cells": network.cells, "auxiliary": True},
        "images": dataclasses.asdict(FORMAT),
    }
    head = {"auxiliary": {"classifier": {"bias": jnp.ones(3)}}}
    weights, model_state = (dict(trained.variables[name]) | head for name in ("params", "batch_stats"))
    ones = jax.tree.map(np.ones_like, {"params": weights, "batch_stats": model_state})
    state = {
        "weights": weights,
        "model_state": model_state,
        "average": {},
        "key": jax.random.key(0),
        "step": jnp.int32(3),
    }
    checkpoint.save(tmp_path / "run/checkpoints", 3, state, record)
    found = load_network(tmp_path / "run")
    assert (found.network, found.images) == (network, FORMAT)
    jax.tree.map(np.testing.assert_array_equal, found.variables, dict(trained.variables))
    checkpoint.save(tmp_path / "run/checkpoints", 4, state | {"average": ones}, record)
    assert all(np.all(leaf == 1) for leaf in jax.tree.leaves(load_network(tmp_path / "run").variables))
    diverged = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), ones)
    checkpoint.save(tmp_path / "run/checkpoints", 5, state | {"average": diverged}, record)
    with pytest.raises(InputError, match=r"step_0*5.*holds values that are not finite"):
        load_network(tmp_path / "run")


command = command_line.fixture(main, "export")


@pytest.fixture(scope="module")
def state_dict():
    """A reference checkpoint of a network with an auxiliary head, by PyTorch's names."""
    network = cifar_network(CELLS, channels=2, cells=3, classes=4)
    return {name: np.asarray(array, np.float32) for name, array in random_arrays(network).items()}


@pytest.fixture(scope="module")
def expected_of_checkpoint(state_dict):
    """The logits of two images of CIFAR-10's size by that checkpoint."""
    cifar10 = CATALOGUE["cifar10"]
    return plain_logits(state_dict, CELLS, raw(2, (32, 32, 3)), cells=3, mean=cifar10.mean, std=cifar10.std)


@pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)
def test_a_checkpoint_of_pytorch(save, state_dict, expected_of_checkpoint, command, tmp_path):
    path = tmp_path / "weights.pt"
    counter = {"module.stem.1.num_batches_tracked": Stored(np.array(3))}
    path.write_bytes(save({f"module.{name}": Stored(array) for name, array in state_dict.items()} | counter))
    code, out, err = command(path, "--genotype", CELLS, "--out", tmp_path / "network.npz")
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path}/network.npz: 4 classes of uint8 images [B, 32, 32, 3]")
    found = load_network(tmp_path / "network.npz")
    cifar10 = CATALOGUE["cifar10"]
    assert (found.images.mean, found.images.std) == (cifar10.mean, cifar10.std)
    close(jax.jit(found.logits)(raw(2, (32, 32, 3))), expected_of_checkpoint)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "a.b.c."])
def test_a_prefix_that_all_names_share_is_left_out(prefix, state_dict):
    network = infer_network(state_dict, CELLS)
    counters = {f"{prefix}stem.1.num_batches_tracked": np.array(3), "n_averaged": np.array(7)}
    longer = {f"{prefix}{name}": array for name, array in state_dict.items()} | counters
    assert infer_network(longer, CELLS) == network
    found, expected = import_weights(network, longer), import_weights(network, state_dict)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "name", ["cells.0._ops.0._ops.4.op.1.weight", "alphas_normal", "alpha_reduce.0", "_arch_parameters", "net.alphas"]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_weights_of_a_search_are_told_from_those_of_a_network(prefix, name, state_dict):
    searched = {f"{prefix}{each}": array for each, array in (state_dict | {name: np.ones(3)}).items()}
    with pytest.raises(
        InputError, match=f"has {name}: it holds the weights of a search, .* train the network of the cells"
    ):
        infer_network(searched, CELLS)


@pytest.mark.parametrize("array", [np.array(["a"] * 4), np.zeros(4, int), np.zeros(4, bool)])
def test_weights_that_are_no_floats_are_refused(array, state_dict):
    wrong = state_dict | {"classifier.bias": array}
    with pytest.raises(InputError, match=r"classifier\.bias is of the type .*; weights are floats"):
        import_weights(infer_network(wrong, CELLS), wrong)


@pytest.mark.parametrize("name", ["classifier.bias", "stem.1.running_var", "cells.2.preprocess1.op.1.weight"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(name, value, state_dict):
    array = state_dict[name].copy()
    array.flat[-1] = value
    wrong = state_dict | {name: array}
    with pytest.raises(InputError, match=f"the checkpoint's {name} holds values that are not finite"):
        import_weights(infer_network(wrong, CELLS), wrong)


@pytest.mark.parametrize(("value", "dtype"), [(1e300, jnp.float32), (1e39, jnp.bfloat16), (1e5, jnp.float16)])
def test_weights_that_overflow_are_refused(value, dtype, state_dict):
    wrong = state_dict | {"classifier.bias": np.full(4, value)}
    with pytest.raises(InputError, match=r"classifier\.bias holds values that are not finite .* in the network's type"):
        import_weights(infer_network(wrong, CELLS, dtype=dtype), wrong)


@pytest.mark.parametrize("shape", [(), (6,), (0,), (6, 3), (6, 3, 3, 3, 1)])
def test_stems_of_other_axes_are_refused(shape, state_dict):
    with pytest.raises(InputError, match=r"stem\.0\.weight has shape"):
        import_weights(infer_network(state_dict, CELLS), state_dict | {"stem.0.weight": np.ones(shape)})


def test_arrays_beside_a_prefix_and_counts_are_passed_over(state_dict):
    network = infer_network(state_dict, CELLS)
    longer = {f"model.{name}": array for name, array in state_dict.items()}
    beside = {"criterion.weight": np.ones(4), "ema_decay": np.ones(()), "total_ops": np.zeros(1)}
    counts = {f"model.cells.0.{name}": np.zeros(1) for name in ("total_ops", "total_params", "_ops.0.total_ops")}
    expected = import_weights(network, state_dict)
    for arrays in (longer | beside | counts, beside | longer, state_dict | {"cells.0.total_params": np.zeros(1)}):
        assert infer_network(arrays, CELLS) == network
        jax.tree.map(np.testing.assert_array_equal, import_weights(network, arrays), expected)
    with pytest.raises(InputError, match=r"criterion\.weight has no place"):
        import_weights(network, state_dict | {"criterion.weight": np.ones(4)})
    with pytest.raises(InputError, match="has alphas_normal: it holds the weights of a search"):
        infer_network(longer | {"alphas_normal": np.ones(3)}, CELLS)
    with pytest.raises(InputError, match="has no"):
        infer_network(longer | {f"teacher.{name}": array for name, array in state_dict.items()}, CELLS)


@pytest.mark.parametrize("number", [256, 1600, 9999])
def test_more_cells_than_any_network_has_are_refused_at_once(number, state_dict):
    many = state_dict | {f"cells.{number}.x.weight": np.ones(1)}
    with bounded(), pytest.raises(InputError, match=f"cells is {number + 1}; a network has at most 256"):
        infer_network(many, CELLS)
    with bounded(), pytest.raises(InputError, match=f"cells is {number + 1}; a network has at most 256"):
        cifar_network(CELLS, cells=number + 1)


def test_damaged_arrays_of_pytorch_are_refused_or_read(state_dict, tmp_path):
    path = tmp_path / "weights.npz"
    np.savez_compressed(path, **state_dict)
    for damaged in damaged_bytes(path.read_bytes(), 150):
        path.write_bytes(damaged)
        with bounded():
            try:
                found = read_state_dict(path)
                arrays = {name: np.asarray(array) for name, array in found.items()}
            except InputError as error:
                assert len(str(error)) < 400 and "allow_pickle" not in str(error)
            else:
                for name, array in arrays.items():
                    np.testing.assert_array_equal(array, state_dict[name])


def test_arrays_that_expand_are_not_read(state_dict, command, tmp_path):
    huge = state_dict | {"classifier.bias": np.broadcast_to(np.float32(0), 2**26)}
    np.savez_compressed(tmp_path / "weights.npz", **huge)
    with bounded(size=2**27):
        code, _, err = command(tmp_path / "weights.npz", "--genotype", CELLS, "--out", tmp_path / "network.npz")
    assert code == 2 and "classifier.bias has shape (67108864,)" in err


def test_arrays_of_an_imagenet_network(command, tmp_path):
    network = imagenet_network(CELLS, channels=2, cells=1, classes=3, auxiliary=False)
    arrays: Any = {name: np.asarray(array) for name, array in random_arrays(network).items()}
    np.savez(tmp_path / "weights.npz", **arrays)
    options = ("--genotype", CELLS, "--image-size", 32, "--mean", 0.5, 0.5, 0.5, "--std", 1, 1, 1)
    code, out, err = command(tmp_path / "weights.npz", *options, "--out", tmp_path / "network.npz")
    assert (code, err) == (0, "")
    assert "[B, 32, 32, 3]" in out
    found = load_network(tmp_path / "network.npz")
    assert (found.network.stem, found.network.channels, found.images.std) == ("imagenet", 2, (1, 1, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("weights.pt",), "weights.pt does not name its cells; give --genotype"),
        (("weights.pt", "--genotype", "DARTS_V2"), "the checkpoint has no cells.0._ops.2.op.1.weight; it is of another"),
        (("weights.pt", "--genotype", CELLS, "--classes", 10), "the checkpoint's network has classes 4; give 4"),
        (("weights.pt", "--genotype", CELLS, "--cells", 20), "cells is 20, but the checkpoint's network has cells 3"),
        (("weights.pt", "--genotype", CELLS, "--network", "imagenet"), "network is imagenet, but the checkpoint's"),
        (("weights.pt", "--genotype", CELLS, "--mean", 0.5), "--mean has 1 values and --std 3, but the network"),
        (("weights.pt", "--genotype", "nothing"), "no genotype 'nothing'"),
        (("short.pt", "--genotype", CELLS), "short.pt is truncated, damaged or not a PyTorch file"),
        (("other.npz", "--genotype", CELLS), "the checkpoint has no stem.0.weight; it is not a network of quark0/darts"),
        (("other.npz",), "other.npz holds arrays, but not those of a network that jdarts has exported"),
        (("short.npz",), "short.npz is damaged, or is not an .npz file"),
        (("nowhere",), "nowhere does not exist; give a run's folder or a checkpoint in it"),
        (("other.npz", "--classes", 3), "--classes is for checkpoints of PyTorch, with --genotype"),
    ],
)  # fmt: skip
def test_wrong_input(arguments, message, state_dict, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = FORMATS["zip"]({name: Stored(array) for name, array in state_dict.items()})
    (tmp_path / "weights.pt").write_bytes(content)
    (tmp_path / "short.pt").write_bytes(content[:-100])
    np.savez("other.npz", a=np.ones(3))
    (tmp_path / "short.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:-10])
    code, out, err = command(*arguments, "--out", "network.npz")
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "network.npz").exists()


@pytest.mark.parametrize("name", ["network.npz", "network.stablehlo"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--image-size", 0), "images are [H, W, C] = [0, 0, 3]; give whole numbers from 1 to 16,384"),
        (("--image-size", -5), "images are [H, W, C] = [-5, -5, 3]"),
        (("--image-size", 7), "images of 7×7 are 7×7 at the reduction in cell 1 of 3"),
        (("--image-size", 100_000_000), "images are [H, W, C] = [100000000, 100000000, 3]"),
        (("--std", 0, 0, 0), "std is (0.0, 0.0, 0.0)"),
        (("--std", "nan", 1, 1), "std is (nan, 1.0, 1.0); give finite numbers"),
        (("--std", -1, 1, 1), "std is (-1.0, 1.0, 1.0)"),
        (("--std", 60, 60, 60), "divide values on the scale 0 to 255 by 255"),
        (("--mean", "inf", 0, 0), "mean is (inf, 0.0, 0.0); give finite numbers"),
        (("--channels", 0), "channels is 0, but the checkpoint's network has channels 2"),
    ],
)  # fmt: skip
def test_images_that_no_network_reads(options, message, name, state_dict, command, tmp_path):
    np.savez(tmp_path / "weights.npz", **state_dict)
    code, out, err = command(
        tmp_path / "weights.npz", "--genotype", CELLS, *map(str, options), "--out", tmp_path / name
    )
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / name).exists()


def test_files_that_cannot_be_written_and_programs_that_cannot_be_read(trained, command, tmp_path):
    save_arrays(trained, tmp_path / "network.npz")
    for name, message in (("network.tflite", "ends in .npz or .stablehlo"), ("network.npz/a.npz", "cannot write")):
        code, out, err = command(tmp_path / "network.npz", "--out", tmp_path / name)
        assert (code, out) == (2, "")
        assert message in err and err.count("\n") == 1
    (tmp_path / "network.stablehlo").write_bytes(b"no program")
    with pytest.raises(InputError, match="is damaged, or not a network that jdarts has exported"):
        jdarts.load(tmp_path / "network.stablehlo")
    checkpoint.save(tmp_path / "search/checkpoints", 1, {"a": jnp.ones(2)}, {"space": {}})
    with pytest.raises(InputError, match=r"not a checkpoint of a training .*a search has no trained network"):
        jdarts.load(tmp_path / "search")


@pytest.mark.parametrize("content", [b"", b"junk" * 100, b"\xff" * 64, bytes(1000), b"\1" * 50], ids=range(5))
def test_sealed_files_that_hold_no_program_are_refused(content, tmp_path):
    path = tmp_path / "network.stablehlo"
    path.write_bytes(sealed(content, {"format": "jdarts program 1", "images": dataclasses.asdict(FORMAT)}))
    with pytest.raises(InputError, match=r"network\.stablehlo holds a program that this version of jax cannot read"):
        jdarts.load(path)


def test_damaged_programs_under_a_new_seal_are_refused_or_read(program, tmp_path):
    path = tmp_path / "network.stablehlo"
    for damaged in damaged_bytes(program, 100):
        path.write_bytes(sealed(damaged, {"format": "jdarts program 1", "images": dataclasses.asdict(FORMAT)}))
        with bounded(), contextlib.suppress(InputError):
            jdarts.load(path)


@pytest.mark.parametrize("read", [jdarts.load, load_network, lambda path: read_arrays(Path(path))])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/dev/null", "/dev/null is neither a file nor a folder"),
        ("/dev/zero", "/dev/zero is neither a file nor a folder"),
        ("x" * 300, "cannot read x+…: File name too long; give"),
        ("a\0b", "cannot read .*embedded null (byte|character in path); give"),
        ("/dev/null/a", "not exist|Not a directory"),
    ],
)
def test_paths_that_are_no_file(read, path, message):
    with bounded(), pytest.raises(InputError, match=message) as caught:
        read(path)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x" * 300, "--out", "q.npz"), "File name too long; give"),
        (("x" * 300, "--genotype", CELLS, "--out", "q.npz"), "File name too long; give"),
        (("run", "--out", "x" * 300 + ".npz"), "File name too long; give another name"),
        (("run", "--out", "x" * 300), "give a name that ends in .npz or .stablehlo"),
        (
            ("network.stablehlo", "--out", "q.npz"),
            "is an exported program, whose weights cannot be read; give the run",
        ),
    ],
)
def test_names_and_programs_that_no_network_is_read_from(arguments, message, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "network.stablehlo").write_bytes(sealed(b"", {}))
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1 and len(err) < 400
    assert os.listdir(tmp_path) == ["network.stablehlo"]


def test_a_published_cell_is_exported_whole(tmp_path):
    network = cifar_network(zoo.AmoebaNet, channels=2, cells=1, classes=2, auxiliary=False)
    variables = import_weights(network, random_arrays(network))
    save_program(
        TrainedNetwork(network, variables, ImageFormat((8, 8, 3), (0.5,) * 3, (1.0,) * 3)), tmp_path / "a.stablehlo"
    )
    assert jdarts.load(tmp_path / "a.stablehlo")(raw(2, (8, 8, 3))).shape == (2, 2)

"""Trained networks as ONNX programs, and the functions without jdarts's primitives that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.nets.discrete import cifar_network, imagenet_network
from jdarts.nets.initial import from_one_draw
from jdarts.trained import ImageFormat, TrainedNetwork
from jdarts.trained.onnx_file import padded, save_onnx
from jdarts.xla.plain import in_operations_of_jax

NORMAL = (("sep_conv_3x3", 0), ("max_pool_3x3", 1), ("dil_conv_3x3", 0), ("avg_pool_3x3", 2))
REDUCE = (("skip_connect", 0), ("conv_1x1", 1), ("max_pool_3x3", 0), ("sep_conv_3x3", 2))
OWN = ("separable", "pointwise", "combine", "max_pool", "depthwise")


@pytest.fixture(scope="module", params=["cifar", "imagenet"])
def trained(request):
    """Networks whose logits differ by about one among images; training gives the first one an auxiliary head."""
    make, cells, side, channels = (
        (cifar_network, 3, 16, 1) if request.param == "cifar" else (imagenet_network, 2, 32, 3)
    )
    network = make(Genotype(NORMAL, (2, 3), REDUCE, (2, 3)), channels=4, cells=cells, classes=3, auxiliary=cells == 3)
    images = jnp.zeros((1, side, side, channels), jnp.float32)
    variables = jax.jit(from_one_draw(lambda key: network.init(key, images, train=False)))(jax.random.key(0))
    draw = np.random.default_rng(0)
    variables["batch_stats"] = jax.tree.map(
        lambda a: draw.uniform(0.01, 0.2, a.shape).astype(np.float32), variables["batch_stats"]
    )
    variables = {name: {**leaves} for name, leaves in variables.items()}
    for leaves in variables.values():
        leaves.pop("auxiliary", None)
    form = ImageFormat((side, side, channels), (0.5,) * channels, (0.25,) * channels, ("a", "b", "c"))
    return TrainedNetwork(network.clone(auxiliary=False), variables, form)


def images_of(trained, count):
    return np.random.default_rng(count).integers(0, 256, (count, *trained.images.shape)).astype(np.uint8)


def test_a_network_in_operations_of_jax_gives_the_same_logits(trained):
    plain, images = in_operations_of_jax(trained.logits), images_of(trained, 2)
    used = {equation.primitive.name for equation in jax.make_jaxpr(plain)(images).jaxpr.eqns}
    assert not [name for name in used if name.startswith(OWN)]
    np.testing.assert_allclose(jax.jit(plain)(images), jax.jit(trained.logits)(images), rtol=1e-4, atol=1e-5)


def test_the_form_for_onnx_takes_any_number_of_images(trained):
    """What `save_onnx` gives to the converter, without it: shapes with an open number, no paddings, no orders of axes."""
    function = in_operations_of_jax(trained.logits, platform="tpu", replaced={lax.pad_p: padded})
    (count,) = jax.export.symbolic_shape("B")
    open_ = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((count, *trained.images.shape), jnp.uint8))
    assert open_.out_avals[0].shape == (count, 3)
    used = {equation.primitive.name for equation in open_.jaxpr.eqns}
    assert not [name for name in used if name.startswith((*OWN, "pad", "layout"))] and "conv_general_dilated" in used
    images = images_of(trained, 3)
    np.testing.assert_allclose(jax.jit(function)(images), jax.jit(trained.logits)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        ((0, 0, 0), (1, 2, 0)),
        ((2, 0, 0), (0, 1, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, -1, 0), (-2, 3, 0)),
        ((-1, 0, 0), (-1, -1, 0)),
    ],
)
def test_paddings_are_concatenations_and_slices(config):
    array, value = jnp.arange(6.0).reshape(2, 3), jnp.asarray(-jnp.inf)
    np.testing.assert_array_equal(padded(array, value, padding_config=config), lax.pad(array, value, config))
    with pytest.raises(ValueError, match="a padding of 0, 0, 1"):
        padded(array, value, padding_config=((0, 0, 0), (0, 0, 1)))


def test_onnxruntime_gives_the_same_logits_for_any_number_of_images(trained, tmp_path):
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    save_onnx(trained, tmp_path / "network.onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    assert session.get_inputs()[0].shape == ["B", *trained.images.shape]
    assert session.get_modelmeta().custom_metadata_map["class_names"] == "a, b, c"
    for count in (1, 3):
        images = images_of(trained, count)
        (logits,) = session.run(["logits"], {"images": images})
        expected = jax.jit(trained.logits)(images)
        assert count == 1 or np.std(expected, axis=0).max() > 0.03
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


def test_a_missing_package_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"ONNX files need the package jax2onnx .*: pip install 'jdarts\[onnx\]'"):
        save_onnx(trained, tmp_path / "network.onnx")
    assert not (tmp_path / "network.onnx").exists()

"""Trained networks as ONNX programs, and the functions without jdarts's primitives that they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.nets.discrete import cifar_network
from jdarts.nets.initial import from_one_draw
from jdarts.trained import ImageFormat, TrainedNetwork
from jdarts.trained.onnx_file import save_onnx
from jdarts.xla.plain import in_operations_of_jax

NORMAL = (("sep_conv_3x3", 0), ("max_pool_3x3", 1), ("dil_conv_3x3", 0), ("avg_pool_3x3", 2))
REDUCE = (("skip_connect", 0), ("conv_1x1", 1), ("max_pool_3x3", 0), ("sep_conv_3x3", 2))
OWN = ("separable", "pointwise", "combine", "max_pool", "depthwise")


@pytest.fixture(scope="module")
def trained():
    network = cifar_network(Genotype(NORMAL, (2, 3), REDUCE, (2, 3)), channels=4, cells=3, classes=3, auxiliary=False)
    images = jnp.zeros((1, 8, 8, 1), jnp.float32)
    variables = jax.jit(from_one_draw(lambda key: network.init(key, images, train=False)))(jax.random.key(0))
    return TrainedNetwork(network, variables, ImageFormat((8, 8, 1), (0.5,), (0.25,), ("a", "b", "c")))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1)).astype(np.uint8)


def test_a_network_in_operations_of_jax_gives_the_same_logits(trained, image):
    plain = in_operations_of_jax(trained.logits)
    used = {equation.primitive.name for equation in jax.make_jaxpr(plain)(image).jaxpr.eqns}
    assert not [name for name in used if name.startswith(OWN)]
    np.testing.assert_allclose(jax.jit(plain)(image), jax.jit(trained.logits)(image), rtol=1e-4, atol=1e-5)


def test_onnxruntime_gives_the_same_logits(trained, image, tmp_path):
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    save_onnx(trained, tmp_path / "network.onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    (given,) = session.get_inputs()
    (logits,) = session.run(None, {given.name: image})
    np.testing.assert_allclose(logits, jax.jit(trained.logits)(image), rtol=0, atol=1e-4)


def test_a_missing_package_is_named(trained, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jax2onnx", None)
    with pytest.raises(InputError, match=r"ONNX files need the package jax2onnx .*: pip install 'jdarts\[onnx\]'"):
        save_onnx(trained, tmp_path / "network.onnx")
    assert not (tmp_path / "network.onnx").exists()

"""Exported files of PyTorch in PyTorch itself: they load with the reference's names, and give the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts import zoo
from jdarts.data import normalise
from jdarts.nets.discrete import cifar_network, imagenet_network
from jdarts.nets.initial import from_one_draw
from jdarts.trained import ImageFormat, TrainedNetwork
from jdarts.trained.reference_file import save_safetensors, save_torch

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'jdarts[benchmark]'")

from pytorch.discrete import DiscreteNetwork  # noqa: E402

CELLS, MEAN, STD = zoo.DARTS_V2, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module", params=["cifar", "imagenet"])
def trained(request):
    """A network with the statistics and scales of one that has been trained."""
    make, side = (cifar_network, 16) if request.param == "cifar" else (imagenet_network, 64)
    network = make(CELLS, channels=4, cells=3, classes=5, auxiliary=False)
    shape = (1, side, side, 3)
    variables = jax.jit(from_one_draw(lambda key: network.init(key, jnp.zeros(shape, jnp.float32), train=False)))(
        jax.random.key(0)
    )
    draw = np.random.default_rng(0)
    moved = jax.tree.map(lambda a: draw.uniform(0.02, 0.1, a.shape).astype(np.float32), variables["batch_stats"])
    scaled = jax.tree.map(
        lambda a: (np.asarray(a) * draw.uniform(0.8, 1.2, a.shape)).astype(np.float32), variables["params"]
    )
    return TrainedNetwork(network, {"params": scaled, "batch_stats": moved}, ImageFormat(shape[1:], MEAN, STD))


def loaded(path):
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    return safetensors.load_file(path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_gives_the_same_logits_in_pytorch(trained, suffix, tmp_path):
    path = tmp_path / f"network{suffix}"
    (save_torch if suffix == ".pt" else save_safetensors)(trained, path)
    network = DiscreteNetwork(
        (CELLS.normal, CELLS.normal_concat),
        (CELLS.reduce, CELLS.reduce_concat),
        stem=trained.network.stem,
        channels=4,
        cells=3,
        classes=5,
    )
    network.load_state_dict(loaded(path), strict=True)
    images = np.random.default_rng(1).integers(0, 256, (4, *trained.images.shape)).astype(np.uint8)
    normal = np.asarray(normalise(images, mean=MEAN, std=STD, dtype=jnp.float32)).transpose(0, 3, 1, 2)
    with torch.no_grad():
        logits = network.eval()(torch.from_numpy(np.ascontiguousarray(normal))).numpy()
    expected = np.asarray(jax.jit(trained.logits)(images))
    assert np.std(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)

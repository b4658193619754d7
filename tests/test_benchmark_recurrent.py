"""The PyTorch side of the recurrent benchmark against the reference implementation's own numbers, in float64."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from fixtures_folder import fixture_files

torch = pytest.importorskip("torch")

from pytorch.recurrent import Masks, RecurrentSearch, RecurrentSearchNetwork, Segment  # noqa: E402

TOLERANCE = 1e-8

each_search = pytest.mark.parametrize("path", fixture_files("rnn_search*.npz"))


@pytest.fixture(autouse=True)
def one_thread():
    """Small arrays: on a busy machine, threads that wait for each other take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclasses.dataclass
class Stored:
    """A file of reference numbers, whose inputs are float32 and whose results are taken from the float64 run."""

    file: np.lib.npyio.NpzFile

    def given(self, name):
        value = torch.from_numpy(self.file[name].copy())
        return value.double() if value.is_floating_point() else value

    def expected(self, name):
        return self.file[f"f64/{name}"]

    def check(self, name, found):
        self.equal(name, found, self.expected(name))

    def equal(self, name, found, expected):
        found = found.detach().numpy()
        assert found.size == expected.size, name
        size = TOLERANCE * max(1, abs(expected).max())
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=size, err_msg=name)

    @property
    def names(self):
        """The reference implementation's name of every weight, in the order of `network.parameters()`."""
        nodes = sum(name.startswith("param/rnns.0._Ws.") for name in self.file.files)
        return ["encoder.weight", "decoder.bias", "rnns.0._W0", *(f"rnns.0._Ws.{node}" for node in range(nodes))]

    def search(self, **settings):
        """A search with the file's weights and alphas."""
        vocabulary, width = self.file["param/encoder.weight"].shape
        network = RecurrentSearchNetwork(vocabulary, width, nodes=len(self.names) - 3).double()
        with torch.no_grad():
            for name, weight in zip(self.names, network.parameters(), strict=True):
                weight.copy_(self.given(f"param/{name}"))
        return RecurrentSearch(network, self.given("alphas"), **settings)

    @property
    def cases(self):
        """Settings of the virtual step that the file has numbers for."""
        cases = sorted(
            {name.split("/")[1] for name in self.file.files if name.startswith("arch/") and "wdecay" in name}
        )
        assert cases
        return cases

    def search_of(self, case):
        """A search with the optimiser of one of the file's cases."""
        eta, decay, clip = (float(self.file[name]) for name in ("eta", f"arch/{case}/wdecay", f"arch/{case}/clip"))
        return self.search(learning_rate=eta, weight_decay=decay, clip=clip)

    def segment(self, prefix="", masks=None):
        words, targets, hidden = (self.given(f"{prefix}{name}") for name in ("input", "target", "hidden"))
        return Segment(words, targets, hidden[0], masks or Masks())

    def check_pass(self, prefix, segment):
        """Everything that a forward and a backward pass give; returns the search."""
        search = self.search()
        logits, hidden = search.network(segment, search.alphas)
        self.check(f"{prefix}log_prob", torch.log_softmax(logits, -1))
        self.check(f"{prefix}hidden_next", hidden)
        norm: Any = search.network.norm
        running = [value.clone() for value in (norm.running_mean, norm.running_var)]
        loss = search.loss(segment)
        alphas, *gradients = torch.autograd.grad(loss, (search.alphas, *search.weights))
        self.check(f"{prefix}loss", loss)
        self.check(f"{prefix}grad/alphas", alphas)
        for name, gradient in zip(self.names, gradients, strict=True):
            self.check(f"{prefix}grad/{name}", gradient)
        return running


@each_search
def test_a_pass(path):
    stored = Stored(np.load(path))
    mean, variance = stored.check_pass("", stored.segment("train/"))
    stored.check("bn_running_mean", mean)
    stored.check("bn_running_var", variance)


@pytest.mark.parametrize("path", fixture_files("rnn_masks*.npz"))
@pytest.mark.parametrize("run", ["search", "search_all"])
def test_masks(path, run):
    stored = Stored(np.load(path))
    found = {
        name: stored.given(f"{run}/{name}_mask")
        for name in ("embed", "in", "x", "h", "out")
        if f"{run}/{name}_mask" in stored.file
    }
    entering = found.get("in")
    if "embed" in found:
        # The benchmark drops no words; a mask of every word as it is embedded does the same.
        words = found["embed"][stored.given("input")]
        entering = words if entering is None else words * entering
    masks = Masks(entering, found.get("x"), found.get("h"), found.get("out"))
    stored.check_pass(f"{run}/", stored.segment(masks=masks))


@each_search
def test_the_first_order_step_of_the_alphas(path):
    stored = Stored(np.load(path))
    search = stored.search()
    gradient = search.first_order(stored.segment("valid/"))
    stored.check("arch/first_order/grad_alpha", gradient)
    search.alpha_step(gradient)
    stored.check("arch/first_order/alphas_after_adam", search.alphas)


@each_search
def test_the_second_order(path):
    """As the reference with the tied matrix stepped, but the coefficient capped at 1 and the pulled-back gradient not clipped."""
    stored = Stored(np.load(path))
    for case in stored.cases:
        search = stored.search_of(case)
        found = search.second_order(stored.segment("train/"), stored.segment("valid/"))
        direct, difference, coefficient, clipped = (
            stored.expected(f"arch/{case}/tied/{name}")
            for name in ("grad_alpha_direct", "implicit_fd", "clip_coef", "vector_clip_coef")
        )
        scale = float(stored.file["eta"]) * min(1.0, coefficient) / min(1.0, clipped)
        stored.equal(case, found, direct - scale * difference)
        for name, weight in zip(stored.names, search.weights, strict=True):  # perturbed in between, and put back
            np.testing.assert_array_equal(weight.detach().numpy(), stored.given(f"param/{name}").numpy())


@each_search
def test_the_weight_step(path):
    """The step of the weights is the reference's virtual one."""
    stored = Stored(np.load(path))
    for case in stored.cases:
        search = stored.search_of(case)
        stored.check(f"arch/{case}/tied/train_loss", search.weight_step(stored.segment("train/")))
        for name, weight in zip(stored.names, search.weights, strict=True):
            stored.check(f"arch/{case}/tied/unrolled/{name}", weight)


def test_the_paper_size_network_has_the_known_number_of_weights():
    assert sum(weight.numel() for weight in RecurrentSearchNetwork(10_000, 300).parameters()) == 4_810_000

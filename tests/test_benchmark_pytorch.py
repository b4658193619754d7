"""The PyTorch side of the benchmark against the reference implementation's own numbers, in float64."""

import numpy as np
import pytest
from fixtures_folder import fixture_files

torch = pytest.importorskip("torch")

from pytorch.network import SearchNetwork, num_edges  # noqa: E402
from pytorch.operations import PRIMITIVES  # noqa: E402
from pytorch.step import Search  # noqa: E402

TOLERANCE = 1e-8
KINDS = ("normal", "reduce")

each_file = pytest.mark.parametrize("path", fixture_files("search_*.npz"))
each_layout = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])

#: Layers of the reference's operations that hold weights, in order.
_LAYERS = {"sep": (1, 2, 5, 6), "dil": (1, 2)}


def reference_names(network):
    """The reference implementation's name of every weight, in the order of `network.parameters()`."""
    names = ["stem.0.weight", "stem.1.weight", "stem.1.bias"]
    for index, cell in enumerate(network.cells):
        prefix = f"cells.{index}"
        halves = index > 0 and network.kinds[index - 1]
        names += [f"{prefix}.preprocess0.{name}.weight" for name in (("conv_1", "conv_2") if halves else ("op.1",))]
        names.append(f"{prefix}.preprocess1.op.1.weight")
        for edge, mixed in enumerate(cell.edges):
            for column, name in enumerate(PRIMITIVES):
                operation = f"{prefix}._ops.{edge}._ops.{column}"
                names += [f"{operation}.op.{layer}.weight" for layer in _LAYERS.get(name[:3], ())]
                if name == "skip_connect" and list(mixed.candidates[2].parameters()):
                    names += [f"{operation}.conv_{i}.weight" for i in (1, 2)]
    return [*names, "classifier.weight", "classifier.bias"]


@pytest.fixture(autouse=True)
def one_thread():
    """Small arrays: on a busy machine, threads that wait for each other take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Case:
    """A fixture file, and a search that stands where the file's step begins."""

    def __init__(self, path, layout):
        self.file = np.load(path)
        cells = 1 + max(int(name.split(".")[1]) for name in self.file.files if name.startswith("weights/cells."))
        channels = self.file["weights/stem.0.weight"].shape[0] // 3
        network = SearchNetwork(channels, cells, classes=self.file["weights/classifier.bias"].shape[0]).double()
        self.names = reference_names(network)
        hyper = {name.removeprefix("hyper/"): float(self.file[name]) for name in self.file.files if "hyper/" in name}
        self.search = Search(
            network.to(memory_format=layout),
            tuple(self.tensor(f"alphas/{kind}") for kind in KINDS),
            learning_rate=hyper["eta"],
            momentum=hyper["momentum"],
            weight_decay=hyper["weight_decay"],
            clip=hyper["clip"],
            alpha_learning_rate=hyper["alpha_lr"],
            alpha_betas=(hyper["alpha_beta1"], hyper["alpha_beta2"]),
            alpha_weight_decay=hyper["alpha_weight_decay"],
        )
        with torch.no_grad():
            for prefix, tensors in (("weights", self.search.weights), ("momentum", self.search.momentum_buffers)):
                for name, tensor in zip(self.names, tensors, strict=True):
                    tensor.copy_(self.tensor(f"{prefix}/{name}"))
        self.train, self.valid = (
            (self.tensor(f"{part}/x").to(memory_format=layout), self.tensor(f"{part}/y")) for part in ("train", "valid")
        )

    def tensor(self, name):
        return torch.from_numpy(self.file[name].copy())

    def check(self, prefix, found, names):
        floor = 1e-6 * max(np.abs(self.file[f"{prefix}{name}"]).max() for name in names)
        wrong = {}
        for name, tensor in zip(names, found, strict=True):
            expected = self.file[f"{prefix}{name}"]
            error = np.abs(tensor.detach().numpy() - expected).max() / max(np.abs(expected).max(), floor)
            if not error <= TOLERANCE:
                wrong[name] = float(error)
        assert not wrong, f"relative errors above {TOLERANCE}: {wrong}"


@each_file
@each_layout
def test_training_loss_and_gradients(path, layout):
    case = Case(path, layout)
    search = case.search
    loss = search.loss(case.train)
    gradients = torch.autograd.grad(loss, (*search.alphas, *search.weights))
    case.check("train/", [loss], ["loss"])
    case.check("train/grad_alphas/", gradients[:2], KINDS)
    case.check("train/grad_weights/", gradients[2:], case.names)


@each_file
@each_layout
def test_hypergradients(path, layout):
    case = Case(path, layout)
    case.check("first_order/", case.search.first_order(case.valid), KINDS)
    case.check("second_order_fd/", case.search.second_order(case.train, case.valid), KINDS)
    case.check("weights/", case.search.weights, case.names)  # perturbed in between, and put back


@each_file
@each_layout
def test_second_order_step(path, layout):
    case = Case(path, layout)
    loss = case.search.second_order_step(case.train, case.valid)
    case.check("after_step/alphas/", case.search.alphas, KINDS)
    case.check("after_step/", [loss], ["train_loss"])
    case.check("after_step/weights/", case.search.weights, case.names)


def test_the_paper_size_network_has_the_known_number_of_weights():
    assert sum(weight.numel() for weight in SearchNetwork().parameters()) == 1_930_618
    assert num_edges(4) == 14


def test_the_first_order_step_moves_alphas_of_the_kinds_that_a_network_has():
    torch.manual_seed(0)
    alphas = (torch.zeros(num_edges(1), 8), torch.zeros(num_edges(1), 8))
    search = Search(SearchNetwork(4, cells=2, nodes=1), alphas)  # two reduction cells, no normal one
    batch = (torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))
    loss = search.first_order_step(batch, batch)
    assert torch.isfinite(loss)
    assert search.alphas[0].abs().max() == 0
    assert search.alphas[1].abs().max() > 0

"""The paper's Figure 2: exact hypergradients, and the ends that the length of the virtual step decides."""

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

import jdarts
from jdarts.errors import InputError

FILE = Path(__file__).resolve().parents[1] / "experiments" / "toy_bilevel.py"
XIS = (0.0, 0.25, 0.5, 0.7)


@pytest.fixture(scope="module")
def toy():
    spec = importlib.util.spec_from_file_location("toy_bilevel", FILE)
    assert spec is not None and spec.loader is not None
    module = sys.modules["toy_bilevel"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["toy_bilevel"]


def hypergradient(toy, estimator, alpha, weight):
    """The estimate itself, read off as one step of length 1 on α."""
    weight_optimizer, alpha_optimizer = optax.sgd(0.02), optax.sgd(1.0)
    state = jdarts.init_state(
        jax.random.key(0),
        jnp.asarray(weight),
        jnp.asarray(alpha),
        weight_optimizer=weight_optimizer,
        alpha_optimizer=alpha_optimizer,
    )
    new, _ = jdarts.bilevel_step(
        state,
        "train",
        "valid",
        loss_fn=toy.toy_loss,
        weight_optimizer=weight_optimizer,
        alpha_optimizer=alpha_optimizer,
        hypergradient=estimator,
    )
    return float(state.alphas - new.alphas)


def test_the_losses_are_those_of_the_paper(toy):
    for alpha, weight in ((2.0, -2.0), (0.5, 3.0), (1.0, 1.0)):
        for batch, expected in (("train", (weight - alpha) ** 2), ("valid", alpha * weight - 2 * alpha + 1)):
            loss, _ = toy.toy_loss(jnp.asarray(weight), jnp.asarray(alpha), (), batch, None)
            assert float(loss) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("make", [jdarts.exact, jdarts.finite_difference, jdarts.unrolled])
@pytest.mark.parametrize(("alpha", "weight"), [(2.0, -2.0), (0.3, 1.7)])
def test_the_hypergradient_is_that_of_the_paper(toy, make, alpha, weight):
    # The training loss is quadratic, so the finite difference is exact too.
    for xi in XIS:
        virtual_weight = weight - 2 * xi * (weight - alpha)
        expected = (virtual_weight - 2) + 2 * xi * alpha
        estimator = make(virtual_optimizer=optax.sgd(xi))
        assert hypergradient(toy, estimator, alpha, weight) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_hypergradient_at_the_start(toy):
    assert hypergradient(toy, jdarts.first_order(), 2.0, -2.0) == pytest.approx(-4, rel=1e-12)
    assert hypergradient(toy, toy.estimator(0.0), 2.0, -2.0) == pytest.approx(-4, rel=1e-12)
    for make in (jdarts.exact, jdarts.finite_difference, jdarts.unrolled):
        found = hypergradient(toy, make(virtual_optimizer=optax.sgd(0.5)), 2.0, -2.0)
        assert found == pytest.approx(2, rel=1e-9)


@pytest.mark.parametrize("xi", XIS)
def test_the_virtual_step_decides_where_it_ends(toy, xi):
    path = toy.descend(toy.estimator(xi), steps=1000, learning_rate=0.02)
    assert path.shape == (1001, 2)
    assert path[0] == pytest.approx((2, -2))
    assert path[-1] == pytest.approx((2 / (1 + 2 * xi),) * 2, abs=1e-4)


def test_the_experiment_prints_a_table_and_draws(toy, tmp_path, capsys):
    folder = tmp_path / "new" / "toy"
    toy.main(["--out", str(folder), "--steps", "1000"])
    assert sorted(path.name for path in folder.iterdir()) == ["trajectories.png", "trajectories.svg"]
    assert (folder / "trajectories.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "trajectories.svg").read_text().rstrip().endswith("</svg>")
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:5]]
    assert [[float(number) for number in row] for row in rows] == [
        [0.0, -4.0, 2.0, 2.0, 2.0],
        [0.25, -1.0, 1.3333, 1.3333, 1.3333],
        [0.5, 2.0, 1.0, 1.0, 1.0],
        [0.7, 4.4, 0.8333, 0.8333, 0.8333],
    ]


def test_what_cannot_be_done_is_explained(toy, tmp_path):
    for changes, words in (
        ({"steps": 0}, "--steps is 0"),
        ({"learning_rate": 0.0}, "--learning-rate is 0"),
        ({"virtual_steps": ()}, "--virtual-steps is"),
        ({"virtual_steps": (-1.0,)}, "--virtual-steps is"),
    ):
        with pytest.raises(InputError, match=words):
            toy.ToyConfig(**changes)
    with pytest.raises(InputError, match=r"diverged; lower --learning-rate 3"):
        toy.main(["--learning-rate", "3", "--virtual-steps", "0.5", "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write .*trajectories\.png"):
        toy.main(["--steps", "1", "--virtual-steps", "0.5", "--out", str(tmp_path / "file")])

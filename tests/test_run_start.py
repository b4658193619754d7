"""What is found out between a command and its first step: sizes, memory, devices; and the folder that then stays away."""

import dataclasses
import io
import os

import command_line
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_language
import small_search
import small_train
from small_runs import user_settings

from jdarts import data
from jdarts.errors import InputError
from jdarts.pipeline import PipelineConfig, pipeline
from jdarts.runs import memory, start
from jdarts.runs.devices import MAX_ON_CPU, Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.loop import Loop
from jdarts.search import SearchConfig, search, search_seeds
from jdarts.search.command import main
from jdarts.train import TrainConfig, train

__all__ = ["user_settings"]
pytestmark = pytest.mark.usefixtures("user_settings")
command = command_line.fixture(main, "search")


def images_of(*shape, count=64):
    generator = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int32) % 2
    split = data.ImageSplit(generator.integers(0, 256, (count, *shape), dtype=np.uint8), labels)
    return data.ImageDataset("mine", split, split, ("a", "b"), (0.5,), (0.25,), data.Augmentation(padding=1))


@pytest.fixture
def shown(monkeypatch):
    """The first lines of runs, which stop where they would compile."""
    lines = []

    class Stopped(InputError):
        pass

    def first_line(loop):
        lines.append(loop._task.description)
        raise Stopped("stopped")

    monkeypatch.setattr(Loop, "run", first_line)
    return lines


@pytest.mark.parametrize(
    ("size", "windows"),
    [
        (28, "5×5 with stride 2×2"),
        (48, "8×8 with stride 4×4"),
        (64, "10×10 with stride 6×6"),
        (96, "15×15 with stride"),
    ],
)
def test_a_training_on_images_of_other_sizes_works_with_the_defaults(size, windows, shown, tmp_path):
    """With the paper's 20 cells; that fewer give logits, test_discrete.py shows."""
    with pytest.raises(InputError, match="stopped"):
        train(TrainConfig(run_dir=tmp_path / "run"), dataset=images_of(size, size, 1, count=200))
    assert f"an auxiliary head (its windows fit the images: {windows}" in shown[0]
    assert list(tmp_path.iterdir()) == []


def test_a_pipeline_on_images_of_28_pixels_works_with_the_defaults(shown, tmp_path):
    with pytest.raises(InputError, match="stopped"):
        pipeline(
            PipelineConfig(run_dir=tmp_path / "run"), dataset=images_of(28, 28, 1, count=200), stream=io.StringIO()
        )
    assert "searching on" in shown[0]
    assert list(tmp_path.iterdir()) == []


def test_the_paper_size_of_images_has_the_paper_s_head(shown, tmp_path):
    with pytest.raises(InputError, match="stopped"):
        train(TrainConfig(run_dir=tmp_path / "run", cells=3, batch_size=32), dataset=images_of(32, 32, 1))
    assert "weights, and an auxiliary head, Genotype(" in shown[0]


def test_the_pipeline_names_its_own_options(tmp_path):
    parts = {"search": SearchConfig(cells=3), "train": TrainConfig(cells=3, cutout=2)}
    config = PipelineConfig(dataset="digits", run_dir=tmp_path / "run", **parts)
    with pytest.raises(InputError, match=r"4×4 or more, .*leave the head out by --train\.no-auxiliary"):
        pipeline(config)
    with pytest.raises(InputError, match=r"^--search\.batch-size is 64, but .* give 32 or less"):
        pipeline(PipelineConfig(run_dir=tmp_path / "run"), dataset=images_of(32, 32, 1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"cutout": 16},
            "--cutout is 16, and such a square always blanks the whole of an image of 8×8; give 8 or less, or 0 for none",
        ),
        ({"padding": 8}, "--padding is 8, and crops of images of 8×8 would lie beside them; give 7 or less"),
    ],
)
def test_augmentation_that_leaves_nothing_of_an_image(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        search(small_search.config(tmp_path / "run", **changes))
    with pytest.raises(InputError, match=message):
        train(small_train.config(tmp_path / "run", auxiliary=False, **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [4096, 65536])
def test_a_state_that_no_memory_holds(channels, tmp_path):
    with pytest.raises(
        InputError, match=r"take \d+\.\d GB, and .* are available; give a smaller network: lower --channels"
    ):
        search(SearchConfig(run_dir=tmp_path / "run", dataset="digits", cells=3, channels=channels))
    with pytest.raises(InputError, match=r"take .* GB, and .* --width or --vocabulary"):
        small_language.run_search(tmp_path / "text", width=10 * channels)
    assert list(tmp_path.iterdir()) == []


def test_steps_that_cannot_be_counted(monkeypatch, tmp_path):
    check = start.check_size
    many = {"epoch_steps": EpochSteps.of_one_length(1_000_000)}
    monkeypatch.setattr(start, "check_size", lambda task: check(dataclasses.replace(task, **many)))
    with pytest.raises(InputError, match=r"--epochs is 3000 of 1,000,000 steps each, .* give 2147 or less"):
        small_language.run_search(tmp_path / "run", epochs=3000)
    assert list(tmp_path.iterdir()) == []


def test_memory_that_runs_out_is_explained():
    python, xla = (
        f"out of memory \\({name}.*\\); give a smaller --batch" for name in ("MemoryError", "RESOURCE_EXHAUSTED")
    )
    with pytest.raises(InputError, match=python), memory.out_of_memory_as_input_error():
        raise MemoryError
    with pytest.raises(InputError, match=xla), memory.out_of_memory_as_input_error():
        jnp.zeros((2**30, 2**30), jnp.int8).block_until_ready()
    with pytest.raises(jax.errors.JaxRuntimeError), memory.out_of_memory_as_input_error():
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


@pytest.mark.parametrize("error", [InputError("wrong"), OSError("no"), MemoryError()])
@pytest.mark.parametrize("existed", [False, True])
def test_a_run_that_fails_before_its_first_step_leaves_nothing(error, existed, monkeypatch, tmp_path):
    def failing(*_):
        raise error

    small_search.quicken(monkeypatch.setattr)
    monkeypatch.setattr(Loop, "_compiled", failing)
    folder = tmp_path / "runs" / "mine"
    if existed:
        folder.mkdir(parents=True)
    with pytest.raises((InputError, OSError)):
        small_search.run(folder)
    with pytest.raises((InputError, OSError)):
        search_seeds(small_search.config(folder / "seeds", seeds="0-1"), stream=io.StringIO())
    assert list(tmp_path.rglob("*")) == ([folder.parent, folder] if existed else [])


def test_what_others_have_put_into_the_folder_stays(monkeypatch, tmp_path):
    def failing(loop, needed):
        (loop._store.path / "notes.txt").write_text("mine")
        raise InputError("wrong")

    small_search.quicken(monkeypatch.setattr)
    monkeypatch.setattr(Loop, "_compiled", failing)
    with pytest.raises(InputError, match="wrong"):
        small_search.run(tmp_path / "run")
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_more_devices_than_a_cpu_can_be():
    with pytest.raises(InputError, match=f"--devices is {MAX_ON_CPU + 1}, and XLA ends .*give {MAX_ON_CPU} or less"):
        Devices(MAX_ON_CPU + 1)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--dataset", "d\udcff"),
        ("--run-dir", "r\udcff"),
        ("--data-dir", "d\0d"),
        ("--no-such\udcff", "1"),
        ("--epochs", "\udcff"),
    ],
)
def test_bytes_that_are_no_text(option, value, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, err = command("--dataset", "digits", option, value)
    assert code == 2 and option.encode(errors="backslashreplace").decode() in err
    assert os.listdir() == []


def test_programs_are_traced_with_the_precision_of_the_settings(tmp_path, monkeypatch):
    seen = []

    class Stop(Exception):
        pass

    def traced(self):
        seen.append(getattr(jax.config, "jax_default_matmul_precision"))  # noqa: B009
        raise Stop

    small_search.quicken(monkeypatch.setattr)
    monkeypatch.setattr(Loop, "run", traced)
    for name in ("default", "high", "highest"):
        with pytest.raises(Stop):
            search(small_search.config(tmp_path / name, matmul_precision=name), stream=io.StringIO())
    with pytest.raises(Stop):
        search_seeds(
            small_search.config(tmp_path / "seeds", seeds="0,1", matmul_precision="high"), stream=io.StringIO()
        )
    assert seen == [None, "high", "highest", "high"]

"""`python -m jdarts.export CHECKPOINT_OR_RUN --out FILE`: a trained network as one file for other programs."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jdarts.command import program_name, run_command
from jdarts.data.catalogue import CATALOGUE
from jdarts.data.streamed.dataset import LARGE
from jdarts.errors import InputError, shortened
from jdarts.nets.discrete import native_image_size
from jdarts.nets.stem import Stem
from jdarts.plugins import PluginOption, load_plugins
from jdarts.resolve import find_genotype
from jdarts.trained.imported import import_weights, infer_network, read_state_dict
from jdarts.trained.loading import ImageFormat, TrainedNetwork, load_network, save_arrays, save_program
from jdarts.trained.onnx_file import save_onnx
from jdarts.trained.reference_file import save_safetensors, save_torch

_NUMBER = tyro.conf.arg(metavar="INT", help_behavior_hint="")
_PER_CHANNEL = tyro.conf.arg(metavar="FLOAT ...", help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Writes a trained network as one file: plain arrays (.npz), a StableHLO program (.stablehlo) or weights for PyTorch.

    The first two classify raw images, uint8 [B, H, W, C], and contain their normalisation. `jdarts.load(FILE)` reads both; the
    program runs in any process with jax, for any number of images, on CPU, GPU and TPU.

    An ONNX program (.onnx) does the same in other runtimes; writing it needs pip install 'jdarts[onnx]'.

    Files for PyTorch (.safetensors, .pt) hold the weights under the names of quark0/darts, for images [B, C, H, W] that are
    normalised already; the .pt file holds no code.

    The options after --out are only for checkpoints of PyTorch: a state_dict of quark0/darts as .pt, .safetensors or .npz. It
    is read without PyTorch, and no code in the file runs.

    Attributes:
      source: the run folder of a training, for its best checkpoint, or else the newest; one of its checkpoints; an exported
        .npz; or a checkpoint of PyTorch.
      out: the file to write, .npz, .stablehlo, .onnx, .safetensors or .pt.
      genotype: the cells of a PyTorch checkpoint: the name of a published cell, a file, a run's folder, or the text form.
      network: cifar or imagenet (default for this and the next three: inferred from the checkpoint).
      channels: channels of the first cells.
      cells: number of cells.
      classes: number of classes.
      image_size: height and width of the images (default: 32 for cifar, 224 for imagenet).
      mean: of the images per channel, on the scale 0..1 (default: those of CIFAR-10 or ImageNet).
      std: of the images per channel, on the scale 0..1 (default: those of CIFAR-10 or ImageNet).
      plugin: Python file, or importable module, that registers operations of the cells.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT_OR_RUN", help_behavior_hint="")]
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    genotype: Annotated[str | None, tyro.conf.arg(metavar="GENOTYPE", help_behavior_hint="")] = None
    network: Annotated[Stem | None, tyro.conf.arg(metavar="{cifar,imagenet}", help_behavior_hint="")] = None
    channels: Annotated[int | None, _NUMBER] = None
    cells: Annotated[int | None, _NUMBER] = None
    classes: Annotated[int | None, _NUMBER] = None
    image_size: Annotated[int | None, _NUMBER] = None
    mean: Annotated[tuple[float, ...] | None, _PER_CHANNEL] = None
    std: Annotated[tuple[float, ...] | None, _PER_CHANNEL] = None
    plugin: PluginOption = ()


_WRITERS = {
    ".npz": save_arrays,
    ".stablehlo": save_program,
    ".onnx": save_onnx,
    ".safetensors": save_safetensors,
    ".pt": save_torch,
}


def main() -> None:
    """Parses the command line and writes the file."""
    config = tyro.cli(ExportConfig, prog=program_name("jdarts.export"))
    load_plugins(config.plugin)
    if config.out.suffix not in _WRITERS:
        raise InputError(
            f"--out is {shortened(str(config.out), 200)}; give a name that ends in {' or '.join(_WRITERS)}"
        )
    try:
        is_folder = config.out.is_dir()
    except OSError as error:
        raise InputError(
            f"cannot write --out {shortened(str(config.out), 200)}: {error.strerror or error}; give another name"
        ) from None
    if is_folder:
        raise InputError(f"--out is {config.out}, which is a folder; give the name of a file")
    trained = _trained(config)
    _WRITERS[config.out.suffix](trained, config.out)
    print(f"{config.out}: {_images_of(trained, config.out.suffix)}, {config.out.stat().st_size / 1e6:.1f} MB")


def _images_of(trained: TrainedNetwork, suffix: str) -> str:
    """What the network in a file reads, in words."""
    height, width, channels = trained.images.shape
    classes = f"{trained.network.classes} classes of"
    if suffix in (".npz", ".stablehlo", ".onnx"):
        return f"{classes} uint8 images [B, {height}, {width}, {channels}]"
    mean, std = (", ".join(f"{value:.6g}" for value in each) for each in (trained.images.mean, trained.images.std))
    return f"{classes} float images [B, {channels}, {height}, {width}], normalised by mean {mean} and std {std}"


def _trained(config: ExportConfig) -> TrainedNetwork:
    """The network to export."""
    if config.genotype is not None:
        return _from_pytorch(config)
    given = [field.name for field in dataclasses.fields(config)[3:-1] if getattr(config, field.name) is not None]
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} is for checkpoints of PyTorch, with --genotype; other networks need no such option"
        )
    if config.source.suffix in (".pt", ".pth", ".tar", ".safetensors"):
        raise InputError(f"{config.source} does not name its cells; give --genotype, as in --genotype DARTS_V2")
    return load_network(config.source)


def _from_pytorch(config: ExportConfig) -> TrainedNetwork:
    genotype = find_genotype(config.genotype or "")
    arrays = read_state_dict(config.source)
    network = infer_network(
        arrays,
        genotype,
        stem=config.network,
        channels=config.channels,
        cells=config.cells,
        classes=config.classes,
    )
    # The auxiliary head is for training only.
    network = network.clone(auxiliary=False)
    variables = import_weights(network, arrays)
    stem = variables["params"]["stem" if network.stem == "cifar" else "stem0"]["kernel"]
    size = native_image_size(network) if config.image_size is None else config.image_size
    usual = CATALOGUE["cifar10"] if network.stem == "cifar" else LARGE["imagenet2012"]
    mean = usual.mean if config.mean is None else config.mean
    std = usual.std if config.std is None else config.std
    channels = stem.shape[2]
    if not len(mean) == len(std) == channels:
        raise InputError(
            f"--mean has {len(mean)} values and --std {len(std)}, but the network reads images of {channels} channels; give one "
            "value per channel"
        )
    return TrainedNetwork(network, variables, ImageFormat((size, size, channels), mean, std))


if __name__ == "__main__":
    run_command(main)

"""`python -m jdarts.predict NETWORK IMAGES...`: the classes that a trained network sees in picture files."""

import csv
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jdarts.command import program_name, run_command
from jdarts.data.own.decoding import Undecodable, decode
from jdarts.errors import InputError, shortened
from jdarts.plugins import PluginOption, load_plugins
from jdarts.report.cell_text import table_text
from jdarts.trained.loading import Classifier, load

#: Pictures that the network reads at once.
BATCH = 64


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Classifies picture files with a trained network, and prints a table of classes and probabilities.

    A picture becomes an image of the network's size and channels as in trainings on folders of pictures: its largest central part
    with the ratio of the sides, resized; grey or coloured; transparent parts white.

    Attributes:
      network: the run folder of a training, one of its checkpoints, or an .npz or .stablehlo file of `python -m jdarts.export`.
      pictures: the files.
      top: number of classes for each picture, the most probable first.
      json: print JSON instead of the table: for each file its classes with their probabilities.
      csv: print comma-separated values: file, class, probability.
      plugin: Python file, or importable module, that registers operations of the network.
    """

    network: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="NETWORK", help_behavior_hint="")]
    pictures: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE ...", help_behavior_hint="")
    ]
    top: Annotated[int, tyro.conf.arg(metavar="INT")] = 1
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    csv: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    plugin: PluginOption = ()


def main() -> int:
    """Parses the command line and prints the table; 2 if a file is no picture, after the table of the others."""
    config = tyro.cli(PredictConfig, prog=program_name("jdarts.predict"))
    if config.top < 1:
        raise InputError(f"--top is {config.top}; give 1 or more")
    if not config.pictures:
        raise InputError("no picture is given; name one file or more after the network")
    if config.json and config.csv:
        raise InputError("--json and --csv are given; leave one of the two out")
    load_plugins(config.plugin)
    classifier = load(config.network)
    wrong: list[str] = []
    found = list(predictions(classifier, config.pictures, config.top, wrong))
    if config.json:
        print(json.dumps({name: dict(classes) for name, classes in found}, indent=1))
    elif config.csv:
        _write_csv(found)
    elif found:
        print(_table(found))
    for message in wrong:
        print(f"error: {message}", file=sys.stderr)
    return 2 if wrong else 0


def predictions(
    classifier: Classifier, pictures: Sequence[Path], top: int, wrong: list[str]
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Classifies picture files.

    Args:
      classifier: the network.
      pictures: the files.
      top: number of classes for each, the most probable first.
      wrong: gets a message for each file that cannot be read, which is left out.

    Yields:
      The name of each file, and its classes with their probabilities.

    Raises:
      InputError: a network of other images than grey or coloured ones.
    """
    height, width, channels = classifier.image_shape
    if channels not in (1, 3):
        raise InputError(f"the network reads images of {channels} channels; files of pictures have 1 or 3")
    batch: list[tuple[Path, np.ndarray]] = []
    for place, path in enumerate(pictures):
        try:
            batch.append((path, decode(path.read_bytes(), height, width, channels)[0]))
        except OSError as error:
            wrong.append(f"cannot read {shortened(str(path), 200)}: {error.strerror or error}")
        except Undecodable as error:
            wrong.append(f"{shortened(str(path), 200)} {error}")
        if batch and (len(batch) == BATCH or place == len(pictures) - 1):
            yield from _of_batch(classifier, batch, top)
            batch = []


def _of_batch(
    classifier: Classifier, batch: Sequence[tuple[Path, np.ndarray]], top: int
) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    logits = classifier(np.stack([image for _, image in batch])).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    names = classifier.class_names or tuple(map(str, range(logits.shape[1])))
    for (path, _), share in zip(batch, shares):
        best = np.argsort(-share, kind="stable")[:top]
        yield str(path), [(names[index], float(share[index])) for index in best]


def _table(found: Sequence[tuple[str, list[tuple[str, float]]]]) -> str:
    rows: list[list[Any]] = []
    for name, classes in found:
        for place, (label, share) in enumerate(classes):
            rows.append(["" if place else shortened(name, 60), label, f"{100 * share:.1f} %"])
    return table_text(("file", "class", "probability"), rows)


def _write_csv(found: Sequence[tuple[str, list[tuple[str, float]]]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("file", "class", "probability"))
    writer.writerows((name, label, f"{share:.6f}") for name, classes in found for label, share in classes)


if __name__ == "__main__":
    run_command(main)

"""Search methods beside each other on CIFAR-10: one supernet, one budget, some seeds.

Each method has the settings of its preset, but for those that do not fit a short search: all have the same batches, learning
rate of the weights and epochs, and one stage; epochs at which something begins or ends are scaled to them; the learning rate of
the alphas is that of the preset times one factor. A method is NAME or NAME:HYPERGRADIENT. The seeds of a method run at once; a
step is one of all of them, and its processor time (*processors*) leaves out what other work on the machine takes. The rows of a
method are kept as soon as they are there, as those of a study are, and the same command does not repeat them.

Data:     python -m jdarts.data prepare cifar10
Command:  python experiments/compare_methods.py           (--help for the size; --space S2 for skips and separable convolutions)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from study import images
from study.method_searches import MethodSize
from study.processor_clock import ProcessorClock
from study.rows import Table
from study.statistics import mean_and_spread
from study.study import Cell, Row

from jdarts.command import run_command
from jdarts.data import ImageDataset
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.methods.stopping import EIGENVALUE
from jdarts.report import read_metrics
from jdarts.report.formatting import markdown_table
from jdarts.runs.bounds import Bounds
from jdarts.runs.settings import Configuration, Folder
from jdarts.search import SearchConfig, SearchResult
from jdarts.search.building import search_images
from jdarts.search.seeds import search_seeds

PLAIN = "darts:first_order"

#: Operations of the search space S2 of RobustDARTS (Zela et al. 2020), on every edge.
S2 = ("skip_connect", "sep_conv_3x3")

#: The eigenvalue's name in the numbers of an epoch.
_EIGENVALUE = f"epoch/{EIGENVALUE.replace('/', '_')}"


@dataclasses.dataclass(frozen=True, init=False)
class CompareConfig(Configuration):
    """Searches with each method and each seed, and prints and writes a table.

    Attributes:
      methods: methods, each NAME or NAME:HYPERGRADIENT.
      seeds: seeds of each method, such as 0-2.
      space: operations of every edge. full: those of the preset; S2: skip connections and separable convolutions.
      data_dir: folder of prepared images (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      images: number of training images, half for the weights and half for the alphas.
      image_size: height and width to which the images are averaged: 32, 16 or 8.
      size: what the searches of all methods share.
      out: folder of the runs, of the rows and of the tables.
    """

    methods: tuple[str, ...] = (
        PLAIN,
        "darts:finite_difference",
        "darts:exact",
        "pc_darts",
        "sdarts_rs",
        "sdarts_adv",
        "darts_minus",
        "fair_darts",
        "drnas",
        "gdas",
        "snas",
        "oles",
        "lambda_darts",
    )
    seeds: str = "0-2"
    space: Literal["full", "S2"] = "full"
    data_dir: Annotated[Path | None, Folder] = None
    images: Annotated[int, Bounds(4, 50_000)] = 1536
    image_size: Literal[8, 16, 32] = 16
    size: tyro.conf.OmitArgPrefixes[MethodSize] = MethodSize()  # noqa: RUF009  (frozen)
    out: Path = Path("runs/compare_methods")

    def check(self) -> None:
        """Checks every value that can be checked without the images.

        Raises:
          InputError: a value out of its range, an unknown method, or one that is named twice.
        """
        super().check()
        if not self.methods:
            raise InputError(f"--methods names none; give one or more, such as {PLAIN} pc_darts")
        if len(set(self.methods)) < len(self.methods):
            raise InputError(f"--methods is {' '.join(self.methods)}, which names a method twice; give each once")
        for name in self.methods:
            self.search_config(name).check()

    def search_config(self, name: str) -> SearchConfig:
        """The settings of the searches with a method.

        Args:
          name: NAME or NAME:HYPERGRADIENT.

        Raises:
          InputError: there is no such method or hypergradient.
        """
        changes = {"operations": S2} if self.space == "S2" else {}
        run_dir = self.out / self.space / name.replace(":", "-")
        return self.size.search_config(
            name, seeds=self.seeds, run_dir=run_dir, eigenvalue_every=self.size.epochs, **changes
        )


def results_of(config: SearchConfig, dataset: ImageDataset) -> list[dict[str, Any]]:
    """Runs the searches of a method: the numbers of each seed."""
    with ProcessorClock() as clock:
        results = search_seeds(config, dataset=dataset)
    steps = search_images(config, dataset).steps_per_epoch
    seeds = [each.run.seed for each in config.of_each_seed()]
    return [
        {"seed": seed, "hypergradient": config.hypergradient, **_numbers(result, steps, clock)}
        for seed, result in zip(seeds, results, strict=True)
    ]


def _numbers(result: SearchResult, steps: int, clock: ProcessorClock) -> dict[str, Any]:
    """The numbers of a search whose epochs have so many steps, and that ran while a clock did."""
    rows, cells = read_metrics(result.folder), result.verdict["cells"]
    # In the last epoch every method moves its alphas.
    times = [row["time"] for row in rows if "train/loss" in row][-steps:]
    used, between = clock.used(times[0], times[-1]), len(times) - 1
    return {
        "accuracy": result.valid_accuracy,
        "skips": cells["normal"]["skips"],
        "lead": float(np.median(cells["normal"]["leads"])),
        "decided": float(np.mean(np.concatenate([cell["decided"] for cell in cells.values()]))),
        "eigenvalue": [row[_EIGENVALUE] for row in rows if _EIGENVALUE in row][-1],
        "seconds": float(np.median(np.diff(times))) if between else None,
        "processor_seconds": used / between if between and used is not None else None,
        "genotype": str(result.genotype),
    }


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The table of the results, by method."""
    plain = rows.get(PLAIN)
    head = ["method", "hypergradient", "accuracy, %", "skips in the normal cell", "median lead, %", "decided edges, %"]
    head += ["eigenvalue", "step, s", "× plain", "processors, s", "× plain"]
    lines = []
    for name, found in rows.items():
        values = {
            key: np.array([row[key] for row in found], float) for key in ("accuracy", "lead", "decided", "eigenvalue")
        }
        lines.append(
            [
                name.partition(":")[0],
                found[0]["hypergradient"].replace("_", " "),
                mean_and_spread(100 * values["accuracy"], 1),
                " ".join(str(row["skips"]) for row in found),
                mean_and_spread(100 * values["lead"], 0),
                f"{100 * values['decided'].mean():.0f}",
                mean_and_spread(values["eigenvalue"], 3),
                *_time_and_multiple(found, plain, "seconds"),
                *_time_and_multiple(found, plain, "processor_seconds"),
            ]
        )
    return markdown_table(head, lines)


def _time_and_multiple(
    found: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]] | None, name: str
) -> tuple[str, str]:
    """A time of a method's step, and its multiple of plain DARTS's, where they are known."""
    seconds, of_plain = ([row[name] for row in rows if row.get(name) is not None] for rows in (found, plain or ()))
    if not seconds:
        return "", ""
    median = np.median(seconds)
    return f"{median:.3g}", f"{median / np.median(of_plain):.2f}" if of_plain else ""


CONFIG = CompareConfig()


def main() -> None:
    """Parses the command line, searches, prints the table."""
    config = tyro.cli(CompareConfig, default=CONFIG, prog="python experiments/compare_methods.py", description=__doc__)
    config.check()
    dataset = images.smaller(images.load("cifar10", config.data_dir), images=config.images, size=config.image_size)
    found = {}
    for name in config.methods:
        search_config = config.search_config(name)
        kept = Table(config.out, {"search": search_config.to_json(), "images": dataset.fingerprint})
        cell = {"space": config.space, "method": name, "seeds": config.seeds}

        def measure(cell: Cell, folder: Path, search_config: SearchConfig = search_config) -> Sequence[Row]:
            del cell, folder
            return results_of(search_config, dataset)

        found[name] = (kept.finished(cell) or kept.measure(cell, measure)).rows
    text = table(found)
    replace_text(config.out / f"table-{config.space}.md", f"{text}\n")
    print(f"\n{text}")


if __name__ == "__main__":
    run_command(main)

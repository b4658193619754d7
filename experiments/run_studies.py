"""Runs the studies of `experiments/study/`, and draws their tables and figures.

The quick version of all takes about 15 minutes on two cores. Each measured cell is kept under --out, so that a command that was
killed continues where it stopped. Results, tables and figures are in OUT/VERSION/results.

Data:     jdarts data prepare cifar10                     (without it the studies run on handwritten digits)
Command:  python experiments/run_studies.py               (or: make study; make study-full)
          python experiments/run_studies.py --only hypergradient --full
"""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from study import images
from study.results import Results, cell_words, written
from study.rows import Table
from study.study import Measure, Study

from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.report.formatting import duration
from jdarts.runs.command import keep_compiled_programs
from jdarts.runs.interruption import Interrupted
from jdarts.runs.settings import Folder, Settings, as_json
from jdarts.xla.allocator import keep_freed_memory

#: The studies, in the order in which they run.
STUDIES = ("hypergradient", "cell", "collapse", "found")

#: Results, tables and figures of the site.
PUBLISHED = Path(__file__).resolve().parents[1] / "docs" / "results"


@dataclasses.dataclass(frozen=True)
class StudiesConfig(Settings):
    """Runs studies.

    Attributes:
      only: names of the studies to run (default: all).
      full: the full version, which takes hours.
      dataset: the image set (default: cifar10, or digits where that is not prepared).
      data_dir: folder of prepared images (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      out: folder of the measured cells and the results.
      collect: measure nothing; write the results of the cells that are there.
      publish: write results, tables and figures into docs/results as well.
      draw: only draw tables and figures of docs/results again, from its results.
    """

    only: tuple[str, ...] = ()
    full: bool = False
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")] = None
    data_dir: Annotated[Path | None, Folder] = None
    out: Path = Path("runs/study")
    collect: bool = False
    publish: bool = False
    draw: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The studies to run."""
        return self.only or STUDIES

    @property
    def version(self) -> str:
        """Of the studies: quick or full."""
        return "full" if self.full else "quick"

    def check(self) -> None:
        """Checks the names.

        Raises:
          InputError: there is no such study.
        """
        super().check()
        for name in self.only:
            if name not in STUDIES:
                raise InputError(f"--only is {name}; give {' or '.join(STUDIES)}")


CONFIG = StudiesConfig()


def study_of(name: str) -> Study:
    """The study of a name."""
    return importlib.import_module(f"study.{name}").STUDY


def run_study(config: StudiesConfig, name: str, dataset_name: str) -> Results:
    """Measures the cells of a study that are not there, and writes its results after each.

    Raises:
      InputError: the images are not there, or a file is damaged.
      Interrupted: SIGINT or SIGTERM came in a run that saves its state.
    """
    study = study_of(name)
    settings = study.config if config.full else study.quick
    settings.check()
    dataset = images.load(dataset_name, config.data_dir)
    about = {"name": dataset.name, "fingerprint": dataset.fingerprint}
    table = Table(config.out / config.version / name, {"settings": as_json(settings), "images": about})
    cells = study.cells(settings)
    command = f"make study-full ARGS='--only {name}'" if config.full else f"make study ARGS='--only {name}'"

    def results() -> Results:
        found = list(table.all_finished(cells))
        measured = [each for _, each in found]
        there = [cell for cell, _ in found]
        return Results(
            study=name,
            version=config.version,
            command=command,
            settings=as_json(settings),
            images=about,
            machine=measured[0].machine if measured else {},
            seconds=sum(each.seconds for each in measured),
            processor_seconds=sum(each.processor_seconds for each in measured),
            rows=[row for each in measured for row in each.rows],
            missing=[cell for cell in cells if cell not in there],
        )

    measure: Measure | None = None
    for number, cell in enumerate(cells, 1):
        if config.collect or table.finished(cell) is not None:
            continue
        measure = measure or study.prepare(settings, dataset)
        found = table.measure(cell, measure)
        print(f"{name} {number} of {len(cells)}: {cell_words(cell)}: {duration(found.seconds)}", flush=True)
        show(study, results(), config.out / config.version / "results")
    return results()


def show(study: Study, results: Results, folder: Path, *, quiet: bool = True) -> None:
    """Writes the results of a study, its tables and figures.

    Raises:
      InputError: there are none.
    """
    if not results.rows:
        raise InputError(f"no cell of {study.name} has been measured; leave --collect out")
    results.write(folder / f"{study.name}.json")
    _draw(study, folder, quiet=quiet)


def _draw(study: Study, folder: Path, *, quiet: bool = False) -> None:
    """Draws tables and figures from the file of the results alone."""
    results = Results.read(folder / f"{study.name}.json")
    tables = study.tables(results)
    paths = written(results, tables, study.figures(results), folder)
    if not quiet:
        print(f"\n{study.title}\n")
        print("\n\n".join([*tables.values(), results.words()]))
        print("wrote", *paths)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs the studies.

    Returns:
      The exit code.
    """
    config = tyro.cli(
        StudiesConfig, default=CONFIG, args=arguments, prog="python experiments/run_studies.py", description=__doc__
    )
    config.check()
    if config.draw:
        for name in config.only or [name for name in STUDIES if (PUBLISHED / f"{name}.json").exists()]:
            _draw(study_of(name), PUBLISHED)
        return 0
    if not config.collect:
        for name in config.names:
            study_of(name).check()
    keep_freed_memory()
    keep_compiled_programs()
    dataset, remark = images.choose(config.dataset, config.data_dir)
    if remark:
        print(remark, flush=True)
    try:
        for name in config.names:
            results = run_study(config, name, dataset)
            show(study_of(name), results, config.out / config.version / "results", quiet=False)
            if config.publish:
                show(study_of(name), results, PUBLISHED)
    except Interrupted as interrupted:
        print("interrupted; the same command continues")
        return interrupted.exit_code
    return 0


if __name__ == "__main__":
    run_command(main)

"""The verdict of a run in plain words, and what to do next."""

import re
from typing import NamedTuple

from jdarts.report.formatting import by_group, duration
from jdarts.report.html.guard_words import guard_words
from jdarts.report.html.mistakes import most_frequent
from jdarts.report.html.run_data import RunData
from jdarts.space import CELL_NAMES

#: A cell with a larger share of skip connections counts as collapsed.
_COLLAPSED = 0.5


class Advice(NamedTuple):
    """What a page says first.

    Attributes:
      kind: `decided`, `undecided` or empty.
      lines: the verdict, the first line the most important one.
      next: what to do next.
    """

    kind: str
    lines: tuple[str, ...]
    next: tuple[str, ...]


def advice(run: RunData) -> Advice:
    """The verdict of a run and what to do next."""
    if run.state != "finished":
        return _unfinished(run)
    if run.kind == "search":
        return _of_search(run)
    return _of_training(run)


def _unfinished(run: RunData) -> Advice:
    ended, total = len(run.epochs), run.total_epochs
    done = f"{ended} of {total} epochs" if total else f"{ended} epochs"
    is_running = run.state == "running"
    first = (
        f"The {run.kind} is running: {done} are done."
        if is_running
        else f"The {run.kind} was interrupted after {done}."
    )
    lines = [first, *_so_far(run)]
    mend = "Start the same command again to resume it from its newest checkpoint."
    follow = f"Write this page again: `jdarts report {run.folder}`"
    return Advice("", tuple(lines), (follow,) if is_running else (mend,))


def _so_far(run: RunData) -> list[str]:
    """What the last epoch says of a search that has no verdict yet."""
    if run.kind != "search" or not run.epochs:
        return []
    numbers = run.epochs[-1].numbers
    shares = [
        (name, numbers[f"guards_decided_{kind}"])
        for kind, name in CELL_NAMES.items()
        if f"guards_decided_{kind}" in numbers
    ]
    return [f"So far {100 * share:.0f} % of the edges of the {name} are decided." for name, share in shares]


def _of_search(run: RunData) -> Advice:
    lines, steps = list(run.verdict_lines), []
    words = " ".join(lines)
    is_decided = bool(re.match(r"decided\b|the supernet without each operation has decided", words))
    kind = ("decided" if is_decided else "undecided") if lines else ""
    if not lines:
        lines = ["This search has no verdict: it is older than verdicts.", *_so_far(run)]
    if stopped := run.summary.get("stopped"):
        reason = stopped.get("reason") if isinstance(stopped, dict) else None
        if isinstance(reason, str):
            lines.append(f"It stopped early: {reason}.")
    for name, skips, operations in _skips(run):
        lines.append(f"The {name} has collapsed: {skips} of its {operations} operations are skip connections.")
        steps.append(
            "Search again with a guard against skip connections: `--stop skip_connections`, `--skip-dropout 0.2`, or a method "
            "such as `--method darts_minus`, `pc_darts` or `drnas`."
        )
    measured = guard_words(run)
    lines += measured.lines
    steps += measured.next
    if kind == "undecided":
        seeds = "other values of `--seed`" if run.is_text or run.has_own_network else "`--seeds 0-3`"
        steps.append(
            f"The choice is close to a draw, so treat {'it' if run.has_own_network else 'this cell'} as one of several: search "
            f"with more `--epochs` or a larger `--alpha-learning-rate`, or with {seeds}, and compare: `jdarts report RUN RUN …`"
        )
    if run.has_own_network:
        steps.append(
            f'Cut the network to its choices with `jdarts.load_search("{run.folder}")` and `jdarts.decided`, and train it with '
            "`jdarts.train.train(config, network=…)`."
        )
    else:
        command = "jdarts language train" if run.is_text else "jdarts train"
        # All cells of its networks are reduction cells, which only those of 1 or 2 cells have.
        cells = f" --cells {run.settings.get('cells')}" if run.settings.get("cell_kinds") == "reduce" else ""
        steps.append(f"Train the found cell: `{command} --genotype {run.folder}{cells}`")
    # The lines after the first begin with the names of choices in a network of the user's.
    sentences = [_sentence(lines[0]), *lines[1:]] if run.has_own_network else map(_sentence, lines)
    return Advice(kind, tuple(sentences), tuple(dict.fromkeys(steps)))


def _skips(run: RunData) -> list[tuple[str, int, int]]:
    """The cells that have collapsed: name, skip connections and operations."""
    verdict = run.summary.get("verdict")
    cells = verdict.get("cells") if isinstance(verdict, dict) else None
    found = []
    for kind in ("normal", "reduce"):
        cell = cells.get(kind) if isinstance(cells, dict) else None
        skips, operations = (cell.get(name) if isinstance(cell, dict) else None for name in ("skips", "operations"))
        if isinstance(skips, int) and isinstance(operations, int) and operations and skips / operations > _COLLAPSED:
            found.append((CELL_NAMES[kind], skips, operations))
    return found


def _of_own_training(run: RunData) -> Advice:
    """Of a network of the user's own."""
    part = next((part for part in ("test", "valid") if run.summary.get(f"{part}_metrics")), None)
    line = "The training has finished; it was not tested."
    if part is not None:
        numbers = {name: value for name, value in run.summary[f"{part}_metrics"].items() if isinstance(value, float)}
        texts = by_group(numbers).get("", {})
        listed = ", ".join(f"{name} {text.strip()}" for name, text in texts.items())
        which = {"test": "Test", "valid": "Held-out"}[part]
        line = f"{which} {listed}, of the {run.summary.get('tested', 'last')} weights."
    return Advice("", (line,), (f'Predict with the network: `jdarts.predictor(network, "{run.folder}")`',))


def _of_training(run: RunData) -> Advice:
    if run.has_own_network:
        return _of_own_training(run)
    accuracy, perplexity = run.summary.get("test_accuracy"), run.summary.get("test_perplexity")
    if isinstance(accuracy, float):
        line = f"Test accuracy {100 * accuracy:.2f} %, of the {run.summary.get('tested', 'last')} weights."
    elif isinstance(perplexity, float):
        line = f"Test perplexity {perplexity:.1f}."
    else:
        line = "The training has finished; it was not tested."
    took = [] if run.seconds is None else [f"It took {duration(run.seconds)}."]
    lines, steps = [line, *took], []
    if run.mistakes is not None and (pair := most_frequent(run.mistakes)) is not None:
        names = run.mistakes.class_names
        lines.append(
            f"Most often it takes {names[pair.label]} for {names[pair.guess]}: {pair.count} of "
            f"{run.mistakes.totals[pair.label]} {run.mistakes.images} of that class."
        )
        steps.append("Look at the worst mistakes below: pictures with a wrong label belong in another class.")
    if not run.is_text:
        steps.append(f"Classify pictures of your own: `jdarts predict {run.folder} PICTURE …`")
        steps.append(f"Use the network in another program: `jdarts export {run.folder}`")
    return Advice("", tuple(lines), tuple(steps))


def _sentence(line: str) -> str:
    text = line[:1].upper() + line[1:]
    return text if text.endswith((".", ":")) else f"{text}."

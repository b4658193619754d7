"""The page of one run."""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jdarts.genotype import AnyGenotype
from jdarts.report.cell_figure import HEADINGS, cell_kinds_of
from jdarts.report.formatting import by_group, duration, step_time
from jdarts.report.html import again, markup
from jdarts.report.html.advice import Advice, advice
from jdarts.report.html.alphas import alphas_section, drawing, source_name
from jdarts.report.html.choices import choice_panels, choice_table
from jdarts.report.html.mistakes import mistakes_section
from jdarts.report.html.pictures import static_curves
from jdarts.report.html.run_data import Change, RunData, changes, finite_number, genotype_text
from jdarts.report.html.series import Panel, panels
from jdarts.report.html.stages import stages_html
from jdarts.report.html.surprises import surprises_html
from jdarts.report.html.template import Section, document
from jdarts.report.html.vega import DISTRIBUTION, can_draw, panel_spec
from jdarts.runs.memory import format_bytes
from jdarts.space import CELL_NAMES

#: More changes of the genotype are folded.
_SHOWN_CHANGES = 8
_MEMORY = {
    "persistent": "memory of state and data, by XLA's plan",
    "temporary": "memory within a step, by XLA's plan",
    "peak": "most memory at once",
}


def run_page(run: RunData, place: Path, *, live: bool = False) -> str:
    """The page of a run as HTML.

    Args:
      run: the run.
      place: the folder of the page; links are relative to it.
      live: whether the page reloads itself.
    """
    drawn, found = can_draw(), panels(run)
    charts: dict[str, Any] = {}
    content: Mapping[str, Any] = {}
    words = advice(run)
    sections = [Section("verdict", "Verdict", _verdict(words))]
    if run.earlier:
        sections.append(Section("stages", "The stages", stages_html(run, place)))
    alphas = alphas_section(run, drawn=drawn) if run.kind == "search" else None
    if alphas is not None:
        charts |= alphas.charts
        content = alphas.content
        sections.append(Section("alphas", "The alphas over the epochs", alphas.html))
    if run.kind == "search" and run.has_own_network and (table := choice_table(run)):
        choices = choice_panels(run) if drawn else []
        charts |= {f"choice-{number}": panel_spec(panel) for number, panel in enumerate(choices)}
        sections.append(Section("choices", "The choices", table + charts_html(choices, "choice")))
    if run.genotype is not None:
        sections.append(Section("cells", "The cells", _cells(run)))
    if found:
        charts |= {f"chart-{number}": panel_spec(panel) for number, panel in enumerate(found)} if drawn else {}
        sections.append(Section("curves", "Curves", charts_html(found) if drawn else _static(run)))
    if run.mistakes is not None:
        mistakes = mistakes_section(run.mistakes, drawn=drawn)
        charts |= mistakes.charts
        sections.append(Section("mistakes", "Mistakes", mistakes.html))
    if run.surprises is not None:
        sections.append(Section("surprises", "Surprises", surprises_html(run.surprises)))
    if run.kind == "search" and not run.has_own_network:
        sections.append(Section("changes", "Changes of the genotype", _changes(run)))
    sections.append(Section("time", "Time and memory", _time(run)))
    sections.append(Section("again", "What was asked, and how to do it again", asked_html(run)))
    title = f"{run.name} – {run.kind}"
    return document(title, _head(run, words), sections, charts=charts, content=content, live=live)


def charts_html(found: Sequence[Panel], prefix: str = "chart") -> str:
    """The places of charts, with their titles and notes."""
    parts = [
        f'<div class="chart"><h3>{escape(panel.title)}</h3>'
        f'{markup.paragraph(panel.note, "note") if panel.note else ""}<div class="plot" id="{prefix}-{number}"></div></div>'
        for number, panel in enumerate(found)
    ]
    pale = any(each.pale for panel in found for each in panel.series)
    note = '<p class="note">Strong lines: means over an epoch. Pale lines: single steps.</p>' if pale else ""
    return f'{note}<div class="charts">{"".join(parts)}</div>'


def cell_cards(genotype: AnyGenotype, prefix: str = "") -> str:
    """The drawings of a genotype's cells, each with a heading that begins with a plain text."""
    return "".join(
        f'<div class="card"><h3>{escape(prefix)}{HEADINGS[kind]}</h3><div class="drawing">{drawing(genotype, kind)}</div></div>'
        for kind in cell_kinds_of(genotype)
    )


def key_numbers(run: RunData) -> list[tuple[str, str]]:
    """The most important numbers of a run: name and text."""
    last = run.epochs[-1].numbers if run.epochs else {}
    found = []
    accuracies = (
        ("test_accuracy", "test accuracy", run.summary),
        ("valid_accuracy", "validation accuracy" if run.kind == "search" else "best held-out accuracy", run.summary),
        ("evaluation_accuracy", "validation accuracy so far", {} if run.summary else last),
        ("valid_accuracy", "held-out accuracy so far", {} if run.summary or run.kind == "search" else last),
    )
    found += [
        (text, f"{100 * value:.2f} %")
        for name, text, where in accuracies
        if (value := finite_number(where, name)) is not None
    ]
    perplexities = (
        ("test_perplexity", "test perplexity", run.summary),
        ("valid_perplexity", "validation perplexity", run.summary),
        ("evaluation_perplexity", "validation perplexity so far", {} if run.summary else last),
    )
    found += [
        (text, f"{value:.2f}")
        for name, text, where in perplexities
        if (value := finite_number(where, name)) is not None
    ]
    if run.has_own_network:
        found += _own_metrics(run)
    total = run.total_epochs
    found.append(("epochs", f"{len(run.epochs)} of {total}" if total else str(len(run.epochs))))
    if run.seconds is not None:
        found.append(("time", duration(run.seconds)))
    weights = run.summary.get("weights")
    if isinstance(weights, int):
        found.append(("weights", f"{weights:,}"))
    return found


def _own_metrics(run: RunData) -> list[tuple[str, str]]:
    """Losses and metrics of a task of the user's own, without the accuracies, which every run has."""
    parts = {"metrics": "validation", "valid_metrics": "held-out", "test_metrics": "test"}
    found = []
    for part, text in parts.items():
        numbers = run.summary.get(part)
        names = numbers if isinstance(numbers, Mapping) else {}
        known = {
            name: value for name in names if name != "accuracy" and (value := finite_number(names, name)) is not None
        }
        for name, value in by_group(known).get("", {}).items():
            found.append((f"{text} {name}", value.strip()))
    return found


def _head(run: RunData, words: Advice) -> str:
    settings = run.settings
    subject = [f"{run.kind} on {settings.get('dataset', 'unknown data')}"]
    if run.kind == "search":
        subject += [f"method {settings.get('method', 'darts')}", f"hypergradient {settings.get('hypergradient')}"]
    if run.stage is not None:
        subject.append("stage {} of {}".format(*run.stage))
    if "seed" in settings:
        subject.append(f"seed {settings['seed']}")
    state = f'<span class="badge {run.state}">{run.state}</span>'
    verdict = f' <span class="badge {words.kind}">{words.kind}</span>' if words.kind else ""
    problems = markup.problems(run.problems)
    return (
        f'<header><h1>{escape(run.name)}</h1><p class="soft">{escape(", ".join(map(str, subject)))}</p><p>{state}{verdict}</p>'
        f"</header>{problems}{markup.tiles(key_numbers(run))}"
    )


def _verdict(words: Advice) -> str:
    lines = "".join(map(markup.paragraph, words.lines))
    follow = f"<h3>What to do next</h3>{markup.listed(words.next)}" if words.next else ""
    return f'<div class="verdict {words.kind}">{lines}</div>{follow and f"<div>{follow}</div>"}'


def _cells(run: RunData) -> str:
    assert run.genotype is not None
    genotype = run.genotype
    which = "final cells" if run.state == "finished" else "cells of the last epoch"
    text = markup.code(str(genotype), "genotype-text") + markup.code(genotype_text(genotype), "genotype-json")
    folded = markup.folded("The genotype as text and as JSON", text)
    return f'<p class="note">The {which}.</p><div class="cells">{cell_cards(genotype)}</div>{folded}'


def _static(run: RunData) -> str:
    """The curves as one picture, for a page without the script that draws charts."""
    note = (
        '<p class="note">These are pictures that do not move, since the package that draws charts is missing here: '
        f"<code>pip install 'jdarts[report]'</code> ({DISTRIBUTION}), then "
        "<code>jdarts report</code> writes this page again.</p>"
    )
    return f'{note}<div class="static">{static_curves(run)}</div>'


def _changes(run: RunData) -> str:
    rows: list[tuple[str, str, str, str]] = []
    epochs = [each for each in run.epochs if each.genotype is not None]
    for before, after in itertools.pairwise(epochs):
        if before.genotype is None or after.genotype is None or type(before.genotype) is not type(after.genotype):
            continue
        for each in changes(before.genotype, after.genotype):
            rows.append((str(after.number), f"{CELL_NAMES[each.kind]}, node {each.node}", *_entries(each)))
    if not rows:
        return markup.paragraph(
            "The genotype has stayed the same since the first epoch." if epochs else "No epoch has ended yet."
        )
    last = rows[-1][0]
    text = (
        f"{len({row[0] for row in rows})} of {len(epochs) - 1} epochs changed the genotype, the last one epoch {last}."
    )
    changed = markup.table(rows, ("epoch", "where", "no longer", "now"))
    return markup.paragraph(text) + (
        changed if len(rows) <= _SHOWN_CHANGES else markup.folded(f"All {len(rows)} changes", changed)
    )


def _entries(change: Change) -> tuple[str, str]:
    gone, new = (
        ", ".join(f"{name} from {source_name(source)}" for name, source in entries)
        for entries in (change.gone, change.new)
    )
    return gone, new


def _time(run: RunData) -> str:
    rows = []
    if run.seconds is not None:
        rows.append(("time of all processes", duration(run.seconds)))
        steps = run.summary.get("steps") or (run.epochs[-1].step if run.epochs else 0)
        if isinstance(steps, int) and steps > 0:
            rows.append(("time of a step, with everything else", step_time(run.seconds / steps)))
    times = [each.get("time", math.nan) for each in run.steps] + [each.time for each in run.epochs]
    times = [each for each in times if math.isfinite(each) and abs(each) < 1e11]
    if times:
        rows.append(("first record", _date(min(times))))
        rows.append(("last record", _date(max(times))))
    total, ended = run.total_epochs, len(run.epochs)
    if run.state != "finished" and total and 0 < ended < total and run.seconds:
        rows.append(("time left, at this pace", duration(run.seconds / ended * (total - ended))))
    rows += [
        (text, format_bytes(size))
        for name, text in _MEMORY.items()
        if (size := finite_number(run.memory, name)) is not None
    ]
    return markup.named_values(rows) if rows else markup.paragraph("Nothing is known yet.")


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def asked_html(run: RunData) -> str:
    """What was asked of a run, and the command that does it again."""
    versions = run.record.get("versions")
    known = [(str(name), str(version)) for name, version in versions.items()] if isinstance(versions, dict) else []
    if run.stage is not None and run.stage[0] < run.stage[1]:
        parts = [
            "<p>This is a stage of a search; the page in the folder above has the command of the whole search.</p>"
        ]
    elif run.has_own_network:
        function = "search.search" if run.kind == "search" else "train.train"
        parts = [f"<p>Call <code>jdarts.{function}</code> with the settings below, your network and your data.</p>"]
    else:
        parts = [
            "<p>This command starts the same run in another folder; your files (data, plug-ins, a space) need their path.</p>",
            markup.code(again.command(run), "command"),
        ]
    if run.record.get("changes"):
        parts.append(
            markup.paragraph(
                "The epochs or devices of this run have changed on the way; the command has the last ones from the start."
            )
        )
    data = again.settings_rows(run.data)
    if data:
        parts.append("<h3>The data</h3>")
        parts.append('<p class="note">The fingerprint that a resumed run is compared with.</p>')
        parts.append(markup.named_values(data))
    if known:
        parts.append(markup.folded("Versions", markup.named_values(known)))
    parts.append(
        markup.folded("All settings that decide the result", markup.named_values(again.settings_rows(run.settings)))
    )
    return "".join(parts)

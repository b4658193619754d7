"""The page of a pipeline: its result, the candidates, the chosen cells, and its runs side by side."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from jdarts.report.html import markup
from jdarts.report.html.budgets_section import budgets_html
from jdarts.report.html.comparison_page import compared, problems_html
from jdarts.report.html.pipeline import arms_of, candidates_html, groups_of, result_html
from jdarts.report.html.run_data import RunData
from jdarts.report.html.run_page import asked_html, cell_cards
from jdarts.report.html.template import Section, document


def pipeline_page(run: RunData, runs: Sequence[RunData], place: Path, table: str) -> str:
    """The page as HTML.

    Args:
      run: the pipeline.
      runs: its runs so far.
      place: the folder of the page; links are relative to it.
      table: the text of its table; empty until it has ended.
    """
    sections = [Section("verdict", "Verdict", result_html(run, runs, table))]
    budgets = budgets_html(run.summary)
    if budgets:
        sections.append(Section("budgets", "Accuracy against size", budgets))
    candidates = candidates_html(run, place)
    if candidates:
        sections.append(Section("candidates", "The candidates", candidates))
    chosen = [(arm.name, arm.genotype) for arm in arms_of(run) if arm.genotype is not None]
    if chosen:
        cards = "".join(cell_cards(genotype, f"{name}: ") for name, genotype in chosen)
        sections.append(Section("chosen", "The chosen cells", f'<div class="cells">{cards}</div>'))
    charts = {}
    if runs:
        parts = compared(runs, groups_of(runs), place)
        sections += parts.sections
        charts = dict(parts.charts)
    sections.append(Section("again", "What was asked, and how to do it again", asked_html(run)))
    title = f"{run.name} – pipeline"
    subject = f"pipeline on {run.settings.get('dataset', 'unknown data')}"
    head = (
        f'<header><h1>{escape(run.name)}</h1><p class="soft">{escape(subject)}</p><p><span class="badge {run.state}">{run.state}'
        f"</span></p></header>{markup.problems(run.problems)}{problems_html(runs) if runs else ''}"
    )
    return document(title, head, sections, charts=charts, content={}, live=False)

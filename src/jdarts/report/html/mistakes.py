"""The section of a training's page on what the network gets wrong: a confusion matrix, and pictures of its worst mistakes."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from jdarts.report.html import markup
from jdarts.report.html.markup import Cell
from jdarts.report.html.vega import counts_spec
from jdarts.report.mistakes import Confusion, Mistake, MistakeRecord

#: More classes have a table of pairs in place of a matrix.
_MATRIX_CLASSES = 40
#: Most rows of a table.
_ROWS = 20
#: Widest column of the matrix in pixels, and the width of the names beside it.
_COLUMN, _BESIDE = 70, 150
#: Place of the matrix.
_PLACE = "confusion"


class MistakesSection(NamedTuple):
    """The section.

    Attributes:
      html: its content.
      charts: specifications by the place of each chart.
    """

    html: str
    charts: Mapping[str, Any]


def mistakes_section(record: MistakeRecord, *, drawn: bool) -> MistakesSection:
    """The section of a record.

    Args:
      record: what the network gets wrong.
      drawn: whether the page has the script that draws charts; else the matrix is a table.
    """
    right, total = sum(record.rights), sum(record.totals)
    share = f" ({100 * right / total:.2f} %)" if total else ""
    parts = [markup.paragraph(f"{right:,} of {total:,} {record.images} are right{share}.")]
    charts: dict[str, Any] = {}
    if len(record.class_names) <= _MATRIX_CLASSES:
        note = "A row for each class, a column for what the network says. Colour: share of the row."
        if drawn:
            charts[_PLACE] = counts_spec(_counts(record), record.class_names)
            width = _BESIDE + _COLUMN * len(record.class_names)
            matrix = f'<div class="plot" id="{_PLACE}" style="max-width:{width}px"></div>'
        else:
            matrix = _matrix(record)
        parts.append(f'<div class="card"><h3>Confusion matrix</h3><p class="note">{note}</p>{matrix}</div>')
    tables = _tables(record)
    if tables:
        parts.append(f'<div class="cells">{"".join(tables)}</div>')
    if record.worst:
        pictures = "".join(_figure(each, record.class_names) for each in record.worst)
        note = "The most confident wrong answers first. A wrong label or an unusual picture shows here."
        parts.append(f'<h3>The worst mistakes</h3><p class="note">{note}</p><div class="pictures">{pictures}</div>')
    return MistakesSection("".join(parts), charts)


def most_frequent(record: MistakeRecord) -> Confusion | None:
    """The two classes that are confused most often; None without a mistake."""
    return record.confusions[0] if record.confusions else None


def _counts(record: MistakeRecord) -> list[tuple[int, int, int, float]]:
    """Each cell of the matrix that is not empty: label, guess, count, and share of the row."""
    cells = [(label, label, count) for label, count in enumerate(record.rights) if count]
    cells += list(map(tuple, record.confusions))
    return [(label, guess, count, count / max(record.totals[label], 1)) for label, guess, count in cells]


def _matrix(record: MistakeRecord) -> str:
    """The matrix as a table."""
    counts = {(label, guess): (count, share) for label, guess, count, share in _counts(record)}
    head = "".join(f"<th>{escape(name)}</th>" for name in record.class_names)
    rows = []
    for label, name in enumerate(record.class_names):
        cells = []
        for guess in range(len(record.class_names)):
            count, share = counts.get((label, guess), ("", 0.0))
            colour = f"color-mix(in srgb, var(--blue) {60 * share:.0f}%, var(--card))"
            cells.append(f'<td style="background:{colour}">{count}</td>')
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="heat"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _tables(record: MistakeRecord) -> list[str]:
    """The most frequent confusions, and the classes with the lowest accuracies."""
    names, found = record.class_names, []
    if record.confusions:
        pairs = [
            [Cell(names[each.label]), Cell(names[each.guess]), Cell(f"{each.count:,}", float(each.count))]
            for each in record.confusions[:_ROWS]
        ]
        table = markup.sorted_table(("class", "taken for", "images"), pairs)
        found.append(f'<div class="card"><h3>Most frequent confusions</h3>{table}</div>')
    shares = [
        (right / total, label)
        for label, (right, total) in enumerate(zip(record.rights, record.totals))
        if total and right < total
    ]
    if shares:
        rows = [
            [
                Cell(names[label]),
                Cell(f"{100 * share:.2f} %", share),
                Cell(f"{record.totals[label]:,}", float(record.totals[label])),
            ]
            for share, label in sorted(shares)[:_ROWS]
        ]
        table = markup.sorted_table(("class", "right", "images"), rows)
        found.append(f'<div class="card"><h3>Classes with most mistakes</h3>{table}</div>')
    return found


def _figure(mistake: Mistake, names: Sequence[str]) -> str:
    picture = base64.b64encode(mistake.picture).decode()
    label, guess = names[mistake.label], names[mistake.guess]
    where = mistake.name or f"image {mistake.place}"
    return (
        f'<figure><img src="data:image/png;base64,{picture}" alt="{escape(where)}" title="{escape(where)}" loading="lazy">'
        f"<figcaption><b>{escape(label)}</b> taken for <b>{escape(guess)}</b><br>{100 * mistake.confidence:.1f} %, "
        f'{escape(label)} {100 * mistake.of_label:.1f} %<br><span class="soft">{escape(where)}</span></figcaption></figure>'
    )

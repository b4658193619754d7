"""The section of a text training's page on the words that the model did not expect."""

from html import escape

from jdarts.report.html import markup
from jdarts.report.html.markup import Cell
from jdarts.report.surprises import Passage, SurpriseRecord


def surprises_html(record: SurpriseRecord) -> str:
    """The section of a record."""
    share = f" ({100 * record.right / record.total:.2f} %)" if record.total else ""
    text = f"Of {record.total:,} words of the {record.text}, the most probable one was right {record.right:,} times{share}."
    rows = [
        [
            Cell(each.word),
            Cell(f"{each.count:,}", float(each.count)),
            Cell(f"{each.loss:.2f}", each.loss),
            Cell(f"{each.count * each.loss:,.0f}", each.count * each.loss),
        ]
        for each in record.words
    ]
    table = markup.sorted_table(("word", "times", "mean loss", "sum"), rows)
    passages = "".join(map(_item, record.passages))
    return (
        f"{markup.paragraph(text)}<h3>Words with the largest share of the loss</h3>"
        f"{markup.paragraph('Losses in nats.', 'note')}{table}<h3>The largest surprises</h3>"
        f"{markup.paragraph('The places of the largest losses, each word once.', 'note')}<ul>{passages}</ul>"
    )


def _item(passage: Passage) -> str:
    before = escape(" ".join(passage.before))
    return (
        f'<li>{before} <b>{escape(passage.word)}</b> <span class="soft">(loss {passage.loss:.1f}; expected '
        f"{escape(passage.guess)}, {100 * passage.confidence:.1f} %)</span></li>"
    )

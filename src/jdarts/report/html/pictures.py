"""Pictures for pages without the script that draws charts."""

import io

from jdarts.errors import InputError
from jdarts.report.html.run_data import RunData
from jdarts.report.metrics import EPOCH


def static_curves(run: RunData) -> str:
    """The curves of a run as one SVG element; a sentence if there are none."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from jdarts.report.curves_figure import curves_figure

    means = [
        {"step": each.step, **{f"epoch/{name}": value for name, value in each.numbers.items()}} for each in run.epochs
    ]
    records = sorted(
        [*run.steps, *({name: each[name] for name in each if name != EPOCH} for each in means)],
        key=lambda each: each["step"],
    )
    content = io.StringIO()
    try:
        with style.context(["default", {"svg.fonttype": "none"}]):
            figure = curves_figure(records)
            FigureCanvasAgg(figure)
            figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    except InputError:
        return "<p>There are no numbers yet.</p>"
    text = content.getvalue()
    return text[text.index("<svg") :]

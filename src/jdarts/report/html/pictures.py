"""Pictures for pages without the script that draws charts."""

from jdarts.errors import InputError
from jdarts.report.drawing import curves_svg
from jdarts.report.html.run_data import RunData


def static_curves(run: RunData) -> str:
    """The curves of a run as one SVG element; a sentence if there are none."""
    means = [
        {"step": each.step, **{f"epoch/{name}": value for name, value in each.numbers.items()}} for each in run.epochs
    ]
    try:
        return curves_svg(sorted([*run.steps, *means], key=lambda each: each["step"]))
    except InputError:
        return "<p>There are no numbers yet.</p>"

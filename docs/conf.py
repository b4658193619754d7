"""Settings of the site: `make docs`."""

import contextlib
import importlib
import io
import os
import sys
from importlib import metadata
from pathlib import Path

from sphinx.application import Sphinx

from jdarts.command_examples import help_examples
from jdarts.subcommands import SUBCOMMANDS

project, author, copyright = "jdarts", "the jdarts authors", "the jdarts authors"
release = metadata.version("jdarts")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["tools", "_build", "results/*.md"]
html_theme, html_title = "furo", "jdarts"
html_theme_options = {"sidebar_hide_name": False}
html_show_sphinx = False
pygments_style, pygments_dark_style = "default", "monokai"
myst_heading_anchors = 3
#: Tutorials run while the site is built. The time of a cell, in seconds, leaves room for a busy machine.
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "force", 3600, True
nb_execution_in_temp = True
nb_merge_streams = True
# Docstrings write code in single backticks.
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_rtype = False
napoleon_use_ivar = True


def help_text(module: str, name: str) -> str:
    """The help text of a subcommand with its examples, without colours."""
    os.environ["COLUMNS"] = "100"
    sys.argv, output = [f"jdarts {name}", "--help"], io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        importlib.import_module(module).main()
    sys.argv = [f"jdarts {name}"]
    return f"{output.getvalue().rstrip()}\n\n{help_examples()}"


def write_commands(app: Sphinx) -> None:
    """Writes the page of all commands, from their help texts."""
    parts = ["# Commands\n\n`jdarts SUBCOMMAND` and `python -m jdarts.SUBCOMMAND` are the same.\n"]
    parts += [f"## jdarts {each.name}\n\n```text\n{help_text(each.module, each.name)}\n```\n" for each in SUBCOMMANDS]
    page, text = Path(app.srcdir) / "reference" / "commands.md", "\n".join(parts)
    if not page.exists() or page.read_text() != text:
        page.write_text(text)


def setup(app: Sphinx) -> None:
    """Connects the page of commands to the build."""
    app.connect("builder-inited", write_commands)

"""`python -m jdarts.report RUN [RUN ...]`: the page of a run, or of several runs side by side."""

from jdarts.command import run_command
from jdarts.report.html.command import main

if __name__ == "__main__":
    run_command(main)

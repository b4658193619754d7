"""`python -m jdarts.language.search`: the paper's search for a recurrent cell, every setting an option."""

from jdarts.command import run_command
from jdarts.language.search.command import main

if __name__ == "__main__":
    run_command(main)

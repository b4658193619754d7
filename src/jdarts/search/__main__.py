"""`python -m jdarts.search`: the paper's search, every setting an option."""

from jdarts.command import run_command
from jdarts.search.command import main

if __name__ == "__main__":
    run_command(main)

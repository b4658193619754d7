"""`python -m jdarts.language.train`: the paper's training of a recurrent cell, every setting an option."""

from jdarts.command import run_command
from jdarts.language.train.command import main

if __name__ == "__main__":
    run_command(main)

"""`python -m jdarts.train`: the paper's training of a genotype, every setting an option."""

from jdarts.command import run_command
from jdarts.train.command import main

if __name__ == "__main__":
    run_command(main)

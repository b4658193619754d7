"""`python -m jdarts.describe GENOTYPE`."""

from jdarts.command import run_command
from jdarts.describe.command import main

if __name__ == "__main__":
    run_command(main)

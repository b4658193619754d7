"""`python -m jdarts.pipeline`: searches, selection and full training in one run, every setting an option."""

from jdarts.command import run_command
from jdarts.pipeline.command import main

if __name__ == "__main__":
    run_command(main)

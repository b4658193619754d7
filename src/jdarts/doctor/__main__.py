"""`python -m jdarts.doctor`: what is installed, which devices there are, and what a first step will cost."""

from jdarts.command import run_command
from jdarts.doctor.command import main

if __name__ == "__main__":
    run_command(main)

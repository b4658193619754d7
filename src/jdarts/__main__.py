"""`python -m jdarts SUBCOMMAND`: the same as the command `jdarts`."""

from jdarts.subcommands import start

if __name__ == "__main__":
    start()

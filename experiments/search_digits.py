"""Search for convolutional cells on scikit-learn's handwritten digits: the whole search in minutes on a CPU.

Command:  python experiments/search_digits.py             (or: make search)
"""

from jdarts.command import run_command
from jdarts.search import SearchConfig
from jdarts.search.command import main

CONFIG = SearchConfig(
    dataset="digits",
    channels=8,
    cells=3,
    nodes=3,
    epochs=20,
    batch_size=64,
    learning_rate=0.1,
    alpha_learning_rate=3e-3,
)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

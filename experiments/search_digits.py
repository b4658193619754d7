"""Search for convolutional cells on scikit-learn's handwritten digits: the whole search in minutes on a CPU.

220 steps are few, so that the alphas learn fast, with more momentum than the paper's and no decay, which would outweigh the small
gradients of the end. Every seed tried then decides: on nine of ten edges or more the chosen operation leads by 10 % or more.

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
    alpha_learning_rate=0.1,
    alpha_b1=0.9,
    alpha_weight_decay=0.0,
)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

"""Search for convolutional cells on CIFAR-10 with the settings of the paper (section 3.1.1).

Paper:    2.76 ± 0.09 % test error of the cell found by the second-order search, after training it in full; supernet
          validation accuracy at the end of a search about 88.8 to 89.1 % (reference implementation's issues 7 and 12).
Hardware: the paper's search takes about 1 day on one GTX 1080 Ti; benchmarks of this code are in benchmarks/README.md.
Command:  python experiments/search_cifar10.py            (or: make search-cifar ARGS="--epochs 1")
"""

from jdarts.command import run_command
from jdarts.search import SearchConfig
from jdarts.search.command import main

CONFIG = SearchConfig(dataset="cifar10")

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

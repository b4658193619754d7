"""Train a network of found cells on CIFAR-10 with the settings of the paper (section 3.2, reference code).

Paper:    2.76 ± 0.09 % test error over 10 runs for the cells of the second-order search (the released weights: 2.63 %),
          3.3 million weights without the auxiliary head.
Hardware: about 1.5 days on one GTX 1080 Ti in the paper.
Settings: 600 epochs of all 50,000 training images, batch 96, cutout 16, auxiliary weight 0.4, drop path to 0.2, cosine
          from 0.025 to 0. No image is held out, so no epoch is selected: the last one is tested, once.
Command:  python experiments/train_cifar10.py             (or: make train-cifar ARGS="--genotype runs/search-...")
"""

from jdarts.command import run_command
from jdarts.train import TrainConfig
from jdarts.train.command import main

CONFIG = TrainConfig(dataset="cifar10")

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

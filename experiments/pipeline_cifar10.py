"""The paper's protocol on CIFAR-10: four searches, the best of four cells after 100 epochs each, ten full trainings.

Paper:    2.76 ± 0.09 % test error over 10 trainings (second order), 3.29 ± 0.15 % for the best of 24 random cells of the
          same space (table 1).
Hardware: 4 GPU days for the searches and about 1.5 days for each full training on a GTX 1080 Ti in the paper.
Settings: those of search_cifar10.py and train_cifar10.py; a tenth of the training images validates the brief trainings.
Command:  python experiments/pipeline_cifar10.py          (or: make pipeline DATASET=cifar10 ARGS="--baseline random")
"""

import search_cifar10
import train_cifar10

from jdarts.command import run_command
from jdarts.pipeline import PipelineConfig
from jdarts.pipeline.command import main

CONFIG = PipelineConfig(dataset="cifar10", search=search_cifar10.CONFIG, train=train_cifar10.CONFIG)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

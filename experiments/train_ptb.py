"""Train a language model of a recurrent cell on Penn Treebank with the settings of the paper (section 3.2.2, reference code).

Paper:    58.1 validation and 55.7 test perplexity for the cell of the second-order search, 23 million weights; no dynamic
          evaluation, no cache, no fine-tuning.
Hardware: 3 days on one GTX 1080 Ti in the paper.
Settings: width 850, batch 64, segments of about 35 words, SGD 20, then averaged weights (NT-ASGD) to convergence: 8,000
          epochs is a limit, after Ctrl-C `make train-ptb` resumes. 22,960,000 weights.
Data:     python -m jdarts.data prepare ptb --from FOLDER
Command:  python experiments/train_ptb.py                (or: make train-ptb ARGS="--genotype runs/search-ptb-...")
"""

from jdarts.command import run_command
from jdarts.language.train import LanguageTrainConfig
from jdarts.language.train.command import main

CONFIG = LanguageTrainConfig(dataset="ptb", seed=1267)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

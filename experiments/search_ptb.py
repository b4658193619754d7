"""Search for a recurrent cell on Penn Treebank with the settings of the paper (section 3.1.2, reference code).

Paper:    55.7 test perplexity of the cell of the second-order search, after training it in full (first order: 57.6).
Hardware: the paper's search takes 6 hours on one GTX 1080 Ti, and is run four times.
Settings: 50 epochs, width 300, batch 256, segments of 35 words (half of that in 5 %), SGD 20 without momentum, clip 0.25,
          Adam 3e-3 for the alphas; weights learn on the training text, alphas on the validation text. 4,810,000 weights.
Data:     python -m jdarts.data prepare ptb --from FOLDER
Command:  python experiments/search_ptb.py               (or: make search-ptb ARGS="--hypergradient reference")
"""

from jdarts.command import run_command
from jdarts.language.search import LanguageSearchConfig
from jdarts.language.search.command import main

CONFIG = LanguageSearchConfig(dataset="ptb", seed=3)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

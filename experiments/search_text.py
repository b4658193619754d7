"""Search for a recurrent cell on the State of the Union addresses since 1900: the whole search in minutes on a CPU.

The text is in the public domain and comes with a package: 886,000 words to train, read once, 10,000 different ones. First
order, for a short time: --hypergradient exact takes two to three times as long. Evaluated with the statistics of the batch: the
running ones, which the paper's search shares among nodes and positions, more than double the perplexity.

1,420 steps are few, so that the alphas learn ten times as fast as the paper's, and without decay: after a third of the steps the
chosen operation leads by 10 % or more on nine of ten edges.

Command:  python experiments/search_text.py              (or: make search-text)
"""

from jdarts.command import run_command
from jdarts.language.search import LanguageSearchConfig
from jdarts.language.search.command import main

CONFIG = LanguageSearchConfig(
    dataset="sotu",
    hypergradient="first_order",
    width=64,
    epochs=1,
    batch_size=32,
    bptt=20,
    alpha_learning_rate=0.03,
    alpha_weight_decay=0.0,
    dropout=0.2,
    dropouth=0.1,
    dropoutx=0.1,
    dropouti=0.1,
    evaluation_statistics="batch",
)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

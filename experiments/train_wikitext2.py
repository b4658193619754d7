"""Train a language model of the cell found on Penn Treebank on WikiText-2 (paper section 3.3, reference code).

Paper:    71.2 validation and 69.6 test perplexity for the cell that was found on Penn Treebank, 33 million weights.
Settings: as on Penn Treebank, but width 700, hidden states dropped at 0.15, weight decay 5e-7. 33,127,878 weights with the
          33,278 words of WikiText-2.
Data:     python -m jdarts.data prepare wikitext2 --from FOLDER
Command:  python experiments/train_wikitext2.py          (or: make train-wikitext2 ARGS="--genotype runs/search-ptb-...")
"""

from jdarts.command import run_command
from jdarts.language.train import LanguageTrainConfig
from jdarts.language.train.command import main

CONFIG = LanguageTrainConfig(dataset="wikitext2", width=700, dropouth=0.15, weight_decay=5e-7, seed=1267)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

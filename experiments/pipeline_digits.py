"""The paper's protocol on scikit-learn's handwritten digits: three searches, selection, three full trainings, in minutes.

Result:   99.35 ± 0.32 % test accuracy of the cell chosen from three searches, trained three times.
Hardware: two cores of an AMD EPYC with AVX-512, 5 min 5 s, searches and compilation included.
Command:  python experiments/pipeline_digits.py           (or: make pipeline DATASET=digits ARGS="--baseline random")
"""

import dataclasses

import search_digits
import train_digits

from jdarts.command import run_command
from jdarts.pipeline import PipelineConfig
from jdarts.pipeline.command import main

CONFIG = PipelineConfig(
    dataset="digits",
    searches=3,
    select_epochs=15,
    # 359 images: with a tenth of them, cells would differ by single images.
    select_fraction=0.25,
    repeats=3,
    # Nine brief trainings take about as long as the three searches with theirs.
    random_cells=9,
    search=dataclasses.replace(search_digits.CONFIG, epochs=12),
    train=dataclasses.replace(train_digits.CONFIG, epochs=60),
)

if __name__ == "__main__":
    run_command(lambda: main(CONFIG, __doc__))

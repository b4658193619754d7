"""Studies: what a search is worth, measured at sizes that two cores carry. `experiments/run_studies.py` runs them.

Each study is one file with a `CONFIG`, a `QUICK` version of it and a `STUDY`. What they share: `rows` measures a table row by row
so that a kill loses one at most, `results` is the file that tables and figures are drawn from, `statistics` has means, spreads
and intervals, `images` gives the image set.
"""

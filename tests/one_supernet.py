"""A selection with the answers of one supernet."""

from jdarts.methods.questions import answered_together


def answered(asking, evaluate):
    """The result of a selection; `evaluate` scores its questions."""
    return answered_together([asking], lambda questions: [evaluate(questions[0])])[0]

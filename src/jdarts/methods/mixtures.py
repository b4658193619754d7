"""How alphas become weights of the operations: one row for each mixture, by the name of the method that introduced it."""

from collections.abc import Mapping

from jdarts.relaxation import SOFTMAX, Mixture

#: A new mixture is a row here. `jdarts.relaxation.Mixture` lists its parts, and the functions of `SOFTMAX` there are an example:
#: `operations_of` and `candidate_mask` give the shapes of tables. tests/test_methods.py checks every row.
MIXTURES: Mapping[str, Mixture] = {"darts": SOFTMAX}

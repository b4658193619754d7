"""How alphas become weights of the operations: one row a mixture, by the name of the method that has brought it."""

from collections.abc import Mapping

from jdarts.relaxation import SOFTMAX, Mixture

#: A new mixture is a row here; `jdarts.relaxation.Mixture` says what it is made of.
MIXTURES: Mapping[str, Mixture] = {"darts": SOFTMAX}

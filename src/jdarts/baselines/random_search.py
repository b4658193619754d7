"""Random search: every proposal is drawn uniformly, whatever the rewards are."""

from jdarts.baselines.architectures import Architecture, Architectures, random_architecture
from jdarts.baselines.baseline import Baseline, Best, nothing_yet


def random_search() -> Baseline:
    """The baseline; its state is the best architecture so far."""
    return Baseline(
        lambda key, architectures: nothing_yet(architectures),
        lambda architectures, state, key: (random_architecture(architectures, key), state),
        _update,
        lambda state: state,
    )


def _update(architectures: Architectures, state: Best, architecture: Architecture, reward: float) -> Best:
    del architectures
    return state.updated(architecture, reward)

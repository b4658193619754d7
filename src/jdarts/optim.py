"""Another name of `jdarts.optimizers`."""

from jdarts.optimizers import alpha_optimizer, cosine, epoch_cosine, recurrent_weight_optimizer, weight_optimizer

__all__ = ["alpha_optimizer", "cosine", "epoch_cosine", "recurrent_weight_optimizer", "weight_optimizer"]

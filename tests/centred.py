"""The quickest layer with running statistics: programs of a search that has it compile in less time than with a batch norm."""

import flax.linen as nn
import jax.numpy as jnp


class Centred(nn.Module):
    """Images as rows `[B, N]`, less their running mean, through which no derivative passes; training moves it."""

    train: bool

    @nn.compact
    def __call__(self, images):
        rows = images.reshape(len(images), -1)
        mean = self.variable("batch_stats", "mean", jnp.zeros, rows.shape[1:], rows.dtype)
        before = mean.value
        if self.train and not self.is_initializing():
            mean.value = 0.9 * before + 0.1 * jnp.mean(rows, axis=0)
        return rows - before

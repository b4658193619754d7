"""Images as the task of the user's own network."""

from typing import Any

import jax
import jax.numpy as jnp

from jdarts import data
from jdarts.choice.losses import cross_entropy
from jdarts.errors import InputError
from jdarts.network_tasks.arrays import ArrayBatches
from jdarts.network_tasks.task import NetworkTask
from jdarts.runs.images import check_augmentation
from jdarts.train.config import TrainConfig
from jdarts.train.images import check_trains_batch


def image_task(config: TrainConfig, dataset: data.ImageDataset) -> NetworkTask:
    """The classification of images, with the augmentation and the parts that the settings name.

    Args:
      config: the settings.
      dataset: the images.

    Raises:
      InputError: images that do not fit the settings.
    """
    batch, mean, std = config.batches.batch_size, dataset.mean, dataset.std
    augmentation = config.augmentation.of(dataset.augmentation)
    check_augmentation(augmentation, dataset.image_shape)
    whole, count = dataset.train, len(dataset.train)
    if config.validation_fraction:
        whole, count = dataset.arranged(fraction=1 - config.validation_fraction, seed=config.batches.split_seed)
    check_trains_batch(dataset.name, count, batch)
    held_out = len(whole) - count

    def batches(images: Any, labels: Any) -> ArrayBatches:
        return ArrayBatches((images, labels), min(batch, len(labels)))

    def augmented(key: jax.Array, read: Any) -> Any:
        return data.augment(key, read[0], augmentation, mean=mean, std=std), read[1]

    def inputs(read: Any) -> jax.Array:
        # The batches of steps are augmented, and normalised with that.
        return read[0] if jnp.issubdtype(read[0].dtype, jnp.floating) else data.normalise(read[0], mean=mean, std=std)

    def loss(logits: jax.Array, read: Any) -> Any:
        if jnp.shape(logits) != (len(read[1]), dataset.num_classes):
            raise InputError(
                f"the network's outputs have shape {jnp.shape(logits)} for {len(read[1])} images; give logits [B, "
                f"{dataset.num_classes}] for the {dataset.num_classes} classes of the data"
            )
        return cross_entropy(logits, read[1])

    loss.__name__ = "cross_entropy"
    return NetworkTask(
        train=batches(*whole[:count]),
        valid=batches(*whole[count:]) if held_out else None,
        test=batches(*dataset.test[:]) if config.test else None,
        loss=loss,
        inputs=inputs,
        augment=augmented,
        name=dataset.name,
    )

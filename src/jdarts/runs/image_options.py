"""Parts of the configurations of runs on images."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jdarts.data import Augmentation
from jdarts.runs.bounds import CELLS, CHANNELS, NOT_NEGATIVE, POSITIVE, SEED, Bounds
from jdarts.runs.images import ImagesOn
from jdarts.runs.names import check_dataset_name
from jdarts.runs.settings import WITHOUT_EFFECT, Folder, FromDataset, Settings, Whole


@dataclasses.dataclass(frozen=True)
class ImageData(Settings):
    """The images of a run.

    Attributes:
      dataset: the images: digits, cifar10, cifar100, fashion_mnist or svhn. For all but digits, first run
        `python -m jdarts.data prepare NAME`. Trainings also take imagenet2012 and imagenette, as tensorflow-datasets
        prepares them.
      data_dir: folder of prepared images (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
    """

    dataset: str = "cifar10"
    data_dir: Annotated[Path | None, Folder, WITHOUT_EFFECT] = None

    def check(self) -> None:
        """As the base class; also refuses a dataset that is not a plain name."""
        super().check()
        check_dataset_name(self.dataset)


@dataclasses.dataclass(frozen=True)
class ImageBatches(Settings):
    """How a run reads its images.

    Attributes:
      batch_size: images of a batch; a step of a search reads one batch for the weights and one for the alphas.
      split_seed: seed of the split into images for the weights and for the alphas, or into training and held-out images;
        each part gets its share of every class (default: the stored order, if it has no pattern, as in CIFAR-10; else 0).
      images_on: where the images are kept. auto: on the device if they take at most a quarter of its memory.
    """

    batch_size: Annotated[int, Bounds(2, 1_000_000)] = 64
    split_seed: Annotated[int | None, SEED, Whole] = None
    images_on: Annotated[ImagesOn, WITHOUT_EFFECT] = "auto"


@dataclasses.dataclass(frozen=True)
class ImageAugmentation(Settings):
    """How training images are augmented.

    Attributes:
      padding: pixels added around an image before a random crop.
      flip: mirror half of the images.
      cutout: side of the square that is cut out of each image; 0 for none.
    """

    padding: Annotated[int | None, Bounds(0, 4096), tyro.conf.arg(metavar="INT"), FromDataset] = None
    flip: Annotated[bool | None, FromDataset] = None
    cutout: Annotated[int, Bounds(0, 8192)] = 0

    def of(self, usual: Augmentation) -> Augmentation:
        """The augmentation `usual` of a data set, with the settings that are given."""
        return usual.changed(padding=self.padding, flip=self.flip, cutout=self.cutout)


@dataclasses.dataclass(frozen=True)
class LearningRate(Settings):
    """The learning rate of the weights, which changes once an epoch.

    Attributes:
      learning_rate: learning rate of the weights in the first epoch.
      learning_rate_min: the value that the cosine of the weights' learning rate would reach after the last epoch.
    """

    learning_rate: Annotated[float, POSITIVE] = 0.025
    learning_rate_min: Annotated[float, NOT_NEGATIVE] = 0.0


@dataclasses.dataclass(frozen=True)
class NetworkSize(Settings):
    """The size of a network of convolutional cells.

    Attributes:
      channels: channels of the first cells; each reduction doubles them.
      cells: number of cells; those at 1/3 and 2/3 of the depth are reduction cells. A search takes 3 or more.
    """

    channels: Annotated[int, CHANNELS] = 16
    cells: Annotated[int, CELLS] = 8

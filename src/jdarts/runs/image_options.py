"""Parts of the configurations of runs on images."""

import dataclasses
import functools
import hashlib
import os
from pathlib import Path
from typing import Annotated, TextIO

import tyro

from jdarts import data
from jdarts.data import Augmentation
from jdarts.data.own.assembling import set_name
from jdarts.data.own.loading import is_folder_of_pictures
from jdarts.data.own.reading import TooLargeError
from jdarts.data.own.resizing import resized_set
from jdarts.data.own.streaming import stream_path
from jdarts.data.streamed.dataset import LARGE, SIDE, LargeDataset, open_large
from jdarts.data.streamed.views import ColorJitter
from jdarts.errors import InputError
from jdarts.nets.stem import NATIVE_SIZE, Stem
from jdarts.runs.bounds import CELLS, CHANNELS, NOT_NEGATIVE, POSITIVE, SEED, Bounds
from jdarts.runs.folder import recorded_data
from jdarts.runs.images import ImagesOn
from jdarts.runs.large_images import PictureReader
from jdarts.runs.names import check_dataset_text, folder_name
from jdarts.runs.settings import WITHOUT_EFFECT, Folder, FromDataset, Settings, Whole
from jdarts.runs.start import show


@dataclasses.dataclass(frozen=True)
class ImageData(Settings):
    """The images of a run.

    Attributes:
      dataset: the images: digits, cifar10, cifar100, fashion_mnist or svhn, for all but digits after `python -m jdarts.data
        prepare NAME`; or any image set that tensorflow-datasets has prepared, such as mnist; or the path of your own: a folder
        with a folder of images for each class, or with train/ and test/ that have such folders, or an .npz file. Searches and
        trainings also take imagenet2012 and imagenette.
      data_dir: folder of prepared images (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      image_size: side in pixels to which images are resized (default: their own, if all have the same; 224 where pictures are
        read one by one).
    """

    dataset: str = "cifar10"
    data_dir: Annotated[Path | None, Folder, WITHOUT_EFFECT] = None
    image_size: Annotated[int | None, Bounds(8, 4096), Whole] = None

    def check(self) -> None:
        """As the base class; also refuses a dataset that is neither a name nor a path."""
        super().check()
        check_dataset_text(self.dataset)

    @property
    def path(self) -> Path | None:
        """The path of the user's own images, or None."""
        return data.own_path(self.dataset, self.data_dir)

    @property
    def name(self) -> str:
        """The set's name. Own images have that of their folder: they may move, and their fingerprint identifies them."""
        return self.dataset if self.path is None else set_name(self.path)

    @property
    def label(self) -> str:
        """The set's name within a folder's name; sets at different paths have different ones."""
        path = self.path
        if path is None:
            return folder_name(self.dataset)
        return f"{folder_name(self.name)}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"

    def streams(self, network: Stem) -> bool:
        """Whether pictures are read one by one: those of the large sets, and of the user's own folder for large crops.

        Args:
          network: stem of the network that reads them.
        """
        folder = network == "imagenet" and self.path is not None and is_folder_of_pictures(self.path)
        return self.dataset in LARGE or folder

    @property
    def side(self) -> int:
        """Side of the crops of large pictures."""
        return NATIVE_SIZE["imagenet"] if self.image_size is None else self.image_size

    def open(
        self, given: data.ImageDataset | None, network: Stem, run: Path, stream: TextIO | None
    ) -> data.ImageDataset | LargeDataset:
        """The images in memory, or pictures to be read one by one; arguments and errors as for `images` and `streams`.

        A folder of pictures that memory does not hold is read picture by picture too. A run that was begun so resumes so, however
        much memory there is.

        Args:
          given: as for `images`.
          network: as for `streams`.
          run: the folder of the run.
          stream: as for `images`.
        """
        if given is None and self.dataset in LARGE:
            return open_large(self.dataset, self.data_dir)
        path = self.path if given is None else None
        if path is None or not is_folder_of_pictures(path):
            return self.images(given, stream)
        open_folder = functools.partial(stream_path, path, lambda text: show([text], stream))
        if self.streams(network):
            return open_folder()
        begun = recorded_data(run)
        if begun is not None and isinstance(begun.get(SIDE), int):
            return open_folder(side=begun[SIDE])
        try:
            return self.images(given, stream)
        except TooLargeError as error:
            if begun is not None:
                raise
            show([f"{self.name}: {error.sizes}: the pictures stay in their files"], stream)
            return open_folder(side=error.side)

    def images(self, given: data.ImageDataset | None, stream: TextIO | None) -> data.ImageDataset:
        """The images in memory.

        Args:
          given: the images, if the caller has them; else they are loaded.
          stream: where sentences about own images are shown; standard output if it is None.

        Raises:
          InputError: they cannot be read.
        """
        if given is not None:
            return resized_set(given, self.image_size)
        return data.load(self.dataset, self.data_dir, image_size=self.image_size, say=lambda text: show([text], stream))


@dataclasses.dataclass(frozen=True)
class LargePictures(Settings):
    """How pictures that are read one by one become images.

    Attributes:
      color_jitter: strength of random changes of brightness, contrast, saturation and hue of pictures that are read one by one:
        those of imagenet2012 and imagenette, and of a folder of your own with --network imagenet. Four numbers, 0 for none.
      workers: number of processes that decode these pictures (default: one for each processor, 16 at the most); 0 decodes them
        in the process of the run.
    """

    color_jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    workers: Annotated[int | None, Bounds(0, 1024), Whole, WITHOUT_EFFECT] = None

    def check(self) -> None:
        """As the base class, and the bounds of each strength."""
        super().check()
        for value, most in zip(self.color_jitter, (1, 1, 1, 0.5)):
            if not 0 <= value <= most:
                raise InputError(
                    f"--color-jitter is {' '.join(map(str, self.color_jitter))}; give numbers from 0 to 1, the last to 0.5"
                )

    def check_use(self, images: ImageData, network: Stem) -> None:
        """Checks that nothing is set without effect.

        Args:
          images: the images.
          network: stem of the network that reads them.

        Raises:
          InputError: colours are to be changed of images that are in memory.
        """
        if any(self.color_jitter) and not images.streams(network):
            raise InputError(
                f"--color-jitter is for {' and '.join(LARGE)} and for your own folder with --network imagenet; leave it out "
                f"with {images.dataset}"
            )

    def reader(self, side: int) -> PictureReader:
        """How pictures become images with a side of so many pixels."""
        workers = min(16, os.cpu_count() or 1) if self.workers is None else self.workers
        return PictureReader(side, ColorJitter(*self.color_jitter), workers)


@dataclasses.dataclass(frozen=True)
class ImageBatches(Settings):
    """How a run reads its images.

    Attributes:
      batch_size: images of a batch; a step of a search reads one batch for the weights and one for the alphas.
      change_batch_size: let the run of the folder resume with another batch_size, from the next epoch on.
      split_seed: seed of the split into images for the weights and for the alphas, or into training and held-out images;
        each part gets its share of every class (default: the stored order, if it has no pattern, as in CIFAR-10; else 0).
      images_on: where the images are kept. auto: on the device if they take at most a quarter of its memory.
    """

    batch_size: Annotated[int, Bounds(2, 1_000_000)] = 64
    change_batch_size: Annotated[bool, WITHOUT_EFFECT] = False
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
      cells: number of cells; those at 1/3 and 2/3 of the depth are reduction cells. A search of both kinds takes 3 or
        more.
    """

    channels: Annotated[int, CHANNELS] = 16
    cells: Annotated[int, CELLS] = 8

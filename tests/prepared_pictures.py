"""A made-up Imagenette: a few pictures of several sizes, written by tensorflow-datasets as array_record."""

import io
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ("tench", "English springer")
TRAIN, TEST = 23, 7


def picture(number, label):
    """The file of a picture: noise of its own, bright on the left for one class and on the right for the other."""
    from PIL import Image

    draws = np.random.RandomState([label, number])
    height, width = int(draws.randint(40, 70)), int(draws.randint(40, 70))
    pixels = draws.randint(0, 100, (height, width, 3)).astype(np.uint8)
    pixels[:, : width // 2] += np.uint8(150 * (label == 0))
    pixels[:, width // 2 :] += np.uint8(150 * (label == 1))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def _example(split, number):
    """A picture of the set, and its label."""
    label = number % 2
    return picture((0 if split == "train" else 1000) + number, label), label


def prepare(
    data_dir,
    *,
    set_name="imagenette",
    config="full-size-v2",
    file_format="array_record",
    splits=None,
    image=None,
    label=None,
    example=_example,
):
    """Writes the set as `tfds build` would, and returns its folder.

    `image` and `label`: settings of these features. `example`: from a split and a number to a picture's file and its label.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import tqdm_utils

    of_image: Any = image or {"shape": (None, None, 3), "encoding_format": "jpeg"}
    of_label: Any = label or {"names": list(CLASSES)}
    counts = {"train": TRAIN, "validation": TEST} if splits is None else splits

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        name = set_name
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(**of_image),
                    "label": tfds.features.ClassLabel(**of_label),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, count) for split, count in counts.items()}

        def _generate_examples(self, split, count):
            for number in range(count):
                content, number_of_class = example(split, number)
                yield number, {"image": io.BytesIO(content), "label": number_of_class}

    tqdm_utils.display_progress_bar(False)
    try:
        builder = Builder(data_dir=data_dir, file_format=file_format)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    finally:
        tqdm_utils.display_progress_bar(True)
    return Path(builder.data_path)

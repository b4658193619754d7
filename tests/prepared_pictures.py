"""A made-up Imagenette: a few pictures of several sizes, written by tensorflow-datasets as array_record."""

import io
from pathlib import Path

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


def prepare(data_dir, *, set_name="imagenette", config="full-size-v2", file_format="array_record", splits=None):
    """Writes the set as `tfds build` would, and returns its folder."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import tqdm_utils

    counts = {"train": TRAIN, "validation": TEST} if splits is None else splits

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        name = set_name
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, count) for split, count in counts.items()}

        def _generate_examples(self, split, count):
            offset = 0 if split == "train" else 1000
            for number in range(count):
                label = number % 2
                yield number, {"image": io.BytesIO(picture(offset + number, label)), "label": label}

    tqdm_utils.display_progress_bar(False)
    try:
        builder = Builder(data_dir=data_dir, file_format=file_format)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    finally:
        tqdm_utils.display_progress_bar(True)
    return Path(builder.data_path)

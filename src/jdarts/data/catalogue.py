"""The image sets that jdarts knows, with the facts that their files do not contain."""

import dataclasses
import difflib

from jdarts.data.augmentation import Augmentation
from jdarts.errors import InputError

DIGITS = "digits"


@dataclasses.dataclass(frozen=True)
class Entry:
    """Facts about one set that tensorflow-datasets (TFDS) can prepare.

    Attributes:
      tfds_name: Its name in TFDS.
      title: Its name in messages.
      counts: Official number of images per split.
      mean: Mean of the training images per channel, on the scale 0..1.
      std: Standard deviation of the training images per channel, on the scale 0..1.
      augmentation: The default augmentation of training images.
      id_digits: Number of digits in an image's id, such as `train_00000`.
    """

    tfds_name: str
    title: str
    counts: dict[str, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation
    id_digits: int = 5


CATALOGUE: dict[str, Entry] = {
    # Mean and std as in the DARTS reference implementation, with all digits.
    "cifar10": Entry(
        tfds_name="cifar10",
        title="CIFAR-10",
        counts={"train": 50_000, "test": 10_000},
        mean=(0.49139968, 0.48215827, 0.44653124),
        std=(0.24703233, 0.24348505, 0.26158768),
        augmentation=Augmentation(padding=4, flip=True),
    ),
    "cifar100": Entry(
        tfds_name="cifar100",
        title="CIFAR-100",
        counts={"train": 50_000, "test": 10_000},
        mean=(0.50707516, 0.48654887, 0.44091784),
        std=(0.26733429, 0.25643846, 0.27615047),
        augmentation=Augmentation(padding=4, flip=True),
    ),
    # Crop and flip as in Zhong et al. 2017 (Random Erasing): a mirrored garment is still the garment.
    "fashion_mnist": Entry(
        tfds_name="fashion_mnist",
        title="Fashion-MNIST",
        counts={"train": 60_000, "test": 10_000},
        mean=(0.28604060,),
        std=(0.35302424,),
        augmentation=Augmentation(padding=4, flip=True),
    ),
    # No flip: a mirrored house number is another sign, or none.
    "svhn": Entry(
        tfds_name="svhn_cropped",
        title="SVHN",
        counts={"train": 73_257, "test": 26_032},
        mean=(0.43768210, 0.44376970, 0.47280442),
        std=(0.19803012, 0.20101562, 0.19703614),
        augmentation=Augmentation(padding=4),
        id_digits=6,
    ),
}

NAMES: tuple[str, ...] = (DIGITS, *CATALOGUE)


def check_name(name: str, names: tuple[str, ...]) -> None:
    """Raises an `InputError` that suggests the nearest name and lists all, unless `name` is one of them."""
    if name in names:
        return
    near = difflib.get_close_matches(name[:80].lower().replace("-", ""), names, n=1)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(f"there is no image set {name[:80]!r}{guess} The names are {', '.join(names)}")

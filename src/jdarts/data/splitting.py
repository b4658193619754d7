"""The split of a training set in two: stratified by class, in a random order that follows from a seed."""

import numbers
from collections.abc import Sequence

import numpy as np

from jdarts.errors import InputError


def stratified_order(labels: np.ndarray, first: int, seed: int) -> np.ndarray:
    """A random order whose first part has its share of each class.

    Args:
      labels: int32 `[N]`.
      first: Size of the first part.
      seed: Seed of the order, which is the same in every version of NumPy.

    Returns:
      A permutation of `0..N-1`. Each class with two or more images is in both parts, if the parts are large enough.
    """
    order = stable_permutation(len(labels), seed)
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, counts = np.unique(labels, return_counts=True)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    is_first = np.empty(len(labels), bool)
    is_first[by_class] = rank < np.repeat(_shares(counts, first), counts)
    return np.concatenate([order[is_first[order]], order[~is_first[order]]])


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """Images of each class in the first part: integers near equal shares, with the sum `total`."""
    exact = counts * (total / counts.sum())
    least, most = np.minimum(counts - 1, 1), np.maximum(counts - 1, 1)
    if not least.sum() <= total <= most.sum():
        least, most = np.zeros_like(counts), counts
    shares = np.clip(np.floor(exact).astype(int), least, most)
    while missing := total - shares.sum():
        # Add or remove one where the share is furthest off and there is room.
        step = np.sign(missing)
        room = np.flatnonzero(shares < most if step > 0 else shares > least)
        furthest = room[np.argsort(step * (shares - exact)[room], kind="stable")]
        shares[furthest[: abs(missing)]] += step
    return shares


def first_size(count: int, fraction: float) -> int:
    """⌊fraction · count⌋.

    Raises:
      InputError: A part would be empty.
    """
    first = int(fraction * count) if isinstance(fraction, numbers.Real) and 0 < fraction < 1 else 0
    if not 0 < first < count:
        raise InputError(
            f"fraction {fraction!r} of {count} images leaves a part empty; "
            "give a fraction between 0 and 1 that leaves images on both sides"
        )
    return first


def disjoint_parts(
    labels: np.ndarray | None,
    count: int,
    *,
    fraction: float,
    second: float | None,
    seed: int | None,
    names: Sequence[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of two parts of a training set, which may leave some images out.

    Args:
      labels: int32 `[N]`; None if they are not known, and the parts are then not stratified.
      count: `N`.
      fraction: share of the first part, strictly between 0 and 1.
      second: share of the second part; None for all other images.
      seed: seed of the choice; None for the stored order.
      names: one name per label, for messages.

    Raises:
      InputError: a part would be empty, or would lack a class that the other part has.
    """
    first = first_size(count, fraction)
    order = _order(labels, count, first, seed)
    rows, rest = order[:first], order[first:]
    if second is not None:
        size = min(int(second * count), len(rest))
        if size < 1:
            raise InputError(f"fraction {second!r} of {count} images leaves a part empty; give a larger fraction")
        rest = rest[_order(None if labels is None else labels[rest], len(rest), size, seed)][:size]
    if labels is not None:
        check_classes(labels[rows], labels[rest], seed, names)
    return rows, rest


def _order(labels: np.ndarray | None, count: int, first: int, seed: int | None) -> np.ndarray:
    if seed is None:
        return np.arange(count)
    return stable_permutation(count, seed) if labels is None else stratified_order(labels, first, seed)


def check_classes(first: np.ndarray, second: np.ndarray, seed: int | None, names: Sequence[str] = ()) -> None:
    """Checks that both parts of a split have the same classes.

    Args:
      first: int32 `[N]`, labels of the first part.
      second: int32 `[M]`, labels of the second part.
      seed: the seed of the split; None if it keeps the order.
      names: one name per label, for the message.

    Raises:
      InputError: One part lacks a class that the other has.
    """
    for part, labels, others in (("first", first, second), ("second", second, first)):
        missing: list[int] = np.setdiff1d(others, labels).tolist()
        lacking = [names[label] if names else str(label) for label in missing]
        if not lacking:
            continue
        shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        mend = (
            "give a split seed, which shuffles the images"
            if seed is None
            else "give each class two images or more, and parts that are large enough for all classes"
        )
        raise InputError(
            f"the {part} part of the training images, {len(labels):,} of {len(first) + len(second):,}, has no image of "
            f"class {shown}, and the other part has; {mend}"
        )


def stable_permutation(size: int, seed: int) -> np.ndarray:
    """A permutation of `0..size-1` that is the same in every version of NumPy.

    Raises:
      InputError: The seed is not an integer of 32 bits.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**32:
        raise InputError(f"the seed is {seed!r}; give a whole number from 0 to 2^32 − 1")
    # NumPy guarantees stable results for RandomState, not for default_rng.
    return np.random.RandomState(seed).permutation(size)

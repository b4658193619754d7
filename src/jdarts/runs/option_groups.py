"""The settings of a configuration as options of a command line, in groups with titles."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import tyro

from jdarts.runs.settings import Configuration, Settings, entries, flat

_Config = TypeVar("_Config", bound=Configuration)


class Group(NamedTuple):
    """Options that the help text shows together.

    Attributes:
      title: of the group; tyro adds the word "options".
      members: names of settings, and of parts for all of their settings, in the order of the help text.
      remark: one line below the title.
    """

    title: str
    members: tuple[str, ...]
    remark: str = ""


#: The groups of all configurations, in the order of the help text. A setting of none of them is in the first box.
GROUPS = (
    Group(
        "protocol",
        (
            "searches",
            "select_epochs",
            "select_fraction",
            "select_by",
            "repeats",
            "baseline",
            "random_cells",
            "budgets",
        ),
    ),
    Group("cell", ("genotype",)),
    Group(
        "method",
        ("method", "hypergradient", "neumann_terms", "neumann_at"),
        "The defaults below are those of --method.",
    ),
    Group("alpha", ("methods",), "How alphas act and move: switches that --method sets, and that combine."),
    Group("supernet", ("supernet",), "What the supernet does beside DARTS's: more such switches."),
    Group("stage", ("staging",), "A search in several networks, one after the other."),
    Group(
        "guard and selection",
        ("guards", "stop", "select", "edges_per_node", "decision"),
        "What a search measures about itself, when it ends, and how cells are derived from it.",
    ),
    Group(
        "budget",
        ("budget",),
        "Bounds on the network that is trained afterwards, in derivation and by a penalty that grows.",
    ),
    Group(
        "data", ("data", "text", "train_fraction", "alpha_fraction", "validation_fraction", "batches", "augmentation")
    ),
    Group("large picture", ("image_size", "color_jitter", "workers")),
    Group(
        "network",
        (
            "size",
            "width",
            "space",
            "nodes",
            "output_nodes",
            "cell_kinds",
            "operations",
            "network",
            "auxiliary",
            "auxiliary_weight",
            "precision",
            "norm",
            "evaluation_statistics",
        ),
    ),
    Group("regularisation", ("drop_path", "label_smoothing", "dropped", "penalties")),
    Group(
        "optimisation",
        (
            "learning_rate",
            "rate",
            "schedule",
            "learning_rate_decay",
            "weights",
            "alphas",
            "ema_decay",
            "patience",
            "rollbacks",
        ),
    ),
    Group("run", ("run", "seeds", "loop", "test", "test_batch_size")),
    Group("device", ("parallelism", "remat", "microbatches", "calls", "processes")),
)


def parse(
    defaults: _Config, *, prog: str, description: str | None = None, arguments: Sequence[str] | None = None
) -> _Config:
    """The configuration that a command line describes. Wrong options and `--help` end the program.

    Args:
      defaults: the values of options that are not given.
      prog: the command as the help text shows it.
      description: first lines of the help text; by default those of the configuration's class.
      arguments: the options; by default those of the program.
    """
    boxes = list(_boxes(defaults))
    filled: Any = tyro.cli(
        _form(boxes),
        prog=prog,
        description=_Text.of(type(defaults)).summary if description is None else description,
        args=arguments,
    )
    changes: dict[str, dict[str, Any]] = {}
    for number, box in enumerate(boxes):
        changes.setdefault(box.nested, {}).update(vars(getattr(filled, f"group{number}")))
    own = changes.pop("", {})
    nested = {name: dataclasses.replace(getattr(defaults, name), **values) for name, values in changes.items()}
    return dataclasses.replace(defaults, **own, **nested)  # pyright: ignore[reportArgumentType]


def form_of(defaults: Configuration) -> type:
    """The dataclass that tyro parses for a configuration."""
    return _form(list(_boxes(defaults)))


def _form(boxes: "Sequence[_Box]") -> type:
    return dataclasses.make_dataclass("Form", [box.field(f"group{number}") for number, box in enumerate(boxes)])


class _Box(NamedTuple):
    """A group of options of one configuration.

    Attributes:
      nested: the field of the configuration that holds it; empty for the command's own.
      group: the group.
      fields: `(name, annotated type, default)` of its settings.
    """

    nested: str
    group: Group
    fields: list[tuple[str, Any, Any]]

    def field(self, name: str) -> tuple[str, Any, Any]:
        """`(name, annotated type, default)` of a dataclass of its settings; tyro makes the title of the annotated name."""
        kind = dataclasses.make_dataclass("Box", self.fields, frozen=True)
        title = ": ".join(filter(None, (self.nested, self.group.title)))
        shown = tyro.conf.arg(name=title, help=self.group.remark)
        return name, Annotated[kind, shown, tyro.conf.OmitArgPrefixes], kind()  # pyright: ignore[reportInvalidTypeForm]


def _boxes(config: Configuration, nested: str = "") -> Iterator[_Box]:
    """The groups of a configuration that have options, with those of the configurations in it at the end."""
    left, known = _options(config, nested), entries(type(config))
    for group in (*GROUPS, Group("", tuple(known))):
        names = [name for member in group.members for name in known if member in (name, known[name].part)]
        fields = [left.pop(name) for name in names if name in left]
        if fields:
            yield _Box(nested, group, fields)
    for name, value in vars(config).items():
        if isinstance(value, Configuration):
            yield from _boxes(value, name)


def _options(config: Configuration, nested: str) -> dict[str, tuple[str, Any, Any]]:
    """`(name, annotated type, default)` of the settings that are options, by name."""
    texts = dict(_Text.of(type(config)).settings)
    for value in vars(config).values():
        if isinstance(value, Settings) and not isinstance(value, Configuration):
            texts |= _Text.of(type(value)).settings
    options: dict[str, tuple[str, Any, Any]] = {}
    for name, value in flat(config).items():
        entry = entries(type(config))[name]
        if tyro.conf.Suppress not in entry.marks:
            # A remark in place of the default, such as "off", is for None and for empty lists.
            hint = None if value in (None, ()) else _as_default
            shown = ".".join(filter(None, (nested, name)))
            words = tyro.conf.arg(name=shown, help=texts[name], help_behavior_hint=hint)
            options[name] = name, Annotated[(entry.kind, *entry.marks, words)], value
    return options


def _as_default(value: str) -> str:
    return f"(default: {value})"


class _Text(NamedTuple):
    """The docstring of a class of settings.

    Attributes:
      summary: what stands before the settings.
      settings: the description of each setting, by name.
    """

    summary: str
    settings: Mapping[str, str]

    @classmethod
    def of(cls, kind: type[Settings]) -> "_Text":
        """The docstrings of a class and of the classes that it extends."""
        summary, settings = "", {}
        for each in reversed(kind.__mro__):
            head, _, listed = inspect.cleandoc(each.__dict__.get("__doc__") or "").partition("\nAttributes:\n")
            summary = head
            for name, text in re.findall(r"^  (\w+): (.*(?:\n    .*)*)", listed, flags=re.M):
                settings[name] = " ".join(text.split())
        return cls(summary, settings)

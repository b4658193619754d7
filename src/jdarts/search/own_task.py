"""The task of a search in the user's own network, and its result."""

import dataclasses
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jdarts import data
from jdarts.choice.deciding import Chosen, decide
from jdarts.choice.tables import with_tables
from jdarts.errors import InputError
from jdarts.files.json_data import Fields
from jdarts.genotype import AnyGenotype
from jdarts.methods.method import method_fields
from jdarts.methods.presets import DARTS, preset
from jdarts.methods.selection import ARGMAX, PERTURBATION, SHARING
from jdarts.methods.stopping import NO_RULE, RANKING
from jdarts.methods.verdict import DECIDED_LEAD
from jdarts.nets.counts import count_weights
from jdarts.network_tasks.calling import class_name
from jdarts.network_tasks.loading import chosen_from_json
from jdarts.network_tasks.metrics import metrics_from, metrics_of, metrics_text
from jdarts.network_tasks.settings import check_unread
from jdarts.relaxation import Alphas, alphas_from_json, alphas_on_host, alphas_to_json, host_weights
from jdarts.rich_forms import text_html
from jdarts.runs.bounds import option
from jdarts.runs.controls import numbers_of_controls
from jdarts.runs.devices import Devices
from jdarts.runs.folder import RunFolder
from jdarts.runs.programs import ByIdentity
from jdarts.runs.settings import flat
from jdarts.runs.summaries import Summary, read_summary
from jdarts.runs.task import End
from jdarts.search.building import search_task
from jdarts.search.config import SearchConfig
from jdarts.search.own_network import OwnNetwork, image_network
from jdarts.search.program import SearchState
from jdarts.search.task import SearchTask

#: Options of the cells and of the supernet around them.
OF_CELLS = (
    "space",
    "nodes",
    "operations",
    "edges_per_node",
    "select",
    "channels",
    "cells",
    "network",
    "precision",
    "remat",
)


class NetworkSearchResult(NamedTuple):
    """The result of a search in your own network.

    Attributes:
      choices: what is chosen, as `jdarts.decide` returns it.
      alphas: at the end, `{name of the choice: [E, O]}`.
      valid_accuracy: of the network with all candidates on the alphas' data, without augmentation, 0 to 1; None for a task
        without that metric.
      folder: the run's folder.
      text: how far each choice has decided, a line each.
      genotype: None; the network has no cells.
      metrics: loss and metrics on the same data, by name.
      budget: how the decided network stands against its bounds, by measure: `most`, `cost`, and the cost `without_bounds`.
    """

    choices: dict[str, Chosen]
    alphas: Alphas
    valid_accuracy: float | None
    folder: Path
    text: tuple[str, ...] = ()
    genotype: None = None
    metrics: Mapping[str, float] = MappingProxyType({})
    budget: Mapping[str, Mapping[str, int]] = MappingProxyType({})

    def _repr_html_(self) -> str:
        return text_html("\n".join(self.lines()), self.genotype)

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        accuracy = self.valid_accuracy
        of_network = "of the network with all candidates"
        return [
            f"validation {metrics_text(self.metrics)}, {of_network}"
            if accuracy is None
            else f"validation accuracy {of_network}: {100 * accuracy:.2f} %",
            *self.text,
            f"curves: {self.folder}/curves.png; choices: {self.folder}/summary.json",
        ]

    def to_json(self) -> dict[str, Any]:
        """Choices, metrics, alphas and text."""
        fields = {"choices": self.choices, "valid_accuracy": self.valid_accuracy, "alphas": alphas_to_json(self.alphas)}
        fields |= {"text": list(self.text), "metrics": dict(self.metrics)}
        return fields | ({"budget": dict(self.budget)} if self.budget else {})


class NetworkSeedsSummary(NamedTuple):
    """The results of several searches in one network with different seeds.

    Attributes:
      found: one summary for each seed, in order.
    """

    found: tuple[Summary[NetworkSearchResult], ...]

    @property
    def result(self) -> tuple[NetworkSearchResult, ...]:
        """The results, in the order of the seeds."""
        return tuple(each.result for each in self.found)

    def lines(self) -> list[str]:
        """The results as text: each search, the spread of its numbers, and what the searches choose."""
        results = self.result
        lines = [f"{each.folder}: {metrics_text(each.metrics)}" for each in results if each.metrics]
        for name in results[0].metrics:
            values = [each.metrics[name] for each in results if name in each.metrics]
            lines.append(
                f"{name}: {min(values):.4g} to {max(values):.4g}, mean {np.mean(values):.4g}, standard deviation "
                f"{np.std(values):.2g}"
            )
        for choice in results[0].choices:
            counts = Counter(_words(each.choices[choice]) for each in results)
            listed = ", ".join(f"{words} {count}" for words, count in counts.most_common())
            lines.append(f"{choice}: {listed}")
        folders = " ".join(str(each.folder) for each in results)
        return [*lines, f"side by side: jdarts report {folders}"]


def read(folder: RunFolder) -> Summary[NetworkSearchResult]:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def parse(fields: Fields, _: Any) -> NetworkSearchResult:
        choices = fields.get("choices")
        if not isinstance(choices, dict):
            raise ValueError("choices is no object")
        return NetworkSearchResult(
            {name: chosen_from_json(chosen) for name, chosen in choices.items()},
            alphas_from_json(fields.get("alphas"), np.float32),
            fields.optional(fields.number, "valid_accuracy"),
            folder.path,
            tuple(fields.texts("text")),
            metrics=metrics_from(fields, "metrics"),
            budget=fields.get("budget") if fields.has("budget") else {},
        )

    return read_summary(folder, None, parse)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSearchTask(SearchTask):
    """A search in the user's own network.

    Attributes:
      own: the network.
    """

    own: OwnNetwork

    def epoch_genotype(self, state: SearchState) -> None:
        """None: there are no cells."""

    def choices(self, state: SearchState) -> dict[str, Chosen]:
        """What the present alphas choose."""
        alphas = with_tables(self.own.choices, alphas_on_host(state.bilevel.alphas))
        return decide(alphas, mixture=self.method.mixture, limits=() if self.budget is None else self.budget.limits)

    def _leads(self, state: SearchState) -> dict[str, tuple[float, float]]:
        """By choice the margin of what is kept over the next, and the same as a share of the next; the least of the rows."""
        weights, _ = host_weights(self.method.mixture, state.bilevel.alphas, self.own.space)
        found = {}
        for name, each in self.own.choices.items():
            keep, rows = each.spec.keep, -np.sort(-weights[name], axis=-1)
            if keep < rows.shape[-1]:
                margins = rows[:, keep - 1] - rows[:, keep]
                found[name] = float(margins.min()), float((margins / np.maximum(rows[:, keep], 1e-30)).min())
        return found

    def judged(self, state: SearchState, genotype: None, before: AnyGenotype | None) -> Mapping[str, float]:
        """The median margin of the choices, and the share of those that are decided."""
        del genotype, before
        numbers = dict(numbers_of_controls(state.controls))
        if self.budget is not None:
            numbers |= self.budget.numbers(self.choices(state), alphas_on_host(state.bilevel.alphas), state.multipliers)
        leads = list(self._leads(state).values())
        if not leads:
            return numbers
        decided = np.mean([lead >= DECIDED_LEAD for _, lead in leads])
        margins = {"guards/margin": float(np.median([margin for margin, _ in leads])), "guards/decided": float(decided)}
        return {**margins, **numbers}

    def record(self, state: SearchState) -> dict[str, Any]:
        """The record of a checkpoint: choices, alphas and method."""
        return {
            "choices": self.choices(state),
            "alphas": alphas_to_json(state.bilevel.alphas),
            **method_fields(self.method),
            **({} if self.budget is None else {"budget": dict(self.budget.content)}),
        }

    def facts(self, state: SearchState, genotype: None) -> dict[str, Any]:
        """Alphas, and the ranking of the candidates of each choice."""
        del genotype
        alphas = alphas_on_host(state.bilevel.alphas)
        strengths = self.method.mixture.strengths(alphas, self.own.space)
        ranking = {
            name: np.argsort(-np.asarray(rows), axis=-1, kind="stable").tolist() for name, rows in strengths.items()
        }
        return {"alphas": alphas_to_json(alphas), RANKING: ranking}

    def result(self, state: SearchState, numbers: Mapping[str, Any], end: End) -> Any:
        """Choices and alphas at the end."""
        choices, leads = self.choices(state), self._leads(state)
        few = [name for name, (_, lead) in leads.items() if lead < DECIDED_LEAD]
        said = f"undecided on {len(few)} of {len(choices)} choices" if few else f"decided on all {len(choices)} choices"
        text = [f"{said}: what is chosen leads by less than {DECIDED_LEAD:.0%}" if few else said]
        text += [f"{name}: {_words(chosen)}{_margin_words(leads.get(name))}" for name, chosen in choices.items()]
        alphas = alphas_on_host(state.bilevel.alphas)
        metrics, accounts = metrics_of(numbers, "evaluation"), {}
        if self.budget is not None:
            stands = self.budget.result(choices, alphas)
            text, accounts = [*stands["text"], *text], stands["budget"]
        return NetworkSearchResult(
            choices, alphas, metrics.get("accuracy"), end.folder, tuple(text), metrics=metrics, budget=accounts
        )


def _words(chosen: Chosen) -> str:
    return chosen if isinstance(chosen, str) else ", ".join(map(_words, chosen))


def _margin_words(lead: tuple[float, float] | None) -> str:
    return "" if lead is None else f" (margin {lead[0]:.3f})"


#: Options of methods that act on cells or on a supernet of them, with what each does there.
_OF_METHODS: Mapping[str, str] = {
    "stages": "searches in stages, which change cells",
    "partial_channels": "splits the channels of edges",
    "edge_weights": "weighs edges of cells",
    "auxiliary_skip": "adds a skip connection to edges of cells",
    "auxiliary_decay": "takes it away again",
    "skip_dropout": "drops features of the skip connections of cells",
    "search_drop_path": "drops edges of cells",
    "correlation": "makes the cells of a supernet agree",
    "freeze_below": "stops operations of a supernet",
}

#: The stopping rules that read no cells.
_STOPPING = ("adaptive_decay", "eigenvalue", "stable_ranking")


def check_own(config: SearchConfig) -> None:
    """Refuses what is for cells alone.

    Raises:
      InputError: such an option is given.
    """
    # A method's own cells and selection have no effect.
    usual = SearchConfig(method=config.method)
    check_unread(config, usual, OF_CELLS, "a network of your own has no such cells")
    if (deciding := preset(config.method).get("select", ARGMAX)) in (PERTURBATION, *SHARING):
        raise InputError(
            f"--method {config.method} decides by --select {deciding}, which scores cells of a supernet, and the network is "
            "your own; give another method"
        )
    given, plain = flat(config), flat(SearchConfig())
    changed = [name for name in _OF_METHODS if given[name] != plain[name]]
    if changed:
        reasons = ", and ".join(f"{option(name)} {_OF_METHODS[name]}" for name in changed)
        neutral = ", ".join(f"{name}={plain[name]!r}" for name in changed)
        left_out = f"--method {config.method}: " if config.method != DARTS else ""
        raise InputError(f"{left_out}{reasons}, and the network is your own; give {neutral}")
    sizes = ("budget_network", "budget_channels", "budget_cells")
    check_unread(config, usual, sizes, "the bounds are those of the network that your own becomes")
    rule = (config.stop or NO_RULE).partition(":")[0]
    if rule not in (NO_RULE, *_STOPPING):
        raise InputError(
            f"--stop {config.stop} counts operations of cells, and the network is your own; give {', '.join(_STOPPING)}, or none"
        )


def network_task(
    config: SearchConfig, network: object, dataset: data.ImageDataset, devices: Devices
) -> NetworkSearchTask:
    """Builds the task of a search in the user's own network.

    Args:
      config: the settings.
      network: a network with choices: images `[B, H, W, C]` to logits.
      dataset: the images.
      devices: those that share a batch.

    Raises:
      InputError: images or a network that do not fit the settings.
    """
    own = network_on(config, network, dataset)
    base = search_task(config, dataset, devices, own)
    fields = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    weights = count_weights(base.template.bilevel.weights)
    fields |= {
        "fingerprint": fingerprint_of(own, dataset),
        "key": (base.key, ByIdentity(network)),
        "description": (
            f"searching in {class_name(own.network)} on {config.data.dataset}: {len(own.choices)} choices, {weights:,} weights, "
            f"{len(base.images.train):,} images for the weights, {len(base.images.valid):,} for the alphas; hypergradient "
            f"{config.hypergradient}"
        ),
    }
    return NetworkSearchTask(**fields, own=own)


def network_on(config: SearchConfig, network: object, dataset: data.ImageDataset) -> OwnNetwork:
    """The network as the search on a set sees it; arguments and errors as for `network_task`."""
    skips = config.search_method().mixture.skips_unused
    return image_network(network, dataset.image_shape, dataset.num_classes, skips_unused=skips)


def fingerprint_of(own: OwnNetwork, dataset: data.ImageDataset) -> dict[str, Any]:
    """What identifies the data and the network of a run."""
    return {**dataset.fingerprint, "network": own.identity}

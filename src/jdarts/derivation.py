"""From alphas, or the record of a checkpoint, to a genotype: the strongest operations of the strongest edges (section 2.4)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jdarts.budget.bounded import bounded_cells
from jdarts.budget.cost import Limit, limits_of
from jdarts.errors import InputError, NoCellsError, shortened, shown
from jdarts.genotype import AnyGenotype, Cell, Genotype, RecurrentGenotype, genotype_of_cells
from jdarts.methods.mixtures import mixture_of
from jdarts.methods.perturbation_selection import Decisions, mixture_of_decisions
from jdarts.methods.selection import ARGMAX, reads_decisions, selection_by_name, strongest
from jdarts.operations import ACTIVATIONS, NONE, OPERATIONS
from jdarts.relaxation import RECURRENT, SOFTMAX, Alphas, Mixture, alphas_from_json, host_weights
from jdarts.space import CellKind, RecurrentSpace, SearchSpace


def derive_genotype(
    alphas: Alphas,
    space: SearchSpace,
    *,
    edges_per_node: int = 2,
    mixture: Mixture = SOFTMAX,
    select: str = ARGMAX,
    decisions: Decisions | None = None,
    limits: Sequence[Limit] = (),
) -> Genotype:
    """The discrete cells that a search has found.

    By default each edge takes the softmax over all its operations, `none` included, and is as strong as its strongest operation
    other than `none`. Each node keeps its strongest edges, in descending order; the earlier one among equals.

    Args:
      alphas: `{'normal': [E, O], 'reduce': [E, O]}`, architecture parameters before the softmax.
      space: the search space that they belong to.
      edges_per_node: edges kept for each node, or all if a node has fewer. The paper keeps 2 in convolutional cells.
      mixture: the mixture of the alphas; it defines how strong an operation is.
      select: the rule that chooses edges and operations, a name of `jdarts.methods.selection.SELECTIONS`, perhaps with a
        value as in `skip_limit:3`.
      decisions: what a selection has decided on the way of the search, for a rule that reads it.
      limits: bounds on the cost of the cells' network, which `argmax` keeps: the sum of strengths is the largest within them.

    Returns:
      The genotype.

    Raises:
      InputError: alphas of another shape or not finite, fewer than one edge per node, an unknown rule, one without the
        decisions that it reads, one that leaves a cell without edges, or one beside bounds; or no cells keep the bounds.
    """
    if edges_per_node < 1:
        raise InputError(f"{edges_per_node} edges per node; give 1 or more (the paper keeps 2)")
    rule, of_weights = selection_by_name(select)
    tables = mixture.strengths(alphas, space)
    if of_weights:
        tables = host_weights(mixture, alphas, space)[0]
    if reads_decisions(select):
        if decisions is None:
            raise InputError(
                f"--select {select} reads the decisions of a search that had this option, and this one had another; give another "
                f"rule, such as {ARGMAX}"
            )
        if decisions.undecided and not mixture.has_alphas:
            raise InputError(
                "the search has not chosen its cells yet; it does so after its last epoch, so resume it to the end"
            )
        tables = mixture_of_decisions(tables, decisions)
    if limits:
        if select != ARGMAX:
            raise InputError(
                f"--select {select} does not keep bounds on the network; give {ARGMAX}, or leave the bounds out"
            )
        return bounded_cells(tables, space, edges_per_node, limits)
    return rule(tables, space, edges_per_node)


def derive_or_argmax(alphas: Alphas, space: SearchSpace, *, select: str, **settings: Any) -> tuple[Genotype, str]:
    """The cells of a rule; where it leaves none, as `threshold` early in a search, those of `argmax`.

    Args:
      alphas: as for `derive_genotype`.
      space: as for `derive_genotype`.
      select: as for `derive_genotype`.
      **settings: as for `derive_genotype`.

    Returns:
      The genotype, and why it is that of `argmax`; an empty text where it is that of the rule.

    Raises:
      InputError: as for `derive_genotype`.
    """
    try:
        return derive_genotype(alphas, space, select=select, **settings), ""
    except NoCellsError as error:
        cells = derive_genotype(alphas, space, select=ARGMAX, **settings)
        return cells, f"the cells are those of --select {ARGMAX}; by --select {select} {error}"


def derive_recurrent_genotype(
    alphas: Alphas, space: RecurrentSpace, *, mixture: Mixture = SOFTMAX
) -> RecurrentGenotype:
    """The discrete recurrent cell that a search has found: each node keeps its strongest edge, as in `derive_genotype`.

    Args:
      alphas: `[E, O]`, architecture parameters before the softmax.
      space: the search space that they belong to.
      mixture: as for `derive_genotype`.

    Returns:
      The genotype.

    Raises:
      InputError: alphas of another shape or not finite.
    """
    table = mixture.strengths(alphas, space)[RECURRENT]
    return RecurrentGenotype(strongest(table, space, RECURRENT, 1), space.concat)


def sample_genotype(space: SearchSpace, seed: int, *, edges_per_node: int = 2) -> Genotype:
    """Draws a pair of cells such as a search in this space might derive: the baseline of every search (paper section 3.3).

    Every node keeps `edges_per_node` of its edges, or all if it has fewer; every kept edge carries one of its operations
    other than `none`. Both are drawn uniformly and without regard to the other edges.

    Args:
      space: the search space.
      seed: the same seed gives the same cells, in every version of numpy.
      edges_per_node: edges kept for each node; the paper keeps 2 in convolutional cells.

    Raises:
      InputError: fewer than one edge per node, or a seed of more than 32 bits.
    """
    if edges_per_node < 1:
        raise InputError(f"{edges_per_node} edges per node; give 1 or more (the paper keeps 2)")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed is {seed}; give a number from 0 to below 2^32")
    # NumPy guarantees the numbers of RandomState in all versions, but not those of default_rng.
    draws = np.random.RandomState(seed)
    cells: dict[CellKind, Cell] = {kind: _drawn(draws, space, kind, edges_per_node) for kind in space.kinds}
    return genotype_of_cells(cells, space.concat, edges_per_node)


def genotype_of(
    record: Any,
    *,
    edges_per_node: int | None = None,
    select: str | None = None,
    limits: Sequence[Limit] | None = None,
) -> AnyGenotype:
    """The genotype of a checkpoint's record.

    Args:
      record: `Checkpoint.record` of a search: the fields of its space under `space`, the alphas under `alphas`, its
        mixture unless it is that of DARTS, and for convolutional cells `edges_per_node`, the rule of selection under
        `select` unless it is `argmax`, and its bounds under `budget` if it has some.
      edges_per_node: edges to keep for each node; by default as in the search.
      select: as for `derive_genotype`; by default as in the search, where `derive_or_argmax` has derived the cells.
      limits: as for `derive_genotype`; by default as in the search.

    Raises:
      InputError: the record is not that of a search, more than one edge for each node of a recurrent cell, or a rule or
        bounds for such a cell.
    """
    genotype, _ = genotype_with_remark(record, edges_per_node=edges_per_node, select=select, limits=limits)
    return genotype


def genotype_with_remark(
    record: Any,
    *,
    edges_per_node: int | None = None,
    select: str | None = None,
    limits: Sequence[Limit] | None = None,
) -> tuple[AnyGenotype, str]:
    """The genotype of a checkpoint's record, and why it is not that of the search's rule, as `derive_or_argmax` says it.

    Arguments and errors are those of `genotype_of`.
    """
    space = space_of(record)
    recurrent = isinstance(space, RecurrentSpace)
    count: Any = 1 if recurrent else record.get("edges_per_node")
    if "alphas" not in record or type(count) is not int:
        raise InputError("the checkpoint is not that of a search for cells: its alphas or edges per node are missing")
    count = count if edges_per_node is None else edges_per_node
    alphas, mixture = alphas_from_json(record["alphas"]), mixture_of(record)
    if isinstance(space, SearchSpace):
        rule: Any = record.get("select", ARGMAX) if select is None else select
        decisions = Decisions.from_json(record["decisions"], space) if "decisions" in record else None
        settings: dict[str, Any] = {
            "edges_per_node": count,
            "mixture": mixture,
            "select": rule,
            "decisions": decisions,
            "limits": limits_of(record, space) if limits is None else limits,
        }
        if select is not None:
            return derive_genotype(alphas, space, **settings), ""
        return derive_or_argmax(alphas, space, **settings)
    if select not in (None, ARGMAX):
        raise InputError(
            f"--select is {shown(select)}; the edges of recurrent cells are chosen by {ARGMAX}, leave it out"
        )
    if limits:
        raise InputError("all activations of a recurrent cell have the same weights; leave the bounds out")
    if count != 1:
        raise InputError(f"{count} edges per node; nodes of a recurrent cell have 1, leave --edges-per-node out")
    return derive_recurrent_genotype(alphas, space, mixture=mixture), ""


def space_of(record: Any) -> SearchSpace | RecurrentSpace:
    """The space of the search of a checkpoint's record.

    Raises:
      InputError: the record is not that of a search.
    """
    fields = record.get("space") if isinstance(record, dict) else None
    if isinstance(record, dict) and "choices" in record:
        raise InputError(
            "the checkpoint is that of a search in a network of your own, without cells; give its folder to jdarts.load_search, "
            "and what that returns to jdarts.decided"
        )
    if not isinstance(fields, dict):
        raise InputError("the checkpoint is not that of a search for cells (the space is missing)")
    check_registered(record)
    try:
        return RecurrentSpace(**fields) if "recurrent" in fields else SearchSpace(**fields)
    except TypeError:
        raise InputError(
            "the checkpoint is not that of a search for cells (its space is not lists of operations)"
        ) from None


def check_registered(record: Any) -> None:
    """Checks that the operations of a checkpoint's space or genotype are registered.

    Raises:
      InputError: one of them is not; the message has the plug-ins of the run.
    """
    cells = [fields for name in ("space", "genotype") if isinstance(fields := record.get(name), dict)]
    named = [
        name for fields in cells for cell in ("normal", "reduce", "recurrent") for name in _texts(fields.get(cell))
    ]
    known = (NONE, *OPERATIONS, *ACTIVATIONS)
    for name in named:
        if name not in known:
            config = record.get("config")
            plugins = config.get("plugin") if isinstance(config, dict) else None
            given = [str(each).partition(" ")[0] for each in plugins] if isinstance(plugins, list) else []
            options = " ".join(f"--plugin {each}" for each in given) or "--plugin FILE"
            raise InputError(
                f"the checkpoint names the operation {shortened(name, 40)}, which is not registered; give {options}, or in "
                "Python call jdarts.load_plugin first"
            )


def _texts(value: Any) -> Iterator[str]:
    """The texts in nested lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)


def _drawn(draws: np.random.RandomState, space: SearchSpace, kind: CellKind, edges_per_node: int) -> Cell:
    cell = []
    for edges in space.incoming:
        for place in sorted(draws.permutation(len(edges))[:edges_per_node]):
            choices = [name for name in space.operations(kind)[edges[place]] if name != NONE]
            cell.append((choices[draws.randint(len(choices))], space.edges[edges[place]][0]))
    return tuple(cell)

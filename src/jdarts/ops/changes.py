"""How a sum along routes changes with its maps, together with the sums over pixels that a batch norm's statistics need.

For changes dx of stacks x, in one function that is linear in dx,

    out_q[j] = Σ_{routes to (q, j)} weights[r] · dx_k[i]      sums = Σ_{B,H,W} dx_k[i],  Σ_{B,H,W} x_k[i] · dx_k[i].

Both are a `combine` and a `products` of their own. Its transpose is one `combine` for all that leads back to a stack, where
the two apart would write a map each and add them: so the backward pass of a batch norm reads and writes every map once.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, mlir

from jdarts.ops.lanes import define_batching
from jdarts.ops.mixing import ONES, Routes, combine, products

changes_p = Primitive("changes")
changes_p.multiple_results = True


def changes(
    weights: jax.Array, xs: Sequence[jax.Array], dxs: Sequence[jax.Array], *, routes: Routes, sizes: Sequence[int]
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    """The sums of changes along routes, and for the first stacks the sums over pixels of each change and of x times it.

    Args:
      weights: `[R, C]`, one row per route.
      xs: stacks `[I_k, …, C]`: those whose sums over pixels are wanted.
      dxs: changes of these stacks, and then of others.
      routes: `R` routes from rows of `dxs`.
      sizes: number of rows `J_q` of each result.

    Returns:
      Stacks `[J_q, …, C]`; the sums of the changes and of the products, `[Σ I_k, C]` each, the rows of `xs` in order.
    """
    *outs, of_changes, of_products = changes_p.bind(
        weights, *xs, *dxs, num_x=len(xs), routes=tuple(routes), sizes=tuple(sizes)
    )
    return tuple(outs), of_changes, of_products


def _own_rows(xs: Sequence[Any]) -> list[tuple[int, int]]:
    return [(k, i) for k, x in enumerate(xs) for i in range(x.shape[0])]


def _apart(
    weights: jax.Array, *stacks: jax.Array, num_x: int, routes: Routes, sizes: tuple[int, ...]
) -> list[jax.Array]:
    """The same by one `combine` and one `products`."""
    xs, dxs = stacks[:num_x], stacks[num_x:]
    rows = _own_rows(xs)
    wanted = (*((ONES, 0, k, i) for k, i in rows), *((k, i, k, i) for k, i in rows))
    sums = products(xs, dxs[:num_x], routes=wanted)
    return [*combine(weights, dxs, routes=routes, sizes=sizes), sums[: len(rows)], sums[len(rows) :]]


@changes_p.def_abstract_eval
def _shapes(*operands: Any, **params: Any) -> Any:
    return jax.make_jaxpr(lambda *arrays: _apart(*arrays, **params))(*operands).out_avals


def _jvp(primals: Any, tangents: Any, *, num_x: int, **params: Any) -> Any:
    outs = changes_p.bind(*primals, num_x=num_x, **params)
    fixed, moving = primals[: 1 + num_x], tangents[1 + num_x :]
    parts = []
    if any(not isinstance(tangent, ad.Zero) for tangent in moving):
        parts.append(changes_p.bind(*fixed, *map(ad.instantiate_zeros, moving), num_x=num_x, **params))
    if any(not isinstance(tangent, ad.Zero) for tangent in tangents[: 1 + num_x]):

        def of_fixed(*fixed: jax.Array) -> list[jax.Array]:
            return _apart(*fixed, *primals[1 + num_x :], num_x=num_x, **params)

        parts.append(jax.jvp(of_fixed, fixed, tuple(map(ad.instantiate_zeros, tangents[: 1 + num_x])))[1])
    return outs, [sum(terms[1:], terms[0]) for terms in zip(*parts)]


def _transpose(cts: Any, weights: Any, *stacks: Any, num_x: int, routes: Routes, sizes: tuple[int, ...]) -> Any:
    xs, dxs = stacks[:num_x], stacks[num_x:]
    wanted = [k for k, dx in enumerate(dxs) if ad.is_undefined_primal(dx)]
    *of_outs, of_changes, of_products = cts
    live = [q for q, ct in enumerate(of_outs) if not isinstance(ct, ad.Zero)]
    kept = [r for r, (k, _, q, _) in enumerate(routes) if k in wanted and q in live]
    factors = [weights[jnp.array(kept)] if kept != list(range(len(routes))) else weights] if kept else []
    back = [(live.index(q), j, wanted.index(k), i) for k, i, q, j in (routes[r] for r in kept)]
    places = [(n, k, i) for n, (k, i) in enumerate(_own_rows(xs)) if k in wanted]
    for ct, source in ((of_products, len(live)), (of_changes, None)):
        if isinstance(ct, ad.Zero) or not places:
            continue
        rows = [n for n, _, _ in places]
        factors.append(ct if len(rows) == ct.shape[0] else ct[jnp.array(rows)])
        for _, k, i in places:
            back.append((ONES, 0, wanted.index(k), i) if source is None else (source + k, i, wanted.index(k), i))
    maps = [*(of_outs[q] for q in live), *xs]
    if factors and maps:
        grads = combine(
            jnp.concatenate(factors), maps, routes=tuple(back), sizes=[dxs[k].aval.shape[0] for k in wanted]
        )
    else:
        grads = [ad.Zero(dxs[k].aval) for k in wanted]
    return [None] * (1 + num_x) + [grads[wanted.index(k)] if k in wanted else None for k in range(len(dxs))]


def _batched(operands: Any, axes: Any, **params: Any) -> Any:
    outs = jax.vmap(lambda *arrays: _apart(*arrays, **params), in_axes=tuple(axes))(*operands)
    return outs, [0] * len(outs)


ad.primitive_jvps[changes_p] = _jvp
ad.primitive_transposes[changes_p] = _transpose
define_batching(changes_p, _batched)
changes_p.def_impl(jax.jit(_apart, static_argnames=("num_x", "routes", "sizes")))
mlir.register_lowering(changes_p, mlir.lower_fun(_apart, multiple_results=True))

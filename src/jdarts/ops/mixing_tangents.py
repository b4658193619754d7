"""Tangents of sums along routes, together with the sums over pixels that the tangents of a batch norm's statistics need.

For tangents dx of stacks x, in one function that is linear in dx,

    out_q[j] = Σ_{routes to (q, j)} weights[r] · dx_k[i]      sums = Σ_{B,H,W} dx_k[i],  Σ_{B,H,W} x_k[i] · dx_k[i].

A `combine` and a `products` compute the same. The transpose of this function is one `combine` for all cotangents of a stack,
where the two transposes would write a map each and add them. So the backward pass of a batch norm reads and writes every map
once.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.ops.mixing import ONES, Routes, combine, products
from jdarts.xla.batching import define_batching
from jdarts.xla.jax_compat import (
    Primitive,
    Zero,
    instantiate_zeros,
    is_undefined_primal,
    lower_fun,
    primitive_jvps,
    primitive_transposes,
    register_lowering,
)

mixing_tangents_p = Primitive("mixing_tangents")
mixing_tangents_p.multiple_results = True


def mixing_tangents(
    weights: jax.Array, xs: Sequence[jax.Array], dxs: Sequence[jax.Array], *, routes: Routes, sizes: Sequence[int]
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    """The sums of tangents along routes, and for the first stacks the sums over pixels of each tangent and of x times it.

    Args:
      weights: `[R, C]`, one row per route.
      xs: stacks `[I_k, …, C]`: those whose sums over pixels are needed.
      dxs: tangents of these stacks, and then of others.
      routes: `R` routes from rows of `dxs`.
      sizes: number of rows `J_q` of each result.

    Returns:
      Stacks `[J_q, …, C]`; the sums of the tangents and of the products, `[Σ I_k, C]` each, the rows of `xs` in order.
    """
    *outs, of_tangents, of_products = mixing_tangents_p.bind(
        weights, *xs, *dxs, num_x=len(xs), routes=tuple(routes), sizes=tuple(sizes)
    )
    return tuple(outs), of_tangents, of_products


def _own_rows(xs: Sequence[Any]) -> list[tuple[int, int]]:
    return [(k, i) for k, x in enumerate(xs) for i in range(x.shape[0])]


def _in_two_calls(
    weights: jax.Array, *stacks: jax.Array, num_x: int, routes: Routes, sizes: tuple[int, ...]
) -> list[jax.Array]:
    """The results by one `combine` and one `products`."""
    xs, dxs = stacks[:num_x], stacks[num_x:]
    rows = _own_rows(xs)
    sum_routes = (*((ONES, 0, k, i) for k, i in rows), *((k, i, k, i) for k, i in rows))
    sums = products(xs, dxs[:num_x], routes=sum_routes)
    return [*combine(weights, dxs, routes=routes, sizes=sizes), sums[: len(rows)], sums[len(rows) :]]


@mixing_tangents_p.def_abstract_eval
def _shapes(*operands: Any, **params: Any) -> Any:
    return jax.make_jaxpr(lambda *arrays: _in_two_calls(*arrays, **params))(*operands).out_avals


def _jvp(primals: Any, tangents: Any, *, num_x: int, **params: Any) -> Any:
    outs = mixing_tangents_p.bind(*primals, num_x=num_x, **params)
    fixed, dx_tangents = primals[: 1 + num_x], tangents[1 + num_x :]
    parts = []
    if any(not isinstance(tangent, Zero) for tangent in dx_tangents):
        parts.append(mixing_tangents_p.bind(*fixed, *map(instantiate_zeros, dx_tangents), num_x=num_x, **params))
    if any(not isinstance(tangent, Zero) for tangent in tangents[: 1 + num_x]):

        def of_fixed(*fixed: jax.Array) -> list[jax.Array]:
            return _in_two_calls(*fixed, *primals[1 + num_x :], num_x=num_x, **params)

        parts.append(jax.jvp(of_fixed, fixed, tuple(map(instantiate_zeros, tangents[: 1 + num_x])))[1])
    return outs, [sum(terms[1:], terms[0]) for terms in zip(*parts)]


def _transpose(cts: Any, weights: Any, *stacks: Any, num_x: int, routes: Routes, sizes: tuple[int, ...]) -> Any:
    xs, dxs = stacks[:num_x], stacks[num_x:]
    needed = [k for k, dx in enumerate(dxs) if is_undefined_primal(dx)]
    *of_outs, of_tangents, of_products = cts
    live = [q for q, ct in enumerate(of_outs) if not isinstance(ct, Zero)]
    kept = [r for r, (k, _, q, _) in enumerate(routes) if k in needed and q in live]
    factors = [weights[jnp.array(kept)] if kept != list(range(len(routes))) else weights] if kept else []
    back = [(live.index(q), j, needed.index(k), i) for k, i, q, j in (routes[r] for r in kept)]
    places = [(n, k, i) for n, (k, i) in enumerate(_own_rows(xs)) if k in needed]
    for ct, source in ((of_products, len(live)), (of_tangents, None)):
        if isinstance(ct, Zero) or not places:
            continue
        rows = [n for n, _, _ in places]
        factors.append(ct if len(rows) == ct.shape[0] else ct[jnp.array(rows)])
        for _, k, i in places:
            back.append((ONES, 0, needed.index(k), i) if source is None else (source + k, i, needed.index(k), i))
    maps = [*(of_outs[q] for q in live), *xs]
    if factors and maps:
        grads = combine(
            jnp.concatenate(factors), maps, routes=tuple(back), sizes=[dxs[k].aval.shape[0] for k in needed]
        )
    else:
        grads = [Zero(dxs[k].aval) for k in needed]
    return [None] * (1 + num_x) + [grads[needed.index(k)] if k in needed else None for k in range(len(dxs))]


def _batched(operands: Any, axes: Any, **params: Any) -> Any:
    outs = jax.vmap(lambda *arrays: _in_two_calls(*arrays, **params), in_axes=tuple(axes))(*operands)
    return outs, [0] * len(outs)


primitive_jvps[mixing_tangents_p] = _jvp
primitive_transposes[mixing_tangents_p] = _transpose
define_batching(mixing_tangents_p, _batched)
mixing_tangents_p.def_impl(jax.jit(_in_two_calls, static_argnames=("num_x", "routes", "sizes")))
register_lowering(mixing_tangents_p, lower_fun(_in_two_calls, multiple_results=True))

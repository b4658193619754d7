"""A depthwise convolution and the 1×1 convolution after it as one function, differentiable to every order and in both modes.

    separable   y = (x * kernels) · matrix

is linear in each of its three factors. The result of the first convolution is as large as y, and is never kept: the
native functions compute it a few rows at a time, and again in the backward pass. On GPUs the two convolutions follow each other
if `JDARTS_SEPARABLE=parts` is in the environment. Three primitives:

    separable        Σ_terms (x * kernels) · matrix               y from images x
    separable back   Σ_terms (y · matrixᵀ) *ᵀ kernels             x from images y: its transpose in x
    separable pull   the cotangents of x, kernels and matrix of one product: all three transposes in one pass

A term has its factors by number, since terms share them: the tangent of a product has three terms, (dx, k, w), (x, dk, w) and
(x, k, dw), and is one call that writes its maps once. As in `depthwise`, x may have a gate of its shape, a constant for
derivatives: x itself as the gate makes a ReLU.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax

from jdarts import native
from jdarts.errors import InputError
from jdarts.ops.depthwise import primitives as depthwise
from jdarts.ops.pointwise import pointwise_gradient, sum_of_products
from jdarts.xla.batching import batch_by_first_axes
from jdarts.xla.jax_compat import Primitive, Zero, is_undefined_primal, primitive_jvps, primitive_transposes
from jdarts.xla.tangents import zero_tangent

separable_p = Primitive("separable")
separable_back_p = Primitive("separable_back")
separable_pull_p = Primitive("separable_pull")
separable_pull_p.multiple_results = True


class Term(NamedTuple):
    """Numbers of a term's factors."""

    image: int
    kernels: int
    matrix: int


Terms = tuple[Term, ...]
#: The only term of a single product.
ONE = Term(0, 0, 0)
#: The terms of its tangent, in each of which one factor is replaced by its tangent, number 1.
TANGENT_TERMS = (Term(1, 0, 0), Term(0, 1, 0), Term(0, 0, 1))


def separable_conv(
    x: jax.Array,
    kernels: jax.Array,
    matrices: jax.Array,
    *,
    stride: int = 1,
    dilation: int = 1,
    rectified: bool = False,
) -> jax.Array:
    """Convolves every source with each of its kernels, channel by channel, and every pixel of that with a matrix.

    The same as `pointwise([depthwise_conv(x, kernels)], [matrices])`, which keeps the result of the first convolution.

    Args:
      x: images `[S, B, H, W, C]`.
      kernels: `[S, T, k, k, C]`, k odd.
      matrices: `[S·T, C, D]`.
      stride: 1 or 2.
      dilation: 1 or 2.
      rectified: whether the ReLU of x is convolved.

    Returns:
      `[S·T, B, H', W', D]` with `H' = ceil(H / stride)` and `W' = ceil(W / stride)`.

    Raises:
      InputError: shapes, types, stride or dilation do not fit.
    """
    factors = Factors([x], [kernels], [matrices], x if rectified else None)
    return _bind(separable_p, factors, (ONE,), stride=stride, dilation=dilation)


class Factors(NamedTuple):
    """The factors of terms, and the gate or None."""

    images: Sequence[Any]
    kernels: Sequence[Any]
    matrices: Sequence[Any]
    gate: Any


def _factors(operands: Sequence[Any], terms: Terms, gated: bool) -> Factors:
    images, kernels, matrices = (1 + max(term[kind] for term in terms) for kind in range(3))
    return Factors(
        operands[:images],
        operands[images : images + kernels],
        operands[images + kernels : images + kernels + matrices],
        operands[-1] if gated else None,
    )


def _bind(primitive: Primitive, factors: Factors, terms: Terms, **geometry: int) -> Any:
    """Binds a primitive for terms, with the factors that they use."""
    used = [sorted({term[kind] for term in terms}) for kind in range(3)]
    operands = [factors[kind][number] for kind in range(3) for number in used[kind]]
    gated = factors.gate is not None
    operands = depthwise.equally_varying(*operands, *([factors.gate] if gated else []))
    renumbered = tuple(Term(*(used[kind].index(term[kind]) for kind in range(3))) for term in terms)
    return primitive.bind(*operands, terms=renumbered, gated=gated, **geometry)


# By the functions of the two convolutions.


def _middle(x: Any, kernels: Any, gate: Any, **geometry: int) -> jax.Array:
    """The result of the first convolution, `[S·T, B, H', W', C]`."""
    y = depthwise.forward(x, kernels, gate=gate, **geometry)
    return y.reshape(math.prod(y.shape[:2]), *y.shape[2:])


def _mixed_back(ys: Sequence[Any], matrices: Sequence[Any], targets: int) -> jax.Array:
    """Σ y · matrixᵀ, as `[S, T, B, H', W', C]`."""
    back = sum_of_products(ys, matrices, transposed=True)
    return back.reshape(back.shape[0] // targets, targets, *back.shape[1:])


def _of_kernels(x: Any, ys: Sequence[Any], matrices: Sequence[Any], gate: Any, kernels: Any, **geometry: int) -> Any:
    """The cotangent of the kernels."""
    _, targets, size, _, _ = kernels.shape
    return depthwise.kernel_gradient(x, _mixed_back(ys, matrices, targets), gate=gate, size=size, **geometry)


def _of_matrices(x: Any, kernels: Any, y: Any, gate: Any, **geometry: int) -> jax.Array:
    """The cotangent of the matrices."""
    return pointwise_gradient([_middle(x, kernels, gate, **geometry)], [y])[0]


def _sum(terms: Sequence[Any]) -> Any:
    return sum(terms[1:], terms[0])


def _separable_in_parts(*operands: Any, terms: Terms, gated: bool, **geometry: int) -> jax.Array:
    xs, kernels, matrices, gate = _factors(operands, terms, gated)
    middles = {pair: _middle(xs[pair[0]], kernels[pair[1]], gate, **geometry) for pair in {term[:2] for term in terms}}
    return sum_of_products([middles[i, k] for i, k, _ in terms], [matrices[m] for _, _, m in terms])


def _back_in_parts(
    *operands: Any, terms: Terms, gated: bool, height: int, width: int, stride: int, dilation: int
) -> jax.Array:
    ys, kernels, matrices, gate = _factors(operands, terms, gated)
    geometry = {"height": height, "width": width, "stride": stride, "dilation": dilation}
    parts = []
    for number in sorted({k for _, k, _ in terms}):
        pairs = [(i, m) for i, k, m in terms if k == number]
        mixed = _mixed_back([ys[i] for i, _ in pairs], [matrices[m] for _, m in pairs], kernels[number].shape[1])
        parts.append(depthwise.input_gradient(mixed, kernels[number], gate=gate, **geometry))
    return _sum(parts)


def _pull_in_parts(x: Any, kernels: Any, matrices: Any, y: Any, *gate: Any, **geometry: int) -> list[jax.Array]:
    open_where = gate[0] if gate else None
    height, width = x.shape[2:4]
    mixed = _mixed_back([y], [matrices], kernels.shape[1])
    return [
        depthwise.input_gradient(mixed, kernels, gate=open_where, height=height, width=width, **geometry),
        depthwise.kernel_gradient(x, mixed, gate=open_where, size=kernels.shape[2], **geometry),
        _of_matrices(x, kernels, y, open_where, **geometry),
    ]


# Shapes and types: those of the functions in parts.


def _check_matrices(matrices: Any, kernels: Any) -> None:
    edges, channels = math.prod(kernels.shape[:2]), kernels.shape[-1]
    if len(matrices.shape) != 3 or matrices.shape[:2] != (edges, channels):
        raise InputError(
            f"separable_conv: kernels {list(kernels.shape)} are [S, T, k, k, C] and need matrices [S·T, C, D] = "
            f"[{edges}, {channels}, D]; got {list(matrices.shape)}"
        )


@separable_p.def_abstract_eval
def _separable_shape(*operands: Any, terms: Terms, gated: bool, **geometry: int) -> Any:
    factors = _factors(operands, terms, gated)
    for _, k, m in terms:
        _check_matrices(factors.matrices[m], factors.kernels[k])
    return depthwise.out_avals(_separable_in_parts, operands, (("terms", terms), ("gated", gated), *geometry.items()))[
        0
    ]


@separable_back_p.def_abstract_eval
def _back_shape(*operands: Any, **params: Any) -> Any:
    return depthwise.out_avals(_back_in_parts, operands, tuple(params.items()))[0]


@separable_pull_p.def_abstract_eval
def _pull_shape(*operands: Any, **params: Any) -> Any:
    return depthwise.out_avals(_pull_in_parts, operands, tuple(params.items()))


# Derivatives.


def _sums_jvp(primitive: Primitive, primals: Any, tangents: Any, *, terms: Terms, gated: bool, **geometry: int) -> Any:
    """Each term gives one for each of its factors that has a tangent."""
    out = primitive.bind(*primals, terms=terms, gated=gated, **geometry)
    fixed, moving = _factors(primals, terms, gated), _factors(tangents, terms, gated)
    images, kernels, matrices = ([*fixed[kind], *moving[kind]] for kind in range(3))
    tangent_terms = [
        Term(*(number + len(fixed[kind]) * (kind == active) for kind, number in enumerate(term)))
        for term in terms
        for active in range(3)
        if not isinstance(moving[active][term[active]], Zero)
    ]
    if not tangent_terms:
        return out, zero_tangent(out)
    return out, _bind(primitive, Factors(images, kernels, matrices, fixed.gate), tuple(tangent_terms), **geometry)


def _pull_jvp(primals: Any, tangents: Any, **geometry: int) -> Any:
    outs = separable_pull_p.bind(*primals, **geometry)
    x, kernels, matrices, y, *gate = primals
    of_x, of_kernels, of_matrices, of_y = (None if isinstance(t, Zero) else t for t in tangents[:4])
    open_where = gate[0] if gate else None
    height, width = x.shape[2:4]
    both = Factors([y, of_y], [kernels, of_kernels], [matrices, of_matrices], open_where)
    terms = tuple(term for term, tangent in zip(TANGENT_TERMS, (of_y, of_kernels, of_matrices)) if tangent is not None)
    mixing = [(a, b) for a, b in ((of_y, matrices), (y, of_matrices)) if a is not None and b is not None]
    to_kernels, to_matrices = [], []
    if mixing:
        ys, ws = zip(*mixing)
        to_kernels.append(_of_kernels(x, ys, ws, open_where, kernels, **geometry))
    if of_x is not None:
        to_kernels.append(_of_kernels(of_x, [y], [matrices], open_where, kernels, **geometry))
        to_matrices.append(_of_matrices(of_x, kernels, y, open_where, **geometry))
    if of_kernels is not None:
        to_matrices.append(_of_matrices(x, of_kernels, y, open_where, **geometry))
    if of_y is not None:
        to_matrices.append(_of_matrices(x, kernels, of_y, open_where, **geometry))
    out_tangents = [
        _bind(separable_back_p, both, terms, height=height, width=width, **geometry) if terms else None,
        _sum(to_kernels) if to_kernels else None,
        _sum(to_matrices) if to_matrices else None,
    ]
    return outs, [zero_tangent(out) if tangent is None else tangent for out, tangent in zip(outs, out_tangents)]


def _unknown(values: Sequence[Any]) -> list[int]:
    return [number for number, value in enumerate(values) if is_undefined_primal(value)]


def _separable_transpose(ct: Any, *operands: Any, terms: Terms, gated: bool, **geometry: int) -> Any:
    factors = _factors(operands, terms, gated)
    if isinstance(ct, Zero):
        return [Zero(a.aval) if is_undefined_primal(a) else None for a in operands]
    xs, kernels, matrices, gate = factors
    unknown = [_unknown(values) for values in factors[:3]]
    results = [[None] * len(values) for values in factors[:3]]
    product = _one_product(terms, unknown)
    if product is not None:
        i, k, m = product
        pulled = _pull(xs[i], kernels[k], matrices[m], ct, gate, **geometry)
        for kind in range(3):
            results[kind][unknown[kind][0]] = pulled[kind]
    else:
        for n in unknown[0]:
            own = [Term(0, k, m) for i, k, m in terms if i == n]
            height, width = xs[n].aval.shape[2:4]
            results[0][n] = _bind(
                separable_back_p,
                Factors([ct], kernels, matrices, gate),
                tuple(own),
                height=height,
                width=width,
                **geometry,
            )
        for n in unknown[1]:
            own = [(i, m) for i, k, m in terms if k == n]
            results[1][n] = _sum(
                [_of_kernels(xs[i], [ct], [matrices[m]], gate, kernels[n].aval, **geometry) for i, m in own]
            )
        for n in unknown[2]:
            own = [(i, k) for i, k, m in terms if m == n]
            results[2][n] = _sum([_of_matrices(xs[i], kernels[k], ct, gate, **geometry) for i, k in own])
    return [*results[0], *results[1], *results[2], *[None] * gated]


def _one_product(terms: Terms, unknown: Sequence[Sequence[int]]) -> Term | None:
    """The known factors of a product whose tangent the terms are, (dx, k, w), (x, dk, w) and (x, k, dw); None for other terms."""
    if len(terms) != 3 or any(len(numbers) != 1 for numbers in unknown):
        return None
    known: list[set[int]] = [{term[kind] for term in terms} - set(unknown[kind]) for kind in range(3)]
    if any(len(numbers) != 1 for numbers in known):
        return None
    product = Term(*(numbers.pop() for numbers in known))
    expected = {Term(*(unknown[kind][0] if kind == n else product[kind] for kind in range(3))) for n in range(3)}
    return product if set(terms) == expected else None


def _pull(x: Any, kernels: Any, matrices: Any, y: Any, gate: Any, **geometry: int) -> Any:
    operands = depthwise.equally_varying(x, kernels, matrices, y, *([] if gate is None else [gate]))
    return separable_pull_p.bind(*operands, **geometry)


def _back_transpose(
    ct: Any, *operands: Any, terms: Terms, gated: bool, height: int, width: int, **geometry: int
) -> Any:
    if isinstance(ct, Zero):
        return [Zero(a.aval) if is_undefined_primal(a) else None for a in operands]
    factors = _factors(operands, terms, gated)
    ys, kernels, matrices, gate = factors
    results = [[None] * len(values) for values in factors[:3]]
    for n in _unknown(ys):
        own = tuple(Term(0, k, m) for i, k, m in terms if i == n)
        results[0][n] = _bind(separable_p, Factors([ct], kernels, matrices, gate), own, **geometry)
    for n in _unknown(kernels):
        own = [(i, m) for i, k, m in terms if k == n]
        results[1][n] = _of_kernels(
            ct, [ys[i] for i, _ in own], [matrices[m] for _, m in own], gate, kernels[n].aval, **geometry
        )
    for n in _unknown(matrices):
        own = [(i, k) for i, k, m in terms if m == n]
        results[2][n] = _sum([_of_matrices(ct, kernels[k], ys[i], gate, **geometry) for i, k in own])
    return [*results[0], *results[1], *results[2], *[None] * gated]


def _pull_transpose(cts: Any, x: Any, kernels: Any, matrices: Any, y: Any, *gate: Any, **geometry: int) -> Any:
    """In y alone, in which all three results are linear."""
    factors = Factors([x, cts[0]], [kernels, cts[1]], [matrices, cts[2]], gate[0] if gate else None)
    terms = tuple(term for term, ct in zip(TANGENT_TERMS, cts) if not isinstance(ct, Zero))
    of_y = _bind(separable_p, factors, terms, **geometry) if terms else Zero(y.aval)
    return [None, None, None, of_y, *[None] * len(gate)]


primitive_jvps[separable_p] = partial(_sums_jvp, separable_p)
primitive_jvps[separable_back_p] = partial(_sums_jvp, separable_back_p)
primitive_jvps[separable_pull_p] = _pull_jvp
primitive_transposes[separable_p] = _separable_transpose
primitive_transposes[separable_back_p] = _back_transpose
primitive_transposes[separable_pull_p] = _pull_transpose


# Batching: the vmapped axis joins the sources (and so the edges), as the slower of the two.


for _primitive in (separable_p, separable_back_p, separable_pull_p):
    batch_by_first_axes(_primitive)


# Evaluation and lowering.

native.define_lowering(
    separable_p, _separable_in_parts, ("terms", "gated", "stride", "dilation"), native_name="separable"
)
native.define_lowering(
    separable_back_p,
    _back_in_parts,
    ("terms", "gated", "height", "width", "stride", "dilation"),
    native_name="separable_back",
)
native.define_lowering(separable_pull_p, _pull_in_parts, ("stride", "dilation"), native_name="separable_pull")

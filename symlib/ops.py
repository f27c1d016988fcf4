"""The few functions that mean the same on torch tensors, sympy matrices and sympy matrix symbols.

A forward pass written with `@`, `+` and these functions is at once the code that trains, the formula that is
proved, and (with a leading member axis) the ensemble.  Samples are columns.
"""

from collections.abc import Callable
from functools import singledispatch
from typing import Any

import sympy
import torch
from sympy import MatrixBase, MatrixExpr, NDimArray

M = Any  # a torch.Tensor, a sympy matrix, a sympy N-dimensional array or a sympy matrix expression


class Step(sympy.Function):
    """The unit step, 1 for z > 0 and 0 otherwise: constant on each side, so its derivative off the kink is 0.

    relu(z) = z Step(z) makes positive homogeneity (Step(a z) = Step(z) for a > 0) and Euler's identity
    z relu'(z) = relu(z) plain algebra.  The value at 0 does not matter: relu(0) = 0 either way.
    """

    @classmethod
    def eval(cls, z: sympy.Expr) -> sympy.Expr | None:
        if z.is_number:
            return sympy.Integer(1) if z.is_positive else sympy.Integer(0) if z.is_nonpositive else None
        factors = sympy.Mul.make_args(z)
        kept = [f for f in factors if not f.is_positive]
        return cls(sympy.Mul(*kept)) if len(kept) < len(factors) else None

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        return sympy.Integer(0)


_ENTRY = sympy.Symbol("z", real=True)  # bound in the functions that are applied to matrix symbols
_POLYNOMIAL = {"power_base": False, "power_exp": False, "log": False, "basic": False}


def canonical(e: sympy.Expr) -> sympy.Expr:
    """One written form for equal polynomial or rational expressions, common factors pulled out.  Source: ours."""
    has_denominator = any(p.exp.is_negative and p.base.is_Add for p in e.atoms(sympy.Pow))
    return sympy.factor_terms(sympy.cancel(e) if has_denominator else sympy.expand(e, **_POLYNOMIAL))


def _unknown(name: str, z: object) -> TypeError:
    return TypeError(f"ops.{name} takes a torch tensor or a sympy matrix or array, got {type(z).__name__}")


@singledispatch
def elementwise(z: M, torch_fn: Callable, scalar_fn: Callable) -> M:
    """Apply one scalar function to every entry: `torch_fn` to tensors, `scalar_fn` to sympy entries.  Source: ours."""
    raise _unknown("elementwise", z)


@elementwise.register
def _(z: torch.Tensor, torch_fn: Callable, scalar_fn: Callable) -> M:
    return torch_fn(z)


@elementwise.register(MatrixBase)
@elementwise.register(NDimArray)
def _(z: M, torch_fn: Callable, scalar_fn: Callable) -> M:
    return z.applyfunc(lambda e: scalar_fn(canonical(e)))


@elementwise.register
def _(z: MatrixExpr, torch_fn: Callable, scalar_fn: Callable) -> M:
    return z.doit().applyfunc(sympy.Lambda(_ENTRY, scalar_fn(_ENTRY)))


@singledispatch
def act_axis(z: M, g: M, axis: int, width: int = 1) -> M:
    """The matrix g applied along an axis: (g . z)[.., i, ..] = sum_j g[i, j] z[.., j, ..].

    `axis` counts from the right (-1 is the last), so leading member axes do not matter; `width` neighbouring axes
    from there on are read as one (row-major), for groups that act on a product of spaces.

    Source: ours.
    """
    raise _unknown("act_axis", z)


@act_axis.register
def _(z: torch.Tensor, g: M, axis: int, width: int = 1) -> M:
    start = z.ndim + axis
    flat = z.flatten(start, start + width - 1) if width > 1 else z
    moved = (flat.movedim(start, -1) @ g.mT).movedim(-1, start)
    return moved.reshape(z.shape)


@act_axis.register(MatrixBase)
@act_axis.register(MatrixExpr)
def _(z: M, g: M, axis: int, width: int = 1) -> M:
    return g @ z if axis == -2 else z @ g.T


@act_axis.register(NDimArray)
def _(z: M, g: M, axis: int, width: int = 1) -> M:
    shape, start = z.shape, len(z.shape) + axis
    flat = z.reshape(*shape[:start], g.shape[0], *shape[start + width :])
    product: M = sympy.tensorcontraction(sympy.tensorproduct(sympy.Array(g), flat), (1, 2 + start))
    order = [*range(1, start + 1), 0, *range(start + 1, len(flat.shape))]
    moved: M = sympy.permutedims(product, order)
    return moved.reshape(*shape)


@singledispatch
def transpose(z: M) -> M:
    """The transpose of the last two axes.  Source: ours."""
    raise _unknown("transpose", z)


@transpose.register
def _(z: torch.Tensor) -> M:
    return z.mT


@transpose.register(MatrixBase)
@transpose.register(MatrixExpr)
def _(z: M) -> M:
    return z.T


@singledispatch
def add(z: M, b: M) -> M:
    """The sum with size-one axes of `b` stretched to those of `z` (broadcasting).  Source: ours."""
    raise _unknown("add", z)


@add.register
def _(z: torch.Tensor, b: M) -> M:
    return z + b


@add.register
def _(z: MatrixBase, b: M) -> M:
    rows = sympy.ones(z.shape[0], 1) if b.shape[0] == 1 else sympy.eye(z.shape[0])
    columns = sympy.ones(1, z.shape[1]) if b.shape[1] == 1 else sympy.eye(z.shape[1])
    return z + rows @ b @ columns


@add.register
def _(z: MatrixExpr, b: M) -> M:
    return z + b


@singledispatch
def take(z: M, i: int) -> M:
    """The i-th matrix of a stack of shape (m, a, b).  Source: ours."""
    raise _unknown("take", z)


@take.register
def _(z: torch.Tensor, i: int) -> M:
    return z[..., i, :, :]


@take.register
def _(z: NDimArray, i: int) -> M:
    return sympy.ImmutableMatrix(z[i])


@singledispatch
def softmax(z: M) -> M:
    """The softmax of every column: exp(z_i) / sum_j exp(z_j).  Source: ours."""
    raise _unknown("softmax", z)


@softmax.register
def _(z: torch.Tensor) -> M:
    return torch.softmax(z, dim=-2)


@softmax.register(MatrixBase)
def _(z: M) -> M:
    # divided through by the first row: exact translation invariance becomes cancellation inside the exponents
    z = z.applyfunc(canonical)
    e: M = sympy.ImmutableMatrix(*z.shape, lambda i, j: sympy.exp(sympy.expand(z[i, j] - z[0, j])))
    return sympy.ImmutableMatrix(*z.shape, lambda i, j: e[i, j] / sympy.Add(*e[:, j]))


@softmax.register
def _(z: MatrixExpr) -> M:
    # not elementwise: stands for any one matrix function, equal on equal arguments (all that a proof may use)
    return z.doit().applyfunc(sympy.Lambda(_ENTRY, sympy.Function("softmax")(_ENTRY)))


@singledispatch
def radial(z: M, torch_fn: Callable, scalar_fn: Callable) -> M:
    """Every column times a function of its squared length: z r(|z|^2).  Source: ours."""
    raise _unknown("radial", z)


@radial.register
def _(z: torch.Tensor, torch_fn: Callable, scalar_fn: Callable) -> M:
    return z * torch_fn((z * z).sum(dim=-2, keepdim=True))


@radial.register
def _(z: MatrixBase, torch_fn: Callable, scalar_fn: Callable) -> M:
    z = z.applyfunc(canonical)
    r = [scalar_fn(canonical(sympy.Add(*(e * e for e in z[:, j])))) for j in range(z.shape[1])]
    return z @ sympy.diag(*r)


@singledispatch
def times(z: M, w: M) -> M:
    """The product entry by entry, a column w stretched to the columns of z (tensors broadcast).  Source: ours."""
    raise _unknown("times", z)


@times.register
def _(z: torch.Tensor, w: M) -> M:
    return z * w


@times.register
def _(z: MatrixBase, w: M) -> M:
    return z.multiply_elementwise(w @ sympy.ones(1, z.shape[1]) if w.shape[1] == 1 else w)


@times.register
def _(z: NDimArray, w: M) -> M:
    return type(z)([a * b for a, b in zip(sympy.flatten(z), sympy.flatten(w), strict=True)], z.shape)


EPSILON = sympy.Rational(1, 100000)  # of LayerNorm, PyTorch's default


@singledispatch
def standardise(z: M) -> M:
    """Every column less its mean, over its standard deviation: (z - mean) / sqrt(var + EPSILON).

    Source: Ba et al., arXiv 1607.06450 (LayerNorm without scale and shift).
    """
    raise _unknown("standardise", z)


@standardise.register
def _(z: torch.Tensor) -> M:
    z = z - z.mean(dim=-2, keepdim=True)
    return z * torch.rsqrt((z * z).mean(dim=-2, keepdim=True) + float(EPSILON))


@standardise.register
def _(z: MatrixBase) -> M:
    n = z.shape[0]
    z = (z - sympy.ones(n, n) @ z / n).applyfunc(canonical)
    var = [canonical(sympy.Add(*(e * e for e in z[:, j])) / n) for j in range(z.shape[1])]
    return z @ sympy.diag(*(1 / sympy.sqrt(v + EPSILON) for v in var))


@singledispatch
def conv(x: M, W: M, b: M) -> M:
    """The two-dimensional cross-correlation without padding: x (n, c, H, W'), W (c', c, k, k), b (c',).

    Source: ours.
    """
    raise _unknown("conv", x)


@conv.register
def _(x: torch.Tensor, W: M, b: M) -> M:
    return torch.nn.functional.conv2d(x, W, b)


@conv.register
def _(x: NDimArray, W: M, b: M) -> M:
    (n, c, height, width), (out, _, k, m) = x.shape, W.shape
    rows, columns = height - k + 1, width - m + 1

    def entry(s: int, o: int, i: int, j: int) -> sympy.Expr:
        window = ((a, u, v) for a in range(c) for u in range(k) for v in range(m))
        return b[o] + sum(W[o, a, u, v] * x[s, a, i + u, j + v] for a, u, v in window)

    index = [(s, o, i, j) for s in range(n) for o in range(out) for i in range(rows) for j in range(columns)]
    return sympy.Array([entry(*t) for t in index], (n, out, rows, columns))

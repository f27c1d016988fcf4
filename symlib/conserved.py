"""Conserved quantities of gradient flow, derived from a symmetry; and the laws that replace them for finite steps.

If L(exp(tA) . theta) = L(theta) then <grad L, X_A> = 0.  Where the generator X_A is a gradient field, X_A = grad Q_A,
that says d Q_A / dt = -<grad Q_A, grad L> = 0: Q_A is conserved.  Which X_A are gradient fields is computed, not
assumed.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar

import sympy
import torch
from jaxtyping import Float
from sympy import ImmutableSparseMatrix

from symlib.groups import general_linear
from symlib.ops import M
from symlib.symmetry import Params, Shapes, Symmetry, check_params, flatten, from_axes, inner, unflatten

Number = TypeVar("Number", float, sympy.Expr)
PROBES = 8  # random probes beyond the dimension of the algebra


@dataclass(frozen=True)
class Charge:
    """A conserved quantity of gradient flow: the Lie algebra element A and the function Q with grad Q = X_A.

    Source: Kunin et al., arXiv 2012.04728; Zhao et al., arXiv 2210.17216.
    """

    A: ImmutableSparseMatrix
    symmetry: Symmetry

    @property
    def name(self) -> str:
        """The charge in words: the symmetry and the non-zero entries of A."""
        entries = sorted(self.A.todok().items())
        text = " + ".join(f"{'' if v == 1 else f'{v} '}E{i + 1},{j + 1}" for (i, j), v in entries)
        return f"charge {text} of {self.symmetry.name}"

    @property
    def shapes(self) -> Shapes:
        return self.symmetry.shapes

    def value(self, theta: Params) -> M:
        """Q_A(theta) = <theta, X_A(theta) + X_A(0)> / 2: the integral of X_A along the ray from 0 to theta.

        One number per member for tensors, an expression for symbolic parameters.

        Source: ours (the ray integral of an affine gradient field).
        """
        check_params(theta, self.shapes, self.name)
        some = next(iter(theta.values()))
        if isinstance(some, torch.Tensor):
            A: M = torch.tensor(self.A.tolist(), dtype=some.dtype, device=some.device)
            zero = {k: torch.zeros(s, dtype=some.dtype, device=some.device) for k, s in self.shapes.items()}
        else:
            A, zero = self.A, {k: 0 * v for k, v in theta.items()}
        field, at_zero = self.symmetry.generator(A, theta), self.symmetry.generator(A, zero)
        total = {k: field[k] + at_zero[k] for k in field}
        return inner(theta, total, self.shapes) / 2

    def __repr__(self) -> str:
        return self.name


def momentum_map(sym: Symmetry, theta: Params) -> Float[torch.Tensor, "*members n n"]:
    """The n x n matrix mu(theta) with Q_A(theta) = <A, mu(theta)> for every charge Q_A: all charges at once.

    mu = d/dA <theta, X_A(theta) + X_A(0)> / 2, by automatic differentiation, projected on the Lie algebra.  Member
    axes are kept: (..., n, n).  For rescaling it is the diagonal matrix of the balancedness (|w_i|^2 - |a_i|^2) / 2 of
    every neuron; for a discrete group it is zero.

    Source: ours; the moment map of the action for the Euclidean metric.
    """
    check_params(theta, sym.shapes, f"momentum map of {sym.name!r}")
    _check_learned(sym, f"momentum map of {sym.name!r}")
    zero = {k: torch.zeros_like(theta[k]) for k in sym.shapes}

    def one(theta: Params, zero: Params) -> torch.Tensor:
        def pairing(A: torch.Tensor) -> torch.Tensor:
            X, X0 = sym.generator(A, theta), sym.generator(A, zero)
            return inner(theta, {k: X[k] + X0[k] for k in X}, sym.shapes) / 2

        some = next(iter(theta.values()))
        n = sym.group.n
        return torch.func.grad(pairing)(torch.zeros(n, n, dtype=some.dtype, device=some.device))

    key, shape = next(iter(sym.shapes.items()))
    lift = one
    for _ in range(theta[key].ndim - len(shape)):
        lift = torch.func.vmap(lift)
    mu = lift(theta, zero)
    basis = sym.group.algebra_tensor(mu.dtype).to(mu.device).flatten(1)  # an orthogonal basis
    projected = (mu.flatten(-2) @ (basis / basis.square().sum(dim=1, keepdim=True)).mT) @ basis
    return projected.reshape(mu.shape)


def charges(sym: Symmetry, shapes: Shapes | None = None) -> list[Charge]:
    """A basis of the charges of a symmetry: those A whose generator is a gradient field.

    A linear (or affine) field is a gradient exactly when its matrix is symmetric: <u, X_A(v)> - <v, X_A(u)> = 0 for
    all u, v (with X_A(0) removed).  That is linear in A; it is solved at whole-number probes, where every product is
    exact in float64 for whole coefficients, and each solution is verified at further probes.  A discrete group has no
    charges; rotations have generators but no charges.

    Raises ValueError when `shapes` are not those of the symmetry, when the action is not affine in the parameters, or
    when it moves what is measured and not learned.

    Source: Zhao et al., arXiv 2210.17216; Marcotte, Gribonval, Peyre, arXiv 2307.00144.
    """
    if shapes is not None and dict(shapes) != dict(sym.shapes):
        raise ValueError(f"charges of {sym.name!r}: wanted shapes {dict(sym.shapes)}, got {dict(shapes)}")
    return [Charge(A, sym) for A in _elements(sym, -1)]


def isometries(sym: Symmetry) -> list[ImmutableSparseMatrix]:
    """A basis of the Lie algebra elements A that move the parameters rigidly: <u, X_A(v)> + <v, X_A(u)> = 0.

    They are what Noether's own theorem asks for: along theta'' = -tau theta' - grad L, each keeps the angular momentum
    exp(tau t) <theta', X_A(theta)>.  Raises ValueError as `charges` does.

    Source: Noether 1918; Marcotte, Gribonval, Peyre, arXiv 2405.12888 (momentum flows).
    """
    return _elements(sym, +1)


def _elements(sym: Symmetry, sign: int) -> list[ImmutableSparseMatrix]:
    """A basis of the A in the algebra with <u, Y_A(v)> + sign <v, Y_A(u)> = 0 for all u, v, Y_A = X_A - X_A(0).

    An action along an axis has Y_A = A or -A^T there: the question is that of the group on one vector, asked once.
    """
    if sym.group.dimension == 0:
        return []
    _check_learned(sym, f"charges of {sym.name!r}")
    basis = sym.group.algebra_tensor()
    if sym.space:
        rows = _axis_solutions(sym.group.n, sign, tuple(map(tuple, basis.flatten(1).tolist())))
    else:
        rows = _solutions(sym, basis, sign)
    n = sym.group.n
    found = (rows @ basis.flatten(1)).reshape(-1, n, n)
    return [ImmutableSparseMatrix(n, n, {tuple(ij): int(A[tuple(ij)]) for ij in A.nonzero().tolist()}) for A in found]


def _check_learned(sym: Symmetry, where: str) -> None:
    """Raise ValueError when a continuous symmetry moves running statistics, which gradient flow does not."""
    if not sym.state or not sym.group.dimension:
        return
    ones = {k: torch.ones(s, dtype=torch.float64) for k, s in sym.shapes.items()}
    basis = sym.group.algebra_tensor()
    X = sym.generator(torch.einsum("a,aij->ij", torch.arange(1, len(basis) + 1).to(basis), basis), ones)
    if moved := [k for k in sorted(sym.state) if bool(X[k].any())]:
        raise ValueError(f"{where}: it moves {', '.join(moved)}, which are measured and not learned by gradient flow")


@lru_cache
def _axis_solutions(n: int, sign: int, entries: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    basis = torch.tensor(entries, dtype=torch.float64).reshape(-1, n, n)
    one = from_axes({"v": ("h", None)}, "h", general_linear(n), shapes={"v": (n, 1)})
    return _solutions(one, basis, sign)


def _solutions(sym: Symmetry, basis: torch.Tensor, sign: int) -> torch.Tensor:
    """Whole-number coefficients, row by row, of the solutions in the basis."""
    generator = torch.Generator().manual_seed(len(basis))
    rows = _pairings(sym, basis, sign, len(basis) + PROBES, generator)
    _, s, Vh = torch.linalg.svd(rows)
    rank = int((s > 1e-9 * s[0]).sum()) if bool(s[0] > 0) else 0
    solutions = _whole_rows(Vh[rank:])
    check = _pairings(sym, basis, sign, PROBES, generator) @ solutions.T
    if not bool((check.abs() <= 1e-9 * (1 + rows.abs().max())).all()):
        raise ValueError(f"charges of {sym.name!r}: no exact basis found, the largest residual is {check.abs().max()}")
    return solutions


def _pairings(sym: Symmetry, basis: torch.Tensor, sign: int, probes: int, generator: torch.Generator) -> torch.Tensor:
    """Rows <u, Y_A(v)> + sign <v, Y_A(u)>, for whole-number probes u, v and A in the basis."""
    P = sum(math.prod(s) for s in sym.shapes.values())
    n = sym.group.n
    u, v = torch.randint(-3, 4, (2, probes, P), generator=generator).double()
    A = torch.randint(-3, 4, (probes, n, n), generator=generator).double()

    def linear_part(A: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        X = flatten(sym.generator(A, unflatten(theta, sym.shapes)), sym.shapes)
        return X - flatten(sym.generator(A, unflatten(torch.zeros_like(theta), sym.shapes)), sym.shapes)

    def row(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        pairing = lambda A: u @ linear_part(A, v) + sign * (v @ linear_part(A, u))  # noqa: E731
        return torch.func.grad(pairing)(torch.zeros(n, n, dtype=torch.float64))

    many = partial(torch.func.vmap, chunk_size=256)
    whole, parts = many(linear_part)(A, u + v), many(linear_part)(A, u) + many(linear_part)(A, v)
    if not torch.allclose(whole, parts, rtol=1e-12, atol=1e-12):
        raise ValueError(f"charges of {sym.name!r}: the action is not affine in the parameters")
    return many(row)(u, v).flatten(1) @ basis.flatten(1).T


def _whole_rows(rows: torch.Tensor) -> torch.Tensor:
    """The row space in reduced echelon form, scaled to whole numbers where a common denominator up to 12 allows."""
    rows = rows.clone()
    lead = 0
    for i in range(len(rows)):
        while lead < rows.shape[1] and bool(rows[i:, lead].abs().max() < 1e-9):
            lead += 1
        pivot = i + int(rows[i:, lead].abs().argmax())
        rows[[i, pivot]] = rows[[pivot, i]]
        rows[i] /= rows[i, lead].clone()
        others = torch.arange(len(rows)) != i
        rows[others] -= rows[others, lead : lead + 1] * rows[i]
        lead += 1
    for denominator in range(1, 13):
        whole = (rows * denominator).round()
        if torch.allclose(whole, rows * denominator, atol=1e-6):
            return whole
    return rows.round()


def one_step(sym: Symmetry, theta: Params, gradient: Params, *, lr: float, decay: float = 0.0) -> torch.Tensor:
    """The momentum map after one step theta+ = (1 - lr decay) theta - lr grad, exactly: no small-step assumption.

    The quadratic part of a charge obeys Q(theta+) = (1 - lr decay)^2 Q(theta) + lr^2 Q(grad), because
    <grad, X_A(theta)> = 0; the linear part (translations) is multiplied by 1 - lr decay; where an action has both,
    - lr^2 decay Q_linear(grad) is added (zero for each kind alone).  Shape (..., n, n), read as in `momentum_map`.

    Source: our derivation; compare Kunin et al., arXiv 2012.04728 (the continuous-time form).
    """

    def parts(theta: Params) -> tuple[torch.Tensor, torch.Tensor]:
        here, mirrored = momentum_map(sym, theta), momentum_map(sym, {k: -v for k, v in theta.items()})
        return (here + mirrored) / 2, (here - mirrored) / 2

    (quadratic, linear), (kick, push) = parts(theta), parts(gradient)
    keep = 1 - lr * decay
    return keep**2 * quadratic + keep * linear + lr**2 * kick - lr**2 * decay * push


def heavy_ball(*, lr: Number, momentum: Number, decay: Number) -> tuple[tuple[Number, Number], tuple[Number, Number]]:
    """The matrix M of a heavy-ball step: (theta+, v+) = M (theta, v) + (-lr, 1) grad, for numbers and for symbols.

    M = ((1 - lr decay, -lr momentum), (decay, momentum)), with determinant momentum and trace 1 + momentum - lr decay.
    A linear charge S (translation) has S(grad) = 0, so (S(theta), S(v)) is multiplied by M.

    Source: ours; the step is `dynamics.momentum_step`.
    """
    return (1 - lr * decay, -lr * momentum), (decay, momentum)


def momentum_law(
    gram: Float[torch.Tensor, "*any 2 2"],
    kick: Float[torch.Tensor, "..."],
    *,
    lr: float,
    momentum: float,
    decay: float = 0.0,
) -> Float[torch.Tensor, "*any 2 2"]:
    """A quadratic charge after one heavy-ball step, exactly: G+ = M G M^T + kick p p^T, with p = (-lr, 1).

    G = ((Q(theta), B(theta, v) / 2), (B(theta, v) / 2, Q(v))), where B is the bilinear form with Q(x) = B(x, x) / 2,
    and kick = Q(momentum v + grad) - Q(momentum v).  The one fact used is B(theta, grad) = 0.  Raises ValueError for
    shapes that do not fit.

    Source: our derivation; compare Kunin et al., arXiv 2012.04728 (a driven oscillator in continuous time).
    """
    if gram.shape != (*kick.shape, 2, 2):
        raise ValueError(f"momentum_law: wanted gram (*any, 2, 2) and kick (*any), got {gram.shape} and {kick.shape}")
    M = gram.new_tensor(heavy_ball(lr=lr, momentum=momentum, decay=decay))
    p = gram.new_tensor((-lr, 1.0))
    return M @ gram @ M.T + kick[..., None, None] * p.outer(p)


def oscillator(
    t: Float[torch.Tensor, "*times"], *, lr: float, momentum: float, decay: float, degree: int
) -> tuple[Float[torch.Tensor, "*times"], Float[torch.Tensor, "*times"]]:
    """The continuous-time model of a charge under momentum: its free solution R(t) and its response K(t) to a kick.

    C'' + 2 a C' + w^2 C = drive with a = (1 - momentum) / m, w^2 = 2 degree decay / m and m = lr (1 + momentum); degree
    1 for translation, 2 for scale and rescale; R(0) = 1, R'(0) = 0, K(0) = 0, K'(0) = 1.  The time of step k is lr k.
    Raises ValueError unless lr > 0, 0 <= momentum < 1, decay >= 0 and degree is 1 or 2.

    Source: Kunin et al., arXiv 2012.04728; constants as in their code, metrics/translation.py and metrics/scale.py.
    """
    if not (lr > 0 and 0 <= momentum < 1 and decay >= 0 and degree in (1, 2)):
        raise ValueError(f"oscillator: bad lr {lr}, momentum {momentum}, decay {decay} or degree {degree}")
    t, inertia = t.to(torch.float64), lr * (1 + momentum)
    a, square = (1 - momentum) / inertia, 2 * degree * decay / inertia
    s = torch.tensor(complex(a * a - square), dtype=torch.complex128, device=t.device).sqrt()
    slow, fast = torch.exp((s - a) * t), torch.exp((-s - a) * t)
    K = torch.exp(-a * t) * t if bool(s == 0) else ((slow - fast) / (2 * s)).real
    return ((slow + fast) / 2).real + a * K, K

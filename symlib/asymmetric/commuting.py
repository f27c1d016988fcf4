"""The linear maps that commute with a fixed gate."""

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from symlib.groups import Elem
from symlib.guards import check_finite

Monomial = tuple[tuple[int, Fraction], ...]  # for each unit k the unit p(k) it goes to and its scale d_k
MOST = 5040  # monomial matrices that are listed one by one: 7!


def figlu_equivariances(F: Tensor) -> list[Elem]:
    """All pairs A, B in GL(n) with sigma(A z) = B sigma(z) for every z, sigma(z) = eta(F z) * z; the identity first.

    Theorem.  Let no two rows of F be equal.  Then A = B = P D with a permutation P and a diagonal D (signs are
    possible), and F P D = P F.  Conversely each such P D commutes with sigma.  For F with a density there is the
    identity alone, with probability 1.

    Proof.  Let z be generic, y = A z, u = F z, v = F y, and o = eta - 1/2, which is odd and has no zero coefficient at
    an odd power.  (1) sigma(t z) = t z / 2 + O(t^2), so A = B.  (2) Row i of sigma(t y) = A sigma(t z) says that
    y_i o(t v_i) = sum_j A_ij z_j o(t u_j) for all t.  The functions o(c t) of different c > 0 are independent, and
    u_j = -u_k where rows are opposite, so that the right side has one term: A_ij z_j, or A_ij z_j - A_ik z_k of a pair,
    or none, if A_ij = 0 for all rows j but one of zeros.  Since y_i = sum_j A_ij z_j is plus or minus the factor of
    that term, row i has a single entry: A = P D.  (3) Then v_i = u_j: F P D = P F.

    Consequence.  Let F be invertible and commute with the identity alone, and f = V sigma(W x) have two inputs or more:
    almost every (V, W) is the only one with its function.  With one input there are n! of them for each function.

    Entries are compared exactly; columns that are not 0 make D a function of P.  Raises ValueError for a matrix that is
    not square or finite or has a column of 0 or two equal rows, and for more than `MOST` elements.

    Source: ours; Lim et al., arXiv 2405.20231, Proposition 3, excludes permutations and diagonal maps one by one.
    """
    return [element(g) for g in monomials(F)]


def element(g: Monomial) -> Elem:
    """The matrix of a monomial map and its inverse, float64.  Source: ours."""
    n = len(g)
    A, inverse = torch.zeros(n, n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64)
    for k, (i, d) in enumerate(g):
        A[i, k], inverse[k, i] = float(d), float(1 / d)
    return Elem(A, inverse)


def monomials(F: Tensor) -> list[Monomial]:
    """The maps of `figlu_equivariances` as (p, d) with F_p(i)p(k) d_k = F_ik, the identity first.  Source: ours."""
    _check_gate(F)
    F, n = F.detach().double().cpu(), len(F)
    columns = [_outline(F[:, k], F[k, k]) for k in range(n)]
    alike: dict[tuple[float, ...], list[int]] = {}
    for k, outline in enumerate(columns):
        alike.setdefault(outline, []).append(k)
    identity = tuple((k, Fraction(1)) for k in range(n))
    if len(alike) == n:
        return [identity]
    exact = [[Fraction(v) for v in row] for row in F.tolist()]
    order = sorted(range(n), key=lambda k: len(alike[columns[k]]))
    found: list[Monomial] = []

    def extend(p: dict[int, int], d: dict[int, Fraction]) -> None:
        if len(p) == n:
            found.append(tuple((p[k], d[k]) for k in range(n)))
            if len(found) > MOST:
                raise ValueError(f"figlu_equivariances: more than {MOST} maps commute with this gate")
            return
        k = order[len(p)]
        for i in alike[columns[k]]:
            if i not in p.values() and (scales := _matched(exact, {**p, k: i}, d, k)) is not None:
                extend({**p, k: i}, scales)

    extend({}, {})
    return sorted(found, key=lambda g: (g != identity, g))


def _matched(
    F: list[list[Fraction]], p: Mapping[int, int], d: Mapping[int, Fraction], last: int
) -> dict[int, Fraction] | None:
    """The scales of the columns so far, or None if row or column `last` contradicts F_p(i)p(k) d_k = F_ik."""
    scales = dict(d)
    for i, k in [(last, k) for k in p] + [(i, last) for i in p]:
        value, image = F[i][k], F[p[i]][p[k]]
        if (value == 0) != (image == 0) or (value and scales.setdefault(k, value / image) != value / image):
            return None
    return scales


def _outline(column: Tensor, own: Tensor) -> tuple[float, ...]:
    """What permutations and a scale leave of a column: its sorted entries, and the one on the diagonal."""
    most = column.abs().max()
    signs = (
        torch.cat([own[None], column.sort().values]) / most,
        torch.cat([-own[None], (-column).sort().values]) / most,
    )
    return max(tuple(v.tolist()) for v in signs)


def _check_gate(F: Tensor) -> None:
    where = "figlu_equivariances"
    if F.ndim != 2 or F.shape[0] != F.shape[1]:
        raise ValueError(f"{where}: the matrix should be square, got {tuple(F.shape)}")
    check_finite(F, f"{where}: the matrix")
    F = F.detach().double().cpu()
    if empty := (F == 0).all(dim=0).nonzero().flatten().tolist():
        raise ValueError(f"{where}: column {empty[0]} is 0; other maps may commute with the gate")
    kind = F.unique(dim=0, return_inverse=True)[1]
    for i in range(len(kind)):
        if len(same := (kind == kind[i]).nonzero().flatten().tolist()) > 1:
            raise ValueError(f"{where}: rows {same[0]} and {same[1]} are equal; other maps may commute with the gate")

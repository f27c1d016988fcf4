"""Matrix groups: how to draw an element, a generic symbolic element, and a basis of the Lie algebra.

Every group here is a group of n x n matrices; translations are written as affine matrices [[I, v], [0, 1]], so that
composition is always the matrix product and there is one kind of element.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import sympy
import torch
from sympy import ImmutableMatrix, ImmutableSparseMatrix

from symlib.ops import M

Entries = Mapping[tuple[int, int], Any]  # a sparse matrix: its non-zero entries

EXHAUSTIVE = 4  # up to this size a finite group is written out element by element, beyond it by generators


@dataclass(frozen=True)
class Elem:
    """A group element and its inverse: acts on a space as g, on the dual space as the transpose of `inv`."""

    g: M
    inv: M

    def __matmul__(self, other: "Elem") -> "Elem":
        return Elem(self.g @ other.g, other.inv @ self.inv)

    def inverse(self) -> "Elem":
        return Elem(self.inv, self.g)


@dataclass(frozen=True)
class Group:
    """A matrix group of size n.

    `basis` yields the Lie algebra as sparse entries {(i, j): value} (nothing if the group is discrete);
    `sample(generator)` draws a float64 matrix and its inverse, well conditioned and never the identity (where
    there is another element); `symbol(tag)` gives symbolic elements which together stand for the whole group, or
    None where the inverse is too large to write; `components` yields, as sparse entries, elements of finite order that
    generate what the algebra does not reach; `cover` says in words what `symbol` covers.
    """

    name: str
    n: int
    basis: Callable[[], Iterable[Entries]]
    sample_matrix: Callable[[torch.Generator], tuple[torch.Tensor, torch.Tensor]]
    symbol: Callable[[str], tuple[Elem, ...]] | None
    components: Callable[[], Iterable[Entries]] = lambda: ()
    cover: str = "every element"
    matrix_inverse: Callable[[M], M] | None = None  # of a MatrixSymbol, where all-sizes proofs can use it

    @cached_property
    def algebra(self) -> tuple[ImmutableSparseMatrix, ...]:
        """An orthogonal basis of the Lie algebra."""
        return tuple(ImmutableSparseMatrix(self.n, self.n, dict(entries)) for entries in self.basis())

    @cached_property
    def discrete(self) -> tuple[ImmutableSparseMatrix, ...]:
        """Generators of the components that the algebra does not reach; each is orthogonal."""
        return tuple(ImmutableSparseMatrix(self.n, self.n, dict(entries)) for entries in self.components())

    @property
    def dimension(self) -> int:
        """The dimension of the Lie algebra: 0 for a discrete group."""
        return len(self.algebra)

    @cached_property
    def _algebra_float64(self) -> torch.Tensor:
        entries = [(i, r, c, int(v)) for i, A in enumerate(self.algebra) for (r, c), v in A.todok().items()]
        out = torch.zeros(self.dimension, self.n, self.n, dtype=torch.float64)
        if entries:
            i, r, c, v = zip(*entries, strict=True)
            out[list(i), list(r), list(c)] = torch.tensor(v, dtype=torch.float64)
        return out

    def algebra_tensor(self, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        """The basis of the Lie algebra as one tensor (dimension, n, n)."""
        return self._algebra_float64.to(dtype)

    def identity(self, dtype: torch.dtype = torch.float64) -> Elem:
        eye = torch.eye(self.n, dtype=dtype)
        return Elem(eye, eye)

    def sample(self, generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Elem:
        """A random element, drawn in float64 and then rounded to `dtype`."""
        g, inv = self.sample_matrix(generator)
        return Elem(g.to(dtype), inv.to(dtype))


def _size(n: int, name: str) -> int:
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"{name}: a group needs a whole size of at least 1, got {n!r}")
    return int(n)


def _no_algebra() -> Iterable[Entries]:
    return ()


def _diagonal(values: Iterable[int]) -> Entries:
    return {(i, i): v for i, v in enumerate(values)}


def _flip(n: int, i: int) -> Entries:
    return _diagonal(-1 if j == i else 1 for j in range(n))


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def _random_orthogonal(n: int, generator: torch.Generator) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def _orthogonal_elements(n: int, matrices: Iterable[Entries]) -> tuple[Elem, ...]:
    dense = (ImmutableMatrix(n, n, lambda i, j, e=entries: e.get((i, j), 0)) for entries in matrices)
    return tuple(Elem(g, g.T) for g in dense)


def _permutation_entries(order: Iterable[int]) -> Entries:
    return {(i, j): 1 for i, j in enumerate(order)}


def _swaps(n: int) -> Iterator[Entries]:
    """The n - 1 swaps of neighbours, which generate S_n."""
    return (_permutation_entries([*range(i), i + 1, i, *range(i + 2, n)]) for i in range(n - 1))


def permutation(n: int) -> Group:
    """The symmetric group S_n as permutation matrices: (g z)_i = z_{p(i)}.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (permutation symmetry).
    """
    n = _size(n, "permutation")

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        p = torch.randperm(n, generator=generator)
        if torch.equal(p, torch.arange(n)):
            p = p.roll(1)
        g = torch.eye(n, dtype=torch.float64)[p]
        return g, g.T

    def elements(tag: str) -> tuple[Elem, ...]:
        every = map(_permutation_entries, itertools.permutations(range(n)))
        return _orthogonal_elements(n, every if n <= EXHAUSTIVE else _swaps(n))

    cover = f"all {math.factorial(n)} elements" if n <= EXHAUSTIVE else f"the {n - 1} swaps that generate it"
    return Group("permutation", n, _no_algebra, sample, elements, components=lambda: _swaps(n), cover=cover)


def sign_flip(n: int) -> Group:
    """The group Z_2^n of diagonal matrices with entries 1 and -1.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (sign flip); Sussmann 1992.
    """
    n = _size(n, "sign flip")

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        signs = torch.randint(0, 2, (n,), generator=generator).double() * 2 - 1
        if bool((signs > 0).all()):
            signs[int(torch.randint(n, (), generator=generator))] = -1
        return signs.diag(), signs.diag()

    def flips() -> Iterator[Entries]:
        return (_flip(n, i) for i in range(n))

    def elements(tag: str) -> tuple[Elem, ...]:
        every = map(_diagonal, itertools.product((1, -1), repeat=n))
        return _orthogonal_elements(n, every if n <= EXHAUSTIVE else flips())

    cover = f"all {2**n} elements" if n <= EXHAUSTIVE else f"the {n} flips that generate it"
    return Group("sign flip", n, _no_algebra, sample, elements, components=flips, cover=cover)


def rescaling(n: int) -> Group:
    """The group of positive diagonal matrices: one scale a_i > 0 for each coordinate.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (scaling symmetry).
    """
    n = _size(n, "rescaling")

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        a = _uniform(generator, -1.5, 1.5, n).exp()
        return a.diag(), (1 / a).diag()

    def symbol(tag: str) -> tuple[Elem, ...]:
        a = sympy.symbols(f"a{tag}_1:{n + 1}", positive=True)
        return (Elem(ImmutableMatrix(sympy.diag(*a)), ImmutableMatrix(sympy.diag(*(1 / s for s in a)))),)

    return Group(
        "rescaling",
        n,
        lambda: ({(i, i): 1} for i in range(n)),
        sample,
        symbol,
        cover="every element: symbols a > 0",
    )


def general_linear(n: int) -> Group:
    """The group GL(n) of invertible matrices.

    Drawn as Q diag(exp u) Q' with |u| <= 0.7, so condition numbers stay below 4.1; symbolic up to n = 2.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (linear networks, attention).
    """
    n = _size(n, "general linear")

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        q, p = _random_orthogonal(n, generator), _random_orthogonal(n, generator)
        a = _uniform(generator, -0.7, 0.7, n).exp()
        return q @ a.diag() @ p, p.T @ (1 / a).diag() @ q.T

    def symbol(tag: str) -> tuple[Elem, ...]:
        g = sympy.Matrix(n, n, lambda i, j: sympy.Symbol(f"g{tag}_{i + 1}{j + 1}", real=True))
        return (Elem(ImmutableMatrix(g), ImmutableMatrix(g.adjugate() / g.det())),)

    return Group(
        "general linear",
        n,
        lambda: ({(i, j): 1} for i in range(n) for j in range(n)),
        sample,
        symbol if n <= 2 else None,
        components=lambda: [_flip(n, 0)],
        cover="every element: symbols with det g != 0",
        matrix_inverse=lambda g: g.I,
    )


def orthogonal(n: int) -> Group:
    """The group O(n) of orthogonal matrices, symbolic up to n = 2.

    The rotation by t in [0, pi] is written with c = cos t and sqrt(1 - c^2); with one reflection these generate O(2).

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (radial activations).
    """
    n = _size(n, "orthogonal")

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        q = _random_orthogonal(n, generator) if n > 1 else -torch.ones(1, 1, dtype=torch.float64)
        return q, q.T

    def symbol(tag: str) -> tuple[Elem, ...]:
        c = sympy.Symbol(f"c{tag}", real=True)
        s = sympy.sqrt(1 - c**2)
        rotations = [{(0, 0): c, (0, 1): -s, (1, 0): s, (1, 1): c}] if n == 2 else []
        return _orthogonal_elements(n, (*rotations, _flip(n, 0)))

    return Group(
        "orthogonal",
        n,
        lambda: ({(i, j): 1, (j, i): -1} for i in range(n) for j in range(i + 1, n)),
        sample,
        symbol if n <= 2 else None,
        components=lambda: [_flip(n, 0)],
        cover="rotations and a reflection, which generate the group",
    )


def translation(n: int) -> Group:
    """The additive group R^n, written as affine matrices [[I, v], [0, 1]] of size n + 1.

    Source: Kunin et al., arXiv 2012.04728 (translation symmetry).
    """
    n = _size(n, "translation")

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        v = torch.randn(n, generator=generator, dtype=torch.float64)
        g, inv = torch.eye(n + 1, dtype=torch.float64), torch.eye(n + 1, dtype=torch.float64)
        g[:-1, -1], inv[:-1, -1] = v, -v
        return g, inv

    def symbol(tag: str) -> tuple[Elem, ...]:
        v = sympy.symbols(f"v{tag}_1:{n + 1}", real=True)

        def affine(sign: int) -> ImmutableMatrix:
            return ImmutableMatrix(n + 1, n + 1, lambda i, j: sign * v[i] if j == n and i < n else int(i == j))

        return (Elem(affine(1), affine(-1)),)

    return Group(
        "translation",
        n + 1,
        lambda: ({(i, n): 1} for i in range(n)),
        sample,
        symbol,
    )


def finite(name: str, n: int, elements: Sequence[Entries]) -> Group:
    """The finite group of these orthogonal matrices, all of them, the identity first.

    Raises ValueError when there are none.  Source: ours.
    """
    n = _size(n, name)
    if not elements:
        raise ValueError(f"{name}: a finite group needs its elements")

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        first = min(1, len(elements) - 1)  # never the identity, where there is another element
        g = torch.zeros(n, n, dtype=torch.float64)
        for place, value in elements[int(torch.randint(first, len(elements), (), generator=generator))].items():
            g[place] = float(value)
        return g, g.T

    def every(tag: str) -> tuple[Elem, ...]:
        return _orthogonal_elements(n, elements)

    return Group(name, n, _no_algebra, sample, every, lambda: elements[1:], f"all {len(elements)} elements")


def blocks(group: Group, copies: int) -> Group:
    """The direct product of `copies` copies of a group, as block-diagonal matrices of size copies * n.

    Source: ours.
    """
    copies = _size(copies, "blocks")
    n = group.n

    def sample(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [group.sample_matrix(generator) for _ in range(copies)]
        return torch.block_diag(*(g for g, _ in parts)), torch.block_diag(*(inv for _, inv in parts))

    def embed(g: sympy.MatrixBase, i: int) -> ImmutableMatrix:
        return ImmutableMatrix(sympy.diag(*(g if j == i else sympy.eye(n) for j in range(copies))))

    def symbol(tag: str) -> tuple[Elem, ...]:
        # one factor at a time: products of generators of the factors would not generate the product group
        assert group.symbol is not None
        return tuple(Elem(embed(e.g, i), embed(e.inv, i)) for i in range(copies) for e in group.symbol(f"{tag}{i + 1}"))

    def shifted(entries: Entries, i: int) -> Entries:
        return {(i * n + r, i * n + c): v for (r, c), v in entries.items()}

    def alone(entries: Entries, i: int) -> Entries:
        eye = {(r, r): 1 for r in range(copies * n) if r // n != i}
        return {**eye, **shifted(entries, i)}

    return Group(
        f"{group.name}^{copies}",
        copies * n,
        lambda: (shifted(entries, i) for i in range(copies) for entries in group.basis()),
        sample,
        symbol if group.symbol else None,
        components=lambda: (alone(entries, i) for i in range(copies) for entries in group.components()),
        cover=f"{group.cover}; factor by factor",
    )

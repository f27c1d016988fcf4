"""A symmetry: a group and an action on named parameters.  Everything else is a reading of that one value."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import sympy
import torch
from sympy import ImmutableMatrix, MatrixBase, MatrixExpr, NDimArray

from symlib import ops
from symlib.groups import Elem, Group
from symlib.guards import check_finite
from symlib.measures.rank import numerical_rank
from symlib.ops import M

Params = Mapping[str, M]  # parameter name -> tensor (leading member axes allowed) or sympy matrix
Shapes = Mapping[str, tuple[int, ...]]
Axes = Mapping[str, tuple[str | None, ...]]


LIMIT = 2**27  # float64 numbers in one matrix: 1 GiB


@dataclass(frozen=True)
class Symmetry:
    """A claim that the group acts on the parameters without changing the network function.

    `act(element, theta)` returns new parameters; `shapes` says which parameters it is for, `space` which space of an
    axis table it acts on (empty for any other action), and `state` which entries are measured and not learned.  The
    claim may be false: `proofs.invariance` proves or refutes it, `checks.assert_laws` tests it.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, Definition 1.
    """

    name: str
    group: Group
    act: Callable[[Elem, Params], dict[str, M]]
    shapes: Shapes
    source: str = "ours"
    space: str = ""
    state: frozenset[str] = frozenset()

    def __call__(self, element: Elem, theta: Params) -> dict[str, M]:
        """The transformed parameters g . theta.

        Raises ValueError for parameters of another architecture (names, shapes, dtype), NaN or inf, or an element of
        the wrong size.
        """
        where = f"symmetry {self.name!r}"
        dtype = check_params(theta, self.shapes, where)
        check_element(element, self.group, dtype, where)
        return self.act(element, theta)

    def __repr__(self) -> str:
        kind = f"dimension {self.group.dimension}" if self.group.dimension else "finite"
        return (
            f"{self.name}: {self.group.name} group of {self.group.n} x {self.group.n} matrices, {kind} ({self.source})"
        )

    def generator(self, A: M, theta: Params) -> dict[str, M]:
        """The vector field of a Lie algebra element: X_A(theta) = d/dt exp(tA) . theta at t = 0.

        A is an n x n tensor or sympy matrix, of the same kind as theta.

        Source: Zhao et al., arXiv 2210.17216 (infinitesimal action).
        """
        if isinstance(A, torch.Tensor):
            where, n = f"generator of {self.name!r}", self.group.n
            dtype = check_params(theta, self.shapes, where)
            if tuple(A.shape) != (n, n) or A.dtype != dtype:
                raise ValueError(f"{where}: A should be {n} x {n} of {dtype}, got {tuple(A.shape)} of {A.dtype}")
            eye = torch.eye(self.group.n, dtype=A.dtype, device=A.device)
            tangent = torch.func.jvp(lambda g, inv: self.act(Elem(g, inv), theta), (eye, eye), (A, -A))[1]
            return dict(tangent)
        t = sympy.Dummy("t")
        eye = sympy.eye(self.group.n)
        element = Elem(ImmutableMatrix(eye + t * A), ImmutableMatrix(eye - t * A))
        moved = self.act(element, theta)
        return {k: v.applyfunc(lambda e: sympy.diff(e, t).subs(t, 0)) for k, v in moved.items()}


def from_axes(
    table: Axes,
    space: str,
    group: Group,
    *,
    shapes: Shapes,
    name: str | None = None,
    source: str = "ours",
) -> Symmetry:
    """The action of a group on one space of an axis table.

    An axis labelled `h` is acted on by g, an axis labelled `h*` by the dual g^{-T}; every other axis is left alone.
    `space` may name two neighbouring axes, as in "m k", which are then read as one.

    Raises ValueError for a table that does not fit the shapes, a space that no axis carries, and a group whose size is
    not that of the space.  Source: the axis tables of Ainsworth et al., arXiv 2209.04836, with duals (ours).
    """
    labels = space.split()
    moves: dict[str, list[tuple[int, bool]]] = {}
    for key, axes in table.items():
        if key not in shapes or len(shapes[key]) != len(axes):
            raise ValueError(f"axis table: {key} has labels {axes}, its shape is {shapes.get(key)}")
        for i in range(len(axes) - len(labels) + 1):
            found = [a or "" for a in axes[i : i + len(labels)]]
            if [a.rstrip("*") for a in found] == labels:
                size = math.prod(shapes[key][i : i + len(labels)])
                if size != group.n:
                    raise ValueError(
                        f"axis {space!r} of {key} has size {size}, the group {group.name} has size {group.n}"
                    )
                moves.setdefault(key, []).append((i - len(axes), found[-1].endswith("*")))
    if not moves:
        known = sorted({a.rstrip("*") for axes in table.values() for a in axes if a})
        raise ValueError(f"no axis is labelled {space!r}; spaces of this table are {', '.join(known)}")

    def act(element: Elem, theta: Params) -> dict[str, M]:
        g, dual = element.g, ops.transpose(element.inv)
        out = dict(theta)
        for key, places in moves.items():
            for axis, is_dual in places:
                out[key] = ops.act_axis(out[key], dual if is_dual else g, axis, len(labels))
        return out

    return Symmetry(name or f"{group.name} {space}", group, act, dict(shapes), source, space)


def check_params(
    theta: Params, shapes: Shapes, where: str, *, members: bool = True, finite: bool = True
) -> torch.dtype | None:
    """Raise ValueError unless the parameters have the wanted names, shapes, one floating dtype, and finite values.

    Returns the dtype of tensors, None for symbolic parameters.  `members=False` refuses leading member axes;
    `finite=False` leaves the values alone, which costs nothing.

    Source: ours.
    """
    missing, extra = [k for k in shapes if k not in theta], [k for k in theta if k not in shapes]
    if missing or extra:
        raise ValueError(
            f"{where}: wanted parameters {', '.join(shapes)}; missing {missing or 'none'}, not known {extra or 'none'}"
        )
    leading, dtypes = {}, {}
    for key, shape in shapes.items():
        value = theta[key]
        if not isinstance(value, torch.Tensor | MatrixBase | NDimArray | MatrixExpr):
            raise TypeError(f"{where}: {key} should be a torch tensor or a sympy matrix, got {type(value).__name__}")
        got = tuple(value.shape)
        if got[len(got) - len(shape) :] != tuple(shape):
            raise ValueError(f"{where}: {key} should have shape {tuple(shape)}, got {got}")
        if isinstance(value, torch.Tensor):
            leading[key], dtypes[key] = got[: len(got) - len(shape)], value.dtype
            if not value.is_floating_point():
                raise ValueError(f"{where}: {key} should hold floating-point numbers, got {value.dtype}")
            if finite:
                check_finite(value, f"{where}: {key}")
    if dtypes and len(dtypes) < len(shapes):
        raise TypeError(f"{where}: parameters should all be tensors or all symbolic, tensors are {', '.join(dtypes)}")
    if len(set(dtypes.values())) > 1:
        raise ValueError(f"{where}: parameters should share one dtype, got {dtypes}")
    if len(set(leading.values())) > 1:
        raise ValueError(f"{where}: parameters should share their leading member axes, got {leading}")
    if not members and any(leading.values()):
        raise ValueError(f"{where}: wanted one network, got member axes {next(iter(leading.values()))}")
    return next(iter(dtypes.values()), None)


def check_element(element: Elem, group: Group, dtype: torch.dtype | None, where: str) -> None:
    """Raise ValueError unless the element is an n x n pair of the group's size and the parameters' dtype.

    Source: ours.
    """
    if not isinstance(element, Elem):
        raise TypeError(f"{where}: wanted an Elem(g, inv) of {group.name}, got {type(element).__name__}")
    n = group.n
    for name, part in (("g", element.g), ("inv", element.inv)):
        if len(part.shape) != 2 or any(a.is_number and a != n for a in map(sympy.sympify, part.shape)):
            raise ValueError(f"{where}: {name} should be {n} x {n} for {group.name}, got {tuple(part.shape)}")
        if dtype is not None and getattr(part, "dtype", dtype) != dtype:
            raise ValueError(f"{where}: {name} has dtype {part.dtype}, the parameters have {dtype}")
        if isinstance(part, torch.Tensor) != (dtype is not None):
            raise TypeError(f"{where}: element and parameters should both be tensors or both symbolic, {name} is not")
        if isinstance(part, torch.Tensor):
            check_finite(part, f"{where}: {name}")


def check_size(numbers: int, where: str) -> None:
    """Raise ValueError when a matrix would hold more float64 numbers than `LIMIT`.  Source: ours."""
    if numbers > LIMIT:
        raise ValueError(f"{where} would take {numbers * 8 / 2**30:.1f} GiB; take a smaller network or group")


def flatten(theta: Params, shapes: Shapes) -> torch.Tensor:
    """All parameters in one last axis, in the order of `shapes`; member axes are kept.  Source: ours."""
    return torch.cat([theta[k].flatten(theta[k].ndim - len(s)) for k, s in shapes.items()], dim=-1)


def unflatten(flat: torch.Tensor, shapes: Shapes) -> dict[str, torch.Tensor]:
    """The inverse of `flatten`.  Source: ours."""
    parts = flat.split([math.prod(s) for s in shapes.values()], dim=-1)
    return {k: p.reshape(*flat.shape[:-1], *s) for (k, s), p in zip(shapes.items(), parts, strict=True)}


def inner(u: Params, v: Params, shapes: Shapes) -> M:
    """The Euclidean inner product of two parameter vectors: one number per member, or a sympy expression.

    Source: ours.
    """
    if any(isinstance(value, MatrixBase | NDimArray) for value in u.values()):
        return sum(a * b for k in shapes for a, b in zip(sympy.flatten(u[k]), sympy.flatten(v[k]), strict=True))
    return (flatten(u, shapes) * flatten(v, shapes)).sum(dim=-1)


def orbit_dimension(sym: Symmetry, theta: Params, *, rtol: float = 1e-9) -> int:
    """The dimension of the orbit through theta: the rank of the generators X_A(theta), A in a basis of the algebra.

    float64, singular values cut at `rtol` times the largest.  0 for a discrete group.  Raises ValueError for
    parameters of another architecture or with member axes, and when the generators would not fit into `LIMIT` numbers.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, section 2 (orbits).
    """
    where, P = f"orbit_dimension of {sym.name!r}", sum(map(math.prod, sym.shapes.values()))
    if check_params(theta, sym.shapes, where, members=False) is None:
        raise TypeError(f"{where}: wanted torch tensors, got symbolic parameters")
    check_size(sym.group.dimension * max(sym.group.n**2, P), where)
    basis = sym.group.algebra_tensor()
    if len(basis) == 0:
        return 0
    theta = {k: v.double().cpu() for k, v in theta.items()}
    fields = torch.func.vmap(lambda A: flatten(sym.generator(A, theta), sym.shapes))(basis)
    return int(numerical_rank(fields, rtol=rtol))


@dataclass(frozen=True)
class FixedSubspace:
    """The parameters that every group element leaves where they are, as orthonormal rows (dimension, parameters)."""

    basis: torch.Tensor
    shapes: Shapes

    @property
    def dimension(self) -> int:
        return len(self.basis)

    def project(self, theta: Params) -> dict[str, torch.Tensor]:
        """The nearest symmetric parameters."""
        return unflatten(self._project(theta), self.shapes)

    def distance(self, theta: Params) -> torch.Tensor:
        """The symmetry-breaking distance |theta - project(theta)|, one number per member.

        Source: our reconstruction of Delta_G in Ziyin et al., arXiv 2502.05300.
        """
        nearest = self._project(theta)
        return (flatten(theta, self.shapes) - nearest).norm(dim=-1)

    def _project(self, theta: Params) -> torch.Tensor:
        check_params(theta, self.shapes, "fixed subspace")
        flat = flatten(theta, self.shapes)
        basis = self.basis.to(flat)
        return flat @ basis.mT @ basis


def fixed_subspace(sym: Symmetry, shapes: Shapes | None = None, *, rtol: float = 1e-9) -> FixedSubspace:
    """The symmetric states {theta : g . theta = theta for all g}, for a linear action.

    The null space of the stacked rho(h) - 1 for generators h of the components and d rho(A) for a basis A of the Lie
    algebra, in float64.  Raises ValueError when the action is not linear (a translation has no fixed point) or `shapes`
    are not those of the symmetry, and when the stacked maps would not fit into `LIMIT` numbers.

    Source: Ziyin et al., arXiv 2502.05300, Definition 2 (our reconstruction); the null space as in emlp.
    """
    shapes = sym.shapes if shapes is None else shapes
    if dict(shapes) != dict(sym.shapes):
        raise ValueError(f"fixed_subspace of {sym.name!r}: wanted shapes {dict(sym.shapes)}, got {dict(shapes)}")
    P = sum(math.prod(s) for s in shapes.values())
    check_size((sym.group.dimension + len(sym.group.discrete)) * P**2, f"fixed_subspace of {sym.name!r}")

    def matrix(move: Callable[[Params], Params]) -> torch.Tensor:
        flat = lambda v: flatten(move(unflatten(v, shapes)), shapes)  # noqa: E731
        out, probe = torch.func.vmap(flat)(eye).T, torch.linspace(1, 2, P, dtype=torch.float64)
        if not torch.allclose(out @ probe, flat(probe)):
            raise ValueError(f"fixed_subspace: {sym.name!r} is not linear in the parameters")
        return out

    eye = torch.eye(P, dtype=torch.float64)
    maps = [matrix(partial(sym.generator, A)) for A in sym.group.algebra_tensor()]
    for h in sym.group.discrete:
        g = torch.tensor(h.tolist(), dtype=torch.float64)
        maps.append(matrix(partial(sym.act, Elem(g, g.T))) - eye)
    if not maps:  # the trivial group
        return FixedSubspace(eye, dict(shapes))
    _, s, Vh = torch.linalg.svd(torch.cat(maps), full_matrices=False)  # every map is P x P, so Vh is too
    return FixedSubspace(Vh[int((s > rtol * s[0]).sum()) :], dict(shapes))

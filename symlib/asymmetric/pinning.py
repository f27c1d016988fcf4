"""Networks some of whose entries are held at fixed values, and the symmetries that this leaves."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import torch
from torch import Tensor

from symlib import groups
from symlib.activations import Family, monomial, named_activation
from symlib.architectures import Arch
from symlib.groups import Elem, Entries, Group
from symlib.guards import check_finite, check_known
from symlib.ops import M
from symlib.symmetry import Params, Symmetry, from_axes

SCALES = {groups.rescaling, groups.sign_flip}


@dataclass(frozen=True)
class Pinning:
    """A network some of whose entries are held: f(free * theta + fixed; x), `free` being 0 where they are, 1 elsewhere.

    `free` and `fixed` (0 where theta is free) are tensors with the shapes of parameters of `base`; those not named are
    free.  `arch` is the network, `parameters` counts the entries that can be learned, and
    `dynamics.Pinned(loss, free, fixed)` trains them.

    Raises ValueError for unknown names, other shapes, a `free` that is not of zeros and ones, and for fixed values that
    are NaN or inf or stand where theta is free.

    Source: Lim et al., arXiv 2405.20231, section 2 (W-asymmetric layers).
    """

    base: Arch
    free: Mapping[str, Tensor]
    fixed: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        learned = [k for k in self.base.shapes if k not in self.base.state]
        for k in {**self.free, **self.fixed}:
            check_known(k, learned, f"parameter of {self.base.name}")
            got = [tuple(part[k].shape) if k in part else None for part in (self.free, self.fixed)]
            if got != [tuple(self.base.shapes[k])] * 2:
                raise ValueError(f"pinning: {k} has shape {self.base.shapes[k]}, free and fixed have {got}")
            check_finite(self.fixed[k], f"pinning: fixed {k}")
            if not ((self.free[k] == 0) | (self.free[k] == 1)).all() or (self.free[k] * self.fixed[k]).any():
                raise ValueError(f"pinning: free {k} should be 0 or 1, and fixed {k} should be 0 where it is 1")

    @property
    def parameters(self) -> int:
        """The number of entries that can be learned."""
        return self.base.parameters - sum(int((1 - v).sum()) for v in self.free.values())

    def to(self, device: torch.device, dtype: torch.dtype) -> "Pinning":
        """The same network with its free and fixed entries on a device, in a dtype."""
        free, fixed = ({k: v.to(device, dtype) for k, v in part.items()} for part in (self.free, self.fixed))
        return Pinning(self.base, free, fixed)

    def state(self) -> dict[str, Tensor]:
        """What is to be saved beside the parameters: free.W1, fixed.W1, ..., the names of no parameters."""
        return {f"{part}.{k}": v for part in ("free", "fixed") for k, v in getattr(self, part).items()}

    @classmethod
    def from_state(cls, base: Arch, state: Params) -> "Pinning":
        """The network of a saved state, which may hold more, such as the parameters.

        Raises ValueError for a state that lacks masks or fixed values, naming them.
        """
        names = [k for k in base.shapes if {f"free.{k}", f"fixed.{k}"} & set(state)]
        wanted = [f"{part}.{k}" for part in ("free", "fixed") for k in names] or ["free.* and fixed.*"]
        if missing := [k for k in wanted if k not in state]:
            raise ValueError(f"pinning: the state of {base.name} lacks {', '.join(missing)}; it has {', '.join(state)}")
        return cls(base, *({k: state[f"{part}.{k}"] for k in names} for part in ("free", "fixed")))

    def whole(self, theta: Params) -> dict[str, M]:
        """The parameters of the network, free * theta + fixed: tensors, or sympy matrices with exact numbers."""
        return {k: _held(v, self.free[k], self.fixed[k]) if k in self.free else v for k, v in theta.items()}

    @cached_property
    def arch(self) -> Arch:
        """The network, with the symmetries that remain in each space.

        A linear action is counted as remaining if it maps the parameters with the fixed values to themselves, whatever
        the free entries are.  In a space that no held parameter has, all remains.  Elsewhere an element g adds g_ik
        times unit k to unit i, so g_ik != 0 needs i to be free wherever k is (for the dual, k wherever i is), and what
        is fixed must come out as it was.  So there remain the permutations of units that are free in the same places
        and fixed at the same values, up to a scale or sign where the activation has one, and the scales and signs of
        units whose fixed values are all 0.  A symmetry that is no axis action is listed if all of it remains; of a
        translation, the coordinates that move nothing held.

        Not listed: what a unit gains that the fixed values cut off from the output (all its weights there are 0); and
        elements that act on several spaces at once, see `rigid`.  Raises ValueError where a part of a larger group (GL,
        O) could remain.  Source: ours; for values 0, Lim et al., arXiv 2405.20231, Theorem 1.
        """
        base = self.base
        kept = [sym for s in base.activations if self._touches(s) for sym in self._remaining(s)]
        kept += [left for sym in base.tied for left in self._left_of(sym)]

        def forward(theta: Params, x: M, sigma: Mapping[str, Callable[[M], M]]) -> M:
            return base.forward(self.whole(theta), x, {**base.functions(), **sigma})

        activations = {s: "own" if self._touches(s) else a for s, a in base.activations.items()}
        name = f"{base.name}, {base.parameters - self.parameters} entries held"
        return replace(base, name=name, forward=forward, activations=activations, tied=tuple(kept))

    def _touches(self, space: str) -> bool:
        return bool({(a or "").rstrip("*") for k in self.free for a in self.base.axes[k]} & set(space.split()))

    def _units(self, space: str) -> tuple[Tensor, Tensor, Tensor]:
        """Where each unit of a space is free and what is fixed, (units, entries), and which entries are dual."""
        free, fixed, dual = [], [], []
        for k in self.free:
            places = [i for i, a in enumerate(self.base.axes[k]) if (a or "").rstrip("*") in space.split()]
            if len(places) > 1:
                raise ValueError(f"pinning: {k} has the space {space!r} on two axes; what remains there is not decided")
            for i in places:
                free.append(self.free[k].double().cpu().movedim(i, 0).flatten(1))
                fixed.append(self.fixed[k].double().cpu().movedim(i, 0).flatten(1))
                dual += [str(self.base.axes[k][i]).endswith("*")] * free[-1].shape[1]
        return torch.cat(free, dim=1), torch.cat(fixed, dim=1), torch.tensor(dual)

    def _remaining(self, space: str) -> Iterator[Symmetry]:
        free, fixed, dual = self._units(space)
        families = monomial(self.base.activations[space])
        if {groups.general_linear, groups.orthogonal} & set(named_activation(self.base.activations[space]).families):
            onto = (1 - free) * ~dual @ free.T + free * dual @ (1 - free).T  # > 0 where g_ik must be 0
            if (onto == 0).sum() > len(free):
                raise ValueError(f"pinning: what remains of the larger group on {space!r} is not decided")
        loose = (fixed == 0).all(dim=1).nonzero().flatten().tolist()
        for family in families:
            if family in SCALES:
                yield from [self._acting(space, family, dict.fromkeys(loose, Fraction(1)))] if loose else []
            else:
                for twins in _twins(free, fixed, dual, families):
                    yield self._acting(space, family, twins)

    def _acting(self, space: str, family: Family, units: Mapping[int, Fraction]) -> Symmetry:
        """The group on some units of a space; with scales c, g acts as C g C^-1 for C = diag(c)."""
        n, base = self.base.size(space), self.base
        places = list(units)
        group = family(n) if len(places) == n else _on(family(len(places)), places, n)
        some = f"unit{'s' * (len(places) > 1)} {', '.join(map(str, places[:4]))}{', ...' * (len(places) > 4)}"
        name = f"{family(1).name} {space}" if len(places) == n else f"{family(1).name} {space} of {some}"
        sym = from_axes(base.axes, space, group, shapes=base.shapes, name=name, source="Pinning.arch (ours)")
        if len(set(units.values())) == 1:
            return sym
        return with_scales(sym, [units.get(i, Fraction(1)) for i in range(n)])

    def _left_of(self, sym: Symmetry) -> list[Symmetry]:
        if self._is_left_by(sym):
            return [sym]
        free = self._loose(sym) if sym.group.name == "translation" else []
        if not free:
            return []
        n = sym.group.n
        group = _on(groups.translation(len(free)), [*free, n - 1], n)
        return [replace(sym, name=f"{sym.name} of {len(free)} of {n - 1} coordinates", group=group)]

    def _loose(self, sym: Symmetry) -> list[int]:
        """The coordinates of a translation that move nothing held: a random sum of what is held has no slope there."""
        generator, n = torch.Generator().manual_seed(0), sym.group.n
        theta, eye = self.base.init(generator), torch.eye(n, dtype=torch.float64)
        drawn = {k: torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in self.free.items()}

        def held(v: Tensor) -> Tensor:
            shift = torch.nn.functional.pad(v[:, None], (n - 1, 0, 0, 1))
            moved = sym.act(Elem(eye + shift, eye - shift), theta)
            return torch.stack([((1 - self.free[k].cpu()) * w * moved[k]).sum() for k, w in drawn.items()]).sum()

        slope = torch.func.grad(held)(torch.zeros(n - 1, dtype=torch.float64))
        return (slope == 0).nonzero().flatten().tolist()

    def _is_left_by(self, sym: Symmetry) -> bool:
        """Whether a random element, and so all of the component it lies in, maps what is held to itself."""
        generator = torch.Generator().manual_seed(0)
        theta = self.whole(self.base.init(generator))
        moved = sym.act(sym.group.sample(generator), theta)
        return all(
            torch.allclose((1 - v.to(moved[k])) * moved[k], self.fixed[k].to(moved[k])) for k, v in self.free.items()
        )


def with_scales(sym: Symmetry, c: list[Fraction]) -> Symmetry:
    """The symmetry in other coordinates of its space: g acts as C g C^-1 for C = diag(c).  Source: ours."""

    def act(element: Elem, theta: Params) -> dict[str, M]:
        C, inverse = _diagonal(c, element.g), _diagonal([1 / v for v in c], element.g)
        return sym.act(Elem(C @ element.g @ inverse, C @ element.inv @ inverse), theta)

    return replace(sym, name=f"{sym.name} with scales", act=act, space="")


def _held(value: M, free: Tensor, fixed: Tensor) -> M:
    if isinstance(value, Tensor):
        return free.to(value) * value + fixed.to(value)
    if len(value.shape) != 2:
        raise TypeError(f"pinning: symbolic parameters should be matrices, got shape {tuple(value.shape)}")
    numbers = [type(value)([[Fraction(v) for v in row] for row in part.tolist()]) for part in (free, fixed)]
    return value.multiply_elementwise(numbers[0]) + numbers[1]


def _twins(free: Tensor, fixed: Tensor, dual: Tensor, families: tuple[Family, ...]) -> list[dict[int, Fraction]]:
    """Units that are free in the same places and, but for a scale each (compared exactly), fixed at the same values."""
    alike: dict[tuple, dict[int, Fraction]] = {}
    same: dict[bytes, list[int]] = {}
    for i, row in enumerate(free.bool().numpy()):
        same.setdefault(row.tobytes(), []).append(i)
    for places, units in same.items():
        for i in units if len(units) > 1 else ():
            row = [(Fraction(v), d) for v, d in zip(fixed[i].tolist(), dual.tolist(), strict=True)]
            first = next((1 / v if d else v for v, d in row if v), Fraction(1))
            scale = abs(first) if groups.rescaling in families else Fraction(1)
            scale *= -1 if groups.sign_flip in families and first < 0 else 1
            alike.setdefault((places, *(v * scale if d else v / scale for v, d in row)), {})[i] = scale
    return [units for units in alike.values() if len(units) > 1]


def _on(group: Group, places: list[int], n: int) -> Group:
    """A group on some of n coordinates, the identity on the others."""

    def moved(entries: Entries) -> Entries:
        return {(places[i], places[j]): v for (i, j), v in entries.items()}

    def beside(entries: Entries) -> Entries:
        return {**{(i, i): 1 for i in range(n) if i not in places}, **moved(entries)}

    def wide(small: Tensor) -> Tensor:
        g = torch.eye(n, dtype=small.dtype)
        g[torch.tensor(places)[:, None], torch.tensor(places)] = small
        return g

    def embed(g: M) -> M:
        at = {p: i for i, p in enumerate(places)}
        return type(g)(n, n, lambda i, j: g[at[i], at[j]] if i in at and j in at else int(i == j))

    def sample(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        g, inverse = group.sample_matrix(generator)
        return wide(g), wide(inverse)

    def symbol(tag: str) -> tuple[Elem, ...]:
        return tuple(Elem(embed(e.g), embed(e.inv)) for e in group.symbol(tag)) if group.symbol else ()

    return Group(
        f"{group.name} of {len(places)} of {n}",
        n,
        lambda: map(moved, group.basis()),
        sample,
        symbol,
        components=lambda: map(beside, group.components()),
        cover=group.cover,
    )


def _diagonal(values: list[Fraction], like: M) -> M:
    if isinstance(like, Tensor):
        return torch.tensor([float(v) for v in values], dtype=like.dtype, device=like.device).diag()
    return type(like).diag(*values)

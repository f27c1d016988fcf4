"""Weight matching: coordinate ascent over the moves of the spaces of an axis table."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from symlib import groups
from symlib.activations import Family
from symlib.orbits.moves import Move, moved, places
from symlib.orbits.scores import best_move, best_scale, total
from symlib.symmetry import Axes

Moves = dict[str, Move]
Sums = tuple[Tensor, Tensor, Tensor, Tensor]  # q, u, r, v of `scores`
PROGRESS = 1e-12  # of |a| |b|: a smaller gain is rounding
SETTLED = 1e-9  # relative change of a scale
ROUNDS = 5  # over the scales after the first sweep
SETTLING = 200  # rounds over the scales in a sweep, at most


@dataclass(frozen=True)
class Product:
    """A_rows B_rows^T (n, n) of one tensor along one axis, B moved on its other axes, and |B_row|^2 (n,)."""

    values: Tensor
    norms: Tensor
    others: dict[int, Move]


@dataclass(frozen=True)
class Pair:
    """Two networks, in float64, on the axis table of what is learned, and the families of the spaces that move."""

    axes: Axes
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    families: Mapping[str, tuple[Family, ...]]

    def places(self, space: str) -> list[tuple[str, int, bool]]:
        """Where a space is: (parameter, axis counted from the last, whether it is dual)."""
        return places(self.axes, space)

    def spaces(self, k: str) -> set[str]:
        """The spaces of a tensor that move."""
        return {s for _, s in spaces(self.axes[k]) if s in self.families}

    def objective(self, moves: Moves) -> float:
        """<a, g b> - |g b|^2 / 2 + |b|^2 / 2."""
        return math.fsum(self.worth(k, moves) for k in self.axes)

    def worth(self, k: str, moves: Moves) -> float:
        """What one tensor gives to the objective."""
        a, b, gb = self.a[k].flatten(), self.b[k].flatten(), moved(self.axes[k], self.b[k], moves).flatten()
        return float(gb @ a - gb @ gb / 2 + b @ b / 2)

    def product(self, k: str, axis: int, moves: Moves, old: Product | None) -> Product:
        """The product for the present moves: the old one while nothing moved, or with the units that did put right."""
        labels = self.axes[k]
        others = {i: moves[s] for i, s in spaces(labels) if i != axis and s in moves}
        changed = [i for i in others if old is None or others[i] is not old.others[i]]
        if old is not None and not changed:
            return old
        if old is not None and len(changed) == 1:
            i, dual = changed[0], str(labels[changed[0]]).endswith("*")
            new, was = others[i], old.others[i]
            units = ((new.order != was.order) | (new.scale != was.scale)).nonzero().flatten()
            if 4 * len(units) < 3 * len(new.order):
                rest = {s: moves[s] for j, s in spaces(labels) if j not in (i, axis) and s in moves}
                now, then = (
                    rows(moved(labels, g.act(self.b[k], i, dual=dual, units=units), rest), axis) for g in (new, was)
                )
                values = torch.addmm(old.values, rows(self.a[k].index_select(i, units), axis), (now - then).T)
                return Product(values, old.norms + squares(now) - squares(then), others)
        b = rows(moved(labels, self.b[k], moves, but=axis), axis)
        return Product(rows(self.a[k], axis) @ b.T, squares(b), others)

    def sums(self, space: str, moves: Moves, products: dict[tuple[str, int], Product], known: Collection[str]) -> Sums:
        """What the assignment of a space is made from, some tensors; the products, up to date after this, are kept."""
        n, halves = len(moves[space].order), ([], [])
        for k, axis, dual in self.places(space):
            if k not in known:
                continue
            products[k, axis] = self.product(k, axis, moves, products.get((k, axis)))
            halves[dual].append(products[k, axis])
        none = torch.zeros(n, dtype=torch.float64)
        q, u = (reduce(torch.add, [p.values for p in half]) if half else none.expand(n, n) for half in halves)
        r, v = (reduce(torch.add, [p.norms for p in half]) if half else none for half in halves)
        return q, u, r, v

    def scaled(self, space: str, moves: Moves) -> Move:
        """The move of a space with its order and signs as they are and the best scales."""
        n, move = len(moves[space].order), moves[space]
        halves = [[torch.zeros(n, dtype=torch.float64) for _ in range(2)] for _ in range(2)]
        for k, axis, dual in self.places(space):
            b = rows(moved(self.axes[k], self.b[k], moves, but=axis), axis)[move.order]
            halves[dual][0] += (rows(self.a[k], axis) * b).sum(dim=1) * move.scale.sign()
            halves[dual][1] += squares(b)
        (q, r), (u, v) = halves
        return Move(move.order, best_scale(q, u, r, v)[1] * move.scale.sign())


def spaces(labels: tuple[str | None, ...]) -> list[tuple[int, str]]:
    """The labelled axes of a tensor, counted from the last, with their spaces.  Source: ours."""
    return [(i, label.rstrip("*")) for i, label in enumerate(labels, -len(labels)) if label]


def rows(value: Tensor, axis: int) -> Tensor:
    """A tensor as a matrix with one row for each unit of an axis.  Source: ours."""
    return value.movedim(axis, 0).reshape(value.shape[axis], -1)


def squares(b: Tensor) -> Tensor:
    """|row|^2 of each row.  Source: ours."""
    return torch.linalg.vector_norm(b, dim=1).square()


def outward(
    pair: Pair, start: Mapping[str, Move], products: dict[tuple[str, int], Product], scaled: Collection[str]
) -> Moves:
    """A move of every space in one pass, from what is aligned already: the inputs, the outputs, the spaces passed.

    Each space is moved by the tensors whose other spaces are passed or do not move; next comes the space with most
    entries in such tensors.  Independent networks agree in nothing else yet.  Source: ours.
    """
    moves, passed = dict(start), set()
    while waiting := [s for s in moves if s not in passed]:
        known = {s: [k for k, _, _ in pair.places(s) if pair.spaces(k) <= passed | {s}] for s in waiting}
        space = max(waiting, key=lambda s: sum(pair.a[k].numel() for k in known[s]))
        passed.add(space)
        if known[space]:
            moves[space] = best_move(*pair.sums(space, moves, products, known[space]), pair.families[space])
    for space in [*scaled] * ROUNDS:  # they were fitted to one side of a unit, mostly
        moves[space] = pair.scaled(space, moves)
    return moves


def ascend(
    pair: Pair, start: Mapping[str, Move], generator: torch.Generator, max_sweeps: int, *, first: bool
) -> tuple[Moves, list[float]]:
    """Coordinate ascent from some moves: the moves it ends at and the objective, before and after each sweep.

    The first sweep is `outward` if asked, unless that loses.  Any other visits the spaces in random order, those that
    share a tensor with a space that has moved.  Once it leaves the orders as they are, the scales are fitted until they
    settle.  It ends when a sweep gains nothing.

    Source: Ainsworth et al., arXiv 2209.04836, algorithm 1; scales ours.
    """
    moves, products = dict(start), {}
    least = PROGRESS * math.prod(math.hypot(*(float(t[k].norm()) for k in pair.axes)) for t in (pair.a, pair.b))
    tensors = {s: [k for k, _, _ in pair.places(s)] for s in moves}
    near = {s: {t for t in moves if set(tensors[s]) & set(tensors[t])} for s in moves}
    twice = {s for s in moves if len(set(tensors[s])) < len(tensors[s])}
    scaled = [s for s in moves if groups.rescaling in pair.families[s]]
    objective, waiting = [pair.objective(moves)], set(moves)
    if first:
        found = outward(pair, moves, products, scaled)
        if (value := pair.objective(found)) - objective[0] > least:
            moves = found
            objective.append(value)
    while len(objective) <= max_sweeps:
        value, before = objective[-1], dict(moves)
        order = torch.randperm(len(moves), generator=generator, device=generator.device).tolist()
        for space in (list(moves)[i] for i in order):
            if space not in waiting:
                continue
            waiting.discard(space)
            sums = pair.sums(space, moves, products, tensors[space])
            new = best_move(*sums, pair.families[space])
            if space in twice:  # then the sums are those of the linear part alone
                old, after = ([pair.worth(k, m) for k in set(tensors[space])] for m in (moves, {**moves, space: new}))
                gain = math.fsum(after) - math.fsum(old)
            else:
                gain = total(*sums, new) - total(*sums, moves[space])
            if gain > least:
                moves[space], value = new, value + gain
                waiting |= near[space] - ({space} - twice)
        if scaled and all(torch.equal(moves[s].order, before[s].order) for s in moves) and _settle(pair, moves, scaled):
            value, waiting = pair.objective(moves), set(moves)
        objective.append(value)
        if not objective[-1] - objective[-2] > least:
            break
    return moves, objective


def _settle(pair: Pair, moves: Moves, scaled: list[str]) -> bool:
    """Fit the scales of some spaces in turn until none changes, in place; whether any has changed."""
    for count in range(SETTLING):
        change = 0.0
        for space in scaled:
            old, moves[space] = moves[space], pair.scaled(space, moves)
            change = max(change, float((moves[space].scale / old.scale - 1).abs().max()))
        if not change > SETTLED:
            return count > 0
    return True

"""Exact arithmetic modulo a prime: ranks, and traced networks evaluated on power series.

A forward pass written with `@`, `+` and `symlib.ops` runs on `Node`s, which record it as a graph.  `vjp` differentiates
the graph in reverse, which gives another graph; every node can be asked for the coefficients of its power series in t
one by one.  Residues are whole numbers in float64 arrays, so that matrix products are those of BLAS and exact.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from symlib import ops

Array = NDArray[np.float64]
PRIMES = (524_287, 524_269)  # below 2^19: sums of up to INNER products of residues are exact in float64
INNER = 2**13


@dataclass(frozen=True)
class Field:
    """The whole numbers modulo a prime p below 2^19, with the generator that random residues are drawn from."""

    p: int
    generator: torch.Generator

    def reduce(self, a: Array) -> Array:
        """The residues, in 0..p-1, of whole numbers below p^2 INNER."""
        return a - self.p * np.floor(a / self.p)

    def product(self, a: Array, b: Array) -> Array:
        """The matrix product.  Raises ValueError for an inner length above INNER, which would not be exact."""
        if a.shape[-1] > INNER:
            raise ValueError(f"matrix product modulo {self.p}: inner length {a.shape[-1]}, exact up to {INNER}")
        return self.reduce(a @ b)

    def random(self, *shape: int) -> Array:
        """Independent random residues, none of them 0."""
        return torch.randint(1, self.p, shape, generator=self.generator).double().numpy()

    def residue(self, value: Fraction | float) -> int:
        """The residue of a rational number (a float is one).  Raises ZeroDivisionError where p divides below."""
        q = Fraction(value)
        return q.numerator * pow(q.denominator, -1, self.p) % self.p


@dataclass(frozen=True)
class Echelon:
    """A subspace of F_p^n: a basis in reduced echelon form, (rank, n), with the columns of its leading ones."""

    rows: Array
    pivots: NDArray[np.int64]
    field: Field

    @property
    def rank(self) -> int:
        return len(self.rows)

    def extended(self, rows: Array) -> "Echelon":
        """The subspace with more rows (k, n) of residues added.

        Both halves of the rows are reduced by themselves, so that nearly all the work is matrix products.

        Source: ours (recursive Gauss-Jordan elimination).
        """
        reduce, product = self.field.reduce, self.field.product
        if self.rank:
            rows = reduce(rows - product(rows[:, self.pivots], self.rows))
        rows = rows[rows.any(axis=1)]
        if len(rows) == 0:
            return self
        if len(rows) == 1:
            lead = int(rows[0].argmax() if rows[0, 0] else np.flatnonzero(rows[0])[0])
            new = Echelon(reduce(rows * pow(int(rows[0, lead]), -1, self.field.p)), np.array([lead]), self.field)
        else:
            half = len(rows) // 2
            new = span(rows[:half], self.field).extended(rows[half:])
        old = self.rows
        if self.rank:
            old = reduce(old - product(old[:, new.pivots], new.rows))
        return Echelon(np.concatenate([old, new.rows]), np.concatenate([self.pivots, new.pivots]), self.field)


def span(rows: Array, field: Field) -> Echelon:
    """The row space of a matrix (k, n) of residues; its `.rank` is the rank.  Source: ours."""
    return Echelon(np.empty((0, rows.shape[1])), np.empty(0, dtype=np.int64), field).extended(rows)


@dataclass(eq=False)
class Node:
    """A value of a traced network: a power series in t with coefficients that are arrays of residues.

    `step(n)` computes coefficient n (None is zero) from those of the parents, which `at` asks for and keeps; `pull`
    turns a cotangent of this node into those of the parents.  Arrays may carry one batch axis before `shape`.
    """

    field: Field
    shape: tuple[int, ...]
    step: Callable[[int], Array | None] = lambda n: None
    parents: tuple["Node", ...] = ()
    pull: Callable[["Node"], tuple["Node", ...]] = lambda g: ()
    known: list[Array | None] = dataclasses.field(default_factory=list)

    def at(self, n: int) -> Array | None:
        """Coefficient n of the series, or None where it is zero."""
        while len(self.known) <= n:
            self.known.append(self.step(len(self.known)))
        return self.known[n]

    def __add__(self, other: "Node") -> "Node":
        shape = np.broadcast_shapes(self.shape, other.shape)
        a, b = _lifted(self, len(shape)), _lifted(other, len(shape))

        def step(n: int) -> Array | None:
            x, y = a.at(n), b.at(n)
            return y if x is None else x if y is None else self.field.reduce(x + y)

        return Node(self.field, shape, step, (a, b), lambda g: (_summed(g, a.shape), _summed(g, b.shape)))

    def __mul__(self, other: "Node | int | Fraction") -> "Node":
        if not isinstance(other, Node):
            factor, reduce = self.field.residue(other), self.field.reduce
            return _linear(self, self.shape, lambda a: reduce(a * factor), lambda g: g * other)
        shape = np.broadcast_shapes(self.shape, other.shape)
        a, b = _lifted(self, len(shape)), _lifted(other, len(shape))
        return _bilinear(np.multiply, a, b, shape, lambda g: (_summed(g * b, a.shape), _summed(g * a, b.shape)))

    def __matmul__(self, other: "Node") -> "Node":
        shape = (self.shape[0], other.shape[1])
        if self.shape[1] > INNER:
            raise ValueError(
                f"a layer with {self.shape[1]} inputs: products modulo {self.field.p} are exact up to {INNER}"
            )
        return _bilinear(np.matmul, self, other, shape, lambda g: (g @ other.mT, self.mT @ g))

    def __sub__(self, other: "Node") -> "Node":
        return self + other * -1

    @cached_property
    def mT(self) -> "Node":
        """The transpose."""
        return _linear(self, self.shape[::-1], lambda a: a.swapaxes(-1, -2), lambda g: g.mT)

    def reshaped(self, *shape: int) -> "Node":
        """The same entries in another shape."""
        k, old = len(self.shape), self.shape
        return _linear(self, shape, lambda a: a.reshape(*a.shape[: a.ndim - k], *shape), lambda g: g.reshaped(*old))


def constant(value: Array, field: Field) -> Node:
    """A node that does not depend on t.  Source: ours."""
    return Node(field, value.shape, known=[value])


def function(z: Node, value: Callable[[Array], Array], slope: Callable[[Node], Node]) -> Node:
    """The node y = s(z) of a scalar function: `value` gives s(z(0)), `slope(y)` the node s'(z), which may use y.

    The coefficients follow from y' = s'(z) z'.  For a transcendental s, `value` may draw at random: the values of exp
    at arguments that are linearly independent over the rationals satisfy no algebraic relation, so the rank at random
    values is the generic one.

    Source: ours (Taylor arithmetic); the independence is the theorem of Ax, "On Schanuel's conjectures" (1971).
    """

    reduce = z.field.reduce

    def step(n: int) -> Array | None:
        if n == 0:
            start = z.at(0)
            return value(np.zeros(z.shape) if start is None else start)
        total = None
        for k in range(1, n + 1):
            dz, s = z.at(k), derivative.at(n - k)
            if dz is not None and s is not None:
                term = reduce(reduce(dz * s) * k)
                total = term if total is None else total + term
        return None if total is None else reduce(reduce(total) * pow(n, -1, z.field.p))

    y = Node(z.field, z.shape, step, (z,), lambda g: (g * derivative,))
    derivative = slope(y)
    return y


def inverse(z: Node) -> Node:
    """The node 1 / z.  Raises ZeroDivisionError for a residue 0.  Source: ours."""

    def value(a: Array) -> Array:
        if not a.all():
            raise ZeroDivisionError(f"1 / 0 modulo {z.field.p}")
        return np.vectorize(lambda v: float(pow(int(v), -1, z.field.p)))(a)

    return function(z, value, lambda y: y * y * -1)


def vjp(outputs: Iterable[Node], cotangents: Iterable[Node], inputs: Iterable[Node]) -> list[Node]:
    """The nodes sum_i <cotangent_i, d output_i / d input> of every input: reverse differentiation of the graph.

    Source: ours.
    """
    outputs, inputs = list(outputs), list(inputs)
    order: list[Node] = []
    reaches = {id(node): True for node in inputs}

    def visit(node: Node) -> bool:
        if id(node) not in reaches:
            reaches[id(node)] = any([visit(parent) for parent in node.parents])
            if reaches[id(node)]:
                order.append(node)
        return reaches[id(node)]

    total: dict[int, Node] = {}

    def collect(node: Node, cotangent: Node) -> None:
        total[id(node)] = total[id(node)] + cotangent if id(node) in total else cotangent

    for node, cotangent in zip(outputs, cotangents, strict=True):
        if visit(node):
            collect(node, cotangent)
    for node in reversed(order):
        if id(node) in total:
            for parent, cotangent in zip(node.parents, node.pull(total[id(node)]), strict=True):
                if reaches[id(parent)]:
                    collect(parent, cotangent)
    return [total.get(id(node), Node(node.field, node.shape)) for node in inputs]


@dataclass(frozen=True)
class System:
    """A control system: leaves of the state and of the controls, and the velocity of every part of the state.

    The velocity is linear in the controls; its columns are the vector fields whose Lie algebra is asked for.
    """

    state: Mapping[str, Node]
    control: Mapping[str, Node]
    velocity: Mapping[str, Node]


def shaken(system: System, covectors: Mapping[str, Array]) -> Iterator[Array]:
    """Order by order, rows that span the Lie algebra of the control fields at the start of a random curve.

    Along a curve s' = sum_i c_i(t) X_i(s) with random controls, covectors (R, n) carried by l' = -(dX)^T l are paired
    with the fields: coefficient n in t of <l, X_i> is <l(0), .> of a combination of brackets of depth up to n + 1.
    Yields arrays (controls, R); at a generic point all orders together have the rank of the Lie algebra (as far as R
    covectors can see it).

    Source: ours; random controls make the linearised system as controllable as the system is (Sontag, "Universal
    nonsingular controls", 1992).
    """
    carried = {k: Node(leaf.field, leaf.shape, known=[covectors[k]]) for k, leaf in system.state.items()}
    inputs = [*system.state.values(), *system.control.values()]
    pulled = vjp(system.velocity.values(), (carried[k] for k in system.velocity), inputs)
    moves, pairings = pulled[: len(carried)], pulled[len(carried) :]
    n, many = 0, len(next(iter(covectors.values())))
    while True:
        found = [node.at(n) for node in pairings]
        rows = [a.reshape(len(a), -1) for a in found if a is not None]
        yield np.concatenate(rows, axis=1).T if rows else np.empty((0, many))
        for (k, leaf), move in zip(system.state.items(), moves, strict=True):
            share = pow(n + 1, -1, leaf.field.p)
            step, turn = system.velocity[k].at(n), move.at(n)
            leaf.known.append(None if step is None else leaf.field.reduce(step * share))
            carried[k].known.append(None if turn is None else leaf.field.reduce(turn * (leaf.field.p - share)))
        n += 1


def leaf(value: Array | None, field: Field, shape: tuple[int, ...] = ()) -> Node:
    """A part of the state, which starts at `value`; without one, a control: random at every order.  Source: ours."""
    if value is not None:
        return Node(field, value.shape, known=[value])
    return Node(field, shape, lambda n: field.random(*shape))


def _bilinear(fn: Callable, a: Node, b: Node, shape: tuple[int, ...], pull: Callable[[Node], tuple[Node, ...]]) -> Node:
    def step(n: int) -> Array | None:
        total = None
        for i in range(n + 1):
            x, y = a.at(i), b.at(n - i)
            if x is not None and y is not None:
                term = a.field.reduce(fn(x, y))
                total = term if total is None else total + term
        return total if n == 0 or total is None else a.field.reduce(total)

    return Node(a.field, shape, step, (a, b), pull)


def _linear(a: Node, shape: tuple[int, ...], fn: Callable[[Array], Array], adjoint: Callable[[Node], Node]) -> Node:
    def step(n: int) -> Array | None:
        x = a.at(n)
        return None if x is None else fn(x)

    return Node(a.field, shape, step, (a,), lambda g: (adjoint(g),))


def _lifted(a: Node, ndim: int) -> Node:
    return a if len(a.shape) == ndim else a.reshaped(*(1,) * (ndim - len(a.shape)), *a.shape)


def _summed(g: Node, shape: tuple[int, ...]) -> Node:
    """The adjoint of broadcasting a shape of as many axes."""
    axes = tuple(i - len(shape) for i, n in enumerate(shape) if n == 1 and g.shape[i] != 1)
    if not axes:
        return g
    spread = lambda h: _linear(h, g.shape, lambda a: _spread(a, g.shape), lambda k: _summed(k, shape))  # noqa: E731
    return _linear(g, shape, lambda a: g.field.reduce(a.sum(axis=axes, keepdims=True)), spread)


def _spread(a: Array, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(a, (*a.shape[: a.ndim - len(shape)], *shape))


@ops.add.register
def _(z: Node, b: Node) -> Node:
    return z + b


@ops.transpose.register
def _(z: Node) -> Node:
    return z.mT


@ops.take.register
def _(z: Node, i: int) -> Node:
    return _gathered(z, _positions(z.shape)[i])


@ops.softmax.register
def _(z: Node) -> Node:
    e = function(z, lambda a: z.field.random(*a.shape), lambda y: y)
    return e * inverse(_summed(e, (1, z.shape[1])))


@ops.conv.register
def _(x: Node, W: Node, b: Node) -> Node:
    (n, c, *_), (out, _, k, m) = x.shape, W.shape
    windows = np.lib.stride_tricks.sliding_window_view(_positions(x.shape), (k, m), axis=(2, 3))
    rows, columns = windows.shape[2:4]
    columns_of_x = _gathered(x, windows.transpose(1, 4, 5, 0, 2, 3).reshape(c * k * m, -1))
    z = (W.reshaped(out, c * k * m) @ columns_of_x).reshaped(out, n, rows, columns)
    return _gathered(z, _positions(z.shape).transpose(1, 0, 2, 3)) + b.reshaped(1, out, 1, 1)


def _positions(shape: tuple[int, ...]) -> NDArray[np.int64]:
    return np.arange(int(np.prod(shape))).reshape(shape)


def _gathered(a: Node, index: NDArray[np.int64]) -> Node:
    """The entries at flat positions, in the shape of `index`."""
    k, size = len(a.shape), int(np.prod(a.shape))

    def fn(v: Array) -> Array:
        return v.reshape(*v.shape[: v.ndim - k], size)[..., index]

    def adjoint(g: Node) -> Node:
        def place(v: Array) -> Array:
            flat = v.reshape(-1, index.size)
            out = np.zeros((len(flat), size))
            np.add.at(out.T, index.ravel(), flat.T)
            return a.field.reduce(out).reshape(*v.shape[: v.ndim - index.ndim], *a.shape)

        return _linear(g, a.shape, place, lambda h: _gathered(h, index))

    return _linear(a, index.shape, fn, adjoint)

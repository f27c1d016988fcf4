"""Proofs: sympy decides whether a claimed symmetry or conserved quantity holds, and says for what.

A claim is first tried at a few exact rational points: a difference there refutes it with a witness.  Only then is the
difference brought to zero symbolically.  Neither succeeding leaves the claim open: unknown is not false.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial

import sympy
from sympy import ImmutableMatrix, MatrixSymbol, Rational

from symlib import cards
from symlib.activations import named_activation
from symlib.architectures import Arch
from symlib.groups import Elem, Group
from symlib.ops import M, Step, canonical
from symlib.symmetry import Params, Shapes, Symmetry

Functions = Mapping[str, Callable[[M], M]]
Memo = dict[tuple, sympy.Symbol]  # what an opaque function gave for an argument: (space, row, argument) -> symbol
SOME = 12
DIGITS = 40  # of the numerical evaluation at exact rational points
ZERO = sympy.Float(10) ** (10 - DIGITS)


@dataclass(frozen=True)
class Proof:
    """The outcome of a proof attempt: what was claimed, for what sizes and functions, how, and what was left over.

    `status` is "proved", "refuted" (then `witness` says where) or "open"; `method` is "exhaustive", "symbolic",
    "infinitesimal", "all sizes" or "witness"; `residual` is what should have been zero.
    """

    id: str
    claim: str
    status: str
    scope: str
    method: str
    assumptions: tuple[str, ...] = ()
    residual: sympy.Expr = sympy.S.Zero
    witness: str | None = None

    def __bool__(self) -> bool:
        raise TypeError("a Proof is proved, refuted or open: ask for .status, unknown is not false")

    def require(self, status: str = "proved") -> "Proof":
        """This proof, if it has the wanted status.  Raises AssertionError with the residual otherwise."""
        if self.status != status:
            raise AssertionError(f"{self.claim}: wanted {status}, got {self.status}; {self.witness or self.residual}")
        return self

    def record(self) -> dict:
        """The whole outcome as plain data, for the scoreboard."""
        record = {k: v for k, v in asdict(self).items() if k not in ("claim", "residual")}
        return {"kind": "proof", "statement": self.claim, **record, "assumptions": list(self.assumptions)}

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> cards.Bundle:
        lines = [f"{self.method}; {cards.rich(self.scope)}"]
        lines += [cards.rich("; ".join(self.assumptions))] if self.assumptions else []
        lines += [f"witness: {cards.rich(self.witness)}"] if self.witness else []
        return cards.bundle(self.record(), self.status, repr(self), lines)

    def __repr__(self) -> str:
        tail = f"\n  witness: {self.witness}" if self.witness else ""
        assuming = f"; {'; '.join(self.assumptions)}" if self.assumptions else ""
        return f"{self.status}: {self.claim}\n  {self.method}; {self.scope}{assuming}{tail}"


class Entry(sympy.Symbol):
    """A matrix entry such as W1_12, typeset as W with the subscript 1,12."""

    def _latex(self, printer: object) -> str:
        name, index = self.name.rsplit("_", 1)
        parts = [name[1:].strip("_"), index] if name[1:] else [index]
        return f"{name[0]}_{{{','.join(parts)}}}"


def symbols(shapes: Shapes) -> dict[str, M]:
    """Parameters made of real symbols: W1_12 is the entry in row 1, column 2.  Source: ours."""
    return {k: _array(k, s) for k, s in shapes.items()}


def _array(name: str, shape: tuple[int, ...]) -> M:
    index = itertools.product(*(range(n) for n in shape))
    between = "" if max(shape, default=1) < 10 else ","  # (1, 11) and (11, 1) are two entries
    entries = [Entry(f"{name}_{between.join(str(i + 1) for i in t)}", real=True) for t in index]
    return ImmutableMatrix(*shape, entries) if len(shape) == 2 else sympy.Array(entries, shape)


def _input(arch: Arch) -> M:
    if "x" in arch.shapes:
        raise ValueError(f"{arch.name}: a proof needs the name x for the input; rename the parameter x")
    columns = 2 if "t" in arch.input_axes else 1  # a sequence needs two tokens to attend; samples are independent
    return _array("x", tuple(columns if n is None else n for n in arch.inputs))


def _entries(value: M) -> list[sympy.Expr]:
    return sympy.flatten(value)


def _points(free: Iterable[sympy.Symbol], count: int) -> Iterator[dict[sympy.Symbol, Rational]]:
    """Exact rational points without structure in (-1, 1), the same on every machine (Lehmer's generator)."""
    names, state = sorted(free, key=str), 7
    for _ in range(count):
        point = {}
        for s in names:
            state = state * 48271 % 2147483647
            value = Rational(state % 19 + 1, state % 7 + 20)
            point[s] = value if s.is_positive or state % 3 else -value
        yield point


def _witness(
    sides: Callable[..., Iterable[tuple[sympy.Expr, sympy.Expr]]], *values: M, count: int = 3
) -> tuple[dict, sympy.Expr, sympy.Expr] | None:
    """A rational point of the symbols in `values` where the two `sides` differ, with both; None if there is none.

    Numbers are put in before the functions are applied, so this is cheap also where the symbolic difference is not.
    """
    free = set().union(*(v.free_symbols for v in values))
    for point in _points(free, count):
        for a, b in sides(*(_put(point, v) for v in values)):
            left, right = sympy.N(a, DIGITS), sympy.N(b, DIGITS)
            if left.is_finite and right.is_finite and not abs(left - right) <= ZERO * (1 + abs(left)):
                return point, left, right  # a point where a side is singular or not a number says nothing
    return None


def _put(point: Mapping[sympy.Symbol, Rational], value: M) -> M:
    return value.xreplace(point) if isinstance(value, sympy.Expr) else value.applyfunc(lambda e: e.xreplace(point))


def _first_nonzero(residuals: list[sympy.Expr]) -> sympy.Expr:
    """The first residual that does not become zero by the canonical form or, failing that, `simplify`; or zero."""
    for r in residuals:
        if canonical(r) != 0 and sympy.simplify(r) != 0:
            return r
    return sympy.S.Zero


def _format(point: Mapping[sympy.Symbol, Rational]) -> str:
    return ", ".join(f"{s} = {v}" for s, v in point.items())


def _short(value: sympy.Expr) -> str:
    return str(sympy.N(value, 6))


def invariance(arch: Arch, sym: Symmetry) -> Proof:
    """Prove or refute f(g . theta, x) = f(theta, x) for every g in the group.

    In this order: (1) a witness at exact rational points refutes; (2) matrix symbols of unspecified size, where the
    architecture has a matrix form, prove all sizes; (3) finite groups element by element (or by generators), for
    permutations with an uninterpreted elementwise activation; (4) a generic symbolic element; (5) where its inverse is
    too large, the Lie algebra: d/dt f(exp(tA) theta, x) = 0, which covers the connected component of the identity only.

    Raises ValueError when the symmetry is not for this architecture's parameters.

    Source: Zhao, Walters, Yu, arXiv 2506.13018, Definition 1.
    """
    if dict(sym.shapes) != dict(arch.shapes):
        raise ValueError(f"{sym.name!r} acts on {dict(sym.shapes)}, {arch.name} has {dict(arch.shapes)}")
    sizes = f"{arch.name}, {_input_text(arch)}"
    proof = partial(Proof, f"{sym.name} {arch.name}", f"{sym.name} is a symmetry of the {arch.name}")
    theta, x = symbols(arch.shapes), _input(arch)
    elements = sym.group.symbol("") if sym.group.symbol else _some_elements(sym.group)
    for element in elements:
        found = _moved(arch, sym, element, theta, x)
        if found:
            point, left, right = found
            g = element.g.subs(point)
            place = _format({s: v for s, v in point.items() if s not in element.g.free_symbols})
            text = f"f(theta, x) = {_short(left)} but f(g theta, x) = {_short(right)} for g = {g.tolist()} at {place}"
            return proof("refuted", sizes, "witness", witness=text)
    if _all_sizes(arch, sym):
        scope = "every width, every number of tokens" if "t" in arch.input_axes else "every width, one input"
        return proof("proved", scope, "all sizes", (sym.group.cover,))
    if sym.group.symbol is None:
        return _infinitesimal(arch, sym, theta, x, proof, sizes)
    memo: Memo = {}
    functions = _opaque(arch, sym, memo)
    before = _entries(arch.forward(theta, x, functions))
    generic = sym.group.name.startswith("permutation") and any(_is_elementwise(arch, key[0]) for key in memo)
    scope = f"{sizes}, every elementwise activation" if generic else sizes
    method = "symbolic" if sym.group.dimension else "exhaustive"
    for element in elements:
        after = _entries(arch.forward(sym.act(element, theta), x, functions))
        residual = _first_nonzero([a - b for a, b in zip(after, before, strict=True)])
        if residual != 0:
            return proof("open", scope, method, residual=residual)
    if not elements:
        return proof("open", scope, method, ("the group has no symbolic element to examine",))
    return proof("proved", scope, method, (sym.group.cover,))


def _moved(arch: Arch, sym: Symmetry, element: Elem, theta: Params, x: M) -> tuple | None:
    """A witness against f(g . theta, x) = f(theta, x)."""
    names = list(theta)

    def sides(g: M, inv: M, x: M, *arrays: M) -> Iterable[tuple[sympy.Expr, sympy.Expr]]:
        here = dict(zip(names, arrays, strict=True))
        there = sym.act(Elem(g, inv), here)
        return zip(_entries(arch(here, x)), _entries(arch(there, x)), strict=True)

    return _witness(sides, element.g, element.inv, x, *theta.values())


def _input_text(arch: Arch) -> str:
    return "two tokens" if "t" in arch.input_axes else "one input"


def _some_elements(group: Group) -> tuple[Elem, ...]:
    """About `SOME` elements of large groups that are easy to invert, for witnesses.

    I + s A where A^2 = 0; the rotation I + sin A + (1 - cos) A^2, with s = tan of half the angle, where A^3 = -A; and
    the generators of the other components.
    """
    s, eye = sympy.Symbol("s", real=True), sympy.eye(group.n)
    sin, versine = 2 * s / (1 + s**2), 2 * s**2 / (1 + s**2)
    out = []
    for A in map(ImmutableMatrix, group.algebra[:: 1 + group.dimension // SOME]):
        square = A @ A
        if square.is_zero_matrix:
            out.append(Elem(eye + s * A, eye - s * A))
        elif (square @ A + A).is_zero_matrix:
            out.append(Elem(eye + sin * A + versine * square, eye - sin * A + versine * square))
    out += [Elem(D, D.T) for D in group.discrete]
    return tuple(Elem(ImmutableMatrix(e.g), ImmutableMatrix(e.inv)) for e in out)


def _is_elementwise(arch: Arch, space: str) -> bool:
    return named_activation(arch.activations[space]).is_elementwise


def _opaque(arch: Arch, sym: Symmetry, memo: Memo) -> Functions:
    """The activation functions for a proof: opaque ones, equal on equal arguments, wherever that can suffice.

    An axis action leaves the arguments in every other space alone, so nothing need be known of the functions there; and
    a permutation needs to know nothing of an elementwise function in its own space either.  An action that is no axis
    action gets the real functions, except for softmax.
    """
    permuted = sym.group.name.startswith("permutation")
    out = dict(arch.functions())
    for space in out:
        own = space in sym.space.split()
        suffices = permuted and _is_elementwise(arch, space) if own else bool(sym.space)
        if suffices or arch.activations[space] == "softmax":
            out[space] = partial(_unknown, memo, space, _is_elementwise(arch, space))
    return out


def _unknown(memo: Memo, space: str, is_elementwise: bool, z: M) -> M:
    """An unknown function of each entry, or of each column, as one symbol for each different argument."""
    z = z.applyfunc(canonical)

    def symbol(*key: object) -> sympy.Symbol:
        return memo.setdefault((space, *key), sympy.Symbol(f"sigma_{space}_{len(memo) + 1}", real=True))

    if is_elementwise:
        return z.applyfunc(lambda e: symbol(0, e))
    return ImmutableMatrix(*z.shape, lambda i, j: symbol(i, *z[:, j]))


def _infinitesimal(arch: Arch, sym: Symmetry, theta: Params, x: M, proof: Callable[..., Proof], sizes: str) -> Proof:
    scope = f"{sizes}; connected component of the identity only"
    for A in sym.group.algebra:
        residual = _first_nonzero(_rates(arch, theta, sym.generator(A, theta), x))
        if residual != 0:
            return proof("open", scope, "infinitesimal", residual=residual)
    if not sym.group.algebra:
        return proof("open", scope, "infinitesimal", ("the group has neither a symbolic element nor a generator",))
    return proof("proved", scope, "infinitesimal")


def _rates(arch: Arch, theta: Params, along: Params, x: M, *, opaque: bool = True) -> list[sympy.Expr]:
    """The derivatives of the outputs in a direction, d/dt f(theta + t along, x) at t = 0, by first-order arithmetic.

    Where no argument of an activation moves, its values do not either, whatever the function: with `opaque` they become
    symbols.  This keeps the expressions small however deep the network is.
    """
    t, memo = sympy.Dummy("t", real=True), {}

    def extend(space: str, fn: Callable[[M], M]) -> Callable[[M], M]:
        def apply(z: M) -> M:
            value, rate = z.applyfunc(lambda e: canonical(e.subs(t, 0))), z.applyfunc(slope)
            if not any(_entries(rate)):
                return _unknown(memo, space, _is_elementwise(arch, space), value) if opaque else fn(value)
            moving = [v + t * r for v, r in zip(_entries(value), _entries(rate), strict=True)]
            return fn(_shaped(moving, z.shape)).applyfunc(lambda e: e.subs(t, 0) + t * slope(e))

        return apply

    def slope(e: sympy.Expr) -> sympy.Expr:
        return canonical(sympy.diff(e, t).subs(t, 0))

    moved = {k: p + t * along[k] for k, p in theta.items()}
    functions = {space: extend(space, fn) for space, fn in arch.functions().items()}
    return [sympy.diff(f, t).subs(t, 0) for f in _entries(arch.forward(moved, x, functions))]


def _shaped(entries: list[sympy.Expr], shape: tuple[int, ...]) -> M:
    return ImmutableMatrix(*shape, entries) if len(shape) == 2 else sympy.Array(entries, shape)


def _is_kinked(arch: Arch) -> bool:
    z = ImmutableMatrix([[sympy.Symbol("z", real=True)]])
    return any(fn(z)[0].has(Step) for space, fn in arch.functions().items() if _is_elementwise(arch, space))


def _gradient(f: sympy.Expr, theta: Params) -> dict[str, M]:
    return {k: v.applyfunc(lambda s: sympy.diff(f, s)) for k, v in theta.items()}


def _all_sizes(arch: Arch, sym: Symmetry) -> bool:
    """Whether matrix symbols of symbolic size prove the invariance (False where there is no such form).

    Samples do not meet, so one column stands for all of them; tokens do, so their number is symbolic.
    """
    space = sym.space
    if sym.group.matrix_inverse is None or any(len(s) != 2 for s in arch.shapes.values()) or space not in arch.sizes():
        return False
    dims = {s: sympy.Symbol(f"n_{s}", integer=True, positive=True) for s in (*arch.sizes(), "t")}

    def symbol(name: str, axes: tuple[str | None, ...]) -> MatrixSymbol:
        return MatrixSymbol(name, *(dims[a.rstrip("*")] if a else 1 for a in axes))

    theta, x = {k: symbol(k, axes) for k, axes in arch.axes.items()}, symbol("x", arch.input_axes)
    n = dims[space]
    g = MatrixSymbol("group element", n, n)
    moved = sym.act(Elem(g, sym.group.matrix_inverse(g)), theta)
    try:
        after, before = arch(moved, x).doit(), arch(theta, x).doit()
        return after == before or sympy.expand(after - before).doit() == sympy.ZeroMatrix(*before.shape)
    except Exception:  # whatever a forward pass does with what sympy has no matrix-symbol form of: no proof here
        return False


def conserved(system: Arch | Callable[[Params], sympy.Expr], charge: "object") -> Proof:
    """Prove or refute that a charge is constant along gradient flow, d theta / dt = -grad L.

    For an architecture, <grad Q, grad f_k> = 0 for every output f_k: then Q is conserved for every loss of the outputs
    and every data set, off the kinks of the activation.  For a loss, a function of symbolic parameters,
    <grad Q, grad L> = 0.  Permits any object with `name`, `shapes` and `value(theta)`, such as `conserved.Charge`.

    Raises ValueError when the charge is not for the architecture's parameters.

    Source: Marcotte, Gribonval, Peyre, arXiv 2307.00144, Definition of conservation law for phi.
    """
    shapes: Shapes = charge.shapes  # type: ignore[attr-defined]
    theta = symbols(shapes)
    if isinstance(system, Arch):
        if dict(shapes) != dict(system.shapes):
            raise ValueError(f"charge of {dict(shapes)}, but {system.name} has {dict(system.shapes)}")
        x, name = _input(system), system.name
        scope = f"{name}, {_input_text(system)}; every loss and data set"
        assumptions = ("off the kinks of the activation",) if _is_kinked(system) else ()
    else:
        x, name, scope, assumptions = sympy.zeros(1, 1), "loss", "this loss", ()
    Q = sympy.sympify(charge.value(theta))  # type: ignore[attr-defined]
    grad_Q = _gradient(Q, theta)

    def rates(theta: Params, along: Params, x: M, opaque: bool) -> list[sympy.Expr]:
        if isinstance(system, Arch):
            return _rates(system, theta, along, x, opaque=opaque)
        t = sympy.Dummy("t", real=True)
        loss = sympy.sympify(system({k: p + t * along[k] for k, p in theta.items()}))
        return [sympy.diff(loss, t).subs(t, 0)]

    def at_point(x: M, *arrays: M) -> Iterable[tuple[sympy.Expr, sympy.Expr]]:
        here, along = (dict(zip(theta, part, strict=True)) for part in (arrays[: len(theta)], arrays[len(theta) :]))
        return ((rate, sympy.S.Zero) for rate in rates(here, along, x, False))

    label = charge.name  # type: ignore[attr-defined]
    proof = partial(Proof, f"{label} {name}", f"{label} is conserved by gradient flow on the {name}")
    found = _witness(at_point, x, *theta.values(), *grad_Q.values())
    if found:
        point, rate, _ = found
        text = f"<grad Q, grad f> = {_short(rate)} at {_format(point)}"
        return proof("refuted", scope, "witness", assumptions, witness=text)
    residual = _first_nonzero(rates(theta, grad_Q, x, True))
    return proof("open" if residual != 0 else "proved", scope, "symbolic", assumptions, residual)


def equal(left: sympy.Expr, right: sympy.Expr, *, id: str, claim: str, scope: str) -> Proof:
    """Prove or refute an identity between two expressions, as a displayed proof.

    Source: ours.
    """
    found = _witness(lambda a, b: [(a, b)], sympy.sympify(left), sympy.sympify(right))
    if found:
        point, a, b = found
        where = f" at {_format(point)}" if point else ""
        text = f"{_short(a)} is not {_short(b)}{where}"
        return Proof(id, claim, "refuted", scope, "witness", witness=text)
    residual = _first_nonzero([sympy.sympify(left) - sympy.sympify(right)])
    return Proof(id, claim, "open" if residual != 0 else "proved", scope, "symbolic", residual=residual)

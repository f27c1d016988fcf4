"""What a check may do with an answer: read it by exact type, and compare it with what is wanted.

An answer is plain JSON written by somebody else's code. Nothing here runs it: a formula is parsed by a whitelist and
built anew from the grader's own symbols. Every function raises AssertionError saying what was wanted and what came.
"""

import ast
import math
import operator
import random
from collections.abc import Callable, Sequence
from fractions import Fraction

import sympy
import torch

LONGEST, NODES, POWER, WHOLE = 4000, 400, 24, 10**6  # caps on a formula: characters, nodes, exponents, numbers
POINTS, DIGITS = 8, 40
FUNCTIONS: dict[str, Callable] = {
    name: getattr(sympy, name)
    for names in ("sqrt exp log Abs sign Min Max", "sin cos tan asin acos atan", "sinh cosh tanh asinh acosh atanh")
    for name in names.split()
}
CONSTANTS = {"pi": sympy.pi, "E": sympy.E}
OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.UAdd: operator.pos, ast.USub: operator.neg,
}  # fmt: skip


def shown(answer: object) -> str:
    """An answer in a message: its type and its beginning."""
    if answer is None:
        return "None, which is no answer"
    text = repr(answer)
    return f"{type(answer).__name__} {text if len(text) <= 80 else text[:80] + ' ...'}"


def number(answer: object) -> float:
    """A finite real number; the text of a constant, such as sqrt(2)/3, is one too."""
    value: object = answer
    if type(answer) is str and answer not in ("nan", "inf", "-inf"):
        exact = formula(answer, [])
        value = float(exact) if exact.is_extended_real and exact.is_finite else None
    assert isinstance(value, int | float) and type(value) is not bool, f"wanted a number, got {shown(answer)}"
    assert abs(value) < 1e300, f"wanted a finite number, got {shown(answer)}"
    return float(value)


def whole(answer: object) -> int:
    """A whole number; 3.0 is one."""
    assert type(answer) is int or (type(answer) is float and answer.is_integer()), (
        f"wanted a whole number, got {shown(answer)}"
    )
    return int(answer)


def truth(answer: object) -> bool:
    """True or False, and nothing that merely counts as one."""
    assert type(answer) is bool, f"wanted True or False, got {shown(answer)}"
    return answer


def word(answer: object, options: Sequence[str]) -> str:
    """One of the options, up to case and surrounding spaces."""
    assert type(answer) is str, f"wanted one of {', '.join(options)}, got {shown(answer)}"
    fits = [option for option in options if option.casefold() == answer.strip().casefold()]
    assert fits, f"wanted one of {', '.join(options)}, got {shown(answer)}"
    return fits[0]


def array(answer: object, shape: Sequence[int]) -> torch.Tensor:
    """A float64 tensor of exactly this shape, every entry a finite number."""

    def flat(node: object, left: Sequence[int]) -> list[float]:
        if not left:
            return [number(node)]
        assert type(node) is list and len(node) == left[0], (
            f"wanted numbers of shape {tuple(shape)}: a list of length {left[0]}, got {shown(node)}"
            + (f" of length {len(node)}" if type(node) is list else "")
        )
        return [value for item in node for value in flat(item, left[1:])]

    return torch.tensor(flat(answer, shape), dtype=torch.float64).reshape(tuple(shape))


def formula(answer: object, symbols: Sequence[sympy.Symbol]) -> sympy.Expr:
    """A sympy expression in these symbols, which are matched by name; no other names, calls or constructions."""
    if type(answer) in (int, float):
        answer = repr(answer)
    names = ", ".join(s.name for s in symbols)
    assert type(answer) is str, f"wanted a formula in {names or 'numbers'}, got {shown(answer)}"
    assert len(answer) <= LONGEST, f"the formula has {len(answer)} characters, more than {LONGEST}"
    try:
        tree = ast.parse(answer.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise AssertionError(f"this formula cannot be read: {shown(answer)}") from None
    count = sum(1 for _ in ast.walk(tree))
    assert count <= NODES, f"the formula has {count} parts, more than {NODES}"
    known: dict[str, sympy.Expr] = {**CONSTANTS, **{s.name: s for s in symbols}}
    try:
        return sympy.sympify(build(tree.body, known))
    except RecursionError:
        raise AssertionError("the formula is nested too deeply") from None


def build(node: ast.expr, known: dict[str, sympy.Expr]) -> sympy.Expr:
    """The expression of one parsed node; AssertionError at anything that is not on the list."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and type(node.value) is not bool:
        exact = Fraction(str(node.value)) if math.isfinite(node.value) else Fraction(WHOLE + 1)
        assert abs(exact) <= WHOLE, f"the number {str(node.value)[:20]} is larger than {WHOLE}"
        return sympy.Rational(exact.numerator, exact.denominator)
    if isinstance(node, ast.Name):
        assert node.id in known, f"the name '{node.id}' is not one of {', '.join(known)}"
        return known[node.id]
    if isinstance(node, ast.UnaryOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](build(node.operand, known))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return OPERATORS[type(node.op)](build(node.left, known), build(node.right, known))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = build(node.left, known), build(node.right, known)
        assert not exponent.is_number or bool(abs(exponent) <= POWER), f"an exponent is larger than {POWER}"
        assert not (base.is_number and exponent.is_number) or height(base) <= 6, "a power of a power of numbers"
        return base**exponent
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        assert node.func.id in FUNCTIONS, f"the function '{node.func.id}' is not one of {', '.join(FUNCTIONS)}"
        limit = len(node.args) <= 8 if node.func.id in ("Min", "Max") else len(node.args) == 1
        assert limit and node.args, f"{node.func.id} takes other arguments"
        return FUNCTIONS[node.func.id](*(build(a, known) for a in node.args))
    raise AssertionError(
        f"'{ast.unparse(node)[:80]}' is not made of numbers, {', '.join(known)}, + - * / ** and functions"
    )


def height(expression: sympy.Expr) -> int:
    """How many digits the largest whole number in an expression has."""
    return max((len(str(int(n.p) * int(n.q))) for n in expression.atoms(sympy.Rational)), default=0)


def formulas(answer: object, symbols: Sequence[sympy.Symbol], count: int) -> list[sympy.Expr]:
    """Exactly so many formulas, from a list or, row by row, from a matrix."""

    def flat(node: object) -> list[object]:
        return [item for part in node for item in flat(part)] if type(node) is list else [node]

    assert type(answer) is list, f"wanted a list of {count} formulas, got {shown(answer)}"
    items = flat(answer)
    assert len(items) == count, f"wanted {count} formulas, got {len(items)}"
    return [formula(item, symbols) for item in items]


def same(got: sympy.Expr, wanted: sympy.Expr, what: str = "your formula") -> None:
    """Two formulas are equal: at eight random rational points, with forty digits; else the point is told."""
    symbols = sorted(sympy.sympify(got).free_symbols | sympy.sympify(wanted).free_symbols, key=str)
    dice, tried = random.SystemRandom(), 0
    for _ in range(5 * POINTS):
        signs = {s: 1 if s.is_positive else dice.choice((-1, 1)) for s in symbols}
        at: dict[sympy.Basic, sympy.Basic] = {s: sympy.Rational(i * dice.randint(1, 97), 37) for s, i in signs.items()}
        left, right = (sympy.N(sympy.sympify(e).xreplace(at), DIGITS) for e in (got, wanted))
        if not (right.is_number and right.is_finite):
            continue
        tried += 1
        place = ", ".join(f"{s} = {v}" for s, v in at.items()) or "no symbols"
        assert left.is_number and left.is_finite, f"at {place} {what} has no value"
        assert abs(left - right) <= 10 ** (10 - DIGITS) * (1 + abs(right)), (
            f"at {place} {what} is {sympy.N(left, 6)}, which is not the value wanted"
        )
        if tried == POINTS or not symbols:
            return
    raise AssertionError(f"the formulas could be compared at {tried} of {POINTS} points only")


def near(got: float | torch.Tensor, wanted: float | torch.Tensor, *, tolerance: float, what: str) -> None:
    """The relative error |got - wanted| / |wanted| is within the tolerance; absolute where nothing is wanted."""
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (got, wanted))
    assert a.shape == b.shape, f"{what}: wanted shape {tuple(b.shape)}, got {tuple(a.shape)}"
    size = float(b.norm()) or 1.0
    error = float((a - b).norm()) / size
    assert error <= tolerance, f"{what}: relative error {error:.2g}, wanted at most {tolerance:.2g}"

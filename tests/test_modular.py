"""Arithmetic modulo a prime: against whole numbers in Python, an independent elimination, sympy and autograd."""

import numpy as np
import pytest
import sympy
import torch

from symlib import ops
from symlib.architectures import attention, conv_block, mlp, multihead_attention, residual, softmax_classifier
from symlib.counting import fields
from symlib.counting.modular import (
    INNER,
    PRIMES,
    Echelon,
    Field,
    System,
    constant,
    function,
    inverse,
    leaf,
    shaken,
    span,
    vjp,
)

P = PRIMES[0]
ORDER = 5


@pytest.fixture(params=PRIMES)
def field(request, gen):
    return Field(request.param, gen)


def whole(a):
    """An array of residues as Python integers."""
    return np.vectorize(int, otypes=[object])(a)


def series(node, orders=ORDER):
    """The coefficients of a node as Python integers."""
    found = [node.at(n) for n in range(orders)]
    return [np.zeros(node.shape, dtype=object) if a is None else whole(a) for a in found]


def product(a, b, p, fn=np.multiply):
    """The product of two power series, each a list of coefficients."""
    return [sum(fn(a[i], b[n - i]) for i in range(n + 1)) % p for n in range(len(a))]


def slope(a):
    """The derivative in t, a coefficient shorter."""
    return [n * a[n] for n in range(1, len(a))]


def same(a, b, p):
    return all(((x - y) % p == 0).all() for x, y in zip(a, b, strict=True))


def elimination(rows, p):
    """The rank modulo p, by elimination in Python integers: nothing here is shared with symlib."""
    rows, rank = [[int(v) % p for v in row] for row in rows], 0
    for j in range(len(rows[0]) if rows else 0):
        lead = next((i for i in range(rank, len(rows)) if rows[i][j]), None)
        if lead is None:
            continue
        rows[rank], rows[lead] = rows[lead], rows[rank]
        scale = pow(rows[rank][j], -1, p)
        rows[rank] = [v * scale % p for v in rows[rank]]
        for i in range(len(rows)):
            if i != rank and rows[i][j]:
                factor = rows[i][j]
                rows[i] = [(v - factor * w) % p for v, w in zip(rows[i], rows[rank], strict=True)]
        rank += 1
    return rank


def is_span(echelon, rows, p):
    """Whether an echelon form spans what the rows span, and is reduced."""
    both = np.concatenate([rows, echelon.rows])
    reduced = (echelon.rows[:, echelon.pivots] == np.eye(echelon.rank)).all()
    return reduced and elimination(rows, p) == elimination(both, p) == elimination(echelon.rows, p) == echelon.rank


# ---- the field


def test_the_primes_are_prime_and_their_products_exact():
    assert len(set(PRIMES)) == 2
    for p in PRIMES:
        assert sympy.isprime(p) and p < 2**19
        assert (p - 1) ** 2 * INNER < 2**53


def test_sums_of_as_many_products_as_allowed_are_exact(field):
    p = field.p
    largest = np.full((2, INNER), p - 1.0)
    assert (field.product(largest, largest.T) == INNER * (p - 1) ** 2 % p).all()
    a, b = field.random(3, INNER), field.random(INNER, 2)
    assert (whole(field.product(a, b)) == whole(a) @ whole(b) % p).all()
    with pytest.raises(ValueError, match=f"inner length {INNER + 1}, exact up to {INNER}"):
        field.product(np.ones((1, INNER + 1)), np.ones((INNER + 1, 1)))
    with pytest.raises(ValueError, match=f"a layer with {INNER + 1} inputs"):
        constant(np.ones((1, INNER + 1)), field) @ constant(np.ones((INNER + 1, 1)), field)


def test_reduction_is_exact_next_to_multiples_of_the_prime(field, gen):
    p = field.p
    k = torch.randint(0, p * INNER - 1, (20_000,), generator=gen).tolist()
    near = [n * p + r for n in (*k, 0, 1, p * INNER - 1) for r in (-1, 0, 1)]
    assert (whole(field.reduce(np.array(near, dtype=float))) == np.array([n % p for n in near], dtype=object)).all()


def test_random_residues_are_not_zero_and_rationals_are_residues(field):
    drawn = field.random(10_000)
    assert drawn.min() >= 1 and drawn.max() < field.p
    assert field.residue(0.75) * 4 % field.p == 3 and field.residue(-2) == field.p - 2
    with pytest.raises((ZeroDivisionError, ValueError)):
        field.residue(sympy.Rational(1, field.p))


# ---- ranks


@pytest.mark.parametrize("seed", range(12))
def test_the_rank_is_that_of_an_independent_elimination(seed):
    gen = torch.Generator().manual_seed(seed)
    field = Field(PRIMES[seed % 2], gen)
    rows, columns = torch.randint(1, 14, (2,), generator=gen).tolist()
    rank = int(torch.randint(0, min(rows, columns) + 1, (1,), generator=gen))
    left, right = field.random(rows, rank), field.random(rank, columns)
    if rank:
        left[:, seed % rank] = field.reduce(left.sum(axis=1))  # some are dependent
    A = field.product(left, right)
    echelon = span(A, field)
    assert is_span(echelon, A, field.p)
    assert is_span(span(A[:5], field).extended(A[5:]), A, field.p)
    assert echelon.extended(field.product(field.random(3, rows), A)).rank == echelon.rank


@pytest.mark.parametrize("seed", range(5))
def test_the_rank_of_small_whole_numbers_is_the_rational_one(seed):
    gen = torch.Generator().manual_seed(seed)
    left = torch.randint(-2, 3, (7, seed + 1), generator=gen)
    A = (left @ torch.randint(-2, 3, (seed + 1, 6), generator=gen)).numpy().astype(float)
    wanted = sympy.Matrix(A.astype(int)).rank()
    for p in PRIMES:
        field = Field(p, gen)
        assert span(field.reduce(A), field).rank == wanted


def test_a_rank_that_drops_modulo_one_prime_does_not_drop_modulo_the_other(gen):
    p, q = PRIMES
    A = np.array([[1.0, 2.0], [3.0, 6.0 + p]])
    assert [span(Field(r, gen).reduce(A), Field(r, gen)).rank for r in (p, q)] == [1, 2]


def test_leading_zeros_zero_rows_and_no_rows(field):
    A = np.array([[0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 3, 1], [0, 0, 3, 3]], dtype=float)
    assert is_span(span(A, field), A, field.p) and span(A, field).rank == 2
    assert span(np.zeros((3, 4)), field).rank == span(np.empty((0, 4)), field).rank == 0


def test_the_independent_elimination_sees_a_wrong_entry(field):
    A = field.product(field.random(6, 3), field.random(3, 8))
    right = span(A, field)
    free = np.setdiff1d(np.arange(8), right.pivots)[0]
    for column in (free, right.pivots[1]):
        wrong = right.rows.copy()
        wrong[0, column] = (wrong[0, column] + 1) % field.p
        assert is_span(right, A, field.p) and not is_span(Echelon(wrong, right.pivots, field), A, field.p)


# ---- power series


def test_sums_products_and_transposes_of_series(field):
    p = field.p
    z, w, row = leaf(None, field, (3, 2)), leaf(None, field, (3, 2)), leaf(None, field, (1, 2))
    a, b, c = (series(n) for n in (z, w, row))
    assert same(series(z + w), [x + y for x, y in zip(a, b, strict=True)], p)
    assert same(series(z - w), [x - y for x, y in zip(a, b, strict=True)], p)
    assert same(series(ops.add(z, row)), [x + y for x, y in zip(a, c, strict=True)], p)
    assert same(series(z * w), product(a, b, p), p)
    assert same(series(z * row), product(a, c, p), p)
    assert same(series(z * -3), [-3 * x for x in a], p)
    assert same(series(ops.transpose(z) @ w), product([x.T for x in a], b, p, np.matmul), p)
    assert same(series(z.reshaped(2, 3)), [x.reshape(2, 3) for x in a], p)


def test_taking_and_convolving_series(field):
    p = field.p
    stack = leaf(None, field, (3, 2, 2))
    assert same(series(ops.take(stack, 1)), [x[1] for x in series(stack)], p)
    x, W, b = leaf(None, field, (2, 2, 4, 4)), leaf(None, field, (3, 2, 2, 2)), leaf(None, field, (3,))

    def conv(v, K):
        index = np.ndindex(2, 3, 3, 3)
        out = [(v[s, :, i : i + 2, j : j + 2] * K[o]).sum() for s, o, i, j in index]
        return np.array(out, dtype=object).reshape(2, 3, 3, 3)

    wanted = product(series(x, 3), series(W, 3), p, conv)
    wanted = [a + c.reshape(1, 3, 1, 1) for a, c in zip(wanted, series(b, 3), strict=True)]
    assert same(series(ops.conv(x, W, b), 3), wanted, p)


RULES = {  # the derivative of y in z, of series y
    "tanh": lambda y, p: [(n == 0) * 1 - v for n, v in enumerate(product(y, y, p))],
    "sigmoid": lambda y, p: [v - w for v, w in zip(y, product(y, y, p), strict=True)],
}


@pytest.mark.parametrize("name", RULES)
def test_transcendental_activations_satisfy_their_differential_equation(field, name):
    z = leaf(None, field, (2, 3))
    y = series(fields.SMOOTH[name](z))
    chain = product(RULES[name](y, field.p)[:-1], slope(series(z)), field.p)
    assert same(slope(y), chain, field.p)
    assert not same(slope(y), slope(series(z)), field.p)


def test_the_exponential_and_the_inverse(field):
    z = leaf(None, field, (2, 3))
    e = series(function(z, lambda a: field.random(*a.shape), lambda y: y))
    assert same(slope(e), product(e[:-1], slope(series(z)), field.p), field.p)
    one = [np.ones((2, 3), dtype=object), *[np.zeros((2, 3), dtype=object)] * (ORDER - 1)]
    assert same(product(series(z), series(inverse(z)), field.p), one, field.p)
    with pytest.raises(ZeroDivisionError, match=f"1 / 0 modulo {field.p}"):
        inverse(constant(np.zeros((1, 1)), field)).at(0)


def test_the_columns_of_a_softmax_sum_to_one(field):
    found = series(ops.softmax(leaf(None, field, (4, 3))))
    assert found[0].sum(axis=0).tolist() != [1, 1, 1]  # residues: one modulo p only
    assert [(a.sum(axis=0) % field.p).tolist() for a in found] == [[1] * 3, *[[0] * 3] * (ORDER - 1)]


# ---- derivatives

NETWORKS = {
    a.name: a
    for a in (
        mlp((3, 2, 2), "linear"),
        mlp((2, 3, 2, 1), "relu"),
        mlp((2, 3, 2, 1), "power-3"),
        residual(2, (2, 1)),
        conv_block((1, 2, 2), 2, "relu", size=4),
    )
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_autograd_on_whole_numbers(field, gen, name):
    arch = NETWORKS[name]
    theta = {k: torch.randint(-3, 4, s, generator=gen).double().requires_grad_() for k, s in arch.shapes.items()}
    shape = [4 if n is None else n for n in arch.inputs]
    x = torch.randint(-3, 4, shape, generator=gen).double()
    out = arch(theta, x)
    C = torch.randint(-3, 4, out.shape, generator=gen).double()
    wanted = torch.autograd.grad((C * out).sum(), list(theta.values()))
    assert max(g.abs().max() for g in wanted) < 2**53
    held = {k: v.detach() for k, v in theta.items()}
    nodes = {k: leaf(field.reduce(v.numpy()), field) for k, v in held.items()}
    traced = fields.traced(arch, nodes, field.reduce(x.numpy()), fields.patterns(arch, held, x), field)
    assert (traced.at(0) == field.reduce(out.detach().numpy())).all()
    found = vjp([traced], [constant(field.reduce(C.numpy()), field)], nodes.values())
    for node, gradient in zip(found, wanted, strict=True):
        value = np.zeros(node.shape) if node.at(0) is None else node.at(0)
        assert (value == field.reduce(gradient.numpy())).all()


TWICE = {
    a.name: a
    for a in (
        *NETWORKS.values(),
        mlp((2, 3, 2), "tanh"),
        mlp((2, 3, 2), "gelu"),
        mlp((2, 2, 2), "softplus"),
        mlp((2, 3, 2), "silu"),
        mlp((2, 3, 2), "leaky-relu"),
        attention(3, 2, 2),
        multihead_attention(2, 2, 2, 1),
        softmax_classifier(2, 3),
    )
}


@pytest.mark.parametrize("name", TWICE)
def test_the_hessian_is_symmetric(gen, name):
    """<u, H v> = <v, H u>, in the first coefficients of the power series."""
    arch, field = TWICE[name], Field(P, gen)
    point = arch.init(gen)
    x = fields.inputs(arch, 3, gen)
    theta = {k: leaf(None, field, s) for k, s in arch.shapes.items()}
    out = fields.traced(arch, theta, field.random(*x.shape), fields.patterns(arch, point, x), field)
    slopes = vjp([out], [constant(field.random(*out.shape), field)], theta.values())
    u, v = ([constant(field.random(*s), field) for s in arch.shapes.values()] for _ in range(2))

    def parts(nodes):
        return [[series(node, 3)[n] for node in nodes] for n in range(3)]

    def paired(a, b):
        fixed, curved = parts(a)[0], parts(vjp(slopes, b, theta.values()))
        return [sum((f * c).sum() for f, c in zip(fixed, order, strict=True)) % P for order in curved]

    assert paired(u, v) == paired(v, u)
    assert any(paired(u, v))


# ---- control systems


def test_the_heisenberg_fields_generate_three_dimensions_and_commuting_ones_two(field):
    """X = d/dx, Y = d/dy + x d/dz have [X, Y] = d/dz; without the x, they commute."""

    def rank(twist):
        x, y, z = (leaf(field.random(1, 1), field) for _ in range(3))
        c = leaf(None, field, (2, 1, 1))
        X, Y = ops.take(c, 0), ops.take(c, 1)
        system = System({"x": x, "y": y, "z": z}, {"c": c}, {"x": X, "y": Y, "z": Y * x if twist else Y})
        rows = shaken(system, {k: field.random(3, 1, 1) for k in "xyz"})
        return span(np.concatenate([next(rows) for _ in range(4)]), field).rank

    assert (rank(True), rank(False)) == (3, 2)

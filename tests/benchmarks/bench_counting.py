"""Counting conservation laws exactly: fifty random shapes at once, and how the cost grows with the parameters.

Goals on one thread: fifty deep linear shapes below 1 s, fifty ReLU shapes below 1 s, 2,028 parameters below 3 s.  The
numbers recorded in the authors' notebooks for fifty shapes of each kind are 34 min (linear, symbolic brackets) and
1 h 53 min (ReLU) on 64 cores; a version of ours with nested derivatives in float64 took 9.9 s, and one with the rank of
the full incidence matrix 2.3 s, on two cores.  The shapes here are drawn alike, but are not the same ones.
"""

import pytest
import torch

from symlib.architectures import mlp
from symlib.counting import conservation_laws

WIDTHS = [4, 8, 13, 18, 26]


def generator():
    return torch.Generator().manual_seed(0)


def shapes(low, high, seed=0):
    """Fifty shapes: one to three hidden layers, widths from low to high, and whether there are biases."""
    gen, found = torch.Generator().manual_seed(seed), []
    for _ in range(50):
        hidden, bias = (int(torch.randint(a, b, (1,), generator=gen)) for a, b in ((1, 4), (0, 2)))
        found.append((tuple(torch.randint(low, high + 1, (hidden + 2,), generator=gen).tolist()), bool(bias)))
    return found


def formula(widths):
    ranks = [min(n, before + after) for before, n, after in zip(widths, widths[1:], widths[2:], strict=False)]
    return sum(r * (2 * n + 1 - r) // 2 for r, n in zip(ranks, widths[1:], strict=False))


LINEAR = [mlp(widths, "linear", bias=False) for widths, _ in shapes(2, 5)]
LINEAR_LAWS = [formula(widths) for widths, _ in shapes(2, 5)]
RELU = [mlp(widths, "relu", bias=bias) for widths, bias in shapes(2, 9)]
RELU_LAWS = [sum(widths[1:-1]) for widths, _ in shapes(2, 9)]


def counts(archs, method=None):
    return [conservation_laws(arch, method=method, generator=generator()) for arch in archs]


@pytest.mark.parametrize("method", ["power series", "nested brackets"])
def test_fifty_linear_shapes(benchmark, method):
    benchmark.group = "fifty linear shapes"
    found = benchmark.pedantic(counts, args=(LINEAR, method), rounds=3 if method == "power series" else 1)
    assert [c.laws for c in found] == LINEAR_LAWS
    assert {c.status for c in found} == {"certified" if method == "power series" else "measured"}


@pytest.mark.parametrize("method", ["monomial lift"])
def test_fifty_relu_shapes(benchmark, method):
    benchmark.group = "fifty ReLU shapes"
    found = benchmark.pedantic(counts, args=(RELU, method), rounds=3)
    assert [c.laws for c in found] == RELU_LAWS
    assert {c.status for c in found} == {"certified"}


@pytest.mark.parametrize("widths", [*[(n,) * 4 for n in WIDTHS], (10,) * 21], ids=str)
def test_by_parameters(benchmark, widths):
    """Three layers of one width, and twenty layers of width ten: 48 to 2,028 parameters."""
    benchmark.group = "by parameters"
    arch = mlp(widths, "linear", bias=False)
    found = benchmark.pedantic(counts, args=([arch],), rounds=1)[0]
    assert (found.laws, found.status) == (formula(widths), "certified")

"""The functional dimension of polynomial and ReLU networks against theorems, and the exact rank against float64."""

import math

import pytest
import torch

from symlib.architectures import CATALOGUE, attention, mlp, normalised_layer, residual, softmax_classifier
from symlib.counting import count, fields, functional_dimension
from symlib.counting.dimension import FunctionalDimension


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def power(widths, r):
    return mlp(widths, f"power-{r}", bias=False)


def dimension(arch, theta=None, seed=0):
    return functional_dimension(arch, theta, generator=generator(seed))


def alexander_hirschowitz(d, h, r):
    """The dimension of sums of h r-th powers of linear forms in d variables (the theorem of these two).

    Parameters less one scale for each unit, h d, unless the space of all forms is smaller; five families fall short.
    """
    everything = math.comb(d + r - 1, r)
    if r == 2:
        return everything if h >= d else h * d - math.comb(h, 2)
    short = (r, d, h) in {(3, 5, 7), (4, 3, 5), (4, 4, 9), (4, 5, 14)}
    return min(h * d, everything) - short


# Recorded: widths, power, parameters, dimension; the last two are networks of other kinds (own computation, two seeds).
POLYNOMIALS = [
    ((2, 1, 1), 2, 3, 2),
    ((2, 7, 1), 2, 21, 3),
    ((3, 4, 1), 2, 16, 6),
    ((4, 1, 1), 2, 5, 4),
    ((4, 7, 1), 2, 35, 10),
    ((5, 4, 1), 2, 24, 14),
    ((2, 1, 1), 3, 3, 2),
    ((2, 7, 1), 3, 21, 4),
    ((3, 4, 1), 3, 16, 10),
    ((4, 1, 1), 3, 5, 4),
    ((4, 7, 1), 3, 35, 20),
    ((5, 4, 1), 3, 24, 20),
    ((2, 1, 1), 4, 3, 2),
    ((2, 7, 1), 4, 21, 5),
    ((3, 4, 1), 4, 16, 12),
    ((4, 1, 1), 4, 5, 4),
    ((4, 7, 1), 4, 35, 28),
    ((4, 13, 1), 4, 65, 35),
    ((5, 5, 1), 4, 30, 25),
    ((5, 11, 1), 4, 66, 55),
    ((3, 3, 3), 2, 18, 15),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("widths", "r", "parameters", "wanted"), POLYNOMIALS)
def test_polynomial_networks(widths, r, parameters, wanted, seed):
    found = dimension(power(widths, r), seed=seed)
    assert (found.dimension, found.parameters) == (wanted, parameters)
    assert widths[-1] > 1 or wanted == alexander_hirschowitz(widths[0], widths[1], r)


@pytest.mark.parametrize("r", [2, 3, 4])
@pytest.mark.parametrize("d", [2, 3, 4, 5])
def test_shallow_polynomial_networks_have_the_dimension_of_alexander_and_hirschowitz(d, r):
    """All widths up to one more than fills the space, at least those of the exceptions."""
    most = min(-(-math.comb(d + r - 1, r) // d) + 1, 15)
    for h in range(1, most + 1):
        assert dimension(power((d, h, 1), r)).dimension == alexander_hirschowitz(d, h, r), (d, h, r)


def test_the_exceptions_are_exceptions():
    for r, d, h in ((3, 5, 7), (4, 3, 5), (4, 4, 9), (4, 5, 14)):
        assert dimension(power((d, h, 1), r)).dimension == min(h * d, math.comb(d + r - 1, r)) - 1
        assert dimension(power((d, h + 1, 1), r)).dimension == math.comb(d + r - 1, r)


@pytest.mark.parametrize("widths", [(2, 3, 2), (3, 2, 3), (2, 2, 2, 3), (4, 2, 1, 3), (3, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_networks_reach_the_matrices_of_their_smallest_width(widths, bias):
    """Matrices of rank r form a set of dimension r (n + m - r); a bias of the output adds its length."""
    r, n, m = min(widths), widths[0], widths[-1]
    found = dimension(mlp(widths, "linear", bias=bias))
    assert found.dimension == r * (n + m - r) + bias * m
    assert found.hidden >= 0


@pytest.mark.parametrize("seed", range(3))
def test_wide_enough_relu_networks_lose_one_dimension_for_each_unit(seed):
    """Parameters less hidden units, the upper bound that Grigsby et al., arXiv 2209.04036, say is often met."""
    found = dimension(mlp((3, 6, 2), "relu"), seed=seed)
    assert (found.dimension, found.explained, found.hidden) == (found.parameters - 6, 6, 0)
    assert "activation patterns" in found.region


@pytest.mark.parametrize(
    "arch",
    [
        mlp((2, 3, 2), "tanh"),
        mlp((2, 3, 2), "power-3"),
        mlp((2, 3, 2), "linear"),
        attention(3, 2, 2),
        softmax_classifier(2, 3),
        power((2, 3, 2, 3), 2),
    ],
    ids=lambda a: a.name,
)
def test_the_exact_rank_is_the_one_in_float64_at_a_generic_point(arch):
    exact, measured = dimension(arch), dimension(arch, arch.init(generator(1)))
    assert exact.dimension == measured.dimension
    assert (exact.method, measured.method) == ("exact rank modulo a prime", "float64 rank")
    assert math.isinf(exact.gap) and measured.gap > 1e4


def test_a_relu_network_at_the_point_of_its_region():
    for seed in range(3):
        exact = dimension(residual(2, (3, 2)), seed=seed)
        assert dimension(residual(2, (3, 2)), exact.point, seed).dimension == exact.dimension


def test_special_points_reach_fewer_dimensions():
    arch = mlp((2, 3, 2), "tanh")
    theta = arch.init(generator())
    assert dimension(arch, theta).dimension == 17
    assert dimension(arch, {**theta, "W2": 0 * theta["W2"]}).dimension < 17
    twins = {k: v.clone() for k, v in theta.items()}
    twins["W1"][1], twins["b1"][1] = twins["W1"][0], twins["b1"][0]
    assert dimension(arch, twins).dimension < 17


def test_a_dead_unit_reaches_nothing():
    arch = mlp((2, 3, 1), "relu")
    theta = arch.init(generator())
    dead = {**theta, "b1": theta["b1"].clone()}
    dead["b1"][0] = -1e9
    assert dimension(arch, dead).dimension <= arch.parameters - 4 - 2


@pytest.mark.parametrize("name", CATALOGUE)
def test_symmetries_bound_the_dimension(name):
    found = dimension(CATALOGUE[name])
    assert 0 < found.dimension <= found.parameters - found.explained
    assert found.hidden == found.parameters - found.explained - found.dimension


def test_the_same_seed_gives_the_same_dimension_and_other_seeds_the_same_rank():
    for arch in (power((3, 4, 2), 3), normalised_layer(3, 2, 2)):
        assert dimension(arch) == dimension(arch) and repr(dimension(arch)) == repr(dimension(arch))
        assert len({dimension(arch, seed=s).dimension for s in range(3)}) == 1


def test_what_a_dimension_shows():
    assert repr(dimension(power((5, 7, 1), 3))) == (
        "power-3 network 5-7-1 without bias: functional dimension 34 of 42 parameters "
        "(7 explained by known symmetries, 1 by none)\n"
        "  exact rank modulo a prime, 35 inputs; on an open dense set"
    )
    measured = FunctionalDimension("a network", 3, 5, 1, "float64 rank", 7, "at the point", 1.234e9)
    assert repr(measured) == (
        "a network: functional dimension 3 of 5 parameters (1 explained by known symmetries, 1 by none)\n"
        "  float64 rank, 7 inputs, spectral gap 1e+09; at the point"
    )


def test_bad_input_is_refused(monkeypatch):
    arch = mlp((2, 3, 2), "tanh")
    good = arch.init(generator())
    with pytest.raises(ValueError, match=r"functional_dimension: randomness should come from a torch\.Generator"):
        functional_dimension(arch, generator=None)
    for theta, message in (
        ({**good, "W2": good["W1"]}, r"W2 should have shape \(2, 3\), got \(3, 2\)"),
        ({**good, "b1": good["b1"] * math.nan}, "b1 holds 3 NaN or inf"),
        ({"W1": good["W1"]}, "missing"),
        (arch.init(generator(), members=3), "wanted one network, got member axes"),
    ):
        with pytest.raises(ValueError, match=message):
            dimension(arch, theta)
    monkeypatch.setattr(count, "NUMBERS", 10)
    with pytest.raises(ValueError, match=r"17 covectors in 17 dimensions .* pass force=True"):
        dimension(arch)
    assert functional_dimension(arch, generator=generator(), force=True).dimension == 17


def test_inputs_are_added_until_the_rank_rests():
    """A network with few outputs for each input needs many inputs."""
    arch = power((2, 3, 1), 4)
    found = dimension(arch)
    assert found.dimension == 5 and found.inputs >= 5
    assert fields.untraced(mlp((2, 2), "linear")) == []


def test_a_normalised_network_is_measured():
    """No exact form of a LayerNorm: in float64, and what is lost is its translations, at scales of 1."""
    arch, gen = mlp((2, 3, 2), "gelu", norm=True), torch.Generator().manual_seed(0)
    assert fields.untraced(arch) == ["the forward pass itself"]
    assert functional_dimension(arch, generator=gen).method == "float64 rank"
    theta = arch.init(gen) | {"s1": torch.ones(3, 1, dtype=torch.float64)}
    found = functional_dimension(arch, theta, generator=gen)
    assert found.parameters - found.dimension == found.explained == 3

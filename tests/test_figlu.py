"""Fixed gates: the linear maps that commute with one are those of the theorem, by a search that does not know it."""

import copy
import itertools
import math
from fractions import Fraction

import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symlib import asymmetric, checks, groups, models, proofs
from symlib.architectures import attention, conv_block, mlp
from symlib.asymmetric import FiGLU, Gated, figlu, figlu_equivariances, sigma_asymmetric
from symlib.counting import functional_dimension

F64 = torch.float64
SCALED = [[2, 3], [6, 1]]  # commutes with the swap times diag(2, 1/2), with no permutation and no diagonal map
SIGNED = [[2, 1], [-1, -2]]  # commutes with minus the swap


def matrix(rows):
    return torch.tensor(rows, dtype=F64)


def misfit(F, A, z):
    """The distance of sigma(A z) from the nearest B sigma(z), B any matrix, relative; z (n, samples)."""
    left, right = figlu(A @ z, F), figlu(z, F)
    B = torch.linalg.lstsq(right.T, left.T, driver="gelsd").solution.T
    return float((left - B @ right).norm() / left.norm())


def samples(n, gen):
    return torch.cat([s * torch.randn(n, 40 * n, generator=gen, dtype=F64) for s in (0.3, 1.0, 4.0)], dim=1)


# the function


def test_the_gate_is_its_formula_in_both_worlds(gen):
    F, z = torch.randn(3, 3, generator=gen, dtype=F64), torch.randn(4, 3, 5, generator=gen, dtype=F64)
    slow = torch.stack([torch.stack([v / (1 + torch.exp(-(F @ v))) for v in m.T], dim=1) for m in z])
    assert torch.allclose(figlu(z, F), slow, rtol=1e-13)
    images = torch.randn(2, 3, 4, 4, generator=gen, dtype=F64)
    pixels = figlu(images.permute(1, 0, 2, 3).reshape(3, -1), F).reshape(3, 2, 4, 4).permute(1, 0, 2, 3)
    assert torch.allclose(figlu(images, F, -3), pixels, rtol=1e-12)
    exact = figlu(sympy.Matrix([[1, 2], [-1, 3]]), sympy.Matrix(SCALED)).evalf()
    number = figlu(matrix([[1, 2], [-1, 3]]), matrix(SCALED))
    assert torch.allclose(matrix([[float(v) for v in row] for row in exact.tolist()]), number, rtol=1e-13)
    cube = figlu(sympy.Array([1, 2, 3, 4, 5, 6, 7, 8], (1, 2, 2, 2)), sympy.Matrix(SCALED), -3)
    assert cube.shape == (1, 2, 2, 2)
    assert abs(float(cube[0, 1, 0, 1]) - 6 / (1 + math.exp(-(6 * 2 + 6)))) <= 1e-12


# the theorem


def every_solution(F):
    """P D with F P D = P F, by solving for D column by column for every P: the oracle of the search."""
    n, found = len(F), set()
    for p in itertools.permutations(range(n)):
        d = []
        for k in range(n):
            pairs = [(F[i][k], F[p[i]][p[k]]) for i in range(n)]
            ratios = {Fraction(a, b) for a, b in pairs if b}
            d += ratios if len(ratios) == 1 and all(bool(a) == bool(b) for a, b in pairs) else []
        if len(d) == n:
            found.add(tuple(zip(p, d, strict=True)))
    return found


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.data())
def test_the_search_finds_every_solution_and_each_commutes(n, data):
    entries = data.draw(st.lists(st.sampled_from([-2, -1, 0, 1, 1, 2, 4]), min_size=n * n, max_size=n * n))
    F = [entries[i * n : (i + 1) * n] for i in range(n)]
    if len(set(map(tuple, F))) < n or not all(map(any, zip(*F, strict=True))):
        with pytest.raises(ValueError, match="other maps may commute"):
            figlu_equivariances(matrix(F))
        return
    found = figlu_equivariances(matrix(F))
    assert torch.equal(found[0].g, torch.eye(n, dtype=F64))
    listed = {
        tuple((int(g[:, k].nonzero()), Fraction(float(g[:, k].sum()))) for k in range(n)) for g, _ in pairs(found)
    }
    assert listed == every_solution(F) and len(found) == len(listed)
    z = samples(n, torch.Generator().manual_seed(1))
    for g, inverse in pairs(found):
        assert torch.allclose(figlu(g @ z, matrix(F)), g @ figlu(z, matrix(F)), rtol=1e-10, atol=1e-12)
        assert torch.equal(g @ inverse, torch.eye(n, dtype=F64))


def pairs(elements):
    return [(e.g, e.inv) for e in elements]


SINGULAR = [[[1, 2], [2, 4]], [[1, 2], [-1, -2]], [[1, 2], [0, 0]], [[1, 2, 1], [-1, -2, -1], [2, 4, 2]]]


@pytest.mark.parametrize(
    "F", [SCALED, SIGNED, [[1, 0], [0, 1]], [[1, 2], [3, 4]], [[0, 1, 0], [0, 0, 1], [1, 0, 0]], *SINGULAR]
)
def test_no_other_linear_map_commutes(F, gen):
    """For A in GL(n) the best B is found by least squares: it fits for the maps of the theorem and for no others."""
    F = matrix(F)
    n, z = len(F), samples(len(F), gen)
    good = [e.g for e in figlu_equivariances(F)]
    assert max(misfit(F, A, z) for A in good) <= 1e-12
    signs = [torch.tensor(s, dtype=F64) for s in itertools.product((1, -1), repeat=n)]
    perms = [torch.eye(n, dtype=F64)[list(p)] * s for p in itertools.permutations(range(n)) for s in signs]
    others = [A for A in perms if not any(torch.equal(A, g) for g in good)]
    others += [groups.general_linear(n).sample(gen).g for _ in range(20)]
    others += [groups.rescaling(n).sample(gen).g for _ in range(20)]
    others += [A + 0.05 * torch.randn(n, n, generator=gen, dtype=F64) for A in good]
    assert min(misfit(F, A, z) for A in others) >= 1e-3


def test_each_step_of_the_proof(gen):
    F = torch.randn(4, 4, generator=gen, dtype=F64)
    zero = torch.zeros(4, 1, dtype=F64)
    slope = torch.func.jacrev(lambda z: figlu(z, F)[:, 0])(zero)[:, :, 0]
    assert torch.allclose(slope, torch.eye(4, dtype=F64) / 2, rtol=1e-14)  # (1)
    t = sympy.Symbol("t")  # (2): odd, every odd coefficient is there, so functions o(c t) of different c > 0 tell apart
    o = sympy.series(1 / (1 + sympy.exp(-t)) - sympy.Rational(1, 2), t, 0, 10).removeO()
    assert all(bool(o.coeff(t, k)) == bool(k % 2) for k in range(10))
    a, b, c, d, p, q = sympy.symbols("a b c d p q")
    for sign in (1, -1):  # two opposite rows: a z_1 + b z_2 = +-(a z_1 - b z_2) for all z leaves one of a, b
        left = sympy.Poly(a * p + b * q - sign * (a * p - b * q), p, q)
        assert len(sympy.solve(left.coeffs(), [a, b], dict=True)[0]) == 1
    F, P, D = sympy.Matrix([[a, b], [c, d]]), sympy.Matrix([[0, 1], [1, 0]]), sympy.diag(p, q)  # (3), n = 2
    left = F * P * D - P * F
    assert left.subs({c: b * p, d: a / p, q: 1 / p}).expand() == sympy.zeros(2, 2)  # F = [[a, b], [b p, a / p]]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8, 300])
def test_a_gaussian_gate_commutes_with_the_identity_alone(n, gen):
    found = figlu_equivariances(torch.randn(n, n, generator=gen, dtype=F64))
    assert len(found) == 1 and torch.equal(found[0].g, torch.eye(n, dtype=F64))


@pytest.mark.parametrize("n", [2, 5, 12, 40])
def test_a_planted_map_is_found(n, gen):
    """F_p(i)p(k) d_k = F_ik is planted for an involution p, and a power of 2 and its inverse on each pair."""
    order = torch.randperm(n, generator=gen).tolist()
    p, d = list(range(n)), [1.0] * n
    for k, i in zip(order[: n // 2], order[n // 2 :], strict=False):
        p[k], p[i], d[k] = i, k, float(2 ** (1 + k % 3) * (-1) ** k)
        d[i] = 1 / d[k]
    F = torch.randn(n, n, generator=gen, dtype=F64)
    for i, k in itertools.product(range(n), range(n)):
        if (p[i], p[k]) > (i, k):
            F[p[i], p[k]] = F[i, k] / d[k]
    A = torch.zeros(n, n, dtype=F64)
    for k in range(n):
        A[p[k], k] = d[k]
    found = figlu_equivariances(F)
    assert len(found) == 2 and torch.equal(found[1].g, A)
    F[0, 1] *= 1.5  # one entry off, and nothing is left
    assert len(figlu_equivariances(F)) == 1


def test_the_conditions_of_the_paper_do_not_suffice():
    """No zero entry, no permutation, no diagonal map: and yet P D commutes: a gap between two propositions."""
    for rows, D in ((SCALED, sympy.diag(2, sympy.Rational(1, 2))), (SIGNED, sympy.diag(-1, -1))):
        F, P = sympy.Matrix(rows), sympy.Matrix([[0, 1], [1, 0]])
        assert all(F) and P.T * F * P != F and F.det() != 0
        z, A = sympy.Matrix(sympy.symbols("z1 z2", real=True)), P * D
        assert (figlu(A * z, F) - A * figlu(z, F)).expand() == sympy.zeros(2, 1)
        assert figlu(P * z, F) != P * figlu(z, F)


@pytest.mark.parametrize(
    ("F", "A", "message"),
    [
        ([[1, 1], [1, 1]], [[2, 0.5], [-1, 0.5]], "rows 0 and 1 are equal"),
        ([[0, 0], [0, 0]], [[2, 0.5], [-1, 0.5]], "column 0 is 0"),
        ([[1, 0], [-1, 0]], [[1, 0], [0, 7]], "column 1 is 0"),
    ],
)
def test_without_the_conditions_of_the_theorem_other_maps_commute(F, A, message, gen):
    assert misfit(matrix(F), matrix(A), samples(2, gen)) <= 1e-12
    with pytest.raises(ValueError, match=message):
        figlu_equivariances(matrix(F))


@pytest.mark.parametrize(
    ("F", "message"),
    [
        (torch.ones(2, 3), "should be square, got"),
        (torch.ones(2), "should be square, got"),
        (torch.tensor([[1.0, math.nan], [0.0, 1.0]]), "the matrix holds 1 NaN"),
        (torch.eye(8), "more than 5040 maps"),
    ],
)
def test_matrices_that_are_refused(F, message):
    with pytest.raises(ValueError, match=message):
        figlu_equivariances(F)


# the networks


@pytest.mark.parametrize("kind", ["relu", "tanh", "gelu"])
def test_every_symmetry_of_the_activation_is_gone(kind, gen):
    base = mlp((2, 3, 2), kind)
    net = sigma_asymmetric(base, generator=gen, scale=1.0)
    assert base.symmetries() and not net.arch.symmetries()
    for sym in base.symmetries().values():
        proofs.invariance(net.arch, sym).require("refuted")


@pytest.mark.parametrize(("F", "name"), [(SCALED, "gate symmetry h1 with scales"), (SIGNED, "gate symmetry h1")])
def test_what_a_gate_leaves_is_listed_and_proved(F, name, gen):
    base = mlp((2, 2, 1), "gelu")
    net = Gated(base, {"h1": matrix(F)}).arch
    assert list(net.symmetries()) == [name]
    proofs.invariance(net, net.symmetries()[name]).require("proved")
    checks.assert_laws(net, net.symmetries()[name], generator=gen)
    proofs.invariance(net, base.symmetries()["permutation h1"]).require("refuted")


def test_a_layer_norm_lets_no_scales_through(gen):
    """What commutes with the gate is a symmetry only where what stands before it commutes too."""
    base = mlp((2, 2, 1), "gelu", norm=True)
    assert list(Gated(base, {"h1": matrix(SCALED)}).arch.symmetries()) == ["translation W1", "translation b1"]
    swap = Gated(base, {"h1": matrix([[2, 3], [3, 2]])}).arch
    assert list(swap.symmetries()) == ["gate symmetry h1", "translation W1", "translation b1"]
    for sym in swap.symmetries().values():
        checks.assert_laws(swap, sym, generator=gen)


def test_larger_groups_of_a_gate_and_their_laws(gen):
    cycle = Gated(mlp((2, 3, 2), "tanh"), {"h1": matrix([[5, 1, 2], [2, 5, 1], [1, 2, 5]])}).arch
    (sym,) = cycle.symmetries().values()
    assert len(sym.group.discrete) == 2  # the cyclic group of three
    proofs.invariance(cycle, sym).require("proved")
    checks.assert_laws(cycle, sym, generator=gen)


def test_a_finite_group_is_its_elements(gen):
    turn = [{(0, 0): 1, (1, 1): 1}, {(0, 1): -1, (1, 0): 1}, {(0, 0): -1, (1, 1): -1}, {(0, 1): 1, (1, 0): -1}]
    group = groups.finite("quarter turns", 2, turn)
    assert group.dimension == 0 and len(group.discrete) == 3 and len(group.symbol("")) == 4
    drawn = {tuple(group.sample(gen).g.flatten().tolist()) for _ in range(60)}
    assert len(drawn) == 3 and (1.0, 0.0, 0.0, 1.0) not in drawn
    for bad in (lambda: groups.finite("none", 2, []), lambda: groups.finite("none", 0, turn)):
        with pytest.raises(ValueError, match="none: a "):
            bad()


def test_translations_remain_under_layer_norm(gen):
    base = mlp((3, 4, 4, 2), "gelu", norm=True)
    net = sigma_asymmetric(base, generator=gen, scale={"h1": 1.0, "h2": 0.5}).arch
    assert list(net.symmetries()) == ["translation W1", "translation b1", "translation W2", "translation b2"]
    for sym in net.symmetries().values():
        checks.assert_laws(net, sym, generator=gen)


def test_the_gate_stands_in_every_network_of_an_ensemble(gen):
    base = mlp((3, 4, 2), "relu")
    net = sigma_asymmetric(base, generator=gen, scale=1.0)
    theta, x = base.init(gen, members=3), torch.randn(3, 7, generator=gen, dtype=F64)
    z = theta["W1"] @ x + theta["b1"]
    slow = theta["W2"] @ (torch.sigmoid(net.matrices["h1"] @ z) * z) + theta["b2"]
    assert torch.allclose(net.arch(theta, x), slow, rtol=1e-13)
    small = net.to(torch.device("cpu"), torch.float32).matrices["h1"]
    assert small.dtype == torch.float32
    half = {k: v.float() for k, v in theta.items()}
    assert torch.allclose(net.arch(half, x.float()).double(), slow, rtol=1e-3, atol=1e-4)


def test_entries_of_a_gated_network_are_held(gen):
    base = mlp((4, 4, 2), "relu")
    gated = sigma_asymmetric(base, generator=gen, scale=1.0)
    both = asymmetric.w_asymmetric(gated.arch, {"W1": 2, "W2": 1}, kappa=1.0, generator=gen)
    theta, x = base.init(gen), torch.randn(4, 7, generator=gen, dtype=F64)
    assert torch.equal(both.arch(theta, x), gated.arch(both.whole(theta), x)) and not both.arch.symmetries()
    with pytest.raises(ValueError, match=r"activation of h1 is relu network 4-4-2, .*'s own; gates come first"):
        sigma_asymmetric(
            asymmetric.w_asymmetric(base, {"W1": 2}, kappa=1.0, generator=gen).arch, generator=gen, scale=1.0
        )


def test_channels_are_gated_pixel_by_pixel(gen):
    base = conv_block((2, 3, 1), 2, size=4)
    net = sigma_asymmetric(base, generator=gen, scale=1.0)
    theta, x = base.init(gen), torch.randn(5, 2, 4, 4, generator=gen, dtype=F64)
    z = torch.nn.functional.conv2d(x, theta["W1"], theta["b1"])
    gated = torch.sigmoid(torch.nn.functional.conv2d(z, net.matrices["c"][:, :, None, None])) * z
    slow = torch.nn.functional.conv2d(gated, theta["W2"], theta["b2"])
    assert torch.allclose(net.arch(theta, x), slow, rtol=1e-12) and not net.arch.symmetries()


def test_scales_are_standard_deviations_and_the_generator_decides(gen):
    base = mlp((3, 200, 150, 2), "gelu")
    net = sigma_asymmetric(base, generator=gen, scale={"h1": 2.0, "h2": 0.1})
    for space, std in (("h1", 2.0), ("h2", 0.1)):
        assert abs(float(net.matrices[space].std()) / std - 1) <= 5 / math.sqrt(2 * net.matrices[space].numel())
    again = sigma_asymmetric(base, generator=torch.Generator().manual_seed(0), scale={"h1": 2.0, "h2": 0.1})
    assert all(torch.equal(again.matrices[s], F) for s, F in net.matrices.items())
    only = sigma_asymmetric(mlp((2, 3, 3, 2), "relu"), generator=gen, scale={"h2": 1.0}).arch
    assert list(only.symmetries()) == ["permutation h1", "rescaling h1"]
    proofs.invariance(only, only.symmetries()["rescaling h1"]).require("proved")


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (0.0, "scale of h1 should be positive and finite, got 0.0"),
        (-1.0, "scale of h1 should be positive"),
        (math.nan, "scale of h1 should be positive"),
        (math.inf, "scale of h1 should be positive"),
        ("1", "scale of h1 should be one real number"),
        ({"h9": 1.0}, "unknown space with an activation of relu network 3-4-2 'h9'"),
    ],
)
def test_what_sigma_asymmetric_refuses(scale, message, gen):
    with pytest.raises(ValueError, match=message):
        sigma_asymmetric(mlp((3, 4, 2), "relu"), generator=gen, scale=scale)


def test_networks_without_a_place_for_a_gate(gen):
    for arch in (mlp((2, 2), "relu"), mlp((2, 2, 2), "linear"), attention(2, 2, 2)):
        with pytest.raises(ValueError, match="has no hidden space with an activation to replace"):
            sigma_asymmetric(arch, generator=gen, scale=1.0)
    with pytest.raises(ValueError, match="does not take an activation for"):
        sigma_asymmetric(models.MLP((2, 3, 1), "relu", generator=gen).arch, generator=gen, scale=1.0)
    with pytest.raises(ValueError, match="sigma_asymmetric: randomness"):
        sigma_asymmetric(mlp((2, 2, 2), "relu"), generator=None, scale=1.0)
    with pytest.raises(ValueError, match="the matrix of h1 should be 2 x 2"):
        Gated(mlp((2, 2, 2), "relu"), {"h1": torch.ones(3, 3)})
    with pytest.raises(ValueError, match="the matrix of h1 holds 4 NaN"):
        Gated(mlp((2, 2, 2), "relu"), {"h1": torch.full((2, 2), math.nan)})


def test_the_gate_as_a_layer_is_saved_copied_and_batched(gen, tmp_path):
    F, x = torch.randn(3, 3, generator=gen, dtype=F64), torch.randn(4, 2, 3, generator=gen, dtype=F64)
    layer = FiGLU(F)
    assert torch.allclose(layer(x), torch.sigmoid(x @ F.T) * x, rtol=1e-13) and not list(layer.parameters())
    assert torch.allclose(torch.func.vmap(layer)(x), layer(x), rtol=1e-13)
    images = torch.randn(2, 3, 4, 4, generator=gen, dtype=F64)
    assert torch.allclose(FiGLU(F, axis=-3)(images), figlu(images, F, -3), rtol=1e-13)
    torch.save(layer.state_dict(), tmp_path / "gate.pt")
    other = FiGLU(torch.eye(3, dtype=F64))
    other.load_state_dict(torch.load(tmp_path / "gate.pt"))
    assert torch.equal(other(x), layer(x)) and torch.equal(copy.deepcopy(layer)(x), layer(x))
    with pytest.raises(ValueError, match="FiGLU: the matrix should be square"):
        FiGLU(torch.ones(2, 3))
    with pytest.raises(RuntimeError, match="Missing key"):
        layer.load_state_dict({})


# what it does to the dimension


def test_each_construction_returns_the_dimensions_that_scales_had_taken(gen):
    """relu: h directions move nothing; with a gate, or with held values that are not 0, all that learns matters."""
    base = mlp((4, 4, 2), "relu")
    theta = base.init(gen)
    gated = sigma_asymmetric(base, generator=gen, scale=1.0).arch
    pinned = asymmetric.w_asymmetric(base, {"W1": 2, "W2": 1}, kappa=1.0, generator=gen)
    before = functional_dimension(base, generator=gen)
    assert (before.parameters - before.dimension, before.explained) == (4, 4)
    after = functional_dimension(gated, theta, generator=gen)
    assert after.dimension == gated.parameters and after.explained == 0
    assert functional_dimension(gated, generator=gen).dimension == gated.parameters
    assert functional_dimension(pinned.arch, theta, generator=gen).dimension == pinned.parameters == 30 - 4 * 2 - 2


def test_with_layer_norm_the_translations_are_what_is_lost(gen):
    base = mlp((2, 3, 3, 2), "gelu", norm=True)
    theta = base.init(gen)
    theta |= {k: torch.ones_like(v) for k, v in theta.items() if k[0] == "s"}
    net = sigma_asymmetric(base, generator=gen, scale=1.0).arch
    for arch in (base, net):
        found = functional_dimension(arch, theta, generator=gen)
        assert found.parameters - found.dimension == found.explained == 2 + 1 + 3 + 1


# what stays open: maps that are not linear in the parameters


def test_a_network_of_one_input_has_twins_that_no_linear_map_explains(gen):
    """f = x sum_i v_i w_i eta((F w)_i x): w' = F^-1 P F w, v'_i w'_i = (v w)_p(i) is the same function for every P.

    The gate commutes with the identity alone, and yet there are h! parameters for one function, on an open set: the
    theorem speaks of maps that do not depend on the parameters, and Proposition 2 of square invertible weights.
    """
    base = mlp((1, 3, 1), "gelu", bias=False)
    net = sigma_asymmetric(base, generator=gen, scale=1.0)
    F, theta, x = net.matrices["h1"], base.init(gen), torch.randn(1, 50, generator=gen, dtype=F64)
    assert not net.arch.symmetries() and len(figlu_equivariances(F)) == 1
    w, v = theta["W1"], theta["W2"].T
    for p in itertools.permutations(range(3)):
        twin = torch.linalg.solve(F, (F @ w)[list(p)])
        other = {"W1": twin, "W2": ((v * w)[list(p)] / twin).T}
        assert torch.allclose(net.arch(other, x), net.arch(theta, x), rtol=1e-9, atol=1e-11)
        assert p == (0, 1, 2) or float((other["W1"] - w).abs().max()) >= 1e-2
    assert functional_dimension(net.arch, theta, generator=gen).dimension == 6  # so the twins are isolated


def twin_misfit(F, W, p):
    """min over scales c of |F C P W - P F W| / |P F W|: 0 if the units can trade places by p, see the next test."""
    PW, PFW = W[list(p)], (F @ W)[list(p)]
    columns = torch.cat([F * PW[:, a] for a in range(W.shape[1])])  # F diag(PW_a) c = P F W_a for every input a
    target = PFW.T.reshape(-1, 1)
    c = torch.linalg.lstsq(columns, target, driver="gelsd").solution
    return float((columns @ c - target).norm() / target.norm())


@pytest.mark.parametrize(("inputs", "least"), [(1, 0.0), (2, 1e-3), (3, 1e-3)])
def test_with_two_inputs_almost_every_network_is_alone_with_its_function(inputs, least, gen):
    """Two layers of any width, no biases, F invertible and commuting with the identity alone, two inputs or more.

    f = sum_i v_i (w_i x) eta(g_i x) with g = F W.  Off a null set the g_i are different up to sign, and f has poles
    where g_i x is an odd multiple of i pi, with v_i w_i as residue.  A network of the same function has the same poles:
    g'_i = +-g_p(i), v'_i w'_i = +-v_p(i) w_p(i); as eta(-t) = 1 - eta(t), changed signs leave a sum of some v_i w_i,
    which must be 0 and off a null set is not.  So W' = C P W and F W' = P F W: F C P W = P F W.  With two columns or
    more in general position that is F C P = P F, and C P commutes with the gate.  With one column c solves it.
    """
    n = 4
    F, W = (torch.randn(n, m, generator=gen, dtype=F64) for m in (n, inputs))
    found = [twin_misfit(F, W, p) for p in itertools.permutations(range(n))]
    assert found[0] <= 1e-12
    assert min(found[1:]) >= least if least else max(found) <= 1e-10
    swap = twin_misfit(matrix(SCALED), torch.randn(2, inputs, generator=gen, dtype=F64), (1, 0))
    assert swap <= 1e-12  # the control: a gate that commutes with C P leaves a twin for any number of inputs


def test_with_square_weights_the_map_between_equal_networks_commutes_with_the_gate(gen):
    """Proposition 2: equal functions give W2'^-1 W2 sigma = sigma W1' W1^-1.  Here the maps are P D, by the witness."""
    F = matrix(SCALED)
    net = Gated(mlp((2, 2, 2), "gelu", bias=False), {"h1": F})
    theta, x = net.base.init(gen), torch.randn(2, 50, generator=gen, dtype=F64)
    A = figlu_equivariances(F)[1]
    other = {"W1": A.g @ theta["W1"], "W2": theta["W2"] @ A.inv}
    assert torch.allclose(net.arch(other, x), net.arch(theta, x), rtol=1e-12)
    assert torch.allclose(torch.linalg.solve(other["W2"], theta["W2"]), A.g, rtol=1e-10)
    assert torch.allclose(other["W1"] @ torch.linalg.inv(theta["W1"]), A.g, rtol=1e-10)

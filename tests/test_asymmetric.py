"""syre: the function keeps its symmetries about the centre, decay loses them; distinct strengths keep signs alone."""

from functools import partial

import pytest
import sympy
import torch

from symlib import asymmetric, groups, proofs, symmetry
from symlib.architectures import Arch, mlp
from symlib.dynamics import LayeredLoss, descend, gradient, mse

F64 = torch.float64
ARCHES = [mlp((2, 2, 1), "tanh"), mlp((2, 2, 1), "relu"), mlp((2, 2, 1), "linear", bias=False)]


def thirds(arch):
    """A rational centre without coincidences."""
    entry = lambda k: lambda i, j: sympy.Rational(7 * len(k) + ord(k[-1]) + 3 * i + 5 * j, 3 + i)  # noqa: E731
    return {k: sympy.ImmutableMatrix(*s, entry(k)) for k, s in arch.shapes.items()}


@pytest.mark.parametrize("arch", ARCHES, ids=lambda a: a.name)
def test_every_symmetry_remains_about_the_centre_and_none_about_zero(arch):
    shifted = asymmetric.syre(arch, thirds(arch))
    assert len(shifted.symmetries()) == len(arch.symmetries()) > 0
    for name, sym in arch.symmetries().items():
        proofs.invariance(shifted, shifted.symmetries()[f"{name} about the centre"]).require("proved")
        proofs.invariance(shifted, sym).require("refuted")


def ensemble(gen, members=4):
    arch = mlp((3, 6, 2), "tanh")
    theta, centre = arch.init(gen, members=members), arch.init(gen, members=members, scale=0.1)
    x, y = (torch.randn(d, 20, generator=gen, dtype=F64) for d in (3, 2))
    return arch, theta, centre, x, y


def test_the_shifted_function_is_that_of_the_sum(gen):
    arch, theta, centre, x, _ = ensemble(gen)
    shifted = asymmetric.syre(arch, centre)
    assert torch.equal(shifted(theta, x), arch({k: v + centre[k] for k, v in theta.items()}, x))
    assert not torch.allclose(shifted(theta, x), arch(theta, x), atol=0.01)


def test_training_in_both_coordinates_is_the_same(gen):
    arch, theta, centre, x, y = ensemble(gen)
    shifted, how = asymmetric.syre(arch, centre), dict(steps=60, lr=0.1, decay=0.05, momentum=0.5)
    one = descend(lambda t: mse(shifted(t, x), y), theta, **how)
    begin = {k: v + centre[k] for k, v in theta.items()}
    other = descend(partial(LayeredLoss("tanh"), x=x, y=y), begin, anchor=centre, **how)
    for k, v in one.theta.items():
        assert (v + centre[k] - other.theta[k]).abs().max() <= 1e-13
    assert torch.allclose(one.log["loss"], other.log["loss"], rtol=1e-12)


@pytest.mark.parametrize("drawn", [1.0, 0.0])
def test_the_force_at_a_symmetric_point_is_exactly_that_of_the_centre(drawn, gen):
    """Along P the gradient of loss + gamma |theta|^2 is 2 gamma (theta' - P centre), theta' = 0 for a swap."""
    arch = mlp((3, 2, 2), "tanh")
    theta, gamma = arch.init(gen), 0.03
    centre = {k: drawn * v for k, v in arch.init(gen).items()}
    fixed = symmetry.fixed_subspace(arch.symmetries()["permutation h1"])
    start = {k: v - centre[k] for k, v in fixed.project(theta).items()}  # theta + centre is symmetric
    x, y = (torch.randn(d, 20, generator=gen, dtype=F64) for d in (3, 2))
    shifted = asymmetric.syre(arch, centre)
    decayed = lambda t: mse(shifted(t, x), y) + gamma * sum(v.square().sum() for v in t.values())  # noqa: E731
    force = gradient(decayed, start)[1]
    flat = partial(symmetry.flatten, shapes=arch.shapes)
    across = lambda v: flat(v) - flat(fixed.project(v))  # noqa: E731
    assert (across(force) + 2 * gamma * across(centre)).abs().max() <= 1e-15
    assert (float(across(force).norm()) > 1e-3) == (drawn == 1.0)  # no centre, no force


def test_a_centre_of_another_network_is_refused(gen):
    arch = ARCHES[0]
    with pytest.raises(ValueError, match=r"centre of syre .* W1 should have shape"):
        asymmetric.syre(arch, mlp((3, 2, 1), "tanh").init(gen))
    with pytest.raises(ValueError, match="missing"):
        asymmetric.syre(arch, {})
    shifted = asymmetric.syre(arch, arch.init(gen))
    with pytest.raises(TypeError, match="all be tensors or all symbolic"):
        shifted(proofs.symbols(arch.shapes), sympy.ones(2, 1))


# the anisotropic decay |theta|_D^2


def decay_as_a_function(*xi):
    """The decay term as a network with one output, whose input is xi where none is given."""

    def forward(theta, x, sigma):
        relative = {"theta": sympy.ImmutableMatrix(xi) if xi else x}
        return sympy.ImmutableMatrix([[asymmetric.decay_term(theta, relative)]])

    return Arch("decay", {"theta": (2, 1)}, {"theta": ("p", None)}, forward, {}, (2, None))


@pytest.mark.parametrize("xi", [(sympy.Rational(1, 10), sympy.Rational(1, 5)), ()])
def test_distinct_strengths_leave_only_signs(xi):
    decay = decay_as_a_function(*xi)
    proofs.invariance(decay, decay.claim("p", groups.sign_flip)).require("proved")
    for family in (groups.permutation, groups.orthogonal, groups.rescaling):
        proofs.invariance(decay, decay.claim("p", family)).require("refuted")


def test_equal_strengths_leave_every_rotation():
    """The control, and what a 1 + xi that was rounded comes to."""
    decay = decay_as_a_function(sympy.Rational(1, 10), sympy.Rational(1, 10))
    for family in (groups.permutation, groups.orthogonal, groups.sign_flip):
        proofs.invariance(decay, decay.claim("p", family)).require("proved")


def test_an_orthogonal_map_keeps_the_norm_if_and_only_if_it_commutes_with_d():
    """g^T D g - D = g^T (D g - g D) for g^T g = 1; and (D g - g D)_ij = (D_i - D_j) g_ij."""
    entries = sympy.symbols("d1:4", real=True)
    D, g = sympy.diag(*entries), sympy.Matrix(3, 3, sympy.symbols("g1:10", real=True))
    commutator = D * g - g * D
    assert (g.T * D * g - g.T * g * D - g.T * commutator).expand() == sympy.zeros(3, 3)
    assert commutator.expand() == sympy.Matrix(3, 3, lambda i, j: (entries[i] - entries[j]) * g[i, j]).expand()


def test_strengths_are_all_different_and_in_range(gen):
    arch = mlp((20, 40, 5), "tanh")
    xi = asymmetric.strengths(arch, gen, spread=0.01)
    flat = symmetry.flatten(xi, arch.shapes)
    assert flat.dtype == F64 and len(flat.unique()) == arch.parameters
    assert 0.009 < float(flat.max()) < 0.01 and -0.01 < float(flat.min()) < -0.009
    again = asymmetric.strengths(arch, torch.Generator().manual_seed(0), spread=0.01)
    assert all(torch.equal(again[k], v) for k, v in xi.items())


@pytest.mark.parametrize(("dtype", "spread"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_one_plus_xi_collides_where_xi_does_not(dtype, spread, gen):
    """The trap: in low precision 1 + xi has a few values, and D keeps permutations that xi does not."""
    arch = mlp((4, 8, 2), "tanh")
    xi = symmetry.flatten(asymmetric.strengths(arch, gen, spread=spread), arch.shapes).to(dtype)
    assert len((1 + xi).unique()) < len(xi.unique())
    arch = mlp((2, 3, 1), "tanh")
    xi = {k: v.to(torch.float32) for k, v in asymmetric.strengths(arch, gen, spread=1e-9).items()}
    assert (1 + symmetry.flatten(xi, arch.shapes) == 1).all() and symmetry.flatten(
        xi, arch.shapes
    ).unique().numel() == 13


@pytest.mark.parametrize("spread", [0, 1.0, -0.1, float("nan")])
def test_strengths_that_are_refused(spread, gen):
    with pytest.raises(ValueError, match="spread should be between 0 and 1"):
        asymmetric.strengths(ARCHES[0], gen, spread=spread)
    with pytest.raises(ValueError, match="strengths: randomness"):
        asymmetric.strengths(ARCHES[0], None, spread=0.1)


def test_the_decay_is_its_formula_and_the_force_half_its_gradient(gen):
    arch, theta, centre, _, _ = ensemble(gen)
    xi = asymmetric.strengths(arch, gen, spread=0.3)
    flat = partial(symmetry.flatten, shapes=arch.shapes)
    for c in (None, centre, {k: v[0] for k, v in centre.items()}):
        away = flat(theta) - (flat(c) if c else 0)
        value, grads = gradient(partial(asymmetric.decay_term, xi=xi, centre=c), theta)
        assert value.shape == (4,) and torch.allclose(value, ((1 + flat(xi)) * away.square()).sum(dim=-1), rtol=1e-13)
        force = asymmetric.decay_force(theta, xi, c)
        assert all(torch.allclose(2 * force[k], v, rtol=1e-13) for k, v in grads.items())
    with pytest.raises(TypeError, match="all be tensors or all symbolic"):
        asymmetric.decay_term(theta, {k: sympy.ones(*s) for k, s in arch.shapes.items()})


def test_training_with_strengths(gen):
    """As a term of the loss; with xi = 0 that is the decay of the trainer, and with xi twins part."""
    arch, _, _, x, y = ensemble(gen)
    swap = symmetry.fixed_subspace(arch.symmetries()["permutation h1"])
    theta, gamma = swap.project(arch.init(gen, members=4)), 0.02
    loss = partial(LayeredLoss("tanh"), x=x, y=y)
    xi = asymmetric.strengths(arch, gen, spread=0.2)
    none = {k: torch.zeros_like(v) for k, v in xi.items()}

    def train(strengths):
        return descend(lambda t: loss(t) + gamma * asymmetric.decay_term(t, strengths), theta, steps=40, lr=0.1).theta

    plain = descend(loss, theta, steps=40, lr=0.1, decay=2 * gamma).theta
    assert all(torch.allclose(v, plain[k], rtol=1e-11, atol=1e-13) for k, v in train(none).items())
    assert float(swap.distance(plain).max()) <= 1e-12  # a symmetric start stays symmetric
    assert float(swap.distance(train(xi)).min()) >= 1e-4

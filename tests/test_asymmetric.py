"""syre: the function keeps its symmetries about the centre, decay loses them, and pulls with exactly 2 gamma."""

from functools import partial

import pytest
import sympy
import torch

from symlib import asymmetric, proofs, symmetry
from symlib.architectures import mlp
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

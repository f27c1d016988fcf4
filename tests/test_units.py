"""Units counted, their distance from symmetric states, and how fast they leave zero, against closed forms."""

import itertools
import math
from functools import partial

import pytest
import torch

from symlib import symmetry
from symlib.architectures import mlp
from symlib.dynamics import LayeredLoss, descend
from symlib.measures import symmetry as units
from symlib.measures.escape import growth_rate

F64 = torch.float64
CUBE = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=F64).T


def parities(*sets):
    return sum(CUBE[list(s)].prod(dim=0, keepdim=True) for s in sets)


STAIRCASE, LEAP2 = parities((0,), (0, 1), (0, 1, 2)), parities((0,), (0, 1, 2))


# units


def test_units_are_the_rows_of_a_layer_with_bias_and_what_leaves_them(gen):
    arch = mlp((3, 4, 2), "relu")
    theta = arch.init(gen, members=5)
    incoming, outgoing = units.units(theta)
    assert incoming.shape == (5, 4, 4) and outgoing.shape == (5, 4, 2)
    assert torch.equal(incoming[2, 1, :3], theta["W1"][2, 1]) and torch.equal(incoming[2, 1, 3:], theta["b1"][2, 1])
    assert torch.equal(outgoing[2, 1], theta["W2"][2, :, 1])
    bare = units.units({k: v for k, v in theta.items() if k[0] == "W"})[0]
    assert torch.equal(bare, theta["W1"])
    with pytest.raises(ValueError, match="wanted W3 and W4, got W1, b1, W2, b2"):
        units.units(theta, 3)


def test_sizes_do_not_change_under_rescaling_and_swap_distances_are_those_of_the_group(gen):
    arch = mlp((3, 4, 2), "relu")
    theta = arch.init(gen)
    incoming, outgoing = units.units(theta)
    rescale = arch.symmetries()["rescaling h1"]
    moved = rescale(rescale.group.sample(gen, F64), theta)
    assert torch.allclose(units.sizes(*units.units(moved)), units.sizes(incoming, outgoing), rtol=1e-13)
    assert not torch.allclose(units.units(moved)[0], incoming, rtol=0.01)
    # all permutations of two units: the symmetric states are those of the one swap
    pair = mlp((3, 2, 2), "relu")
    theta = pair.init(gen)
    fixed = symmetry.fixed_subspace(pair.symmetries()["permutation h1"])
    distance = units.swap_distances(*units.units(theta))
    assert abs(float(distance[0, 1]) - float(fixed.distance(theta))) <= 1e-14
    assert torch.equal(distance.diagonal(), torch.zeros(2, dtype=F64))


def test_leaders_by_hand():
    incoming = torch.tensor([[1.0, 0.0], [2.0, 0.01], [0.0, 1.0], [1.0, 0.0], [1e-4, 0.0], [0.0, 0.0]], dtype=F64)
    outgoing = torch.tensor([[1.0], [1.0], [1.0], [-1.0], [1.0], [1.0]], dtype=F64)
    assert units.leaders(incoming, outgoing).tolist() == [False, True, True, True, False, False]
    assert units.distinct_units(incoming, outgoing) == 3
    assert units.distinct_units(incoming, outgoing, cosine=1.0) == 4  # nothing is the same any more
    assert units.distinct_units(incoming, outgoing, live=0.0) == 3  # the tiny unit joins, the zero unit never counts
    assert units.distinct_units(incoming, outgoing, scale=100.0) == 0
    assert units.distinct_units(0 * incoming, outgoing) == 0


def test_counting_is_the_slow_way_with_member_axes(gen):
    """Against a plain greedy loop, for planted clusters of different sizes in 6 networks."""
    centres = torch.randn(6, 4, 5, generator=gen, dtype=F64)
    which = torch.randint(4, (6, 12), generator=gen)
    size = torch.rand(6, 12, 1, generator=gen, dtype=F64) + 0.1
    incoming = size * centres.gather(1, which.unsqueeze(-1).expand(6, 12, 5))
    incoming = incoming + 0.05 * torch.randn(6, 12, 5, generator=gen, dtype=F64)
    outgoing = torch.randn(6, 12, 1, generator=gen, dtype=F64).sign()
    got = units.distinct_units(incoming, outgoing, cosine=0.95, live=0.1)
    for i in range(6):
        kept, sizes = [], units.sizes(incoming[i], outgoing[i])
        for j in sizes.argsort(descending=True).tolist():
            angle = [torch.cosine_similarity(incoming[i, j], incoming[i, k], dim=0) > 0.95 for k in kept]
            same = [a and outgoing[i, j] * outgoing[i, k] > 0 for a, k in zip(angle, kept, strict=True)]
            if sizes[j] > 0.1 * sizes.max() and not any(same):
                kept.append(j)
        assert int(got[i]) == len(kept)
    assert len(set(got.tolist())) > 1  # or the comparison would show nothing


@pytest.mark.parametrize("bad", [{"cosine": 1.5}, {"live": -0.1}, {"cosine": math.nan}])
def test_bad_tolerances_are_refused(bad):
    with pytest.raises(ValueError, match="cosine and live"):
        units.distinct_units(torch.ones(2, 2), torch.ones(2, 1), **bad)


def test_units_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(2, 1\)"):
        units.sizes(torch.ones(3, 2), torch.ones(2, 1))
    with pytest.raises(ValueError, match="outgoing holds 1 NaN"):
        units.distinct_units(torch.ones(1, 2), torch.tensor([[math.nan]]))


# growth rate


SQUARES = [(STAIRCASE, True, 2 / 3), (STAIRCASE, False, 1 / 2), (LEAP2, True, 1 / 2), (LEAP2, False, 1 / 4)]


@pytest.mark.parametrize(("target", "bias", "square"), SQUARES)
def test_the_rate_of_relu_on_the_cube(target, bias, square, gen):
    """z1 + z1 z2 + z1 z2 z3 at (-2, 1, 0, 1) / sqrt 6: |E[y relu]| = 2 / sqrt 6, squared 2 / 3; by hand."""
    rate, direction = growth_rate(CUBE, target, "relu", gen, bias=bias)
    assert abs(rate**2 - square) <= 1e-7 and abs(float(direction.norm()) - 1) <= 1e-12
    lifted = torch.cat([CUBE, torch.ones(1, 8, dtype=F64)]) if bias else CUBE
    assert abs(float((target * torch.relu(direction @ lifted)).mean().abs()) - rate) <= 1e-12


def test_no_random_direction_beats_the_rate(gen):
    x, r = torch.randn(4, 60, generator=gen, dtype=F64), torch.randn(3, 60, generator=gen, dtype=F64)
    rate = growth_rate(x, r, "relu", gen)[0]
    v = torch.nn.functional.normalize(torch.randn(200_000, 5, generator=gen, dtype=F64), dim=1)
    tried = (torch.relu(v @ torch.cat([x, torch.ones(1, 60, dtype=F64)])) @ r.mT / 60).norm(dim=1).max()
    assert 0.97 * rate <= float(tried) <= rate * (1 + 1e-9)


def test_the_linear_rate_is_a_singular_value_and_tanhs(gen):
    x, r = torch.randn(4, 60, generator=gen, dtype=F64), torch.randn(3, 60, generator=gen, dtype=F64)
    oracle = float(torch.linalg.matrix_norm(r @ x.mT / 60, ord=2))
    for activation in ("linear", "tanh"):
        assert abs(growth_rate(x, r, activation, gen, bias=False)[0] - oracle) <= 1e-12
    assert growth_rate(x, r, "linear", gen)[0] > oracle  # the bias is one more input


def test_a_unit_near_zero_grows_at_the_rate(gen):
    """One ReLU unit along the direction, |a| = |(w, b)| = 1e-6: (1 + lr rate)^100 times larger after 100 steps.

    The target of leap 2: its direction (-1, 0, 0, 1) / sqrt 2 is where gradient descent stays.
    """
    rate, v = growth_rate(CUBE, LEAP2, "relu", gen)
    sign = float((LEAP2 * torch.relu(v @ torch.cat([CUBE, torch.ones(1, 8, dtype=F64)]))).mean().sign())
    theta = {"W1": 1e-6 * v[None, :3], "b1": 1e-6 * v[None, 3:], "W2": torch.full((1, 1), 1e-6 * sign, dtype=F64)}
    run = descend(partial(LayeredLoss("relu"), x=CUBE, y=LEAP2), theta, steps=100, lr=0.05)
    grown = float(run.theta["W2"].abs()) / 1e-6
    assert abs(math.log(grown) / (100 * math.log1p(0.05 * rate)) - 1) <= 1e-3


def test_what_a_growth_rate_refuses(gen):
    x, y = torch.ones(2, 5), torch.ones(1, 5)
    with pytest.raises(ValueError, match="activation of a growth rate 'gelu'"):
        growth_rate(x, y, "gelu", gen)
    with pytest.raises(ValueError, match=r"got \(2, 5\), \(1, 4\)"):
        growth_rate(x, y[:, :4], "relu", gen)
    with pytest.raises(ValueError, match="residual holds 5 NaN"):
        growth_rate(x, y * math.nan, "relu", gen)
    with pytest.raises(ValueError, match=r"torch\.Generator"):
        growth_rate(x, y, "relu", None)

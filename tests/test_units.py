"""Units counted, their distance from symmetric states, and how fast they leave zero, against closed forms."""

import itertools
import math
from functools import partial

import pytest
import torch

from symlib import symmetry
from symlib.architectures import mlp, multihead_attention
from symlib.dynamics import LayeredLoss, descend
from symlib.measures import symmetry as units
from symlib.measures.escape import growth_rate
from symlib.measures.rank import effective_rank

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
    deep = mlp((3, 4, 5, 2), "relu")  # every layer has its own
    assert units.swap_distances(*units.units(deep.init(gen, members=2), 2)).shape == (2, 5, 5)
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


def test_live_units_are_those_above_a_share_of_the_largest(gen):
    outgoing = torch.tensor([[1.0], [0.01], [1e-5], [0.0], [-1.0]], dtype=F64).expand(2, 5, 1).clone()
    incoming = torch.ones(2, 5, 3, dtype=F64)
    outgoing[1, :4] = 0
    assert units.live_units(incoming, outgoing).tolist() == [3, 1]  # sizes 1, 0.1, 0.003, 0, 1 in units of the largest
    assert units.live_units(incoming, outgoing, live=0.001).tolist() == [4, 1]
    assert units.live_units(incoming, outgoing, live=0.0, scale=1e3).tolist() == [4, 1]
    assert units.live_units(incoming, outgoing, scale=1e3).tolist() == [0, 0]
    assert units.live_units(0 * incoming, outgoing).tolist() == [0, 0]


def test_distinct_points_by_hand():
    """In units of the longest point, sqrt 5: copies, a nudge of 0.01, another size of one direction, a dead unit."""
    incoming = torch.tensor([[2.0, 0], [2.0, 0], [2.0, 0.01], [1.0, 0], [0, 2.0], [1.0, 0]], dtype=F64)
    outgoing = torch.tensor([[1.0], [1], [1], [0.5], [1], [0]], dtype=F64)
    count = lambda tolerance, **options: int(units.distinct_points(incoming, outgoing, tolerance=tolerance, **options))  # noqa: E731
    assert [count(t) for t in (0.0, 0.00447, 0.00448, 0.49, 0.51, 1.27)] == [4, 4, 3, 3, 2, 1]
    assert units.distinct_units(incoming, outgoing) == 2  # there the size is no difference
    assert count(0.0, live=0.8) == 3 and count(0.0, scale=1e3) == 0
    for bad in (-0.1, math.nan):
        with pytest.raises(ValueError, match="tolerance should be at least 0"):
            count(bad)


def test_distinct_points_are_the_slow_way_at_every_scale(gen):
    incoming = torch.randn(6, 3, 4, generator=gen, dtype=F64)[:, torch.arange(12) % 3]
    incoming = incoming + 0.1 * torch.randn(6, 12, 4, generator=gen, dtype=F64)
    outgoing = torch.rand(6, 12, 2, generator=gen, dtype=F64)
    got = units.distinct_points(incoming, outgoing, tolerance=0.2, live=0.3)
    assert torch.equal(units.distinct_points(1e-6 * incoming, 1e-6 * outgoing, tolerance=0.2, live=0.3), got)
    for i in range(6):
        u, size, kept = torch.cat([incoming[i], outgoing[i]], dim=1), units.sizes(incoming[i], outgoing[i]), []
        for j in size.argsort(descending=True).tolist():
            far = all((u[j] - u[k]).norm() > 0.2 * u.norm(dim=1).max() for k in kept)
            if size[j] > 0.3 * size.max() and far:
                kept.append(j)
        assert int(got[i]) == len(kept)
    assert len(set(got.tolist())) > 1


def test_the_nearest_unit(gen):
    incoming = torch.tensor([[1.0, 0], [1, 0], [0, 3], [0, -3], [0, 0]], dtype=F64)
    outgoing = torch.zeros(5, 1, dtype=F64)
    assert units.nearest(incoming, outgoing).tolist() == [0, 0, 1, 1, 1]
    assert torch.allclose(units.nearest(incoming[2:4], outgoing[2:4]), torch.tensor(2.0, dtype=F64).sqrt())
    assert units.nearest(0 * incoming, outgoing).tolist() == [0] * 5
    assert units.nearest(incoming[:1], outgoing[:1]).tolist() == [math.inf]
    incoming, outgoing = (torch.randn(3, 7, k, generator=gen, dtype=F64) for k in (4, 2))
    got = units.nearest(incoming, outgoing)
    assert torch.allclose(units.nearest(1e-9 * incoming, 1e-9 * outgoing), got, rtol=1e-12)
    u = torch.cat([incoming, outgoing], dim=-1)
    for m, i in itertools.product(range(3), range(7)):
        others = [(u[m, i] - u[m, j]).norm() / (u[m, i] ** 2 + u[m, j] ** 2).sum().sqrt() for j in range(7) if j != i]
        assert abs(float(got[m, i]) - float(min(others))) <= 1e-14


# attention heads


def test_the_symmetry_of_a_head_by_hand(gen):
    q, k = (torch.linalg.qr(torch.randn(5, 4, generator=gen, dtype=F64))[0].mT for _ in range(2))  # (4, 5), orthonormal
    assert abs(float(units.head_symmetry(3 * q, k))) <= 1e-12  # four equal singular values
    for rank in (0, 1, 2, 3):
        W_Q = q * (torch.arange(4) < rank)[:, None]
        assert abs(float(units.head_symmetry(W_Q, k)) - (1 - rank / 4)) <= 1e-12
    s = torch.tensor([2.0, 1, 0, 0], dtype=F64)  # effective rank exp(log 3 - 2/3 log 2)
    assert abs(float(units.head_symmetry(s[:, None] * q, k)) - (1 - 3 / 2 ** (2 / 3) / 4)) <= 1e-12


@pytest.mark.parametrize(("key", "d"), [(4, 9), (4, 4), (6, 3), (1, 5)])
def test_the_symmetry_of_a_head_is_that_of_the_product_and_does_not_rotate(key, d, gen):
    W_Q, W_K = (torch.randn(2, 3, key, d, generator=gen, dtype=F64) for _ in range(2))
    got = units.head_symmetry(W_Q, W_K)
    assert torch.allclose(got, 1 - effective_rank(W_Q.mT @ W_K) / key, atol=1e-12)
    assert got.min() >= max(0, 1 - d / key) and got.max() <= 1 - 1 / key + 1e-12
    M = torch.randn(key, key, generator=gen, dtype=F64)
    moved = units.head_symmetry(M @ W_Q, torch.linalg.inv(M).mT @ W_K)
    assert torch.allclose(moved, got, atol=1e-10)
    assert key == 1 or not torch.allclose(units.head_symmetry(M @ W_Q, M @ W_K), got, atol=1e-3)  # a wrong action


def test_a_head_without_rank_is_fixed_by_rotations_at_its_balanced_point(gen):
    """Ranks 4 to 0 of a head with key 4: its stabiliser in O(key) is O(key - rank), and the degree grows with it."""
    u, v = (torch.linalg.qr(torch.randn(6, 4, generator=gen, dtype=F64))[0].mT for _ in range(2))
    degrees = []
    for rank in (4, 3, 2, 1, 0):
        s = (torch.arange(4) < rank).to(F64)[:, None]
        turn = torch.eye(4, dtype=F64)
        turn[rank:, rank:] = torch.linalg.qr(torch.randn(4 - rank, 4 - rank, generator=gen, dtype=F64))[0]
        assert torch.allclose(turn @ (s * u), s * u) and torch.allclose(turn @ (s * v), s * v)
        degrees.append(float(units.head_symmetry(s * u, s * v)))
    assert torch.allclose(torch.tensor(degrees), torch.arange(5) / 4)


def test_the_distance_of_heads_is_that_of_their_permutation(gen):
    """swap_distances on flattened heads is the distance to the states that the swap of the two heads leaves alone."""
    arch = multihead_attention(3, 2, 2, 2)
    theta = arch.init(gen)
    flat = {name: W.flatten(-2) for name, W in theta.items()}
    incoming = torch.cat([flat["W_Q"], flat["W_K"], flat["W_V"]], dim=-1)
    (swap,) = (sym for name, sym in arch.symmetries().items() if "permutation" in name)
    distance = units.swap_distances(incoming, flat["W_O"])[0, 1]
    assert abs(float(distance) - float(symmetry.fixed_subspace(swap).distance(theta))) <= 1e-14


def test_what_a_head_refuses():
    for q, k in ((torch.ones(2, 3), torch.ones(3, 2)), (torch.ones(3), torch.ones(3)), (torch.ones(0, 3),) * 2):
        with pytest.raises(ValueError, match="wanted W_Q and W_K"):
            units.head_symmetry(q, k)
    with pytest.raises(ValueError, match="W_K holds 1 NaN"):
        units.head_symmetry(torch.ones(1, 2), torch.tensor([[1, math.nan]]))


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

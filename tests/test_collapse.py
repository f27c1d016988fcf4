"""Neural collapse against closed forms of the simplex, the slow definition with d x d matrices, and wrong versions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symlib.measures import collapse as module
from symlib.measures.collapse import class_means, collapse, nc1, nc2_equiangle, nc2_equinorm, nc3, nc4

F64 = torch.float64
NAMES = ["nc1", "equinorm", "equiangle", "nc3", "nc4", "within"]


def simplex(K, d, generator):
    """K unit vectors (K, d) with cosines -1 / (K - 1), turned at random."""
    m = torch.eye(K, dtype=F64) - 1 / K
    frame = torch.linalg.svd(m)[2][: K - 1]  # K - 1 coordinates of their span
    turn = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=F64))[0][: K - 1]
    return torch.nn.functional.normalize(m @ frame.mT, dim=1) @ turn


def samples(means, sigma):
    """2 d samples of each class whose covariance within the class is sigma^2 times the identity, exactly."""
    K, d = means.shape
    r = sigma * d**0.5 * torch.cat([torch.eye(d, dtype=F64), -torch.eye(d, dtype=F64)])
    return (means[:, None] + r).flatten(0, 1), torch.arange(K).repeat_interleave(2 * d)


def unbalanced(generator, K=4, d=6, n=90, members=()):
    """Random features with class k about k + 1 times as often as class 0, and a random classifier."""
    labels = torch.arange(n) % (K * (K + 1) // 2)
    labels = sum((labels >= k * (k + 1) // 2).long() for k in range(1, K))
    x = torch.randn(*members, n, d, generator=generator, dtype=F64)
    x = x + torch.randn(*members, K, d, generator=generator, dtype=F64)[..., labels, :]
    weight, bias = (torch.randn(*members, *s, generator=generator, dtype=F64) for s in ((K, d), (K,)))
    return x, labels, weight, bias


def slow(x, y, weight, bias, centre="classes"):
    """The definitions, term by term, for one member; `centre` chooses the mean of class means or of all samples."""
    K, n = len(weight), len(x)
    means = torch.stack([x[y == c].mean(dim=0) for c in range(K)])
    m = means - (means.mean(dim=0) if centre == "classes" else x.mean(dim=0))
    within = sum(torch.outer(x[i] - means[y[i]], x[i] - means[y[i]]) for i in range(n)) / n
    between = sum(torch.outer(v, v) for v in m) / K
    norms = m.norm(dim=1)
    pairs = [(i, j) for i in range(K) for j in range(K) if i != j]
    angles = [abs(float(m[i] @ m[j] / (norms[i] * norms[j])) + 1 / (K - 1)) for i, j in pairs]
    said = [int((weight @ v + bias).argmax()) for v in x]
    near = [min(range(K), key=lambda c: float((v - means[c]).norm())) for v in x]
    return {
        "nc1": float(torch.trace(within @ torch.linalg.pinv(between, rtol=1e-12))) / K,
        "equinorm": float(((norms - norms.mean()).square().mean()).sqrt() / norms.mean()),
        "equiangle": sum(angles) / len(pairs),
        "nc3": float((weight / weight.norm() - m / m.norm()).norm()),
        "nc4": sum(a != b for a, b in zip(said, near, strict=True)) / n,
        "within": float(torch.trace(within) / torch.trace(between)),
    }


# closed forms


@pytest.mark.parametrize("sigma", [1.0, 1e-3, 1e-7])
@pytest.mark.parametrize(("K", "divided"), [(2, 0.5), (5, 3.2), (100, 98.01)])
def test_the_ideal_simplex(K, divided, sigma, gen):
    """NC1 = sigma^2 (K - 1)^2 / K, by hand: S_B is 1 / (K - 1) on a subspace of K - 1 dimensions."""
    means = simplex(K, max(K, 4), gen)
    x, y = samples(means, sigma)
    assert abs(divided - (K - 1) ** 2 / K) <= 1e-12
    found = collapse(x, y, 3 * means, torch.zeros(K))
    assert abs(float(found.nc1) / (sigma**2 * divided) - 1) <= 1e-7
    assert abs(float(nc1(x, y, per_class=False)) / (sigma**2 * K * divided) - 1) <= 1e-7  # 1, 16, 9801 sigma^2
    assert float(found.equinorm) <= 1e-12 and float(found.equiangle) <= 1e-12 and float(found.nc3) <= 1e-12
    assert abs(float(found.within) / (sigma**2 * means.shape[1]) - 1) <= 1e-7
    assert sigma == 1 or float(found.nc4) == 0
    assert torch.allclose(class_means(x, y)[0], means, atol=1e-12) and class_means(x, y)[1].norm() <= 1e-12


@pytest.mark.parametrize("K", [2, 5, 100])
def test_the_distance_of_an_uncentred_frame_to_the_simplex(K):
    """W = I and M = I - 1 1^T / K: sqrt(2 - 2 sqrt((K - 1) / K)), 0.1001255 for K = 100; by hand."""
    value = float(nc3(torch.eye(K), torch.arange(K), torch.eye(K)))
    assert abs(value - math.sqrt(2 - 2 * math.sqrt((K - 1) / K))) <= 1e-12


def test_lengths_and_angles_by_hand():
    """Means (1, 0), (-1, 0), (0, 0): lengths 1, 1, 0; cosines -1, 0, 0, each 1/2 away from -1/2."""
    x, y = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]), torch.arange(3)
    assert abs(float(nc2_equinorm(x, y)) - 0.5**0.5) <= 1e-15
    assert abs(float(nc2_equiangle(x, y)) - 0.5) <= 1e-15


def test_the_bias_decides_with_the_weight(gen):
    """A bias that makes class 0 win always: all samples of the other classes disagree with their nearest mean."""
    means = simplex(5, 5, gen)
    x, y = samples(means, 1e-3)
    bias = torch.tensor([10.0, 0, 0, 0, 0])
    assert float(nc4(x, y, means)) == 0
    assert abs(float(nc4(x, y, means, bias)) - 4 / 5) <= 1e-15


# the slow way, and wrong versions of it


def test_it_is_the_slow_way_with_member_axes(gen):
    x, y, weight, bias = unbalanced(gen, members=(2, 3))
    found, shared = collapse(x, y, weight, bias), collapse(x, y.expand(2, 3, -1), weight[0, 0], bias[0, 0])
    assert y.bincount().tolist() == [9, 18, 27, 36]
    for i in range(2):
        for j in range(3):
            expected = slow(x[i, j], y, weight[i, j], bias[i, j])
            assert all(abs(float(getattr(found, k)[i, j]) - expected[k]) <= 1e-11 for k in NAMES)
            expected = slow(x[i, j], y, weight[0, 0], bias[0, 0])
            assert all(abs(float(getattr(shared, k)[i, j]) - expected[k]) <= 1e-11 for k in NAMES)
    means, centre = class_means(x, y)
    assert means.shape == (2, 3, 4, 6) and torch.allclose(centre, means.mean(dim=-2), atol=1e-14)
    single = [nc1(x, y), nc2_equinorm(x, y), nc2_equiangle(x, y), nc3(x, y, weight), nc4(x, y, weight, bias)]
    assert all(torch.equal(a, getattr(found, k)) for a, k in zip(single, NAMES, strict=False))


def test_labels_may_differ_between_members(gen):
    x, y, weight, bias = unbalanced(gen)
    order = torch.stack([torch.randperm(len(y), generator=gen) for _ in range(3)])
    found = collapse(x[order], y[order], weight, bias)
    alone = collapse(x, y, weight, bias)
    for k in NAMES:
        assert torch.allclose(getattr(found, k), getattr(alone, k).expand(3), rtol=1e-12)


def test_wrong_centres_and_missing_divisions_would_be_caught(gen):
    x, y, weight, bias = unbalanced(gen)
    found = collapse(x, y, weight, bias)
    wrong = slow(x, y, weight, bias, centre="samples")
    for k in ("nc1", "equinorm", "equiangle", "nc3", "within"):
        assert abs(wrong[k] / float(getattr(found, k)) - 1) > 1e-3
    assert abs(float(nc1(x, y, per_class=False)) / float(found.nc1) - 4) <= 1e-12
    assert float(nc4(x, y, weight)) != float(found.nc4)  # a nearest-mean rule that forgets the bias


@pytest.mark.parametrize(("K", "d"), [(8, 3), (4, 3), (5, 5), (6, 1)])
def test_more_classes_than_dimensions(K, d, gen):
    x, y, weight, bias = unbalanced(gen, K=K, d=d)
    expected = slow(x, y, weight, bias)
    found = collapse(x, y, weight, bias)
    assert all(abs(float(getattr(found, k)) - expected[k]) <= 1e-10 * (1 + expected[k]) for k in NAMES)


# what goes wrong elsewhere: offsets, precision, blocks, states without any difference


@pytest.mark.parametrize("sigma", [1e-2, 1e-6, 1e-9])
def test_deep_collapse_is_neither_negative_nor_lost(sigma, gen):
    """With an offset of 1000; the version from sums of squares and a pseudo-inverse at rtol 1e-8 fails."""
    means = simplex(10, 32, gen)
    x, y = samples(means, sigma)
    x = x + 1000
    rounded = 1e-15 * 1000 / sigma  # of what the input itself can say
    assert abs(float(nc1(x, y)) / (sigma**2 * 8.1) - 1) <= 1e-9 + 30 * rounded**2
    sums = torch.stack([x[y == c].sum(dim=0) for c in range(10)])
    mu, n = sums / 64, len(x)
    S_W = x.mT @ x / n - mu.mT @ mu / 10
    S_B = mu.mT @ mu / 10 - torch.outer(mu.mean(dim=0), mu.mean(dim=0))
    naive = float(torch.trace(S_W @ torch.linalg.pinv(S_B, rtol=1e-8, hermitian=True))) / 10
    assert sigma > 1e-3 or not abs(naive / (sigma**2 * 8.1) - 1) < 0.5


@pytest.mark.parametrize("dtype", [torch.float32, F64, torch.float16])
def test_a_large_offset_and_every_precision(dtype, gen):
    """Whole numbers and an offset that every precision holds exactly: the same value as without it, in float64."""
    x, y, weight, bias = unbalanced(gen)
    x = (8 * x).round()
    offset = 512.0 if dtype == torch.float16 else 2.0**20
    here, there = collapse(x, y, weight, bias), collapse((x + offset).to(dtype), y, weight, bias)
    for k in set(NAMES) - {"nc4"}:
        assert getattr(there, k).dtype == F64
        assert abs(float(getattr(there, k) / getattr(here, k)) - 1) <= 1e-12
    assert torch.equal(there.nc4, nc4((x + offset), y, weight, bias))
    third = (x / 3).to(dtype)  # not exact, but the same numbers in float64
    assert torch.equal(nc1(third, y), nc1(third.double(), y))


@pytest.mark.parametrize("block", [1, 6, 7 * 12, 12 * 90 - 1, 12 * 90, 1 << 30])
def test_the_borders_of_blocks_do_not_show(block, gen, monkeypatch):
    x, y, weight, bias = unbalanced(gen, members=(2,))
    whole = collapse(x, y, weight, bias)
    monkeypatch.setattr(module, "BLOCK", block)
    parts = collapse(x, y, weight, bias)
    for k in NAMES:
        assert torch.allclose(getattr(parts, k), getattr(whole, k), rtol=1e-12)


def test_a_member_without_differences_is_inf_and_leaves_the_others_alone(gen):
    x, y, weight, bias = unbalanced(gen, members=(4,))
    x[1] = 0  # dead features
    x[2] = 0.1 + 1e6  # the same for all
    x[3] = torch.randn(1, 6, generator=gen, dtype=F64)
    found = collapse(x, y, weight, bias)
    assert torch.equal(found.nc1[1:], torch.full((3,), torch.inf, dtype=F64))
    assert torch.equal(found.within[1:], torch.full((3,), torch.inf, dtype=F64))
    alone = collapse(x[0], y, weight[0], bias[0])
    for k in NAMES:
        assert not getattr(found, k).isnan().any()
        assert torch.allclose(getattr(found, k)[0], getattr(alone, k), rtol=1e-12)
    r = torch.tensor([[0.1, 0.3], [-0.1, -0.3]], dtype=F64)  # scatter, and means that differ by rounding at most
    assert float(nc1(r.repeat(6, 1), torch.arange(12) // 4)) == math.inf
    assert not collapse(0 * x, y, 0 * weight).nc3.isnan().any()


def test_directions_without_difference_of_means_are_left_out(gen):
    """Two of four classes coincide exactly: as the pseudo-inverse says, and not 1e30."""
    means = simplex(3, 5, gen)
    x, y = samples(torch.cat([means, means[:1]]), 0.1)
    m = means[[0, 1, 2, 0]] - means[[0, 1, 2, 0]].mean(dim=0)
    expected = 0.1**2 * float(torch.trace(torch.linalg.pinv(m.mT @ m / 4, rtol=1e-10))) / 4
    assert abs(float(nc1(x, y)) / expected - 1) <= 1e-10


@settings(deadline=None, max_examples=30)
@given(
    K=st.integers(2, 6), d=st.integers(1, 8), seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([1e-8, 1.0, 1e8])
)
def test_invariances_and_signs(K, d, seed, scale):
    """Rotation, scale and shift of features, the order of samples and the names of classes change nothing."""
    gen = torch.Generator().manual_seed(seed)
    x, y, weight, _ = unbalanced(gen, K=K, d=d, n=60)
    here = collapse(x, y, weight)
    turn = torch.linalg.qr(torch.randn(d, d, generator=gen, dtype=F64))[0]
    names, order = torch.randperm(K, generator=gen), torch.randperm(60, generator=gen)
    renamed = torch.empty_like(weight)
    renamed[names] = weight @ turn
    there = collapse(scale * (x @ turn)[order], names[y][order], renamed)
    for k in NAMES:
        a, b = float(getattr(here, k)), float(getattr(there, k))
        assert a >= 0 and abs(a - b) <= 1e-9 * (1 + a)
    assert abs(float(nc1(x + 3, y)) / float(here.nc1) - 1) <= 1e-9


# refusals


def test_what_is_refused(gen):
    x, y, weight, bias = unbalanced(gen, members=(2,))
    with pytest.raises(ValueError, match=r"no sample of class 1, 3, 5 among 0\.\.6"):
        nc1(x, 2 * y)
    one_member = torch.stack([y, torch.where(y == 2, 3, y)])
    with pytest.raises(ValueError, match="no sample of class 2 among"):
        nc1(x, one_member)
    for bad, said in ((0 * y, r"0\.\.0"), (y - 1, r"-1\.\.2")):
        with pytest.raises(ValueError, match=rf"at least two classes, got {said}"):
            nc2_equinorm(x, bad)
    for features, labels in ((x, y.double()), (x, y[1:]), (x, y > 0), (x[0, :, 0], y), (x[:, :0], y[:0]), (x, y[None])):
        with pytest.raises(ValueError, match="wanted features"):
            class_means(features, labels)
    with pytest.raises(ValueError, match=r"features holds 1 NaN or inf, the first at index \(1, 5, 2\)"):
        nc2_equiangle(
            x.index_put((torch.tensor(1), torch.tensor(5), torch.tensor(2)), torch.tensor(math.nan).double()), y
        )
    for W, b in ((weight[0, :3], None), (weight[..., :5], None), (weight.mT, None), (weight, bias[0, :3]), (x, None)):
        with pytest.raises(ValueError, match=r"wanted weight \(4, 6\) and bias \(4,\), or with the members \(2,\)"):
            nc4(x, y, W, b)
    with pytest.raises(ValueError, match="weight holds 1 NaN"):
        nc3(x, y, weight[0].where(weight[0] < weight[0].max(), math.nan))
    with pytest.raises(ValueError, match="bias holds 4 NaN"):
        collapse(x, y, weight, bias[0] * math.nan)

"""Similarities of features against slow versions, scipy and closed forms, and what chance gives."""

import math

import pytest
import scipy.spatial
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from symlib.measures import similarity as module
from symlib.measures.similarity import linear_cka, mutual_knn, permutation_null, procrustes

F64 = torch.float64
SHAPES = [(30, 5, 7), (12, 40, 7), (12, 5, 40), (12, 40, 50), (12, 12, 12)]
MEASURES = [linear_cka, mutual_knn, procrustes]


def pair(generator, n=30, d=5, e=7, shift=1.0, members=()):
    """Two related sets of features, both away from the origin."""
    a = torch.randn(*members, n, d, generator=generator, dtype=F64)
    b = torch.randn(*members, n, e, generator=generator, dtype=F64) + a[..., :1]
    return a + shift, b - 2 * shift


def slow_cka(a, b, centred=True):
    """The cosine of the Gram matrices, with the centring matrix H written out."""
    n = len(a)
    H = torch.eye(n, dtype=F64) - centred / n
    K, L = H @ a @ a.mT @ H, H @ b @ b.mT @ H
    return float((K * L).sum() / (K.norm() * L.norm()))


def slow_unbiased(a, b):
    """The estimator of Song et al., term by term, from Gram matrices with zero diagonals."""
    n = len(a)

    def hsic(x, y):
        K, L = x @ x.mT, y @ y.mT
        K, L, one = K - torch.diag(K.diag()), L - torch.diag(L.diag()), torch.ones(n, dtype=F64)
        third = 2 / (n - 2) * (one @ K @ L @ one)
        return (torch.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - third) / (n * (n - 3))

    return float(hsic(a, b) / (hsic(a, a) * hsic(b, b)).sqrt())


def slow_knn(a, b, k):
    """Sorting by cosine, one sample at a time."""

    def near(x, i):
        cosine = [-math.inf if j == i else float(torch.cosine_similarity(x[i], x[j], dim=0)) for j in range(len(x))]
        return set(sorted(range(len(x)), key=lambda j: -cosine[j])[:k])

    return sum(len(near(a, i) & near(b, i)) for i in range(len(a))) / (k * len(a))


def padded(a, b):
    width = max(a.shape[1], b.shape[1])
    return [torch.nn.functional.pad(x, (0, width - x.shape[1])).numpy() for x in (a, b)]


# the slow ways


@pytest.mark.parametrize(("n", "d", "e"), SHAPES)
def test_cka_is_the_slow_way(n, d, e, gen):
    a, b = pair(gen, n, d, e)
    assert abs(float(linear_cka(a, b)) - slow_cka(a, b)) <= 1e-12
    assert abs(float(linear_cka(a, b, centred=False)) - slow_cka(a, b, centred=False)) <= 1e-12
    assert abs(float(linear_cka(a, b, debiased=True)) - slow_unbiased(a, b)) <= 1e-10
    values = [slow_cka(a, b), slow_cka(a, b, centred=False), slow_unbiased(a, b)]
    assert min(abs(p - q) for i, p in enumerate(values) for q in values[:i]) > 1e-3  # the three differ here


@pytest.mark.parametrize(("n", "d", "e"), SHAPES)
def test_procrustes_is_scipys(n, d, e, gen):
    a, b = pair(gen, n, d, e)
    assert abs(float(procrustes(a, b)) - scipy.spatial.procrustes(*padded(a, b))[2]) <= 1e-12


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
@pytest.mark.parametrize("k", [1, 3, 29])
def test_neighbours_are_those_of_sorting(k, block, gen, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    a, b = pair(gen)
    assert abs(float(mutual_knn(a, b, k)) - slow_knn(a, b, k)) <= 1e-14
    assert k < 29 or float(mutual_knn(a, b, k)) == 1  # all others are neighbours


@pytest.mark.parametrize("measure", MEASURES)
def test_member_axes_broadcast(measure, gen):
    a, b = pair(gen, members=(2, 3))
    found = measure(a, b[0, 0])
    assert found.shape == (2, 3) and found.dtype == F64
    for i in range(2):
        for j in range(3):
            assert abs(float(found[i, j] - measure(a[i, j], b[0, 0]))) <= 1e-12
    assert torch.equal(measure(a.float(), b.float()), measure(a.float().double(), b.float().double()))


# closed forms and invariances


def test_cka_by_hand():
    """Orthonormal columns: 2 of 3 and 3 directions shared with 2, |A^T B|^2 = 2 and 2 / sqrt(2 x 3)."""
    frame = torch.linalg.qr(torch.tensor([[1.0, 1, 1], [1, -1, 1], [-1, 1, 1], [-1, -1, -3], [0, 0, 0]]).double())[0]
    assert abs(float(linear_cka(frame[:, :2], frame)) - 2 / 6**0.5) <= 1e-14
    assert abs(float(linear_cka(frame[:, :1], frame[:, 1:]))) <= 1e-14
    # the best scale and rotation of B explain (1 + 1)^2 / (2 x 3) of A
    assert abs(float(procrustes(frame[:, :2], frame)) - (1 - 4 / 6)) <= 1e-14


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(4, 20),
    d=st.integers(1, 24),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-160, 1e-8, -1.0, 1e8, 1e140]),
)
def test_what_leaves_similarities_alone(n, d, seed, scale):
    gen = torch.Generator().manual_seed(seed)
    a, b = pair(gen, n, d, 3)
    turned = scale * (a @ torch.linalg.qr(torch.randn(d, d, generator=gen, dtype=F64))[0])
    order = torch.randperm(n, generator=gen)
    shifted = turned + scale * torch.randn(d, generator=gen, dtype=F64)
    for moved in (turned, shifted):
        assert abs(float(linear_cka(a, moved)) - 1) <= 1e-9
        assert abs(float(procrustes(a, moved))) <= 1e-9
        assert abs(float(linear_cka(moved[order], b[order]) - linear_cka(a, b))) <= 1e-9
        assert abs(float(procrustes(moved[order], b[order]) - procrustes(a, b))) <= 1e-9
        assert 0 <= float(linear_cka(a, b)) <= 1 + 1e-12 and 0 <= float(procrustes(a, b)) <= 1
    assert abs(float(linear_cka(turned, b, centred=False) - linear_cka(a, b, centred=False))) <= 1e-9
    assert abs(float(linear_cka(a, b) - linear_cka(b, a))) <= 1e-12
    if d > 1:  # in one dimension all cosines are 1 or -1
        assert float(mutual_knn(a, turned, 2)) == 1


def test_a_linear_map_that_is_no_rotation_is_seen(gen):
    a, _ = pair(gen)
    stretched = a * torch.tensor([10.0, 1, 1, 1, 1])
    assert float(linear_cka(a, stretched)) < 0.8 and float(procrustes(a, stretched)) > 0.2
    assert float(mutual_knn(a, a + 5)) < 1  # and a shift changes cosines


def test_constant_features_are_like_nothing(gen):
    a, _ = pair(gen)
    same = (1e6 * torch.rand(1, 50, generator=gen, dtype=F64)).expand(30, 50)
    assert (same - same.mean(dim=0)).abs().max() > 0  # their mean is rounded: the wrong version would be caught
    for debiased in (False, True):
        assert float(linear_cka(a, same, debiased=debiased)) == 0 == float(linear_cka(same, same, debiased=debiased))
    assert float(procrustes(a, same)) == 1 == float(procrustes(same, same))
    assert float(linear_cka(a, 0 * same, centred=False)) == 0
    turn = torch.linalg.qr(torch.randn(30, 30, generator=gen, dtype=F64))[0]
    for apart in (torch.eye(30), turn, turn.mT / 3):  # all distances equal: the estimate with itself is 0
        assert float(linear_cka(apart, a, debiased=True)) == 0


# chance


def test_chance_is_what_theory_says(gen):
    """Unrelated Gaussians: k / (n - 1) neighbours; CKA far from 0 for wide features, its debiased form near 0."""
    a, b = (torch.randn(100, 40, 60, generator=gen, dtype=F64) for _ in range(2))
    knn, biased, debiased = mutual_knn(a, b, 5), linear_cka(a, b), linear_cka(a, b, debiased=True)
    spread = lambda v: float(v.std()) / 10  # noqa: E731
    assert abs(float(knn.mean()) - 5 / 39) <= 4 * spread(knn)
    assert float(biased.min()) > 0.5
    assert abs(float(debiased.mean())) <= 4 * spread(debiased) and float(debiased.min()) < 0 < float(debiased.max())


def test_permutations_find_the_level_of_chance_and_repeat(gen):
    a, b = pair(gen, members=(4,))
    null = permutation_null(linear_cka, a, b, gen, draws=50)
    assert null.shape == (50, 4) and float(null.std(dim=0).min()) > 0
    assert (linear_cka(a, b) > null.amax(dim=0)).all()
    first, again = (permutation_null(procrustes, a, b, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (3, 4) and torch.equal(first, again)


@pytest.mark.parametrize("labels", [None, torch.arange(30) % 4, torch.tensor([2] * 10 + [7] * 20)])
def test_permutations_stay_within_classes(labels, gen):
    """The measure sees the rows it gets: every row once, of the same class, and everywhere in it."""
    b, seen = torch.arange(30.0)[:, None], []
    permutation_null(lambda a, b: seen.append(b[:, 0].long()) or torch.zeros(()), b, b, gen, draws=400, labels=labels)
    orders = torch.stack(seen)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(30).expand(400, 30))
    group = torch.zeros(30).long() if labels is None else labels
    assert torch.equal(group[orders], group.expand(400, 30))
    assert set(orders[:, 5].tolist()) == set((group == group[5]).nonzero()[:, 0].tolist())


def test_within_classes_the_classes_are_not_evidence(gen):
    """Features that share only their classes: above the plain null, and at the level of the null within classes."""
    labels = torch.arange(200) % 5
    a, b = (5 * torch.randn(5, 8, generator=gen)[labels] + torch.randn(200, 8, generator=gen) for _ in range(2))
    value = float(linear_cka(a, b))
    plain = permutation_null(linear_cka, a, b, gen, draws=50)
    within = permutation_null(linear_cka, a, b, gen, draws=50, labels=labels)
    assert value > 3 * float(plain.max())
    assert abs(value - float(within.mean())) <= 4 * float(within.std()) <= 0.05


# refusals


@pytest.mark.parametrize("measure", MEASURES)
def test_what_measures_refuse(measure, gen):
    a, b = pair(gen)
    for x, y in ((a[1:], b), (a[:, 0], b), (a[:0], b[:0]), (a[:, :0], b), (a.sum(), b)):
        with pytest.raises(ValueError, match="same samples, got"):
            measure(x, y)
    with pytest.raises(ValueError, match=r"similarity: b holds 7 NaN or inf, the first at index \(2, 0\)"):
        measure(a, b.index_fill(0, torch.tensor([2]), math.inf))


def test_what_options_refuse(gen):
    a, b = pair(gen)
    for centred, n in ((False, 30), (True, 3)):
        with pytest.raises(ValueError, match=f"centred=True and at least 4 samples, got {n}"):
            linear_cka(a[:n], b[:n], centred=centred, debiased=True)
    with pytest.raises(ValueError, match="below the number of samples, 30, got 30"):
        mutual_knn(a, b, 30)
    with pytest.raises(ValueError, match="mutual_knn: k should be a whole number"):
        mutual_knn(a, b, 0)
    with pytest.raises(ValueError, match=r"torch\.Generator"):
        permutation_null(procrustes, a, b, None)
    with pytest.raises(ValueError, match="draws should be"):
        permutation_null(procrustes, a, b, gen, draws=0)
    with pytest.raises(ValueError, match=r"wanted 30 labels, got shape \(29,\)"):
        permutation_null(procrustes, a, b, gen, labels=torch.zeros(29))

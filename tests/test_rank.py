"""The ranks equal their closed forms at every scale, precision and member axis, and refuse bad input; the probe."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from symlib import dynamics
from symlib.measures.rank import (
    effective_rank,
    numerical_rank,
    participation_ratio,
    probe_accuracy,
    singular_values,
    stable_rank,
)

F64 = torch.float64
RANKS = [numerical_rank, stable_rank, effective_rank, participation_ratio]


def orthogonal(n, generator):
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=F64))[0]


def with_singular_values(s, m, n, generator):
    """A random m x n matrix with the given singular values."""
    middle = torch.zeros(m, n, dtype=F64)
    middle[range(len(s)), range(len(s))] = torch.tensor(s, dtype=F64)
    return orthogonal(m, generator) @ middle @ orthogonal(n, generator)


CASES = [  # singular values, numerical rank, stable rank, effective rank
    ([1.0, 1.0, 1.0], 3, 3.0, 3.0),
    ([5.0], 1, 1.0, 1.0),
    ([2.0, 1.0], 2, 5 / 4, math.exp(math.log(3) - 2 / 3 * math.log(2))),
    ([4.0, 2.0, 2.0], 3, 24 / 16, 2 * math.sqrt(2)),
    ([1.0, 1e-6], 2, 1 + 1e-12, math.exp(1e-6 * (1 - math.log(1e-6)))),
]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6, 1e-200, 1e150])
@pytest.mark.parametrize(("s", "numerical", "stable", "effective"), CASES)
def test_closed_forms_at_every_scale(s, numerical, stable, effective, scale, gen):
    """An absolute cut of 1e-5 or 1e-13, found in public libraries, fails at the scales 1e-6 and 1e6."""
    A = scale * with_singular_values(s, 5, 4, gen)
    assert torch.allclose(singular_values(A)[: len(s)] / scale, torch.tensor(s, dtype=F64), rtol=1e-9)
    assert int(numerical_rank(A)) == numerical
    assert abs(float(stable_rank(A)) - stable) <= 1e-12 * stable
    assert abs(float(effective_rank(A)) - effective) <= 1e-9 * effective
    squares = [v * v for v in s]
    participation = sum(squares) ** 2 / sum(v * v for v in squares)
    assert abs(float(participation_ratio(A)) - participation) <= 1e-9 * participation


def test_the_cut_of_the_numerical_rank_is_relative(gen):
    A = with_singular_values([1.0, 1e-3, 1e-8, 1e-11], 6, 6, gen)
    assert [int(numerical_rank(A, rtol=r)) for r in (1e-2, 1e-5, 1e-9, 1e-12)] == [1, 2, 3, 4]


def test_absolute_cuts_would_be_caught(gen):
    """The mutants: the rank-7 matrix that two public libraries misread."""
    A = torch.randn(20, 7, generator=gen, dtype=F64) @ torch.randn(7, 20, generator=gen, dtype=F64)
    absolute = lambda A, cut: int((torch.linalg.svdvals(A) > cut).sum())  # noqa: E731
    assert [int(numerical_rank(c * A)) for c in (1e-6, 1.0, 1e6)] == [7, 7, 7]
    assert absolute(1e-6 * A, 1e-5) < 7 < absolute(1e6 * A, 1e-13)


def test_float32_is_computed_in_float64(gen):
    A = with_singular_values([1.0, 0.5], 4, 4, gen).float()
    for rank in (stable_rank, effective_rank, participation_ratio):
        assert rank(A).dtype == F64
        assert torch.equal(rank(A), rank(A.double()))
    assert int(numerical_rank(A, rtol=1e-5)) == 2


@pytest.mark.parametrize("rank", RANKS)
def test_member_axes_are_kept(rank, gen):
    A = torch.randn(2, 3, 4, 5, generator=gen, dtype=F64)
    A[1, 2] = 0
    assert rank(A).shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert torch.allclose(rank(A)[i, j].double(), rank(A[i, j]).double(), rtol=1e-14)
    assert rank(A)[1, 2] == 0  # the zero matrix


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_an_empty_matrix_has_rank_0(rank, shape):
    assert rank(torch.ones(shape)) == 0


@pytest.mark.parametrize("rank", RANKS)
def test_bad_input_is_refused(rank):
    for bad in (float("nan"), float("inf")):
        A = torch.eye(3)
        A[1, 2] = bad
        with pytest.raises(ValueError, match=rf"{rank.__name__} holds 1 NaN or inf, the first at index \(1, 2\)"):
            rank(A)
    for shape in ((3,), ()):
        with pytest.raises(ValueError, match=rf"{rank.__name__}: wanted a matrix"):
            rank(torch.ones(shape))


@settings(deadline=None)
@given(m=st.integers(1, 6), n=st.integers(1, 6), k=st.integers(1, 6), seed=st.integers(0, 2**32 - 1))
def test_bounds_and_orthogonal_invariance(m, n, k, seed):
    """1 <= stable, effective, participation <= numerical, all unchanged by rotations on both sides."""
    gen = torch.Generator().manual_seed(seed)
    k = min(k, m, n)
    s = torch.rand(k, generator=gen, dtype=F64) + 0.1
    A = with_singular_values(s.tolist(), m, n, gen)
    numerical, stable, effective, participation = (float(rank(A)) for rank in RANKS)
    assert numerical == k
    assert 1 - 1e-12 <= stable <= numerical + 1e-12
    assert 1 - 1e-12 <= effective <= numerical + 1e-12
    assert 1 - 1e-12 <= participation <= numerical + 1e-12
    turned = orthogonal(m, gen) @ A @ orthogonal(n, gen)
    for rank, value in zip(RANKS, (numerical, stable, effective, participation), strict=True):
        assert abs(float(rank(turned)) - value) <= 1e-11
        assert abs(float(rank(A.T)) - value) <= 1e-11


# centred


@pytest.mark.parametrize("rank", RANKS)
def test_centred_ranks_are_those_of_the_centred_matrix_however_far_it_is(rank, gen):
    A = (8 * torch.randn(3, 12, 5, generator=gen, dtype=F64) @ torch.ones(5, 5, dtype=F64).tril()).round()
    A[..., 3] = A[..., 0] + A[..., 1]
    H = torch.eye(12, dtype=F64) - 1 / 12
    assert torch.allclose(rank(A, centred=True).double(), rank(H @ A).double(), rtol=1e-12)
    assert torch.allclose(rank(A + 2.0**30, centred=True).double(), rank(H @ A).double(), rtol=1e-12)
    assert not torch.allclose(rank(A + 100).double(), rank(H @ A).double(), rtol=0.01)  # the mutant: not centred
    assert int(numerical_rank(A[0], centred=True)) == 4


@pytest.mark.parametrize("rank", RANKS)
def test_equal_rows_have_rank_0(rank):
    """The mean of equal rows is rounded: plain subtraction would leave a matrix of rank 1."""
    A = torch.tensor([[0.1, 1e6 + 0.3, 1 / 3]], dtype=F64).expand(7, 3)
    assert float(rank(A, centred=True)) == 0 and float(rank(A[:1], centred=True)) == 0
    assert rank(torch.ones(0, 3), centred=True) == 0


def test_a_cut_on_the_covariance_is_the_square_root_here(gen):
    """Eigenvalues 1, 1e-2, 1e-4 of the covariance, cut at 1e-3 of the largest as in the tunnel-effect papers."""
    A = torch.linalg.qr(torch.randn(50, 3, generator=gen, dtype=F64) @ torch.eye(3, dtype=F64))[0]
    A = torch.linalg.qr(A - A.mean(dim=0))[0] * torch.tensor([1, 1e-1, 1e-2], dtype=F64) + 7
    eigenvalues = torch.linalg.eigvalsh(torch.cov(A.mT))
    expected = int((eigenvalues > 1e-3 * eigenvalues.max()).sum())
    assert int(numerical_rank(A, rtol=1e-3**0.5, centred=True)) == expected == 2
    share = eigenvalues.sum() ** 2 / eigenvalues.square().sum()
    assert abs(float(participation_ratio(A, centred=True) / share) - 1) <= 1e-12


# the probe


def separable(generator, n=120, d=6):
    x = torch.randn(n, d, generator=generator, dtype=F64)
    return x, (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()


def test_a_probe_reads_a_linear_label_and_no_other(gen):
    x, y = separable(gen)
    assert probe_accuracy(x[:80], y[:80], x[80:], y[80:], C=100.0) >= 0.85
    parity = (x[:, 0] * x[:, 1] > 0).long()
    assert probe_accuracy(x[:80], parity[:80], x[80:], parity[80:]) <= 0.75


def test_a_probe_is_that_of_scikit_learn_on_features_with_one_scale(gen):
    from sklearn.linear_model import LogisticRegression

    x, y = separable(gen)
    x = x * torch.tensor([1.0, 2, 3, 4, 5, 6])
    z = (x - x[:80].mean(dim=0)) / float((x[:80] - x[:80].mean(dim=0)).square().mean().sqrt())
    model = LogisticRegression(C=0.3, max_iter=500).fit(z[:80].numpy(), y[:80].numpy())
    expected = float((torch.tensor(model.predict(z[80:].numpy())) == y[80:]).double().mean())
    assert probe_accuracy(x[:80], y[:80], x[80:], y[80:], C=0.3) == expected


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_probe_does_not_see_scale_shift_and_rotation(scale, gen):
    x, y = separable(gen)
    here = probe_accuracy(x[:80], y[:80], x[80:], y[80:])
    z = scale * (x @ orthogonal(6, gen) + 5)
    assert abs(probe_accuracy(z[:80], y[:80], z[80:], y[80:]) - here) <= 1 / 40 + 1e-12
    each = x * torch.tensor([1e-6, 1e-6, 1, 1, 1, 1], dtype=F64)  # what a scale for every feature would undo
    assert probe_accuracy(each[:80], y[:80], each[80:], y[80:]) < here - 0.2


def test_a_probe_that_runs_out_of_steps_or_of_features_says_nothing(gen, recwarn):
    x, y = separable(gen)
    assert 0 <= probe_accuracy(1e3 * x, y, x, y, C=1e6, max_iter=1) <= 1
    assert probe_accuracy(torch.ones(40, 3), torch.arange(40) % 2, torch.ones(4, 3), torch.arange(4) % 2) == 0.5
    assert not recwarn.list


def test_what_a_probe_refuses(gen):
    x, y = separable(gen)
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="C should be positive"):
            probe_accuracy(x, y, x, y, C=bad)
    with pytest.raises(ValueError, match="max_iter"):
        probe_accuracy(x, y, x, y, max_iter=0)
    for train, test in ((x, x[:, 1:]), (x[None], x), (x[:, 0], x[:, 0]), (x[:0], x)):
        with pytest.raises(ValueError, match="wanted rows"):
            probe_accuracy(train, y, test, y)
    for labels, test_labels in ((y[1:], y), (y, y[1:]), (0 * y, y), (y[:, None], y)):
        with pytest.raises(ValueError, match="at least two classes"):
            probe_accuracy(x, labels, x, test_labels)
    with pytest.raises(ValueError, match="test holds 720 NaN"):
        probe_accuracy(x, y, x * math.nan, y)


def test_shapes_in_signatures_are_checked():
    """A mutant call: labels that are no whole numbers, where the signature says Int."""
    with pytest.raises(TypeCheckError, match="labels"):
        dynamics.cross_entropy(torch.zeros(10, 5), torch.zeros(5))

"""The three ranks equal their closed forms at every scale, precision and member axis, and refuse what is no matrix."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from symlib import dynamics
from symlib.measures.rank import effective_rank, numerical_rank, singular_values, stable_rank

F64 = torch.float64
RANKS = [numerical_rank, stable_rank, effective_rank]


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
    for rank in (stable_rank, effective_rank):
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
    """1 <= stable <= numerical and 1 <= effective <= numerical, all unchanged by rotations on both sides."""
    gen = torch.Generator().manual_seed(seed)
    k = min(k, m, n)
    s = torch.rand(k, generator=gen, dtype=F64) + 0.1
    A = with_singular_values(s.tolist(), m, n, gen)
    numerical, stable, effective = (float(rank(A)) for rank in RANKS)
    assert numerical == k
    assert 1 - 1e-12 <= stable <= numerical + 1e-12
    assert 1 - 1e-12 <= effective <= numerical + 1e-12
    turned = orthogonal(m, gen) @ A @ orthogonal(n, gen)
    for rank, value in zip(RANKS, (numerical, stable, effective), strict=True):
        assert abs(float(rank(turned)) - value) <= 1e-11
        assert abs(float(rank(A.T)) - value) <= 1e-11


def test_shapes_in_signatures_are_checked():
    """A mutant call: labels that are no whole numbers, where the signature says Int."""
    with pytest.raises(TypeCheckError, match="labels"):
        dynamics.cross_entropy(torch.zeros(10, 5), torch.zeros(5))
